//! `io.containerd.cri.v1.runtime`: the pods of the namespace `k8s.io`, recovered before anybody can ask for them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cni::{ConfigFolder, Invoker};
use pod_sandbox::oci_spec::{HostFacts, PrivilegedDevices};
use pod_sandbox::{Handler, Handlers, IpPreference, Networks, NodeSettings, PodPaths, Services, recover};
use runtime_core::clock;
use runtime_core::ids::Namespace;
use runtime_core::plugin::{Exports, InitContext, InitError, Registration, kinds};
use runtime_core::snapshot::Snapshotter;
use runtime_core::state;
use runtime_core::store::SharedStore;
use runtime_core::task::{Runtime, RuntimeOptions};

use crate::config::{CniConfig, HandlerConfig, RuntimeConfig};

const SHIM_BINARY: &str = "containerd-shim-orlop-v1";
/// Where `ip netns` and the agents of CNI plugins look.
const NETNS_FOLDER: &str = "/var/run/netns";
/// Value of `net.ipv4.ping_group_range`: the widest that the kernel takes.
const EVERY_GROUP: &str = "0 2147483647";
/// containerd's folder of the CRI's durable files.
const CRI_ROOT: &str = "io.containerd.grpc.v1.cri";

pub(crate) fn registration() -> Registration {
    Registration::new(kinds::CRI, "runtime", &[kinds::METADATA, kinds::SNAPSHOTTER, kinds::RUNTIME], init)
}

async fn init(context: InitContext, config: RuntimeConfig) -> Result<Exports, InitError> {
    let runtime = context.require::<Runtime>(kinds::RUNTIME)?;
    let snapshotter = context.require::<Arc<dyn Snapshotter>>(kinds::SNAPSHOTTER)?;
    let services = Services {
        store: context.require::<SharedStore>(kinds::METADATA)?,
        shims: Arc::new(runtime.shims(&Namespace::k8s())),
        handlers: handlers(&config, &runtime),
        networks: networks(&config, &context.node.state)?,
        paths: PodPaths {
            root: context.node.root.join(CRI_ROOT),
            journals: state::pods_folder(&context.node.state),
        },
        settings: NodeSettings {
            boot_id: state::boot_id()?,
            restrict_oom_score_adj: config.restrict_oom_score_adj,
            host: HostFacts::probe(),
            snapshotter: snapshotter.name().to_owned(),
        },
        snapshotter,
        clock: clock::system(),
        tasks: context.tasks.clone(),
    };
    Ok(Exports::of(recover(Arc::new(services)).await?))
}

fn networks(config: &RuntimeConfig, state: &Path) -> Result<Networks, InitError> {
    let CniConfig { bin_dirs, conf_dir, max_conf_num, ip_pref, cache_dir, .. } = config.cni.clone();
    let limit = config.cni.timeout().ok_or("cni.plugin_timeout is not a duration")?;
    let mut sysctls = BTreeMap::new();
    let mut set = |name: &str, value: &str| sysctls.insert(name.to_owned(), value.to_owned());
    if config.enable_unprivileged_ports {
        set("net.ipv4.ip_unprivileged_port_start", "0");
    }
    if config.enable_unprivileged_icmp {
        set("net.ipv4.ping_group_range", EVERY_GROUP);
    }
    Ok(Networks {
        folder: ConfigFolder::new(conf_dir, max_conf_num),
        invoker: Invoker::new(bin_dirs, cache_dir, limit),
        pins: if config.netns_mounts_under_state_dir { state.join("netns") } else { NETNS_FOLDER.into() },
        prefer: match ip_pref.as_str() {
            "ipv6" => IpPreference::Ipv6,
            "cni" => IpPreference::Cni,
            _ => IpPreference::Ipv4,
        },
        sysctls,
    })
}

/// The configured handlers that a shim is found for; the others are said to be missing and stay unknown.
fn handlers(config: &RuntimeConfig, runtime: &Runtime) -> Handlers {
    let mut found = Vec::new();
    for (name, handler) in &config.containerd.runtimes {
        match shim_binary(handler, runtime.daemon_binary()) {
            Some(shim) => {
                tracing::info!(handler = name, shim = %shim.display(), "runtime handler");
                found.push(Handler {
                    name: name.clone(),
                    runtime_type: handler.runtime_type.clone(),
                    shim,
                    privileged_devices: privileged_devices(handler),
                    pod_annotations: handler.pod_annotations.clone(),
                    container_annotations: handler.container_annotations.clone(),
                    options: options(handler),
                });
            }
            None => tracing::error!(
                handler = name,
                runtime_type = handler.runtime_type,
                "no shim for this runtime handler: set its runtime_path"
            ),
        }
    }
    Handlers::new(config.containerd.default_runtime_name.clone(), found)
}

/// The configured path, or our shim beside the daemon, or our shim on the PATH.
fn shim_binary(handler: &HandlerConfig, daemon: &Path) -> Option<PathBuf> {
    if !handler.runtime_path.is_empty() {
        return Some(PathBuf::from(&handler.runtime_path));
    }
    if !handler.is_ours() {
        return None;
    }
    let beside = daemon.parent().map(|folder| folder.join(SHIM_BINARY)).filter(|path| path.is_file());
    beside.or_else(|| {
        let path = std::env::var_os("PATH")?;
        std::env::split_paths(&path).map(|folder| folder.join(SHIM_BINARY)).find(|file| file.is_file())
    })
}

fn privileged_devices(handler: &HandlerConfig) -> PrivilegedDevices {
    let all_allowed = handler.privileged_without_host_devices_all_devices_allowed;
    match (handler.privileged_without_host_devices, all_allowed) {
        (false, _) => PrivilegedDevices::Host,
        (true, true) => PrivilegedDevices::NoneButAllowed,
        (true, false) => PrivilegedDevices::None,
    }
}

fn options(handler: &HandlerConfig) -> RuntimeOptions {
    let some = |text: &str| (!text.is_empty()).then(|| PathBuf::from(text));
    RuntimeOptions {
        binary_name: PathBuf::from(&handler.options.binary_name),
        root: some(&handler.options.root),
        systemd_cgroup: handler.options.systemd_cgroup,
    }
}
