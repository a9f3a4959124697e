//! What runs for many pods: memory of each side's helpers and daemon, and the lists.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use e2e::{cgroup, fixture, process, wait};

use crate::figures::Figures;
use crate::side::Side;

/// Lists asked for on each side.
const LISTS: usize = 100;
/// Lets daemons and shims come to rest.
const REST: Duration = Duration::from_secs(3);

/// Memory in KiB.
#[derive(Clone, Copy, Default)]
pub(crate) struct Usage {
    pub(crate) pss: u64,
    pub(crate) private_dirty: u64,
    pub(crate) threads: u64,
    pub(crate) processes: u64,
}

/// Usage of one side.
pub(crate) struct SideUsage {
    pub(crate) side: &'static str,
    pub(crate) pods: usize,
    /// Of all pods' helpers: shims, relays, loggers, holders, pauses.
    pub(crate) helpers: Usage,
    pub(crate) daemon: Usage,
}

/// Runs `count` pods of one container on each side, in turns, and measures with all of them there.
pub(crate) fn run(count: usize, sides: [&Side; 2], figures: &mut Figures) -> Vec<SideUsage> {
    let mut pods = Vec::new();
    for index in 0..count {
        for side in sides {
            pods.push((side, side.start_pod(&format!("pod-{index}"))));
        }
    }
    for _ in 0..LISTS {
        for side in sides {
            let (listed, took) = side.call("ListContainers", || side.cri.containers());
            assert_eq!(listed.len(), count, "containers of {}", side.name);
            figures.add(side.name, "ListContainers", took);
            let (listed, took) = side.call("ListPodSandbox", || side.cri.pods());
            assert_eq!(listed.len(), count, "pods of {}", side.name);
            figures.add(side.name, "ListPodSandbox", took);
        }
    }
    wait::pause(REST);
    let usages = sides.map(|side| {
        let own = pods.iter().filter(|(other, _)| other.name == side.name);
        let containers: Vec<&str> = own.map(|(_, (_, container))| container.as_str()).collect();
        SideUsage {
            side: side.name,
            pods: count,
            helpers: helpers(side, &containers),
            daemon: usage([side.node.daemon_pid()]),
        }
    });
    for (side, (pod, _)) in &pods {
        side.remove_pod(pod);
    }
    usages.into()
}

/// All processes of the side besides the daemon, the registry, and those in a container's PID namespace.
fn helpers(side: &Side, containers: &[&str]) -> Usage {
    let namespace = |pid: u64| fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
    let workloads: BTreeSet<PathBuf> = containers
        .iter()
        .filter_map(|id| {
            let info = side.call("ContainerStatus", || side.cri.container_info(id)).0;
            namespace(info["pid"].as_u64()?)
        })
        .collect();
    assert_eq!(workloads.len(), containers.len(), "containers of {} with a PID namespace", side.name);
    let parent = side.node.cgroup_parent();
    let contained = |pid: u32| cgroup::of_process(pid).iter().any(|(_, path)| path.starts_with(&parent));
    let here: BTreeSet<u32> = process::under(side.node.folder()).iter().map(|process| process.pid).collect();
    let all = process::all().into_iter().map(|process| process.pid);
    let no_helpers = side.node.own_processes();
    usage(all.filter(|&pid| {
        let is_workload = || namespace(pid.into()).is_none_or(|namespace| workloads.contains(&namespace));
        (here.contains(&pid) || contained(pid)) && !no_helpers.contains(&pid) && !is_workload()
    }))
}

fn usage(pids: impl IntoIterator<Item = u32>) -> Usage {
    let of_one = |pid| Usage {
        pss: figure(pid, "smaps_rollup", "Pss"),
        private_dirty: figure(pid, "smaps_rollup", "Private_Dirty"),
        threads: figure(pid, "status", "Threads"),
        processes: 1,
    };
    pids.into_iter().map(of_one).fold(Usage::default(), |sum, one| Usage {
        pss: sum.pss + one.pss,
        private_dirty: sum.private_dirty + one.private_dirty,
        threads: sum.threads + one.threads,
        processes: sum.processes + one.processes,
    })
}

/// A figure in a file of `/proc` with lines such as `Threads: 1` or `Private_Dirty: 240 kB`.
fn figure(pid: u32, file: &str, key: &str) -> u64 {
    let text = fixture::read(format!("/proc/{pid}/{file}").as_ref());
    let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
    let value = line.and_then(|rest| rest.split_whitespace().next()?.parse().ok());
    value.unwrap_or_else(|| panic!("no {key} in {file} of {pid}: {text}"))
}
