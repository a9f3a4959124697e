//! What a container uses, as the CRI tells it.

use std::path::Path;

use cri_proto::v1;
use pod_sandbox::{ContainerStats, ContainerView};

use super::container;

pub(crate) fn message(view: &ContainerView, used: &ContainerStats, snapshots: &Path) -> v1::ContainerStats {
    let timestamp = used.at.nanos();
    let number = |value| Some(v1::UInt64Value { value });
    v1::ContainerStats {
        attributes: Some(v1::ContainerAttributes {
            id: view.id.to_string(),
            metadata: Some(container::identity(view)),
            labels: view.spec.labels.clone(),
            annotations: view.spec.annotations.clone(),
        }),
        cpu: used.cpu.map(|cpu| v1::CpuUsage {
            timestamp,
            usage_core_nano_seconds: number(cpu.nanoseconds),
            // Absent at the first look; the kubelet then takes the difference of two looks of its own.
            usage_nano_cores: used.cpu_rate.and_then(number),
            ..Default::default()
        }),
        memory: used.memory.map(|memory| v1::MemoryUsage {
            timestamp,
            working_set_bytes: number(memory.working_set),
            available_bytes: memory.available.and_then(number),
            usage_bytes: number(memory.usage),
            rss_bytes: number(memory.rss),
            page_faults: number(memory.page_faults),
            major_page_faults: number(memory.major_page_faults),
            ..Default::default()
        }),
        writable_layer: used.writable.map(|writable| v1::FilesystemUsage {
            timestamp: writable.at.nanos(),
            fs_id: Some(v1::FilesystemIdentifier { mountpoint: snapshots.to_string_lossy().into_owned() }),
            used_bytes: number(writable.usage.bytes),
            inodes_used: number(writable.usage.inodes),
        }),
        swap: used.swap.map(|swap| v1::SwapUsage {
            timestamp,
            swap_available_bytes: swap.available.and_then(number),
            swap_usage_bytes: number(swap.usage),
        }),
        ..Default::default()
    }
}
