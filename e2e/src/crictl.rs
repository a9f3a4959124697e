//! The real `crictl`, run as a person types it, with a configuration of its own.

use std::path::{Path, PathBuf};
use std::process::{Child, Output, Stdio};

use serde_json::Value;

use crate::{fixture, process};

/// `crictl` for one node.
pub struct Crictl {
    config: PathBuf,
    folder: PathBuf,
}

impl Crictl {
    /// Writes `crictl.yaml` into `folder`, for the daemon on `socket`.
    pub fn new(folder: &Path, socket: &Path) -> Self {
        let config = folder.join("crictl.yaml");
        let endpoint = format!("unix://{}", socket.display());
        let text = format!("runtime-endpoint: {endpoint}\nimage-endpoint: {endpoint}\ntimeout: 10\n");
        fixture::write(&config, text);
        Self { config, folder: folder.to_path_buf() }
    }

    /// Runs a command line that has to succeed, and gives what it printed without the last newline.
    pub fn run(&self, arguments: &[&str]) -> String {
        process::run(&mut self.command(arguments)).trim_end().to_owned()
    }

    /// Runs a command line that prints JSON.
    pub fn json(&self, arguments: &[&str]) -> Value {
        let text = self.run(arguments);
        serde_json::from_str(&text)
            .unwrap_or_else(|error| panic!("crictl {arguments:?} printed no JSON ({error}): {text}"))
    }

    /// Runs a command line, whatever comes of it.
    pub fn output(&self, arguments: &[&str]) -> Output {
        process::output(&mut self.command(arguments))
    }

    /// Starts a command line and leaves it running; its outputs are pipes.
    pub fn spawn(&self, arguments: &[&str], stdin: Stdio) -> Child {
        let mut command = self.command(arguments);
        command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().unwrap_or_else(|error| panic!("start {command:?}: {error}"))
    }

    /// The words that a shell line begins with to run this crictl.
    pub fn line(&self) -> String {
        format!("{} --config {}", process::built("tools/bin/crictl").display(), self.config.display())
    }

    fn command(&self, arguments: &[&str]) -> std::process::Command {
        let mut command = process::command(process::built("tools/bin/crictl"));
        command.arg("--config").arg(&self.config).args(arguments);
        command.env("HOME", &self.folder).current_dir(&self.folder);
        command
    }
}
