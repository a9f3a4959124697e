//! `containerd-shim-orlop-v1`: the process that stays with a pod.
//!
//! It makes and holds the pod's namespaces, mounts root filesystems, runs the OCI runtime, reaps, and writes the logs.
//! One thread does everything (`serve`); what may hang gets a short-lived thread of its own. No state is durable but
//! the exit files: the daemon asks, or reads those.
//!
//! `start` → `serve` → `services` → `tasks` and `sandbox` → `container` → `oci_runtime`, `reaper`, `io`; beside the services
//! `sessions`, which attach and exec interactively.

mod arguments;
mod cgroup;
mod config;
mod container;
mod delete;
mod exec;
mod failure;
mod holder;
mod io;
mod job;
mod log;
mod namespaces;
mod oci_runtime;
mod reaper;
mod rootfs;
mod sandbox;
mod serve;
mod services;
mod sessions;
mod start;
mod tasks;
mod update;

use std::process::ExitCode;

use arguments::{Action, Arguments};
use start::Started;

fn main() -> ExitCode {
    let result = match arguments::parse(std::env::args().skip(1)) {
        Ok(arguments) => run(&arguments),
        Err(error) => Err(error.to_string()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            log::note(&message);
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), String> {
    match arguments.action {
        Action::Start => match start::start(arguments).map_err(|error| log::chain(&error))? {
            Started::Answered => Ok(()),
            Started::Shim(serving) => serve::serve(serving).map_err(|error| log::chain(&error)),
        },
        Action::Delete => delete::delete(arguments).map_err(|error| log::chain(&error)),
        Action::Information => Err("runtime information is not available from this shim yet".into()),
        Action::Version => {
            let program = env!("CARGO_BIN_NAME");
            print(&format!("{program}:\n  Version:  {}\n", env!("CARGO_PKG_VERSION")));
            Ok(())
        }
        Action::Help => {
            print(arguments::USAGE);
            Ok(())
        }
    }
}

fn print(text: &str) {
    // Nobody to tell when stdout is closed.
    let _ = std::io::Write::write_all(&mut std::io::stdout(), text.as_bytes());
}
