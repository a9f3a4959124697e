//! CreateContainer: record the intent, prepare the root filesystem, build the OCI spec, record the result.
//!
//! The record comes first because it is what keeps the snapshot from garbage collection. A record without an OCI
//! spec is a creation that never ended; recovery takes it away.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use runtime_core::error::ErrorKind;
use runtime_core::ids::{ContainerId, Namespace, SnapshotKey};
use runtime_core::record::{ContainerRecord, OCI_SPEC_TYPE, RuntimeInfo, TypedValue};
use runtime_core::snapshot::peek::{PeekError, peek};
use runtime_core::snapshot::{NewSnapshot, SnapshotError};
use runtime_core::task::ShimError;
use serde::{Deserialize, Serialize};

use super::driver::{Begin, ContainerDriver};
use super::handle::ContainerHandle;
use super::pid::{self, TargetError};
use super::{ContainerState, teardown};
use crate::cgroup;
use crate::oci_spec::{self, HostParts, OciSpecError, PodFiles, SpecInputs};
use crate::pod::Pod;
use crate::registry::Registry;
use crate::services::{Services, StoreFailed};
use crate::spec::{ContainerSpec, ImageInput, LinuxResources};
use crate::user::{self, ResolvedUser, UserError};
use crate::view::ContainerView;

/// Under which the CRI keeps what it needs of a container beyond containerd's fields.
pub(crate) const EXTENSION: &str = "io.orlop.cri.container";
const EXTENSION_TYPE: &str = "orlop.io/cri/container/1";

/// containerd's mark of what a record in `k8s.io` is.
pub(crate) const KIND_LABEL: &str = "io.cri-containerd.kind";

#[derive(Debug, thiserror::Error)]
pub enum CreateError {
    #[error("pod {pod} is not ready")]
    PodNotReady { pod: String },
    #[error("container {name:?} of pod {pod} exists with another configuration and is in use")]
    InUse { pod: String, name: String },
    #[error("cannot record container {name:?}")]
    Record {
        name: String,
        #[source]
        source: StoreFailed,
    },
    #[error("cannot encode the record of container {name:?}")]
    Encode {
        name: String,
        #[source]
        source: serde_json::Error,
    },
    #[error("cannot prepare the root filesystem of container {name:?} from image {image}")]
    Snapshot {
        name: String,
        image: String,
        #[source]
        source: SnapshotError,
    },
    #[error("cannot look into the root filesystem of container {name:?}")]
    Peek {
        name: String,
        #[source]
        source: PeekError,
    },
    #[error("cannot make the bundle of container {name:?}")]
    Bundle {
        name: String,
        #[source]
        source: ShimError,
    },
    #[error("cannot find the user of container {name:?}")]
    User {
        name: String,
        #[source]
        source: UserError,
    },
    #[error("cannot make the OCI spec of container {name:?}")]
    Spec {
        name: String,
        #[source]
        source: OciSpecError,
    },
    #[error("cannot find out whose processes container {name:?} is to see")]
    Target {
        name: String,
        #[source]
        source: TargetError,
    },
    #[error("cannot clear the way for container {name:?}")]
    Supersede {
        name: String,
        #[source]
        source: Arc<super::ContainerError>,
    },
}

impl CreateError {
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::PodNotReady { .. } | Self::InUse { .. } => ErrorKind::FailedPrecondition,
            Self::Snapshot { source, .. } => source.kind(),
            Self::User { source, .. } => source.kind(),
            Self::Spec { source, .. } => source.kind(),
            Self::Target { source, .. } => source.kind(),
            Self::Supersede { source, .. } => source.kind(),
            Self::Record { .. } | Self::Encode { .. } | Self::Peek { .. } | Self::Bundle { .. } => {
                ErrorKind::Internal
            }
        }
    }
}

/// What the record keeps of a CRI container.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Extension {
    pub(crate) spec: ContainerSpec,
    pub(crate) image: ImageInput,
    /// Known once the image's databases were read.
    #[serde(default)]
    pub(crate) user: Option<ResolvedUser>,
    /// Limits that took the place of the specified ones; the specification stays what a retry is compared with.
    #[serde(default)]
    pub(crate) updated: Option<LinuxResources>,
}

impl Extension {
    pub(crate) fn resources(&self) -> LinuxResources {
        self.updated.clone().unwrap_or_else(|| self.spec.resources.clone())
    }
}

/// Keeps new limits in a container's record.
pub(super) fn set_resources(
    record: &mut ContainerRecord,
    resources: &LinuxResources,
) -> Result<(), serde_json::Error> {
    let value = record.extensions.entry(EXTENSION.to_owned()).or_default();
    let mut extension: Extension = value.parse_json()?;
    extension.updated = Some(resources.clone());
    *value = TypedValue::json(EXTENSION_TYPE, &extension)?;
    Ok(())
}

pub(crate) struct CreateInput {
    pub(crate) spec: ContainerSpec,
    pub(crate) image: ImageInput,
}

/// Makes the container and its driver. A failure takes everything away again.
pub(crate) async fn create(
    services: &Arc<Services>,
    registry: &Arc<Registry>,
    pod: &Arc<Pod>,
    input: CreateInput,
) -> Result<ContainerHandle, CreateError> {
    let id = ContainerId::random();
    let mut view = ContainerView {
        sandbox: pod.id.clone(),
        resources: Arc::new(input.spec.resources.clone()),
        removing: false,
        spec: Arc::new(input.spec),
        image: Arc::new(input.image),
        created_at: services.clock.now(),
        state: ContainerState::Created,
        user: None,
        snapshotter: services.settings.snapshotter.clone(),
        snapshot_key: SnapshotKey::of_container(&id),
        id,
    };
    if let Err(error) = make(services, registry, pod, &mut view).await {
        if let Err(left) = teardown::remove(services, &view).await {
            tracing::warn!(container = %view.id, error = %runtime_core::error::chain(&left), "left behind");
            let owner = services.clone();
            let later = async move { teardown::remove_in_the_end(&owner, &view).await };
            services.tasks.spawn_endless("undo a creation", later);
        }
        return Err(error);
    }
    let begin = Begin { view, task_exists: false };
    let handle = ContainerDriver::spawn(services, registry, pod, begin);
    // The pod may have been stopped while a slow disk held this up.
    if registry.add_container(&handle) {
        return Ok(handle);
    }
    let pod = pod.id.to_string();
    match handle.remove().await {
        Ok(()) => Err(CreateError::PodNotReady { pod }),
        Err(source) => {
            Err(CreateError::Supersede { name: handle.view.borrow().spec.metadata.name.clone(), source })
        }
    }
}

async fn make(
    services: &Services,
    registry: &Registry,
    pod: &Pod,
    view: &mut ContainerView,
) -> Result<(), CreateError> {
    let container = view.spec.metadata.name.clone();
    let name = || container.clone();
    let unrecorded = |source| CreateError::Record { name: name(), source };
    let pid = pid::namespace(&services.shims, registry, &pod.id, &view.spec)
        .map_err(|source| CreateError::Target { name: name(), source })?;
    let intent = record(pod, view).map_err(|source| CreateError::Encode { name: name(), source })?;
    services.put_container(intent).await.map_err(unrecorded)?;
    let snapshot_failed =
        |source| CreateError::Snapshot { name: name(), image: view.image.name.clone(), source };
    let new = NewSnapshot {
        key: view.snapshot_key.clone(),
        parent: Some(view.image.chain_id.clone().into()),
        labels: BTreeMap::new(),
        lease: None,
    };
    let mounts = services.snapshotter.prepare(&Namespace::k8s(), new).await.map_err(snapshot_failed)?;
    let bundle = services.shims.make_bundle(view.id.as_str());
    let bundle = bundle.map_err(|source| CreateError::Bundle { name: name(), source })?;
    let user = resolve_user(mounts, bundle.rootfs(), view).await?;
    let parts = look_up(pod, view).await?;
    let pins = services.shims.pins(pod.id.as_str());
    let inputs = SpecInputs {
        pod: &pod.spec,
        container: &view.spec,
        image: &view.image,
        sandbox_id: &pod.id,
        container_id: &view.id,
        user: &user,
        files: &PodFiles {
            folder: &pod.files,
            ipc: &pins.ipc,
            uts: &pins.uts,
            net: pod.netns(),
            shm: &services.shims.bundle(pod.id.as_str()).shm(),
        },
        pid: &pid,
        parts: &parts,
        passed_annotations: &pod.handler.passed_on(&pod.spec.annotations, &view.spec.annotations),
        cgroups_path: &cgroup::container_path(&pod.id, &pod.spec, &view.id),
        restrict_oom_score_adj: services.settings.restrict_oom_score_adj,
        host: &services.settings.host,
    };
    let spec = oci_spec::build(&inputs).map_err(|source| CreateError::Spec { name: name(), source })?;
    view.user = Some(user);
    let mut record = record(pod, view).map_err(|source| CreateError::Encode { name: name(), source })?;
    record.spec = TypedValue::json(OCI_SPEC_TYPE, &spec)
        .map_err(|source| CreateError::Encode { name: name(), source })?;
    services.put_container(record).await.map_err(unrecorded)
}

/// The record of the intent: everything but the OCI spec.
fn record(pod: &Pod, view: &ContainerView) -> Result<ContainerRecord, serde_json::Error> {
    let mut labels = view.spec.labels.clone();
    labels.insert(KIND_LABEL.to_owned(), "container".to_owned());
    let extension = Extension {
        spec: (*view.spec).clone(),
        image: (*view.image).clone(),
        user: view.user.clone(),
        updated: None,
    };
    Ok(ContainerRecord {
        id: view.id.to_string(),
        labels,
        image: view.image.name.clone(),
        runtime: RuntimeInfo { name: pod.handler.runtime_type.clone(), options: None },
        spec: TypedValue::default(),
        snapshotter: view.snapshotter.clone(),
        snapshot_key: view.snapshot_key.to_string(),
        sandbox_id: pod.id.to_string(),
        extensions: BTreeMap::from([(EXTENSION.to_owned(), TypedValue::json(EXTENSION_TYPE, &extension)?)]),
        created_at: view.created_at,
        updated_at: view.created_at,
    })
}

/// Whom the processes run as, by the image's own lists.
async fn resolve_user(
    mounts: Vec<runtime_core::snapshot::Mount>,
    rootfs: PathBuf,
    view: &ContainerView,
) -> Result<ResolvedUser, CreateError> {
    let (spec, image) = (view.spec.clone(), view.image.clone());
    on_disk(move || {
        let name = || spec.metadata.name.clone();
        let rootfs = peek(&mounts, &rootfs).map_err(|source| CreateError::Peek { name: name(), source })?;
        user::resolve(&rootfs, &spec.security, &image.config.user)
            .map_err(|source| CreateError::User { name: name(), source })
    })
    .await
}

/// What the host has at the places that the specification names.
async fn look_up(pod: &Pod, view: &ContainerView) -> Result<HostParts, CreateError> {
    let (spec, privileged) = (view.spec.clone(), pod.handler.privileged_devices);
    on_disk(move || {
        HostParts::look_up(&spec, privileged)
            .map_err(|source| CreateError::Spec { name: spec.metadata.name.clone(), source })
    })
    .await
}

/// Off the workers: a disk may be slow.
async fn on_disk<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|died| std::panic::resume_unwind(died.into_panic()))
}
