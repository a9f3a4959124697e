//! What a node has left behind: processes, mounts, namespaces, cgroups, files, connections, and its pods' network.
//!
//! A node's things are known by its folder's path, its cgroup parent's name and the ids that its client saw, so
//! that tests may run side by side. Pinned namespaces are mounts. The kernel frees some of it late: the caller waits.

pub mod network;
mod sockets;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use self::network::NetworkMarks;
pub use self::sockets::served_by;
use crate::{cgroup, process};

/// What makes a thing this node's.
pub struct Marks {
    pub folder: PathBuf,
    pub root: PathBuf,
    pub state: PathBuf,
    pub cgroup_parent: String,
    pub ids: BTreeSet<String>,
    pub network: NetworkMarks,
    /// The daemon, while it runs.
    pub daemon: Option<u32>,
    /// The processes that may be there: the daemon.
    pub allowed: BTreeSet<u32>,
}

/// How much must be gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gone {
    /// Pods and containers; images may be there.
    Pods,
    /// Images, too.
    PodsAndImages,
}

/// One line for each thing left behind; none is what a test wants.
pub fn find(marks: &Marks, gone: Gone) -> Vec<String> {
    let mut left = processes(marks);
    left.extend(mounts(marks).into_iter().map(|mount| format!("mount {mount}")));
    left.extend(cgroups(marks).into_iter().map(|folder| format!("cgroup {}", folder.display())));
    left.extend(files(marks, gone).into_iter().map(|path| format!("file {}", path.display())));
    left.extend(network::find(&marks.network, &marks.ids));
    left.extend(marks.daemon.into_iter().flat_map(served_by));
    left
}

fn processes(marks: &Marks) -> Vec<String> {
    let here = process::under(&marks.folder);
    let in_cgroup = |pid: u32| cgroup::of_process(pid).iter().any(|(_, path)| is_marked(marks, path));
    let contained = process::all().into_iter().filter(|process| in_cgroup(process.pid));
    let mut found: Vec<_> = here.into_iter().chain(contained).collect();
    found.sort_by_key(|process| process.pid);
    found.dedup_by_key(|process| process.pid);
    found.retain(|process| !marks.allowed.contains(&process.pid));
    let describe = |process: &process::Process| {
        format!("process {} {}: {}", process.pid, process.state, process.command)
    };
    found.iter().map(describe).collect()
}

/// Mount points of the node besides the state folder's mount on itself, deepest last.
pub fn mounts(marks: &Marks) -> Vec<String> {
    let table = fs::read_to_string("/proc/self/mountinfo").expect("read /proc/self/mountinfo");
    let mut points: Vec<String> = table
        .lines()
        .filter(|line| is_marked(marks, line))
        .filter_map(|line| line.split_whitespace().nth(4).map(str::to_owned))
        .collect();
    if let Some(own) = points.iter().position(|point| Path::new(point) == marks.state) {
        points.remove(own);
    }
    points
}

/// The node's cgroups below its parent, and those that carry one of its ids.
fn cgroups(marks: &Marks) -> BTreeSet<PathBuf> {
    let parent = format!("/{}", marks.cgroup_parent);
    cgroup::folders(|path| is_marked(marks, path) && !path.ends_with(&parent))
}

fn is_marked(marks: &Marks, text: &str) -> bool {
    text.contains(marks.folder.to_string_lossy().as_ref())
        || text.contains(&marks.cgroup_parent)
        || marks.ids.iter().any(|id| text.contains(id))
}

fn files(marks: &Marks, gone: Gone) -> Vec<PathBuf> {
    let state = |path: &str| marks.state.join(path);
    let root = |path: &str| marks.root.join(path);
    let mut folders = vec![
        state("s"),
        state("pods"),
        state("runc/k8s.io"),
        state("io.containerd.runtime.v2.task/k8s.io"),
        root("io.containerd.grpc.v1.cri/sandboxes"),
    ];
    if gone == Gone::PodsAndImages {
        folders.push(root("io.containerd.content.v1.content/blobs/sha256"));
        folders.push(root("io.containerd.content.v1.content/ingest"));
        folders.push(root("io.containerd.snapshotter.v1.overlayfs/snapshots"));
    }
    let entries = folders.iter().flat_map(|folder| fs::read_dir(folder).into_iter().flatten());
    entries.flatten().map(|entry| entry.path()).collect()
}

/// Takes away by force what is left: processes by pid but the allowed ones, mounts, cgroups.
pub fn sweep(marks: &Marks) {
    let contained = process::all()
        .into_iter()
        .filter(|process| cgroup::of_process(process.pid).iter().any(|(_, path)| is_marked(marks, path)));
    for process in process::under(&marks.folder).into_iter().chain(contained) {
        if process.pid != std::process::id() && !marks.allowed.contains(&process.pid) {
            process::signal(process.pid, rustix::process::Signal::KILL);
        }
    }
    for point in mounts(marks).iter().rev() {
        unmount(Path::new(point));
    }
    unmount(&marks.state);
    network::sweep(&marks.network, &marks.ids);
    let parent = |path: &str| is_marked(marks, path);
    crate::wait::within(std::time::Duration::from_secs(5), || {
        cgroup::remove(&cgroup::folders(parent));
        cgroup::folders(parent).is_empty().then_some(())
    });
}

fn unmount(point: &Path) {
    // Gone already is as good.
    let _ = rustix::mount::unmount(point, rustix::mount::UnmountFlags::DETACH);
}

/// The shims that serve a pod.
pub fn shims_of(pod: &str) -> Vec<process::Process> {
    let serves =
        |process: &process::Process| process.command.contains("shim") && process.command.contains(pod);
    process::all().into_iter().filter(serves).collect()
}
