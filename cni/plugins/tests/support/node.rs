//! A node as the runtime leaves it to plugins: pods with pinned namespaces, and calls.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::Set;
use super::process::{self, sh};

/// The host's side of one test.
pub(crate) struct Node {
    pub(crate) set: Set,
    folder: TempDir,
    pub(crate) observations: Vec<(String, Value)>,
}

/// A container that gets a network.
#[derive(Clone, Debug)]
pub(crate) struct Pod {
    pub(crate) id: String,
    pub(crate) ifname: String,
    pub(crate) netns: String,
    pub(crate) args: String,
}

/// What a plugin answered.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) success: bool,
    pub(crate) stdout: Value,
    pub(crate) stderr: String,
}

impl Answer {
    /// The result of a call that has to succeed.
    #[track_caller]
    pub(crate) fn ok(self) -> Value {
        assert!(self.success, "{} {}", self.stdout, self.stderr);
        self.stdout
    }

    /// The code of a call that has to fail.
    #[track_caller]
    pub(crate) fn code(&self) -> u64 {
        assert!(!self.success, "succeeds: {}", self.stdout);
        assert!(self.stdout["msg"].as_str().is_some_and(|msg| !msg.is_empty()), "{self:?}");
        self.stdout["code"].as_u64().unwrap_or_else(|| panic!("no code: {self:?}"))
    }
}

impl Node {
    pub(crate) fn new(set: Set) -> Self {
        sh("ip link set lo up; mkdir -p /run/netns; mount -t tmpfs none /run/netns");
        let folder = tempfile::tempdir().expect("make a folder");
        let node = Self { set, folder, observations: Vec::new() };
        for (name, set) in [("bin", set), ("reference", Set::Reference), ("ours", Set::Ours)] {
            node.install(name, set);
        }
        node
    }

    fn install(&self, name: &str, set: Set) {
        let (folder, path) = (self.path(name), set.path());
        match set {
            Set::Ours => {
                sh(&format!("{} install {}", path.display(), folder.display()));
            }
            Set::Reference => {
                sh(&format!("ln -s {} {}", path.display(), folder.display()));
            }
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Folder of the addresses of the network `pods`.
    pub(crate) fn reservations(&self) -> PathBuf {
        self.path("ipam/pods")
    }

    /// A pod with a new namespace.
    pub(crate) fn pod(&self, id: &str) -> Pod {
        sh(&format!("ip netns add {id}"));
        let (netns, ifname) = (format!("/run/netns/{id}"), "eth0".to_owned());
        Pod { id: id.to_owned(), netns, ifname, args: String::new() }
    }

    /// The configuration of a plugin, with what the runtime puts in. An empty version is left out.
    pub(crate) fn conf(version: &str, plugin: &Value, previous: Option<&Value>) -> Value {
        let mut conf = plugin.clone();
        conf["name"] = json!("pods");
        if !version.is_empty() {
            conf["cniVersion"] = json!(version);
        }
        if let Some(previous) = previous {
            conf["prevResult"] = previous.clone();
        }
        conf
    }

    /// The plugin `bridge` with one range set for each subnet.
    pub(crate) fn bridge(&self, subnets: &[&str], more: Value) -> Value {
        let ranges: Vec<Value> = subnets.iter().map(|subnet| json!([{ "subnet": subnet }])).collect();
        let mut plugin = json!({
            "type": "bridge", "bridge": "cni0", "isGateway": true,
            "ipam": {"type": "host-local", "dataDir": self.path("ipam"), "ranges": ranges},
        });
        for (key, value) in more.as_object().into_iter().flatten() {
            plugin[key] = value.clone();
        }
        plugin
    }

    pub(crate) fn call(&self, command: &str, pod: &Pod, conf: &Value) -> Answer {
        self.call_in("bin", command, pod, conf)
    }

    /// The same call for several pods at once.
    pub(crate) fn call_all(&self, command: &str, calls: &[(Pod, Value)]) -> Vec<Answer> {
        std::thread::scope(|scope| {
            let threads: Vec<_> =
                calls.iter().map(|(pod, conf)| scope.spawn(|| self.call(command, pod, conf))).collect();
            threads.into_iter().map(|thread| thread.join().expect("make a call")).collect()
        })
    }

    /// With the plugins of a folder of the node.
    pub(crate) fn call_in(&self, folder: &str, command: &str, pod: &Pod, conf: &Value) -> Answer {
        let output =
            process::feed(&mut self.command(folder, command, pod, conf), conf.to_string().as_bytes());
        let stdout = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
        Answer { success: output.status.success(), stdout, stderr: process::text(&output.stderr) }
    }

    fn command(&self, folder: &str, command: &str, pod: &Pod, conf: &Value) -> Command {
        let folder = self.path(folder);
        let plugin = conf["type"].as_str().expect("a plugin has a type");
        let mut program = process::command(folder.join(plugin));
        program.env("CNI_COMMAND", command).env("CNI_CONTAINERID", &pod.id).env("CNI_NETNS", &pod.netns);
        program.env("CNI_IFNAME", &pod.ifname).env("CNI_ARGS", &pod.args).env("CNI_PATH", &folder);
        program
    }

    /// Starts a call that the test kills.
    pub(crate) fn start(&self, command: &str, pod: &Pod, conf: &Value) -> Child {
        let input = self.path("input");
        process::write(&input, conf.to_string().as_bytes());
        let mut program = self.command("bin", command, pod, conf);
        program.stdin(std::fs::File::open(&input).expect("open the input"));
        program.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("start the plugin")
    }

    /// Files and contents of the network's addresses.
    pub(crate) fn reserved(&self) -> Value {
        let mut files = serde_json::Map::new();
        let folder = self.reservations();
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            files.insert(entry.file_name().to_string_lossy().into_owned(), content(&entry.path()));
        }
        files.into()
    }
}

fn content(path: &Path) -> Value {
    std::fs::read_to_string(path).expect("read a reservation").into()
}
