//! `delete`: clean-up by a daemon that cannot reach the shim of a container.
//!
//! The root filesystem is unmounted and the OCI runtime told to delete with its defaults (`runc`, root beside the
//! bundle); the answer is the recorded exit, or that of a killed process.

use std::io::{self, Write};

use prost::Message;
use runtime_shim::exit_file;
use runtime_shim::layout::{self, Bundle};
use runtime_shim::protocol::task::DeleteResponse;
use runtime_shim::protocol::timestamp;
use runtime_sys::spawn::Spawn;
use runtime_sys::{clock, mount, pidfd};

use crate::arguments::Arguments;

/// Exit code of a process that SIGKILL ended.
const KILLED: u32 = 137;

/// Deletes and prints the answer.
pub(crate) fn delete(arguments: &Arguments) -> io::Result<()> {
    let folder = match &arguments.bundle {
        Some(folder) => folder.clone(),
        None => std::env::current_dir()?,
    };
    let bundle = Bundle::at(folder);
    if let Some(state) = bundle.state() {
        let child = Spawn::new("runc")
            .inherit_env("PATH")
            .arg("--root")
            .arg(layout::runtime_root(state, &arguments.namespace))
            .args(["delete", "--force", &arguments.id])
            .start()?;
        pidfd::wait(child.pidfd())?;
    }
    mount::unmount_detached(&bundle.rootfs())?;
    let record = exit_file::read(&bundle.exit_file()).ok();
    let answer = DeleteResponse {
        pid: record.map_or(0, |exit| exit.pid),
        exit_status: record.map_or(KILLED, |exit| u32::from(exit.code)),
        exited_at: Some(timestamp(
            record.map_or_else(clock::unix_nanos, |exit| exit.at_unix_nanos),
        )),
    };
    io::stdout().write_all(&answer.encode_to_vec())
}
