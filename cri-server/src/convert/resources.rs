//! Limits, there and back.

use cri_proto::v1;
use pod_sandbox::spec::{HugepageLimit, LinuxResources};

/// `None` sets nothing.
pub(super) fn resources(wish: Option<v1::LinuxContainerResources>) -> LinuxResources {
    let wish = wish.unwrap_or_default();
    let hugepage = |it: v1::HugepageLimit| HugepageLimit { page_size: it.page_size, limit_bytes: it.limit };
    LinuxResources {
        cpu_period: wish.cpu_period,
        cpu_quota: wish.cpu_quota,
        cpu_shares: wish.cpu_shares,
        memory_limit_bytes: wish.memory_limit_in_bytes,
        memory_swap_limit_bytes: wish.memory_swap_limit_in_bytes,
        oom_score_adj: wish.oom_score_adj,
        cpuset_cpus: wish.cpuset_cpus,
        cpuset_mems: wish.cpuset_mems,
        hugepage_limits: wish.hugepage_limits.into_iter().map(hugepage).collect(),
        unified: wish.unified,
    }
}

/// As it was asked for.
pub(super) fn message(resources: &LinuxResources) -> v1::LinuxContainerResources {
    let hugepage =
        |it: &HugepageLimit| v1::HugepageLimit { page_size: it.page_size.clone(), limit: it.limit_bytes };
    v1::LinuxContainerResources {
        cpu_period: resources.cpu_period,
        cpu_quota: resources.cpu_quota,
        cpu_shares: resources.cpu_shares,
        memory_limit_in_bytes: resources.memory_limit_bytes,
        oom_score_adj: resources.oom_score_adj,
        cpuset_cpus: resources.cpuset_cpus.clone(),
        cpuset_mems: resources.cpuset_mems.clone(),
        hugepage_limits: resources.hugepage_limits.iter().map(hugepage).collect(),
        unified: resources.unified.clone(),
        memory_swap_limit_in_bytes: resources.memory_swap_limit_bytes,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_limit_comes_back() {
        let wish = v1::LinuxContainerResources {
            cpu_period: 1,
            cpu_quota: -1,
            cpu_shares: 3,
            memory_limit_in_bytes: 4,
            oom_score_adj: -5,
            cpuset_cpus: "0".into(),
            cpuset_mems: "1".into(),
            hugepage_limits: vec![v1::HugepageLimit { page_size: "2MB".into(), limit: 0 }],
            unified: [("memory.high".to_owned(), "6".to_owned())].into(),
            memory_swap_limit_in_bytes: 7,
        };
        assert_eq!(message(&resources(Some(wish.clone()))), wish);
        assert_eq!(message(&resources(None)), v1::LinuxContainerResources::default());
    }
}
