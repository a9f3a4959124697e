//! Starting shims, finding them again, and cleaning up behind dead ones.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use runtime_shim::client::ShimClient;
use runtime_shim::exit_file::{self, ExitFileError, ExitRecord};
use runtime_shim::identity::{IdentityError, ProcessIdentity, is_absent};
use runtime_shim::launch::{self, LaunchSpec, Verbosity};
use runtime_shim::layout::{self, Bundle, PinnedNamespace};
use runtime_shim::protocol::sandbox::ShutdownSandboxRequest;
use runtime_shim::spawner::Spawner;
use runtime_sys::pidfd;

use super::{Shim, ShimError};
use crate::error::chain;

/// How long a shim may take to start.
const LAUNCH: Duration = Duration::from_secs(30);
/// How long one may take to die of SIGKILL, and how often that is looked at.
const DEATH: Duration = Duration::from_secs(10);
const DEATH_POLL: Duration = Duration::from_millis(5);

/// Where the shims of this daemon live.
#[derive(Clone, Debug)]
pub struct ShimsConfig {
    pub state: PathBuf,
    /// The containerd namespace.
    pub namespace: String,
    /// The daemon's own socket and binary, for shims that call back.
    pub address: PathBuf,
    pub binary: PathBuf,
    /// Cgroup that shims are born in, a path from the roots of the hierarchies; empty is the daemon's own.
    pub cgroup: String,
}

/// Where a pod's namespaces are pinned; the pid namespace only while the pod has a holder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pins {
    pub ipc: PathBuf,
    pub uts: PathBuf,
    pub pid: PathBuf,
}

/// Options of the OCI runtime behind a shim (containerd's `runc.v1.Options`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RuntimeOptions {
    /// Empty is `runc` on the PATH.
    pub binary_name: PathBuf,
    pub root: Option<PathBuf>,
    pub systemd_cgroup: bool,
}

/// A shim to be started.
#[derive(Clone, Copy, Debug)]
pub struct ShimSpec<'a> {
    pub id: &'a str,
    pub binary: &'a Path,
}

#[derive(Debug)]
pub struct Shims {
    config: ShimsConfig,
    spawner: Option<Arc<Spawner>>,
}

impl Shims {
    /// Starts the thread that starts shims, which ends with this.
    pub fn new(config: ShimsConfig) -> Self {
        let spawner = spawner(&config.cgroup);
        Self { config, spawner }
    }

    /// The folder of a sandbox or container.
    pub fn bundle(&self, id: &str) -> Bundle {
        Bundle::of(&self.config.state, &self.config.namespace, id)
    }

    /// Where a pod's namespaces are pinned.
    pub fn pins(&self, sandbox: &str) -> Pins {
        let pin = |kind| self.bundle(sandbox).namespace(kind);
        Pins {
            ipc: pin(PinnedNamespace::Ipc),
            uts: pin(PinnedNamespace::Uts),
            pid: pin(PinnedNamespace::Pid),
        }
    }

    /// Starts the shim of a sandbox, or takes the one that is there already.
    pub async fn start(&self, spec: &ShimSpec<'_>) -> Result<Shim, ShimError> {
        let bundle = self.make_bundle(spec.id)?;
        let launch = LaunchSpec {
            binary: spec.binary.to_owned(),
            bundle: bundle.path().to_owned(),
            namespace: self.config.namespace.clone(),
            id: spec.id.to_owned(),
            address: self.config.address.clone(),
            publish_binary: self.config.binary.clone(),
            socket_folder: layout::socket_folder(&self.config.state),
            verbosity: Verbosity::Normal,
            options: None,
            spawner: self.spawner.clone(),
            limit: LAUNCH,
        };
        let launched = launch::start_shim(&launch).await.map_err(|source| ShimError::Launch {
            binary: spec.binary.to_owned(),
            id: spec.id.to_owned(),
            source,
        })?;
        self.take_hold(spec.id, &launched.address, bundle).await
    }

    /// The shim that an earlier daemon started, if it still lives.
    pub async fn attach(&self, id: &str) -> Result<Shim, ShimError> {
        self.take_hold(id, &layout::address(&self.socket(id)), self.bundle(id)).await
    }

    /// Whether the shim process of a sandbox is alive, without asking it.
    pub fn is_alive(&self, id: &str) -> bool {
        match ProcessIdentity::read(&self.bundle(id).shim_pid()) {
            Ok(identity) => identity.is_alive(),
            Err(IdentityError::Io { source, .. }) => !is_absent(&source),
            Err(IdentityError::Damaged { .. }) => false,
        }
    }

    /// Kills the shim process of a sandbox and waits until it is gone, for one that does not answer.
    pub async fn kill(&self, id: &str) -> Result<(), ShimError> {
        let failed = |source: io::Error| ShimError::Process { id: id.to_owned(), source };
        let identity = match ProcessIdentity::read(&self.bundle(id).shim_pid()) {
            Ok(identity) => identity,
            Err(IdentityError::Io { source, .. }) if is_absent(&source) => return Ok(()),
            Err(error) => return Err(failed(io::Error::other(error))),
        };
        let pid = i32::try_from(identity.pid).ok().and_then(rustix::process::Pid::from_raw);
        let pid = pid.ok_or_else(|| failed(io::ErrorKind::InvalidData.into()))?;
        let pidfd = match pidfd::open(pid) {
            Ok(pidfd) => pidfd,
            Err(error) if is_absent(&error) => return Ok(()),
            Err(error) => return Err(failed(error)),
        };
        // The pid may have passed to another process before it was opened.
        if !identity.is_alive() {
            return Ok(());
        }
        pidfd::send_signal(&pidfd, rustix::process::Signal::KILL).map_err(failed)?;
        let gone = async {
            while identity.is_alive() {
                tokio::time::sleep(DEATH_POLL).await;
            }
        };
        let late = |_| ShimError::StillThere { id: id.to_owned(), seconds: DEATH.as_secs() };
        tokio::time::timeout(DEATH, gone).await.map_err(late)
    }

    /// How a container ended, as its shim wrote it before it told anybody.
    pub fn exit(&self, container: &str) -> Result<Option<ExitRecord>, ExitFileError> {
        match exit_file::read(&self.bundle(container).exit_file()) {
            Ok(record) => Ok(Some(record)),
            Err(ExitFileError::Absent { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Takes the exit of an earlier task away.
    pub fn forget_exit(&self, container: &str) -> Result<(), ShimError> {
        let path = self.bundle(container).exit_file();
        match std::fs::remove_file(&path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                Err(ShimError::Bundle { path, source })
            }
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Makes the folder of a sandbox or container.
    pub fn make_bundle(&self, id: &str) -> Result<Bundle, ShimError> {
        let bundle = self.bundle(id);
        DirBuilder::new()
            .recursive(true)
            .mode(0o711)
            .create(bundle.rootfs())
            .map_err(|source| ShimError::Bundle { path: bundle.path().to_owned(), source })?;
        Ok(bundle)
    }

    /// Takes the folder of a sandbox or container away. A root filesystem that is still mounted there is not
    /// reached into.
    pub fn remove_bundle(&self, id: &str) -> Result<(), ShimError> {
        let bundle = self.bundle(id);
        runtime_sys::mount::unmount_detached(&bundle.rootfs())
            .map_err(|source| ShimError::Bundle { path: bundle.rootfs(), source })?;
        match std::fs::remove_dir_all(bundle.path()) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                Err(ShimError::Bundle { path: bundle.path().to_owned(), source })
            }
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Takes the folder of a sandbox away, and after it a shim that came up only now, or the socket that a killed
    /// one left. A shim that finds its folder gone ends by itself, so that none is missed.
    pub async fn remove_sandbox(&self, id: &str) -> Result<(), ShimError> {
        self.remove_bundle(id)?;
        let socket = self.socket(id);
        if let Ok(client) = ShimClient::connect(&layout::address(&socket)).await {
            let request = ShutdownSandboxRequest { sandbox_id: id.to_owned() };
            let answer = client.with_limit(LAUNCH).shutdown_sandbox(&request).await;
            tracing::warn!(
                sandbox = id,
                late = answer.is_ok(),
                "a shim was there after its pod, it was ended"
            );
        }
        for path in [layout::stream_socket(&socket), socket] {
            match std::fs::remove_file(&path) {
                Err(source) if source.kind() != io::ErrorKind::NotFound => {
                    return Err(ShimError::Bundle { path, source });
                }
                Ok(()) | Err(_) => {}
            }
        }
        Ok(())
    }

    fn socket(&self, id: &str) -> PathBuf {
        layout::socket(&layout::socket_folder(&self.config.state), &self.config.namespace, id)
    }

    /// Cleans up a sandbox or container whose shim is gone: containerd's `<shim> … delete`. A shim that is there
    /// after all, such as one whose start was given up, is shut down.
    pub async fn clean(&self, id: &str, binary: &Path) -> Result<(), ShimError> {
        if let Ok(shim) = self.attach(id).await {
            shim.shutdown().await?;
        }
        let bundle = self.bundle(id);
        if !bundle.path().exists() {
            return Ok(());
        }
        super::cleanup::run_delete(&self.config, id, binary, bundle.path()).await
    }

    async fn take_hold(&self, id: &str, address: &str, bundle: Bundle) -> Result<Shim, ShimError> {
        let client = ShimClient::connect(address)
            .await
            .map_err(|source| ShimError::Connect { id: id.to_owned(), source })?;
        let identity = ProcessIdentity::read(&bundle.shim_pid())
            .map_err(|error| ShimError::Process { id: id.to_owned(), source: io::Error::other(error) })?;
        Shim::new(id, bundle.path().to_owned(), client, &identity)
    }
}

/// `None` when shims are to stay in the daemon's cgroup, or have to.
fn spawner(cgroup: &str) -> Option<Arc<Spawner>> {
    if cgroup.is_empty() {
        return None;
    }
    let warn = |cgroup: &str, error: &(dyn std::error::Error + 'static)| {
        tracing::warn!(cgroup, error = %chain(error), "shims stay in the daemon's cgroup");
    };
    let in_thread = cgroup.to_owned();
    let spawner = Spawner::new(cgroup, move |error| warn(&in_thread, &error));
    spawner.inspect_err(|error| warn(cgroup, error)).ok().map(Arc::new)
}
