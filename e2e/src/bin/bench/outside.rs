//! What containerd keeps outside of its own folders, where no setting reaches: it is taken away here.

use std::fs;
use std::path::Path;

use e2e::node::Node;
use e2e::process;

/// Where libcni keeps what the plugins answered.
const LIBCNI_RESULTS: &str = "/var/lib/cni/results";
const STATE: &str = "/run/containerd";
/// Where shims listen, whatever daemon they are of.
const SOCKETS: &str = "/run/containerd/s";

/// Whether a containerd has been here.
pub(crate) fn exists() -> bool {
    Path::new(STATE).exists()
}

/// Takes away the folders when they are empty.
pub(crate) fn remove_folders() {
    for folder in [SOCKETS, STATE] {
        let _ = fs::remove_dir(folder);
    }
}

/// Takes away what is of pods that nobody stops in order any more: sockets of shims, results of plugins.
pub(crate) fn sweep(node: &Node) {
    let bundles = node.folder().join("run/io.containerd.runtime.v2.task/k8s.io");
    for bundle in fs::read_dir(bundles).into_iter().flatten().flatten() {
        let text = process::text(&fs::read(bundle.path().join("bootstrap.json")).unwrap_or_default());
        for word in text.split('"') {
            let socket = word.trim_start_matches("unix://");
            if Path::new(socket).starts_with(SOCKETS) {
                let _ = fs::remove_file(socket);
            }
        }
    }
    let ours = format!("{}-", node.network().name());
    for entry in fs::read_dir(LIBCNI_RESULTS).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(&ours) {
            let _ = fs::remove_file(entry.path());
        }
    }
}
