//! Limits of a container or pod, in the CRI's units; zero or absent means not set.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

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
