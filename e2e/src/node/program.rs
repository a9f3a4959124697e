//! The daemon that a node runs: the one under test, or another one that reads the same configuration.

use std::path::PathBuf;

use crate::process;

/// A daemon with its shim, and what its configuration has besides the node's.
pub struct Program {
    pub daemon: PathBuf,
    pub shim: PathBuf,
    pub log_level: &'static str,
    /// Lines for the start of the file.
    pub root_keys: &'static str,
    /// Lines for the table of the plugin `io.containerd.cri.v1.runtime`.
    pub runtime_keys: &'static str,
    /// Folder of the OCI runtime below the state folder, where it is not the daemon's own choice.
    pub oci_root: Option<&'static str>,
    /// Tables for the end of the file.
    pub tables: String,
}

impl Default for Program {
    /// orlop as the tests want it: a quick build that says all it does.
    fn default() -> Self {
        Self::orlop(process::built("debug/orlop"), "debug")
    }
}

impl Program {
    /// orlop with its usual configuration.
    pub fn orlop(daemon: PathBuf, log_level: &'static str) -> Self {
        let shim = process::built("shim/containerd-shim-orlop-v1");
        Self {
            daemon,
            shim,
            log_level,
            root_keys: "",
            runtime_keys: "",
            oci_root: None,
            tables: String::new(),
        }
    }

    /// containerd, of which only the shims' sockets lie outside of the node's folder. `pause` is the image of its pods' first process.
    pub fn containerd(pause: &str) -> Self {
        Self {
            daemon: process::built("tools/bin/containerd"),
            shim: process::built("tools/bin/containerd-shim-runc-v2"),
            log_level: "warn",
            // The one would make a folder outside of the node's, the other a socket.
            root_keys: "disabled_plugins = [\"io.containerd.internal.v1.opt\"]\n",
            runtime_keys: "netns_mounts_under_state_dir = true\n",
            oci_root: Some("runc"),
            tables: format!(
                "[plugins.\"io.containerd.cri.v1.images\".pinned_images]\nsandbox = \"{pause}\"\n\n\
                 [plugins.\"io.containerd.nri.v1.nri\"]\ndisable = true\n"
            ),
        }
    }
}
