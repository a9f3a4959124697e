//! Under which conditions a run was made: the machine, the versions, the settings that both sides share.

use std::fmt;
use std::path::Path;

use e2e::{fixture, process};

use crate::side::Side;

/// Name and value, in the order in which they are printed.
pub(crate) struct Conditions(pub(crate) Vec<(&'static str, String)>);

pub(crate) fn conditions(daemon: &Path, orlop: &Side, containerd: &Side) -> Conditions {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let runc = process::run(process::command(process::built("tools/bin/runc")).arg("--version"));
    Conditions(vec![
        ("kernel", read("/proc/sys/kernel/osrelease")),
        ("cores", cores.to_string()),
        ("load before", read("/proc/loadavg")),
        ("cgroups", cgroups()),
        ("orlop", format!("{}, {} build", version(orlop), build(daemon))),
        ("containerd", version(containerd)),
        ("OCI runtime of both", runc.lines().next().unwrap_or_default().to_owned()),
        (
            "CNI of both",
            "bridge, host-local and portmap (nftables) of the CNI project; orlop-cni where it says so"
                .to_owned(),
        ),
        ("seccomp of both", "unconfined".to_owned()),
        ("pods", "PID mode CONTAINER, as a kubelet's; one connection a side".to_owned()),
    ])
}

fn read(path: &str) -> String {
    fixture::read(path.as_ref()).trim().to_owned()
}

fn version(side: &Side) -> String {
    let version = side.call("Version", || side.cri.version(Default::default())).0;
    version.runtime_version
}

/// The profile, by the folder that the binary really lies in.
fn build(daemon: &Path) -> String {
    let real = daemon.canonicalize().unwrap_or_else(|error| panic!("find {}: {error}", daemon.display()));
    let folder = real.parent().map(Path::to_path_buf).unwrap_or_default();
    folder.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned())
}

/// Mode, and whether the wait for an RCU grace period at the first move of a process is switched off.
fn cgroups() -> String {
    let mounts = read("/proc/self/mountinfo");
    let of_type = |kind: &str| mounts.lines().any(|line| line.contains(&format!(" - {kind} ")));
    let mode = match (of_type("cgroup"), of_type("cgroup2")) {
        (true, true) => "v1 (hybrid)",
        (true, false) => "v1",
        (false, _) => "v2",
    };
    let dynamic = if mounts.contains("favordynmods") { "with" } else { "without" };
    format!("{mode}, {dynamic} favordynmods")
}

impl fmt::Display for Conditions {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, value) in &self.0 {
            writeln!(formatter, "{name:<20} {value}")?;
        }
        Ok(())
    }
}
