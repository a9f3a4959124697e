//! A reboot of the host, as far as a node can tell: what lives in the kernel is gone, what lies on disk is there, and
//! the boot id is another one, for the daemon alone: it gets a mount namespace in which that file is ours.

use std::ffi::OsString;
use std::process::Command;

use super::Node;
use crate::{fixture, leak, process};

/// Another boot id than any kernel's.
const BOOT_ID: &str = "00000000-0000-4000-8000-0000b007ed00\n";
const BIND: &str = "mount --bind \"$1\" /proc/sys/kernel/random/boot_id && shift && exec \"$@\"";

impl Node {
    /// Kills the daemon, takes away all that no reboot leaves, and starts the daemon in another boot. State folders
    /// stay: they may be on a disk.
    pub fn reboot(&mut self) {
        self.kill9();
        leak::sweep(&self.marks());
        fixture::write(&self.folder.join("boot_id"), BOOT_ID);
        self.rebooted = true;
        self.start_daemon();
    }

    /// The daemon, in this boot or in the other one.
    pub(super) fn daemon_command(&self) -> Command {
        let daemon = &self.program.daemon;
        if !self.rebooted {
            return process::command(daemon);
        }
        let mut command = process::command("unshare");
        command.args(["--mount", "--propagation", "private", "--", "sh", "-c", BIND, "sh"]);
        command.args([OsString::from(self.folder.join("boot_id")), daemon.into()]);
        command
    }
}
