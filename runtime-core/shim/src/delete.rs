//! `delete`: clean-up by a daemon that cannot reach the shim of a container or pod.
//!
//! The OCI runtime that the container was given is told to delete it, what is left in its cgroup is killed, and
//! every mount and pin below the bundle is taken away. All of it is fine with nothing left to do. The answer is the
//! recorded exit, or that of a killed process.

use std::io::{self, Write};

use prost::Message;
use runtime_shim::layout::Bundle;
use runtime_shim::protocol::task::DeleteResponse;
use runtime_shim::protocol::timestamp;
use runtime_shim::{exit_file, teardown};
use runtime_sys::spawn::Spawn;
use runtime_sys::{clock, pidfd};

use crate::arguments::Arguments;
use crate::oci_runtime::choice::{self, Choice};
use crate::{cgroup, config, log};

/// Exit code of a process that SIGKILL ended.
const KILLED: u32 = 137;

/// Deletes and prints the answer.
pub(crate) fn delete(arguments: &Arguments) -> io::Result<()> {
    let folder = match &arguments.bundle {
        Some(folder) => folder.clone(),
        None => std::env::current_dir()?,
    };
    let bundle = Bundle::at(folder);
    if bundle.config().exists() {
        delete_container(&bundle, arguments)?;
    }
    teardown::rootfs(&bundle).map_err(io::Error::other)?;
    teardown::pod(&bundle).map_err(io::Error::other)?;
    let record = exit_file::read(&bundle.exit_file()).ok();
    let answer = DeleteResponse {
        pid: record.map_or(0, |exit| exit.pid),
        exit_status: record.map_or(KILLED, |exit| u32::from(exit.code)),
        exited_at: Some(timestamp(record.map_or_else(clock::unix_nanos, |exit| exit.at_unix_nanos))),
    };
    io::stdout().write_all(&answer.encode_to_vec())
}

fn delete_container(bundle: &Bundle, arguments: &Arguments) -> io::Result<()> {
    let choice = Choice::of(&choice::recall(bundle), bundle, &arguments.namespace);
    let child = Spawn::new(choice.binary)
        .inherit_env("PATH")
        .arg("--root")
        .arg(choice.root)
        .args(["delete", "--force", &arguments.id])
        .start();
    // What it could not do is done below, also when it is gone itself; its complaint is on our stderr.
    match child {
        Ok(child) => drop(pidfd::wait(child.pidfd())?),
        Err(error) => log::note(&format!("run the OCI runtime: {error}")),
    }
    let Some(path) = config::read(&bundle.config()).map_err(io::Error::other)?.cgroups_path else {
        return Ok(());
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    runtime.block_on(cgroup::remove_left_over(&path, &arguments.id))
}
