//! The judges of the network themselves: what plugins make is seen by the leak check and swept by force, and the fault
//! plugin does as it is told. No daemon takes part.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::Path;
use std::process::{Output, Stdio};

use e2e::leak::network::{find, sweep};
use e2e::network::{Network, Plugins};
use e2e::{process, wait};
use serde_json::{Value, json};

/// A folder for one network, and a network namespace where a daemon would pin it.
struct Bench {
    folder: tempfile::TempDir,
    network: Network,
    id: String,
}

impl Bench {
    fn new(id: &str) -> Self {
        process::need_root();
        let folder = tempfile::tempdir().expect("make a folder in /tmp");
        let network = Network::claim(folder.path(), Plugins::Reference);
        let bench = Self { folder, network, id: format!("{id}-{}", std::process::id()) };
        process::run(process::command("ip").args(["netns", "add", &format!("cni-{}", bench.id)]));
        bench
    }

    fn ids(&self) -> BTreeSet<String> {
        [self.id.clone()].into()
    }

    fn left(&self) -> Vec<String> {
        find(&self.network.marks(), &self.ids())
    }

    /// Runs one plugin of a list.
    fn call(&self, command: &str, list: &Value, index: usize, previous: Option<&Value>) -> Output {
        let mut conf = list["plugins"][index].clone();
        conf["cniVersion"] = list["cniVersion"].clone();
        conf["name"] = list["name"].clone();
        let port = json!({"hostPort": self.network.host_port(0), "containerPort": 80, "protocol": "tcp"});
        conf["runtimeConfig"] = json!({"portMappings": [port]});
        if let Some(previous) = previous {
            conf["prevResult"] = previous.clone();
        }
        let bridge = process::built("tools/cni/bridge");
        let path = format!(
            "{}:{}",
            self.folder.path().join("bin").display(),
            bridge.parent().unwrap_or(Path::new("/")).display()
        );
        let kind = conf["type"].as_str().expect("a plugin has a type");
        let program =
            path.split(':').map(|folder| Path::new(folder).join(kind)).find(|program| program.exists());
        let mut plugin = process::command(program.expect("the plugin is there"));
        plugin.env("CNI_COMMAND", command).env("CNI_CONTAINERID", &self.id).env("CNI_IFNAME", "eth0");
        plugin.env("CNI_NETNS", Network::pin(&self.id)).env("CNI_PATH", path);
        plugin.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = plugin.spawn().expect("start a plugin");
        child.stdin.take().expect("a pipe").write_all(conf.to_string().as_bytes()).expect("it reads");
        child.wait_with_output().expect("it ends")
    }

    fn add(&self, list: &Value) -> Value {
        let count = list["plugins"].as_array().map_or(0, Vec::len);
        (0..count).fold(Value::Null, |previous, index| {
            let previous = (!previous.is_null()).then_some(previous);
            let output = self.call("ADD", list, index, previous.as_ref());
            assert!(output.status.success(), "{}", process::text(&output.stdout));
            serde_json::from_slice(&output.stdout).expect("a result is JSON")
        })
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        sweep(&self.network.marks(), &self.ids());
    }
}

#[test]
fn needs_root_all_that_plugins_make_is_seen_and_swept() {
    let bench = Bench::new("seen");
    let mut without_masquerade = bench.network.bridge_plugin();
    without_masquerade["ipMasqBackend"] = "iptables".into();
    let by_iptables =
        bench.network.conflist("1.0.0", &[without_masquerade, Network::portmap_plugin("iptables")]);
    for list in [bench.network.bridged("1.0.0"), by_iptables, bench.network.point_to_point()] {
        assert!(bench.left().iter().all(|line| line.starts_with("network namespace")), "{:?}", bench.left());
        let result = bench.add(&list);
        let address =
            result["ips"][0]["address"].as_str().expect("an address").split('/').next().unwrap_or("");
        assert!(bench.network.contains(address.parse().expect("it is IPv4")), "{address}");
        let left = bench.left();
        for kind in ["interface veth", "address ", "rule ", "network namespace "] {
            assert!(left.iter().any(|line| line.starts_with(kind)), "no {kind}: {left:#?}");
        }
        assert!(
            left.iter().any(|line| line.starts_with("address ") && line.contains(&bench.id)),
            "{left:#?}"
        );
        let count = list["plugins"].as_array().map_or(0, Vec::len);
        for index in (0..count).rev() {
            let output = bench.call("DEL", &list, index, Some(&result));
            assert!(output.status.success(), "{}", process::text(&output.stdout));
        }
    }
    bench.add(&bench.network.bridged("1.0.0"));
    sweep(&bench.network.marks(), &bench.ids());
    let files_only = || bench.left().iter().all(|line| line.starts_with("address "));
    wait::until("the sweep has done its work", files_only);
}

#[test]
fn needs_root_the_fault_plugin_does_as_it_is_told() {
    let bench = Bench::new("told");
    let list = bench.network.with_fault();
    let previous = json!({"cniVersion": "1.0.0", "ips": []});
    let call = |command: &str| bench.call(command, &list, 2, Some(&previous));
    let parsed = |output: &Output| serde_json::from_slice::<Value>(&output.stdout).ok();
    assert_eq!(parsed(&call("ADD")), Some(previous.clone()));
    for (mode, succeeds, answers) in [
        ("fail", false, true),
        ("silent", false, false),
        ("crash", false, false),
        ("garbage", true, false),
        ("empty", true, false),
    ] {
        bench.network.set_fault("ADD", mode);
        let output = call("ADD");
        assert_eq!(
            (output.status.success(), parsed(&output).is_some()),
            (succeeds, answers),
            "{mode}: {output:?}"
        );
    }
    assert!(call("DEL").status.success(), "it is told for ADD only");
    bench.network.clear_fault("ADD");
    assert_eq!(parsed(&call("ADD")), Some(previous));
}

#[test]
fn needs_root_the_gate_stops_before_and_after_the_real_plugin() {
    let bench = Bench::new("gate");
    let list = bench.network.gated();
    let has_address = || bench.left().iter().any(|line| line.starts_with("address "));
    for command in ["add", "del"] {
        let mut before = bench.network.hold(&format!("cni-{command}-bridge.before"));
        let mut after = bench.network.hold(&format!("cni-{command}-bridge.after"));
        std::thread::scope(|scope| {
            let caller = scope.spawn(|| bench.call(&command.to_uppercase(), &list, 0, None));
            before.wait_reached();
            assert_eq!(has_address(), command == "del");
            before.release();
            after.wait_reached();
            assert_eq!(has_address(), command == "add");
            assert!(!caller.is_finished());
            after.release();
            let output = caller.join().expect("the call does not panic");
            assert!(output.status.success(), "{}", process::text(&output.stdout));
        });
    }
}
