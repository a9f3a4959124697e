//! One side of the benchmark: a node with its daemon, and pods as a kubelet shapes them.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use cri_proto::v1 as cri;
use e2e::client::Cri;
use e2e::images::{BuiltLayer, Image};
use e2e::layer::Layer;
use e2e::network::{DEFAULT_FILE, Network, Plugins};
use e2e::node::{Node, Program};
use e2e::{pod, process};
use serde_json::json;
use tonic::Status;

use crate::outside;

pub(crate) const ORLOP: &str = "orlop";
pub(crate) const CONTAINERD: &str = "containerd";
pub(crate) const WITH_ORLOP_CNI: &str = "orlop with orlop-cni";

/// Reference of the image of containerd's pause process.
const PAUSE: &str = "registry.k8s.io/pause:bench";
/// As PID 1 a program dies on TERM only if it says so.
const WORKLOAD: &str = "trap 'exit 0' TERM; sleep 100000 & wait";

/// Set by SIGINT and SIGTERM: the next call panics, so that both sides are taken away.
static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// The network of a pod.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Net {
    Host,
    Bridge,
}

/// A running side. Dropping it takes it away.
pub(crate) struct Side {
    pub(crate) name: &'static str,
    pub(crate) node: Node,
    pub(crate) cri: Cri,
    /// Whether what lies outside of the node's folder was not there before it.
    owns_outside: bool,
}

impl Side {
    /// orlop of this binary.
    pub(crate) fn orlop(daemon: &Path, plugins: Plugins) -> Self {
        assert!(daemon.exists(), "{} is missing: `make bench` builds it", daemon.display());
        let node = Node::running(Program::orlop(daemon.to_path_buf(), "info"), plugins);
        let name = match plugins {
            Plugins::Reference => ORLOP,
            Plugins::Own => WITH_ORLOP_CNI,
        };
        Self::of(name, node)
    }

    /// The pinned containerd, with the smallest pause image there is: the holder of orlop.
    pub(crate) fn containerd() -> Self {
        let owns_outside = !outside::exists();
        let mut node = Node::running(Program::containerd(PAUSE), Plugins::Reference);
        let holder = fs::read(process::built("shim/orlop-pause")).expect("read orlop-pause");
        let layer = Layer::new().file("pause", 0o755, holder);
        let pause = Image::new(vec![BuiltLayer::new(&layer)], &json!({"Entrypoint": ["/pause"]}));
        node.registry().push("pause", "bench", &pause);
        node.cri().pull(PAUSE).unwrap_or_else(|status| panic!("pull {PAUSE}: {status}"));
        let mut side = Self::of(CONTAINERD, node);
        side.owns_outside = owns_outside;
        side
    }

    /// Bridge and portmap: containerd and orlop bring the loopback interface up by themselves.
    fn of(name: &'static str, node: Node) -> Self {
        let network = node.network();
        let plugins = [network.bridge_plugin(), Network::portmap_plugin("nftables")];
        network.write(DEFAULT_FILE, &network.conflist("1.0.0", &plugins));
        let cri = node.cri().connected().unwrap_or_else(|status| panic!("connect to {name}: {status}"));
        let side = Self { name, node, cri, owns_outside: false };
        side.wait_for_network();
        side
    }

    /// containerd reads a changed configuration when it hears of it.
    fn wait_for_network(&self) {
        let ready = || {
            let status = self.cri.status(Default::default()).ok()?.status?;
            let network =
                status.conditions.into_iter().find(|condition| condition.r#type == "NetworkReady")?;
            network.status.then_some(())
        };
        e2e::wait::for_some(&format!("the network of {} is ready", self.name), ready);
    }

    /// The configuration of a pod as a kubelet sends it: no seccomp profile on either side, as a profile costs the OCI
    /// runtime more than all the rest.
    pub(crate) fn pod_config(&self, name: &str, net: Net) -> cri::PodSandboxConfig {
        let mut config = match net {
            Net::Host => self.node.pod_config(name),
            Net::Bridge => self.node.net_pod_config(name),
        };
        let linux = config.linux.get_or_insert_with(Default::default);
        let security = linux.security_context.get_or_insert_with(Default::default);
        security.seccomp = Some(unconfined());
        config
    }

    /// The configuration of a container that dies on TERM.
    pub(crate) fn container_config(net: Net) -> cri::ContainerConfig {
        let command = ["sh", "-c", WORKLOAD];
        let mut config = match net {
            Net::Host => pod::container("main", &command),
            Net::Bridge => pod::net_container("main", &command),
        };
        pod::security(&mut config).seccomp = Some(unconfined());
        config
    }

    /// Runs a pod with a running container; gives both ids.
    pub(crate) fn start_pod(&self, name: &str) -> (String, String) {
        let config = self.pod_config(name, Net::Host);
        let pod = self.call("RunPodSandbox", || self.cri.run_pod(&config)).0;
        let container = self
            .call("CreateContainer", || self.cri.create(&pod, &config, &Self::container_config(Net::Host)))
            .0;
        self.call("StartContainer", || self.cri.start(&container));
        (pod, container)
    }

    /// Takes a pod away with all that is in it.
    pub(crate) fn remove_pod(&self, pod: &str) {
        self.call("StopPodSandbox", || self.cri.stop_pod(pod));
        self.call("RemovePodSandbox", || self.cri.remove_pod(pod));
    }

    /// Makes a call that has to succeed; gives its answer and the time it took.
    pub(crate) fn call<T>(&self, what: &str, call: impl FnOnce() -> Result<T, Status>) -> (T, Duration) {
        assert!(!INTERRUPTED.load(Ordering::Relaxed), "interrupted");
        let started = Instant::now();
        let answer = call();
        let took = started.elapsed();
        (answer.unwrap_or_else(|status| panic!("{what} of {}: {status}", self.name)), took)
    }
}

impl Drop for Side {
    fn drop(&mut self) {
        if std::thread::panicking() {
            outside::sweep(&self.node);
        }
        if self.owns_outside {
            outside::remove_folders();
        }
    }
}

fn unconfined() -> cri::SecurityProfile {
    cri::SecurityProfile {
        profile_type: cri::security_profile::ProfileType::Unconfined.into(),
        ..Default::default()
    }
}

/// Makes SIGINT and SIGTERM end the run in order. A second one is taken as the first.
pub(crate) fn stop_on_signals() {
    std::thread::spawn(|| {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().expect("start a runtime");
        runtime.block_on(async {
            use tokio::signal::unix::{SignalKind, signal};
            let mut interrupt = signal(SignalKind::interrupt()).expect("listen to SIGINT");
            let mut terminate = signal(SignalKind::terminate()).expect("listen to SIGTERM");
            loop {
                // Cancel-safe: a signal that is not received stays pending.
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                }
                INTERRUPTED.store(true, Ordering::Relaxed);
            }
        });
    });
}
