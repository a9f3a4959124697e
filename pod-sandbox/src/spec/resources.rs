//! Limits of a container or pod, in the CRI's units; zero or absent means not set.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Of a limit that can be lifted.
const UNLIMITED: i64 = -1;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HugepageLimit {
    /// As `hugetlb.<size>` is named: `2MB`, `1GB`.
    pub page_size: String,
    pub limit_bytes: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinuxResources {
    /// Microseconds.
    pub cpu_period: i64,
    /// Microseconds a period; negative is unlimited.
    pub cpu_quota: i64,
    pub cpu_shares: i64,
    pub memory_limit_bytes: i64,
    /// Memory and swap together; 0 not set, -1 unlimited.
    pub memory_swap_limit_bytes: i64,
    pub oom_score_adj: i64,
    pub cpuset_cpus: String,
    pub cpuset_mems: String,
    pub hugepage_limits: Vec<HugepageLimit>,
    /// Raw cgroup v2 files.
    pub unified: BTreeMap<String, String>,
}

impl LinuxResources {
    /// What is in force after `update`, in which zero and empty leave things as they are.
    ///
    /// New memory without a word about swap takes back the room that the old limits left for swap, but for a
    /// container that may swap without limit.
    #[must_use]
    pub fn updated(&self, update: &Self) -> Self {
        let number = |new: i64, old: i64| if new == 0 { old } else { new };
        let text = |new: &String, old: &String| if new.is_empty() { old.clone() } else { new.clone() };
        let swap = match (update.memory_swap_limit_bytes, update.memory_limit_bytes) {
            (0, limit) if limit != 0 && self.memory_swap_limit_bytes != UNLIMITED => 0,
            (swap, _) => number(swap, self.memory_swap_limit_bytes),
        };
        let mut unified = self.unified.clone();
        unified.extend(update.unified.clone());
        Self {
            cpu_period: number(update.cpu_period, self.cpu_period),
            cpu_quota: number(update.cpu_quota, self.cpu_quota),
            cpu_shares: number(update.cpu_shares, self.cpu_shares),
            memory_limit_bytes: number(update.memory_limit_bytes, self.memory_limit_bytes),
            memory_swap_limit_bytes: swap,
            oom_score_adj: number(update.oom_score_adj, self.oom_score_adj),
            cpuset_cpus: text(&update.cpuset_cpus, &self.cpuset_cpus),
            cpuset_mems: text(&update.cpuset_mems, &self.cpuset_mems),
            hugepage_limits: hugepages(&self.hugepage_limits, &update.hugepage_limits),
            unified,
        }
    }
}

/// One limit a page size, the later one.
fn hugepages(old: &[HugepageLimit], new: &[HugepageLimit]) -> Vec<HugepageLimit> {
    let mut limits = old.to_vec();
    for limit in new {
        match limits.iter_mut().find(|known| known.page_size == limit.page_size) {
            Some(known) => known.limit_bytes = limit.limit_bytes,
            None => limits.push(limit.clone()),
        }
    }
    limits
}

#[cfg(test)]
mod tests {
    use super::*;

    fn memory(limit: i64, swap: i64) -> LinuxResources {
        LinuxResources { memory_limit_bytes: limit, memory_swap_limit_bytes: swap, ..Default::default() }
    }

    #[test]
    fn what_is_not_given_stays() {
        let hugepage = |size: &str, limit_bytes| HugepageLimit { page_size: size.to_owned(), limit_bytes };
        let before = LinuxResources {
            cpu_period: 1000,
            cpu_quota: 2000,
            cpu_shares: 3,
            memory_limit_bytes: 4,
            memory_swap_limit_bytes: 5,
            oom_score_adj: 6,
            cpuset_cpus: "0".into(),
            cpuset_mems: "1".into(),
            hugepage_limits: vec![hugepage("2MB", 1), hugepage("1GB", 2)],
            unified: [("a.b".to_owned(), "1".to_owned())].into(),
        };
        assert_eq!(before.updated(&LinuxResources::default()), before);
        let update = LinuxResources {
            cpu_quota: -1,
            cpuset_cpus: "0-1".into(),
            hugepage_limits: vec![hugepage("1GB", 0), hugepage("64KB", 9)],
            unified: [("c.d".to_owned(), "2".to_owned())].into(),
            ..Default::default()
        };
        let after = before.updated(&update);
        assert_eq!((after.cpu_quota, after.cpu_period, after.cpuset_cpus.as_str()), (-1, 1000, "0-1"));
        assert_eq!(after.hugepage_limits, [hugepage("2MB", 1), hugepage("1GB", 0), hugepage("64KB", 9)]);
        assert_eq!(after.unified.len(), 2);
    }

    #[test]
    fn new_memory_leaves_no_room_for_swap_by_accident() {
        let table = [
            (memory(100, 100), memory(200, 0), memory(200, 0)),
            (memory(100, 100), memory(50, 0), memory(50, 0)),
            (memory(100, -1), memory(50, 0), memory(50, -1)),
            (memory(100, 150), memory(0, 0), memory(100, 150)),
            (memory(100, 150), memory(0, 180), memory(100, 180)),
            (memory(0, 0), memory(50, 60), memory(50, 60)),
        ];
        for (before, update, after) in table {
            assert_eq!(before.updated(&update), after, "{before:?} {update:?}");
        }
    }
}
