//! What a container may use: CPU, memory, huge pages and devices of its cgroup.

use oci_spec::runtime::{
    LinuxCpu, LinuxDeviceCgroup, LinuxDeviceType, LinuxHugepageLimit, LinuxHugepageLimitBuilder, LinuxMemory,
    LinuxResources as OciResources,
};

use super::devices::{self, DeviceNode};
use super::{HostFacts, HostParts, OciSpecError, SpecInputs, empty};
use crate::spec::LinuxResources;

/// The kernel's range of oom_score_adj (proc(5)).
const OOM_LEAST: i64 = -1000;
const OOM_MOST: i64 = 1000;

/// Character devices that every container may use: null, full, zero, tty, random, urandom, console, ptmx, and
/// the pseudo terminals (minor `None`). The OCI runtime makes the nodes.
const DEVICES: [(i64, Option<i64>); 9] = [
    (1, Some(3)),
    (1, Some(7)),
    (1, Some(5)),
    (5, Some(0)),
    (1, Some(8)),
    (1, Some(9)),
    (5, Some(1)),
    (5, Some(2)),
    (136, None),
];

pub(super) fn resources(inputs: &SpecInputs<'_>) -> Result<OciResources, OciSpecError> {
    let mut resources = limits(&inputs.container.resources, inputs.host)?;
    resources.set_devices(Some(device_rules(inputs.parts)));
    Ok(resources)
}

/// What can be changed later, too: everything but the device rules.
pub(super) fn limits(wish: &LinuxResources, host: &HostFacts) -> Result<OciResources, OciSpecError> {
    let mut resources: OciResources = empty("{}");
    resources.set_cpu(cpu(wish)?);
    resources.set_memory(memory(wish, host.swap_limit));
    // The kubelet sends a limit of every size of the node's, whether or not it can be set (KEP-1539).
    if host.hugetlb && !wish.hugepage_limits.is_empty() {
        resources.set_hugepage_limits(Some(hugepages(wish)?));
    }
    if !wish.unified.is_empty() {
        if !host.cgroup2 {
            return Err(OciSpecError::Unimplemented {
                what: "the unified resources map on cgroup v1".to_owned(),
            });
        }
        resources.set_unified(Some(wish.unified.clone().into_iter().collect()));
    }
    Ok(resources)
}

/// The wished `oom_score_adj`, no lower than can be set.
pub(super) fn oom_score_adj(inputs: &SpecInputs<'_>) -> Result<i32, OciSpecError> {
    let wished = inputs.container.resources.oom_score_adj;
    clamped_oom_score_adj(wished, inputs.restrict_oom_score_adj, inputs.host)
}

pub(super) fn clamped_oom_score_adj(
    wished: i64,
    restrict: bool,
    host: &HostFacts,
) -> Result<i32, OciSpecError> {
    let value = in_range("oom_score_adj", wished, OOM_LEAST, OOM_MOST)?;
    let wished = i32::try_from(value).expect("it was just held to a small range");
    Ok(host.oom_score_adj_floor(restrict).map_or(wished, |floor| wished.max(floor)))
}

fn cpu(wish: &LinuxResources) -> Result<Option<LinuxCpu>, OciSpecError> {
    let positive = |what, value| -> Result<Option<u64>, OciSpecError> {
        let value = in_range(what, value, 0, i64::MAX)?;
        Ok(u64::try_from(value).ok().filter(|value| *value != 0))
    };
    let text = |value: &String| Some(value.clone()).filter(|value| !value.is_empty());
    let nothing: LinuxCpu = empty("{}");
    let mut cpu = nothing.clone();
    cpu.set_shares(positive("cpu_shares", wish.cpu_shares)?)
        .set_period(positive("cpu_period", wish.cpu_period)?)
        .set_quota(Some(wish.cpu_quota).filter(|quota| *quota != 0))
        .set_cpus(text(&wish.cpuset_cpus))
        .set_mems(text(&wish.cpuset_mems));
    Ok((cpu != nothing).then_some(cpu))
}

/// A swap limit where it cannot be set would fail the container; the kubelet sends one all the same. Where it can
/// be set, a container that is given memory and no word about swap gets none, as with containerd.
fn memory(wish: &LinuxResources, swap_limit: bool) -> Option<LinuxMemory> {
    let swap = match (wish.memory_swap_limit_bytes, wish.memory_limit_bytes) {
        _ if !swap_limit => None,
        (0, limit) => Some(limit).filter(|limit| *limit > 0),
        (swap, _) => Some(swap),
    };
    let nothing: LinuxMemory = empty("{}");
    let mut memory = nothing;
    memory.set_limit(Some(wish.memory_limit_bytes).filter(|limit| *limit != 0)).set_swap(swap);
    (memory != nothing).then_some(memory)
}

fn hugepages(wish: &LinuxResources) -> Result<Vec<LinuxHugepageLimit>, OciSpecError> {
    let limit = |it: &crate::spec::HugepageLimit| {
        // The type is signed; a limit beyond it is none that a machine could reach.
        let limit = i64::try_from(it.limit_bytes).unwrap_or(i64::MAX);
        let limit = LinuxHugepageLimitBuilder::default().page_size(it.page_size.clone()).limit(limit);
        limit.build().expect("both fields are given")
    };
    Ok(wish.hugepage_limits.iter().map(limit).collect())
}

fn device_rules(parts: &HostParts) -> Vec<LinuxDeviceCgroup> {
    if parts.every_device_allowed {
        return vec![devices::everything(true)];
    }
    let usual = DEVICES.iter().map(|(major, minor)| {
        let mut rule = devices::everything(true);
        rule.set_typ(Some(LinuxDeviceType::C)).set_major(Some(*major)).set_minor(*minor);
        rule
    });
    let asked = parts.devices.iter().filter_map(DeviceNode::rule);
    std::iter::once(devices::everything(false)).chain(usual).chain(asked).collect()
}

fn in_range(what: &'static str, value: i64, least: i64, most: i64) -> Result<i64, OciSpecError> {
    if (least..=most).contains(&value) {
        Ok(value)
    } else {
        Err(OciSpecError::OutOfRange { what, value, least, most })
    }
}
