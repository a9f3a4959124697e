//! `io.containerd.cri.v1.runtime`: the pods of the namespace `k8s.io`, recovered before anybody can ask for them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use pod_sandbox::oci_spec::HostFacts;
use pod_sandbox::{Handler, Handlers, NodeSettings, PodPaths, Services, recover};
use runtime_core::clock;
use runtime_core::ids::Namespace;
use runtime_core::plugin::{Exports, InitContext, InitError, Registration, kinds};
use runtime_core::snapshot::Snapshotter;
use runtime_core::state;
use runtime_core::store::SharedStore;
use runtime_core::task::{Runtime, RuntimeOptions};

use crate::config::{HandlerConfig, RuntimeConfig};

const SHIM_BINARY: &str = "containerd-shim-orlop-v1";
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

fn options(handler: &HandlerConfig) -> RuntimeOptions {
    let some = |text: &str| (!text.is_empty()).then(|| PathBuf::from(text));
    RuntimeOptions {
        binary_name: PathBuf::from(&handler.options.binary_name),
        root: some(&handler.options.root),
        systemd_cgroup: handler.options.systemd_cgroup,
    }
}
