//! Limits, there and back. What is given for containers must be what a kernel can take; sums for a whole pod are kept
//! as they are, as nobody here sets them.

use cri_proto::v1;
use pod_sandbox::spec::{HugepageLimit, LinuxResources};

use super::{ConvertError, invalid, one_line, required};

/// The kernel's bounds of a CPU period (sched-bwc.rst), microseconds.
const CPU_PERIOD: std::ops::RangeInclusive<i64> = 1_000..=1_000_000;
/// The least quota that the kernel takes, microseconds.
const LEAST_CPU_QUOTA: i64 = 1_000;
const OOM_SCORE_ADJ: std::ops::RangeInclusive<i64> = -1_000..=1_000;
/// Of a limit that is lifted.
const UNLIMITED: i64 = -1;
/// More files than a cgroup has, and more than one of them takes.
const MAX_UNIFIED: usize = 256;
const MAX_UNIFIED_VALUE: usize = 4096;
const MAX_HUGEPAGES: usize = 64;
/// Longer than any list of CPUs.
const MAX_CPUSET: usize = 4096;

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

/// New limits for a container that exists.
pub(crate) fn update(wish: Option<v1::LinuxContainerResources>) -> Result<LinuxResources, ConvertError> {
    checked(required("the container's linux resources", wish)?)
}

/// Limits of one container.
pub(super) fn checked(wish: v1::LinuxContainerResources) -> Result<LinuxResources, ConvertError> {
    let set = |value: i64| value != 0;
    if set(wish.cpu_period) && !CPU_PERIOD.contains(&wish.cpu_period) {
        return Err(invalid("cpu_period", wish.cpu_period, "is not between 1000 and 1000000 microseconds"));
    }
    if wish.cpu_quota > 0 && wish.cpu_quota < LEAST_CPU_QUOTA {
        return Err(invalid("cpu_quota", wish.cpu_quota, "is less than 1000 microseconds"));
    }
    if wish.cpu_shares < 0 {
        return Err(invalid("cpu_shares", wish.cpu_shares, "is negative"));
    }
    if !OOM_SCORE_ADJ.contains(&wish.oom_score_adj) {
        return Err(invalid("oom_score_adj", wish.oom_score_adj, "is not between -1000 and 1000"));
    }
    memory(wish.memory_limit_in_bytes, wish.memory_swap_limit_in_bytes)?;
    cpuset("cpuset_cpus", &wish.cpuset_cpus)?;
    cpuset("cpuset_mems", &wish.cpuset_mems)?;
    hugepages(&wish.hugepage_limits)?;
    unified(&wish.unified)?;
    Ok(resources(Some(wish)))
}

fn memory(limit: i64, swap: i64) -> Result<(), ConvertError> {
    for (what, value) in [("memory_limit_in_bytes", limit), ("memory_swap_limit_in_bytes", swap)] {
        if value < UNLIMITED {
            return Err(invalid(what, value, "is negative"));
        }
    }
    if limit > 0 && swap > 0 && swap < limit {
        return Err(invalid("memory_swap_limit_in_bytes", swap, "is less than the memory limit it includes"));
    }
    Ok(())
}

/// A list such as "0-2,7" (cpuset(7), "Formats").
fn cpuset(what: &'static str, value: &str) -> Result<(), ConvertError> {
    let number = |text: &str| text.parse::<u32>().is_ok() && !text.starts_with('+');
    let range = |part: &str| match part.split_once('-') {
        Some((first, last)) => number(first) && number(last),
        None => number(part),
    };
    if !value.is_empty() && (value.len() > MAX_CPUSET || !value.split(',').all(range)) {
        return Err(invalid(what, value, "is not a list such as 0-2,7"));
    }
    Ok(())
}

/// The size becomes part of a file's name.
fn hugepages(limits: &[v1::HugepageLimit]) -> Result<(), ConvertError> {
    if limits.len() > MAX_HUGEPAGES {
        return Err(invalid("hugepage_limits", limits.len(), "are more than there are page sizes"));
    }
    let is_size = |text: &str| {
        let number = ["KB", "MB", "GB"].iter().find_map(|unit| text.strip_suffix(unit));
        number
            .is_some_and(|it| !it.is_empty() && it.len() < 10 && it.bytes().all(|byte| byte.is_ascii_digit()))
    };
    match limits.iter().find(|limit| !is_size(&limit.page_size)) {
        Some(limit) => Err(invalid("hugepage size", &limit.page_size, "is not like 2MB")),
        None => Ok(()),
    }
}

/// Names of files in a cgroup, and what is written into them.
fn unified(files: &std::collections::BTreeMap<String, String>) -> Result<(), ConvertError> {
    if files.len() > MAX_UNIFIED {
        return Err(invalid("unified", files.len(), "are more than a cgroup has files"));
    }
    for (name, value) in files {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        // A controller's file is "controller.name"; cgroup's own files move processes and controllers.
        let good = name.contains('.') && !name.starts_with('.') && name.bytes().all(plain);
        if !good || name.starts_with("cgroup.") || name.contains("..") {
            return Err(invalid("unified resource", name, "is not a controller's file"));
        }
        if value.len() > MAX_UNIFIED_VALUE {
            return Err(invalid("unified resource", name, "has a value of more than 4096 bytes"));
        }
        value.lines().try_for_each(|line| one_line("value of a unified resource", line))?;
    }
    Ok(())
}

/// As it is in force.
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

    fn good() -> v1::LinuxContainerResources {
        v1::LinuxContainerResources {
            cpu_period: 100_000,
            cpu_quota: -1,
            cpu_shares: 3,
            memory_limit_in_bytes: 4,
            oom_score_adj: -5,
            cpuset_cpus: "0-1,7".into(),
            cpuset_mems: "1".into(),
            hugepage_limits: vec![v1::HugepageLimit { page_size: "2MB".into(), limit: 0 }],
            unified: [("memory.high".to_owned(), "6".to_owned())].into(),
            memory_swap_limit_in_bytes: 7,
        }
    }

    #[test]
    fn every_limit_comes_back() {
        assert_eq!(message(&checked(good()).expect("good limits")), good());
        assert_eq!(message(&resources(None)), v1::LinuxContainerResources::default());
        assert!(matches!(update(None), Err(ConvertError::Missing { .. })));
    }

    #[test]
    fn limits_that_no_kernel_takes_are_refused_by_name() {
        type Change = fn(&mut v1::LinuxContainerResources);
        let unified: [fn(&mut v1::LinuxContainerResources); 5] = [
            |it| it.unified = [("../memory.max".to_owned(), "1".to_owned())].into(),
            |it| it.unified = [("cgroup.procs".to_owned(), "1".to_owned())].into(),
            |it| it.unified = [("memory.high\n".to_owned(), "1".to_owned())].into(),
            |it| it.unified = [("memory".to_owned(), "1".to_owned())].into(),
            |it| it.unified = [("memory.high".to_owned(), "1\u{0}".to_owned())].into(),
        ];
        let table: [(&str, Change); 14] = [
            ("cpu_period", |it| it.cpu_period = 999),
            ("cpu_period", |it| it.cpu_period = -1),
            ("cpu_quota", |it| it.cpu_quota = 999),
            ("cpu_shares", |it| it.cpu_shares = -1),
            ("oom_score_adj", |it| it.oom_score_adj = 1001),
            ("memory_limit_in_bytes", |it| it.memory_limit_in_bytes = -2),
            ("memory_swap_limit_in_bytes", |it| it.memory_swap_limit_in_bytes = 3),
            ("cpuset_cpus", |it| it.cpuset_cpus = "0\n1".into()),
            ("cpuset_cpus", |it| it.cpuset_cpus = "a".into()),
            ("cpuset_mems", |it| it.cpuset_mems = "0-".into()),
            ("cpuset_mems", |it| it.cpuset_mems = ",".into()),
            ("hugepage", |it| it.hugepage_limits[0].page_size = "2MB/../x".into()),
            ("hugepage", |it| it.hugepage_limits[0].page_size = "MB".into()),
            ("hugepage", |it| it.hugepage_limits[0].page_size.clear()),
        ];
        for (what, change) in table.into_iter().chain(unified.map(|change| ("unified", change))) {
            let mut wish = good();
            change(&mut wish);
            let error = checked(wish).expect_err(what);
            assert!(error.to_string().contains(what), "{error}");
        }
    }
}
