//! A node's pod network: its own bridge, subnets, ports and CNI folders, so that nodes run side by side.
//!
//! They follow from a number that the node holds as an abstract socket: the kernel gives it back with the process,
//! however that ends, so that a bridge without a holder of its number is nobody's and may go.

use std::fs;
use std::net::Ipv4Addr;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::fault::{self, Barrier};
use crate::leak::network::NetworkMarks;
use crate::{fixture, process};

/// How long the nodes let one plugin work: long enough for a loaded machine, and a hang costs a test no more.
pub const PLUGIN_SECONDS: u64 = 10;
/// File of the network that a node has from the start.
pub const DEFAULT_FILE: &str = "10-bridge.conflist";

/// Where everybody looks for network namespaces.
const NETNS_FOLDER: &str = "/var/run/netns";
const MOST_NODES: u8 = 250;
/// Second byte of the addresses behind the bridge, and of those on point-to-point links.
const BRIDGE_BYTE: u8 = 231;
const PTP_BYTE: u8 = 232;
/// First host port of node 0, below the ports that the kernel gives out by itself.
const FIRST_PORT: u16 = 20_000;
const PORTS_OF_A_NODE: u16 = 10;

/// Whose `bridge`, `host-local`, `portmap` and `loopback` a node calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plugins {
    /// Those of the CNI project, built by `make tools`.
    Reference,
    /// Ours: the names are links to one binary.
    Own,
}

/// The plugins that our binary is.
const OWN_NAMES: [&str; 4] = ["bridge", "host-local", "loopback", "portmap"];

/// The network of one node. Dropping it removes the bridge.
pub struct Network {
    number: u8,
    folder: PathBuf,
    plugins: Plugins,
    _claim: UnixListener,
}

impl Network {
    /// Takes a free number, and lays out the folders below `folder` with the network of [`Self::bridged`].
    pub fn claim(folder: &Path, plugins: Plugins) -> Self {
        let claim = |number: u8| {
            let name = format!("orlop-e2e-network-{number}");
            let address = SocketAddr::from_abstract_name(name).expect("a short name is an address");
            UnixListener::bind_addr(&address).ok().map(|claim| (number, claim))
        };
        let (number, claim) = (1..=MOST_NODES).find_map(claim).expect("a free number for the node's network");
        let network = Self { number, folder: folder.to_path_buf(), plugins, _claim: claim };
        network.remove_bridge();
        network.make_bridge();
        for folder in [network.conf_dir(), network.bin_dir(), network.control()] {
            fixture::folder(&folder);
        }
        if plugins == Plugins::Own {
            network.link_own_plugins();
        }
        network.write(DEFAULT_FILE, &network.bridged("1.0.0"));
        network
    }

    fn link_own_plugins(&self) {
        let binary = process::built("shim/orlop-cni");
        for name in OWN_NAMES {
            let link = self.bin_dir().join(name);
            std::os::unix::fs::symlink(&binary, &link)
                .unwrap_or_else(|error| panic!("link {}: {error}", link.display()));
        }
    }

    /// The lines of the daemon's configuration.
    pub fn config(&self) -> String {
        let mut folders = vec![self.bin_dir()];
        if self.plugins == Plugins::Reference {
            folders.extend(process::built("tools/cni/bridge").parent().map(Path::to_path_buf));
        }
        format!(
            "[plugins.\"io.containerd.cri.v1.runtime\".cni]\nbin_dirs = {folders:?}\n\
             conf_dir = \"{}\"\nmax_conf_num = 1\ncache_dir = \"{}\"\nplugin_timeout = \"{PLUGIN_SECONDS}s\"\n\n",
            self.conf_dir().display(),
            self.cache_dir().display()
        )
    }

    /// The network's name in its configuration.
    pub fn name(&self) -> String {
        format!("e2e-{}", self.number)
    }

    /// The bridge's name.
    pub fn bridge(&self) -> String {
        format!("orlop-e2e-{}", self.number)
    }

    /// Where the configuration lies.
    pub fn conf_dir(&self) -> PathBuf {
        self.folder.join("net.d")
    }

    fn bin_dir(&self) -> PathBuf {
        self.folder.join("bin")
    }

    fn cache_dir(&self) -> PathBuf {
        self.folder.join("cache")
    }

    fn control(&self) -> PathBuf {
        self.folder.join("control")
    }

    /// Whether an address is one that a pod of this node gets.
    pub fn contains(&self, address: Ipv4Addr) -> bool {
        let [ten, kind, number, last] = address.octets();
        ten == 10 && [BRIDGE_BYTE, PTP_BYTE].contains(&kind) && number == self.number && last > 1
    }

    /// The address of the bridge, which is the pods' way out.
    pub fn gateway(&self) -> String {
        format!("10.{BRIDGE_BYTE}.{}.1", self.number)
    }

    /// One of the node's own ten host ports.
    pub fn host_port(&self, index: u16) -> u16 {
        assert!(index < PORTS_OF_A_NODE, "a node has {PORTS_OF_A_NODE} ports");
        FIRST_PORT + u16::from(self.number) * PORTS_OF_A_NODE + index
    }

    /// Where a pod's network namespace is pinned.
    pub fn pin(pod: &str) -> PathBuf {
        Path::new(NETNS_FOLDER).join(format!("cni-{pod}"))
    }

    /// Writes a configuration file in one step.
    pub fn write(&self, file: &str, conf: &Value) {
        let unseen = self.conf_dir().join(format!("{file}.unseen"));
        fixture::write(&unseen, conf.to_string());
        fs::rename(&unseen, self.conf_dir().join(file))
            .unwrap_or_else(|error| panic!("rename to {file}: {error}"));
    }

    /// Takes one configuration file away.
    pub fn remove(&self, file: &str) {
        let path = self.conf_dir().join(file);
        fs::remove_file(&path).unwrap_or_else(|error| panic!("remove {}: {error}", path.display()));
    }

    /// Takes all configuration away.
    pub fn clear(&self) {
        for entry in fs::read_dir(self.conf_dir()).expect("read the folder of networks").flatten() {
            fs::remove_file(entry.path()).unwrap_or_else(|error| panic!("remove {entry:?}: {error}"));
        }
    }

    /// A list of plugins as a network.
    pub fn conflist(&self, version: &str, plugins: &[Value]) -> Value {
        json!({"cniVersion": version, "name": self.name(), "plugins": plugins})
    }

    /// The usual network: bridge, portmap and loopback.
    pub fn bridged(&self, version: &str) -> Value {
        self.conflist(
            version,
            &[self.bridge_plugin(), Self::portmap_plugin("nftables"), json!({"type": "loopback"})],
        )
    }

    /// The usual network with one more plugin at the end: the fault plugin, which does as it is told.
    pub fn with_fault(&self) -> Value {
        self.install_fault();
        let capabilities = json!({"portMappings": true, "bandwidth": true});
        let fault = json!({"type": "fault", "control": self.control(), "capabilities": capabilities});
        self.conflist("1.0.0", &[self.bridge_plugin(), Self::portmap_plugin("nftables"), fault])
    }

    /// The usual network whose plugins are called by the fault plugin, with barriers before and after each.
    pub fn gated(&self) -> Value {
        self.install_fault();
        let gate = |mut plugin: Value| {
            plugin["delegate"] = plugin["type"].take();
            plugin["type"] = "fault".into();
            plugin["control"] = json!(self.control());
            plugin
        };
        let plugins = [self.bridge_plugin(), Self::portmap_plugin("nftables")];
        self.conflist("1.0.0", &plugins.map(gate))
    }

    /// Pods on a link of their own each, without a bridge.
    pub fn point_to_point(&self) -> Value {
        self.conflist("0.4.0", &[self.ptp_plugin(), Self::portmap_plugin("nftables")])
    }

    /// A second network beside the usual one: a link without a way out.
    pub fn second(&self) -> Value {
        let mut link = self.ptp_plugin();
        link["ipam"]["routes"] = json!([]);
        json!({"cniVersion": "1.0.0", "name": format!("{}-second", self.name()), "plugins": [link]})
    }

    fn ptp_plugin(&self) -> Value {
        json!({"type": "ptp", "ipMasq": true, "ipMasqBackend": "nftables", "ipam": self.ipam(PTP_BYTE)})
    }

    /// The plugin `bridge` with addresses of `host-local`.
    pub fn bridge_plugin(&self) -> Value {
        json!({
            "type": "bridge", "bridge": self.bridge(), "isGateway": true, "hairpinMode": true,
            "ipMasq": true, "ipMasqBackend": "nftables", "ipam": self.ipam(BRIDGE_BYTE),
        })
    }

    /// The plugin `portmap`; `backend` is `nftables` or `iptables`.
    pub fn portmap_plugin(backend: &str) -> Value {
        json!({"type": "portmap", "capabilities": {"portMappings": true}, "snat": true, "backend": backend})
    }

    fn ipam(&self, kind: u8) -> Value {
        json!({
            "type": "host-local", "dataDir": self.folder.join("ipam"),
            "ranges": [[{"subnet": format!("10.{kind}.{}.0/24", self.number)}]],
            "routes": [{"dst": "0.0.0.0/0"}],
        })
    }

    fn install_fault(&self) {
        let plugin = self.bin_dir().join("fault");
        if !plugin.exists() {
            fault::place(&process::built("debug/fake_cni"), &plugin);
        }
    }

    /// Tells the fault plugin what to do at a command (`ADD`, `DEL` …) from now on: see `src/bin/fake_cni.rs`.
    pub fn set_fault(&self, command: &str, mode: &str) {
        fixture::write(&self.control().join(format!("{command}.mode")), mode);
    }

    /// The fault plugin says this at a command from now on, as if all were well.
    pub fn set_answer(&self, command: &str, answer: &str) {
        fixture::write(&self.control().join(format!("{command}.answer")), answer);
        self.set_fault(command, "answer");
    }

    /// The fault plugin behaves again.
    pub fn clear_fault(&self, command: &str) {
        let _ = fs::remove_file(self.control().join(format!("{command}.mode")));
    }

    /// The `config` that the fault plugin was last told at a command, and its `pod`.
    pub fn last_told(&self, command: &str) -> Value {
        let text = fixture::read(&self.control().join(format!("{command}.last")));
        serde_json::from_str(&text).expect("what the plugin was told is JSON")
    }

    /// How often the fault plugin was called for a command.
    pub fn calls(&self, command: &str) -> usize {
        fs::read(self.control().join(format!("{command}.calls"))).map_or(0, |bytes| bytes.len())
    }

    /// Makes the next call of the fault plugin that comes by `stage` (such as `cni-add.before`) stop there.
    pub fn hold(&self, stage: &str) -> Barrier {
        Barrier::new(&self.control().join(stage))
    }

    /// What makes something in the kernel or on disk this node's.
    pub fn marks(&self) -> NetworkMarks {
        NetworkMarks {
            bridge: self.bridge(),
            prefixes: [BRIDGE_BYTE, PTP_BYTE].map(|kind| format!("10.{kind}.{}.", self.number)),
            reservations: self.folder.join("ipam"),
            results: self.cache_dir(),
        }
    }

    /// With an address of its own: a bridge that a plugin makes has that of its first port until the plugin fixes it,
    /// and none when the port goes before, which the next plugin trips over ("could not set bridge's mac").
    fn make_bridge(&self) {
        let (name, address) = (self.bridge(), format!("02:6f:72:6c:6f:{:02x}", self.number));
        process::run(
            process::command("ip").args(["link", "add", &name, "address", &address, "type", "bridge"]),
        );
    }

    fn remove_bridge(&self) {
        if Path::new("/sys/class/net").join(self.bridge()).exists() {
            process::output(process::command("ip").args(["link", "del", &self.bridge()]));
        }
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        self.remove_bridge();
    }
}
