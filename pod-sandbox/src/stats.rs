//! What running containers use: read from their cgroups when asked; of their writable layers what the snapshotter
//! knows. No shim is asked.

mod cgroup;
mod rate;

use std::sync::Arc;
use std::time::Instant;

use futures_util::future::join_all;
use runtime_core::clock::{SharedClock, Timestamp};
use runtime_core::ids::Namespace;
use runtime_core::snapshot::Measured;

use crate::cgroup as paths;
use crate::service::PodService;
use crate::view::ContainerView;

pub use cgroup::{CpuStats, MemoryStats, SwapStats};
pub(crate) use rate::CpuRate;

/// Containers whose files one thread reads: enough work to be worth a thread, which costs some ten microseconds.
const PER_THREAD: usize = 16;

/// One look at a container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ContainerStats {
    pub at: Timestamp,
    /// Of a container that runs.
    pub cpu: Option<CpuStats>,
    /// Nanoseconds of one core in a second, since an earlier look.
    pub cpu_rate: Option<u64>,
    pub memory: Option<MemoryStats>,
    /// Where the kernel accounts swap.
    pub swap: Option<SwapStats>,
    /// What it has written to its root filesystem, if that can be told, and when that was so.
    pub writable: Option<Measured>,
}

/// Where to look for a container that runs.
#[derive(Clone)]
struct Place {
    group: String,
    rate: Arc<CpuRate>,
}

impl PodService {
    /// What each of these containers uses now, in their order.
    pub async fn stats(&self, views: &[ContainerView]) -> Vec<ContainerStats> {
        let services = self.services();
        let places: Vec<_> = views.iter().map(|view| self.place(view)).collect();
        let namespace = Namespace::k8s();
        let writable = views.iter().map(|view| services.snapshotter.usage(&namespace, &view.snapshot_key));
        let (mut stats, writable) = tokio::join!(look_at(&places, &services.clock), join_all(writable));
        for (one, writable) in stats.iter_mut().zip(writable) {
            one.writable = writable.ok().flatten();
        }
        stats
    }

    fn place(&self, view: &ContainerView) -> Option<Place> {
        let handle = self.found(view.id.as_str()).ok().filter(|_| view.state.pid().is_some())?;
        let group = paths::container_path(&handle.pod.id, &handle.pod.spec, &handle.id);
        Some(Place { group, rate: handle.cpu })
    }
}

/// Reads files on a few threads at once.
async fn look_at(places: &[Option<Place>], clock: &SharedClock) -> Vec<ContainerStats> {
    let begin = |part: &[Option<Place>]| {
        let (part, clock) = (part.to_vec(), clock.clone());
        let count = part.len();
        (count, tokio::task::spawn_blocking(move || part.iter().map(|place| look(place, &clock)).collect()))
    };
    let threads: Vec<_> = places.chunks(PER_THREAD).map(begin).collect();
    let mut stats = Vec::with_capacity(places.len());
    for (count, thread) in threads {
        let looked: Vec<ContainerStats> = thread.await.unwrap_or_default();
        // Whatever becomes of a thread, each figure is its own container's.
        stats.extend(looked.into_iter().chain(std::iter::repeat_with(ContainerStats::default)).take(count));
    }
    stats
}

fn look(place: &Option<Place>, clock: &SharedClock) -> ContainerStats {
    let at = clock.now();
    let Some(Place { group, rate }) = place else {
        return ContainerStats { at, ..ContainerStats::default() };
    };
    let (cpu, memory, swap) = cgroup::read(group);
    let cpu_rate = cpu.and_then(|cpu| rate.since_before(cpu, Instant::now()));
    ContainerStats { at, cpu, cpu_rate, memory, swap, writable: None }
}
