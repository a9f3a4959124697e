//! A folder with plugins that are shell scripts, and what they were called with.

#![allow(dead_code, reason = "each test binary uses its part")]

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use cni::{Attachment, Invoker, Network};
use serde_json::{Value, json};
use tempfile::TempDir;

/// No test waits longer for anything.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Bin folder, cache and log of one test.
pub(crate) struct Lab {
    root: TempDir,
}

impl Lab {
    pub(crate) fn new() -> Self {
        let lab = Self { root: tempfile::tempdir().expect("make a folder") };
        for folder in ["bin", "log"] {
            fs::create_dir(lab.path(folder)).expect("make a folder");
        }
        lab
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    /// A plugin that does as the shell script says. `$LOG` is a folder for it.
    pub(crate) fn script(&self, name: &str, body: &str) -> &Self {
        let path = self.path("bin").join(name);
        let mut file = File::create(&path).expect("make a script");
        write!(file, "#!/bin/sh\nLOG={}\n{body}\n", self.path("log").display()).expect("write a script");
        file.set_permissions(fs::Permissions::from_mode(0o755)).expect("make a script executable");
        self
    }

    /// A plugin that writes down its calls, and answers ADD with `answer`.
    pub(crate) fn plugin(&self, name: &str, answer: &Value) -> &Self {
        let body = format!(
            "cat > $LOG/{name}.$CNI_COMMAND.json\n\
             env | grep ^CNI_ | sort > $LOG/{name}.$CNI_COMMAND.env\n\
             echo $CNI_COMMAND {name} >> $LOG/calls\n\
             if [ $CNI_COMMAND = ADD ]; then cat <<'END'\n{answer}\nEND\nfi"
        );
        self.script(name, &body)
    }

    /// The calls so far, which are forgotten.
    pub(crate) fn calls(&self) -> Vec<String> {
        let path = self.path("log/calls");
        let text = fs::read_to_string(&path).unwrap_or_default();
        let _ = fs::remove_file(path);
        text.lines().map(str::to_owned).collect()
    }

    /// What a plugin's last call of this command got as input.
    pub(crate) fn input(&self, name: &str, command: &str) -> Value {
        serde_json::from_str(&self.read(&format!("log/{name}.{command}.json")))
            .expect("a plugin's input is JSON")
    }

    /// The CNI variables of that call.
    pub(crate) fn environment(&self, name: &str, command: &str) -> Vec<String> {
        self.read(&format!("log/{name}.{command}.env")).lines().map(str::to_owned).collect()
    }

    pub(crate) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).expect("read what a plugin wrote")
    }

    pub(crate) fn cache_file(&self) -> PathBuf {
        self.path("cache/results/pods-c1-eth0")
    }

    pub(crate) fn invoker(&self) -> Invoker {
        self.invoker_with(PATIENCE)
    }

    pub(crate) fn invoker_with(&self, timeout: Duration) -> Invoker {
        Invoker::new(vec![self.path("missing"), self.path("bin")], self.path("cache"), timeout)
    }

    /// The process that a script wrote down, once it has.
    pub(crate) async fn pid(&self, name: &str) -> u32 {
        let path = self.path("log").join(name);
        until(|| fs::read_to_string(&path).ok()?.strip_suffix('\n')?.parse().ok()).await
    }
}

/// The network `pods` with these plugins.
pub(crate) fn network(version: &str, plugins: &Value) -> Network {
    let list = json!({ "name": "pods", "cniVersion": version, "plugins": plugins });
    Network::parse(list.to_string().as_bytes(), Path::new("/etc/cni/net.d/10-pods.conflist"))
        .expect("a network")
}

/// Interface eth0 of the container c1.
pub(crate) fn attachment() -> Attachment {
    Attachment {
        container_id: "c1".to_owned(),
        netns: Some("/var/run/netns/a".into()),
        if_name: "eth0".to_owned(),
        args: vec![
            ("IgnoreUnknown".to_owned(), "1".to_owned()),
            ("K8S_POD_NAME".to_owned(), "web".to_owned()),
        ],
        capabilities: [
            (
                "portMappings".to_owned(),
                json!([{ "hostPort": 8080, "containerPort": 80, "protocol": "tcp" }]),
            ),
            ("mac".to_owned(), json!("aa:bb:cc:dd:ee:ff")),
        ]
        .into(),
    }
}

/// Waits for a condition.
pub(crate) async fn until<T>(mut condition: impl FnMut() -> Option<T>) -> T {
    let polling = async {
        loop {
            if let Some(value) = condition() {
                return value;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, polling).await.expect("the condition becomes true")
}

/// Whether the process has ended, reaped or not.
pub(crate) fn has_ended(pid: u32) -> bool {
    let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else { return true };
    stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('Z'))
}

/// Waits for its end.
pub(crate) async fn ended(pid: u32) {
    until(|| has_ended(pid).then_some(())).await;
}

/// An error with all its sources.
pub(crate) fn text(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
