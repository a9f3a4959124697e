//! What the host can do that a container's specification depends on: looked up once, when the daemon starts.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use oci_spec::runtime::Capability;

use super::capabilities;

const CGROUP_ROOT: &str = "/sys/fs/cgroup";

/// Facts about this host and this process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostFacts {
    /// The name of pods that have none.
    pub hostname: String,
    /// Cgroup v2 alone is in use; a hybrid host counts as v1, as the OCI runtimes have it.
    pub cgroup2: bool,
    /// Memory-and-swap limits can be set.
    pub swap_limit: bool,
    /// Huge page limits can be set.
    pub hugetlb: bool,
    /// The most that a container can have: what this process may hand on.
    pub capabilities: HashSet<Capability>,
    pub oom_score_adj: i32,
}

impl HostFacts {
    /// Reads `/proc` and `/sys`; what can't be read counts as not there.
    pub fn probe() -> Self {
        let root = Path::new(CGROUP_ROOT);
        let cgroup2 = root.join("cgroup.controllers").exists();
        let swap_limit = if cgroup2 {
            own_cgroup2(root).is_some_and(|own| own.join("memory.swap.max").exists())
        } else {
            root.join("memory/memory.memsw.limit_in_bytes").exists()
        };
        let hugetlb = if cgroup2 {
            let controllers = fs::read_to_string(root.join("cgroup.controllers")).unwrap_or_default();
            controllers.split_whitespace().any(|controller| controller == "hugetlb")
        } else {
            root.join("hugetlb").is_dir()
        };
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let adjustment = fs::read_to_string("/proc/self/oom_score_adj").unwrap_or_default();
        Self {
            hostname: rustix::system::uname().nodename().to_string_lossy().into_owned(),
            cgroup2,
            swap_limit,
            hugetlb,
            capabilities: held(&status),
            oom_score_adj: adjustment.trim().parse().unwrap_or_default(),
        }
    }

    /// The lowest `oom_score_adj` for a container: its own when the node says so, or when the kernel would refuse
    /// a lower one (proc(5): that needs CAP_SYS_RESOURCE).
    pub(super) fn oom_score_adj_floor(&self, restricted: bool) -> Option<i32> {
        let may_lower = self.capabilities.contains(&Capability::SysResource);
        (restricted || !may_lower).then_some(self.oom_score_adj)
    }
}

fn own_cgroup2(root: &Path) -> Option<PathBuf> {
    let table = fs::read_to_string("/proc/self/cgroup").ok()?;
    let path = table.lines().find_map(|line| line.strip_prefix("0::/"))?.to_owned();
    Some(root.join(path))
}

/// What is both permitted and in the bounding set, from the text of `/proc/self/status` (proc(5)).
fn held(status: &str) -> HashSet<Capability> {
    let mask = |key: &str| {
        let value = status.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
        value.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).unwrap_or_default()
    };
    capabilities::of_mask(mask("CapPrm") & mask("CapBnd"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn held_is_permitted_and_bounding() {
        let status =
            "Name:\torlop\nCapPrm:\t0000000000000003\nCapEff:\t00000000000000ff\nCapBnd:\t0000000000000002\n";
        assert_eq!(held(status), HashSet::from([Capability::DacOverride]));
        assert!(held("").is_empty());
    }

    #[test]
    fn oom_scores_are_clamped_where_they_cannot_be_lowered() {
        let mut host = HostFacts { oom_score_adj: 7, ..HostFacts::default() };
        assert_eq!(host.oom_score_adj_floor(false), Some(7));
        host.capabilities.insert(Capability::SysResource);
        assert_eq!(host.oom_score_adj_floor(false), None);
        assert_eq!(host.oom_score_adj_floor(true), Some(7));
    }

    #[test]
    fn this_host_has_a_name() {
        assert!(!HostFacts::probe().hostname.is_empty());
    }
}
