//! Pods and containers as verbs: what the CRI server calls. Every verb may come twice.

use std::sync::Arc;
use std::time::Duration;

use runtime_core::clock::Timestamp;
use runtime_core::error::ErrorKind;
use runtime_core::ids::{ContainerId, SandboxId};
use runtime_core::record::{OCI_SPEC_TYPE, RuntimeInfo, SandboxRecord, TypedValue};
use serde::{Deserialize, Serialize};

use crate::container::ContainerHandle;
use crate::container::{ContainerError, CreateError, CreateInput, create};
use crate::handler::{Handler, UnknownHandler};
use crate::journal::{Journal, JournalError};
use crate::network::{NetworkError, NetworkIntent};
use crate::pod::{Pod, PodNetwork, ShimCell};
use crate::registry::{ContainerKey, LookupError, Name, Registry};
use crate::sandbox::driver::{Begin, Request, SandboxDriver, SandboxHandle, SetupOutcome};
use crate::sandbox::{SandboxState, SetupError, TeardownError};
use crate::services::{Services, StoreFailed};
use crate::spec::{ContainerSpec, ImageInput, LinuxResources, PodSpec};
use crate::view::{ContainerView, SandboxView};

/// Under which the CRI keeps what it needs of a pod beyond containerd's fields.
pub(crate) const EXTENSION: &str = "io.orlop.cri.sandbox";
const EXTENSION_TYPE: &str = "orlop.io/cri/sandbox/1";
/// containerd's name of the controller that makes CRI pods.
const SANDBOXER: &str = "podsandbox";

#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error(transparent)]
    Handler(#[from] UnknownHandler),
    #[error("cannot record pod {pod}")]
    Record {
        pod: String,
        #[source]
        source: StoreFailed,
    },
    #[error("cannot encode the record of pod {pod}")]
    Encode {
        pod: String,
        #[source]
        source: serde_json::Error,
    },
    #[error("cannot begin the journal of pod {pod}")]
    Journal {
        pod: String,
        #[source]
        source: JournalError,
    },
    #[error("pod {pod} cannot have a network")]
    Network {
        pod: String,
        #[source]
        source: NetworkError,
    },
    #[error("pod {pod} cannot have port {port} of the node: pod sandbox {holder} has it")]
    PortTaken { pod: String, port: String, holder: SandboxId },
    #[error("pod {pod} was not set up")]
    Setup {
        pod: String,
        #[source]
        source: Arc<SetupError>,
    },
    #[error("cannot take away an earlier pod {pod}")]
    Supersede {
        pod: String,
        #[source]
        source: Arc<TeardownError>,
    },
    #[error("pod {pod} was removed while it was set up")]
    Removed { pod: String },
}

impl RunError {
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Handler(_) => ErrorKind::NotFound,
            Self::Network { source, .. } => source.kind(),
            Self::Setup { source, .. } => source.kind(),
            Self::Supersede { source, .. } => source.kind(),
            Self::PortTaken { .. } => ErrorKind::FailedPrecondition,
            Self::Removed { .. } => ErrorKind::Cancelled,
            Self::Record { .. } | Self::Encode { .. } | Self::Journal { .. } => ErrorKind::Internal,
        }
    }
}

/// What the record keeps of a CRI pod.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Extension {
    pub(crate) spec: PodSpec,
    /// The boot of the host that the pod was made in.
    pub(crate) boot_id: String,
    /// What the pod is attached to, recorded before it is.
    #[serde(default)]
    pub(crate) network: Option<NetworkIntent>,
}

/// The pod of a name: one that was there, or one made just now.
enum Claim {
    Taken(SandboxHandle),
    Made(SandboxHandle),
}

/// Pods and containers of this node.
#[derive(Clone)]
pub struct PodService {
    services: Arc<Services>,
    registry: Arc<Registry>,
}

impl PodService {
    pub(crate) fn new(services: Arc<Services>, registry: Arc<Registry>) -> Self {
        Self { services, registry }
    }

    /// Runs a pod and waits until it is ready. The same pod again joins the running call or gets its result;
    /// one of the same name with another configuration takes its place.
    pub async fn run_sandbox(&self, spec: PodSpec) -> Result<SandboxId, RunError> {
        let name = format!("{}/{}", spec.metadata.namespace, spec.metadata.name);
        loop {
            let (handle, taken) = match self.claim(&spec, &name).await? {
                Claim::Made(handle) => (handle, false),
                Claim::Taken(handle) => (handle, true),
            };
            let same = *handle.pod.spec == spec;
            // A failure of before is no answer to this call: what is left of it is taken away and it is tried anew.
            let failed_before = taken && matches!(*handle.setup.borrow(), SetupOutcome::Failed(_));
            let same = same && !failed_before;
            let outcome = if same { settled(&handle).await } else { SetupOutcome::NotReady };
            match outcome {
                SetupOutcome::Ready if handle.is_ready() => return Ok(handle.pod.id.clone()),
                SetupOutcome::Failed(source) => return Err(RunError::Setup { pod: name, source }),
                SetupOutcome::Ready | SetupOutcome::NotReady | SetupOutcome::Running if taken => {
                    match handle.ask(Request::Remove).await {
                        Some(removed) => {
                            removed.map_err(|source| RunError::Supersede { pod: name.clone(), source })?;
                        }
                        // Its driver has ended: with the pod, or with the daemon.
                        None if self.registry.has_sandbox(&handle.pod.id) => {
                            return Err(RunError::Removed { pod: name });
                        }
                        None => {}
                    }
                }
                SetupOutcome::Ready | SetupOutcome::NotReady | SetupOutcome::Running => {
                    return Err(RunError::Removed { pod: name });
                }
            }
        }
    }

    async fn claim(&self, spec: &PodSpec, name: &str) -> Result<Claim, RunError> {
        let handler = self.services.handlers.resolve(&spec.runtime_handler)?;
        let gate = self.registry.gate(Name::Pod(spec.metadata.clone()));
        let _one_at_a_time = gate.lock().await;
        if let Some(handle) = self.registry.sandbox_named(&spec.metadata) {
            return Ok(Claim::Taken(handle));
        }
        let ports_gate = self.registry.gate(Name::HostPorts);
        let _ports = if spec.port_mappings.is_empty() { None } else { Some(ports_gate.lock().await) };
        if let Some((holder, port)) = self.registry.port_holder(&spec.port_mappings) {
            return Err(RunError::PortTaken { pod: name.to_owned(), port: port.to_string(), holder });
        }
        let id = SandboxId::random();
        let created_at = self.services.clock.now();
        let network = self.services.networks.intend(&id, spec);
        let network = network.map_err(|source| RunError::Network { pod: name.to_owned(), source })?;
        let extension = Extension {
            spec: spec.clone(),
            boot_id: self.services.settings.boot_id.clone(),
            network: network.clone(),
        };
        let record = record(&id, &extension, &handler.runtime_type, created_at);
        let record = record.map_err(|source| RunError::Encode { pod: name.to_owned(), source })?;
        self.services
            .put_sandbox(record)
            .await
            .map_err(|source| RunError::Record { pod: name.to_owned(), source })?;
        let journal =
            Journal::create(&self.services.paths.journal(&id), &self.services.settings.boot_id, &[]);
        let journal = match journal {
            Ok(journal) => journal,
            Err(source) => {
                if let Err(error) = self.services.forget_sandbox(&id).await {
                    tracing::warn!(sandbox = %id, error = %runtime_core::error::chain(&error), "left behind");
                }
                return Err(RunError::Journal { pod: name.to_owned(), source });
            }
        };
        let pod = Pod {
            files: self.services.paths.files(&id),
            id,
            spec: Arc::new(spec.clone()),
            created_at,
            journal,
            handler,
            shim: ShimCell::default(),
            network: network.map(PodNetwork::intended),
            holder: Default::default(),
        };
        let pod = Arc::new(pod);
        Ok(Claim::Made(SandboxDriver::spawn(&self.services, &self.registry, pod, Begin::SetUp)))
    }

    /// Stops everything of the pod that runs. A pod that does not exist is stopped already.
    pub async fn stop_sandbox(&self, id: &str) -> Result<(), Arc<TeardownError>> {
        match self.registry.sandbox(id) {
            Ok(handle) => handle.ask(Request::Stop).await.unwrap_or(Ok(())),
            Err(error) => error.unless_absent().map_err(|error| Arc::new(TeardownError::Lookup(error))),
        }
    }

    /// Stops the pod and takes it away with its containers. A pod that does not exist is removed already.
    pub async fn remove_sandbox(&self, id: &str) -> Result<(), Arc<TeardownError>> {
        match self.registry.sandbox(id) {
            Ok(handle) => handle.ask(Request::Remove).await.unwrap_or(Ok(())),
            Err(error) => error.unless_absent().map_err(|error| Arc::new(TeardownError::Lookup(error))),
        }
    }

    pub fn sandbox(&self, id: &str) -> Result<SandboxView, LookupError> {
        self.registry.sandbox(id).map(|handle| handle.view.borrow().clone())
    }

    pub(crate) fn sandbox_handle(&self, id: &str) -> Result<SandboxHandle, LookupError> {
        self.registry.sandbox(id)
    }

    /// Every pod; one that is still being set up is nobody's business yet.
    pub fn sandboxes(&self) -> Vec<SandboxView> {
        let handles = self.registry.sandboxes();
        let views = handles.iter().map(|handle| handle.view.borrow().clone());
        views.filter(|view| !matches!(view.state, SandboxState::SettingUp { .. })).collect()
    }

    /// Creates a container in a ready pod. The same one again gets the id of the first.
    pub async fn create_container(
        &self,
        sandbox: &str,
        spec: ContainerSpec,
        image: ImageInput,
    ) -> Result<ContainerId, CreateError> {
        let not_ready = || CreateError::PodNotReady { pod: sandbox.to_owned() };
        let pod = self.registry.sandbox(sandbox).map_err(|_| not_ready())?;
        if !pod.is_ready() {
            return Err(not_ready());
        }
        let key: ContainerKey = (pod.pod.id.clone(), spec.metadata.clone());
        let gate = self.registry.gate(Name::Container(key.clone()));
        let _one_at_a_time = gate.lock().await;
        if let Some(found) = self.registry.container_named(&key) {
            let existing = found.view.borrow().clone();
            let same = *existing.spec == spec && existing.image.id == image.id;
            if same && !existing.removing {
                return Ok(existing.id);
            }
            if existing.state.is_live() && !existing.removing {
                return Err(CreateError::InUse { pod: sandbox.to_owned(), name: spec.metadata.name });
            }
            let name = spec.metadata.name.clone();
            found.remove().await.map_err(|source| CreateError::Supersede { name, source })?;
        }
        let input = CreateInput { spec, image };
        create(&self.services, &self.registry, &pod.pod, input).await.map(|handle| handle.id)
    }

    pub async fn start_container(&self, id: &str) -> Result<(), Arc<ContainerError>> {
        self.found(id)?.start().await
    }

    /// A container that does not exist is stopped already.
    pub async fn stop_container(&self, id: &str, grace: Duration) -> Result<(), Arc<ContainerError>> {
        match self.registry.container(id) {
            Ok(handle) => handle.stop(grace).await,
            Err(error) => error.unless_absent().map_err(|error| Arc::new(ContainerError::Lookup(error))),
        }
    }

    /// New limits for a container; what they leave out stays.
    pub async fn update_container(&self, id: &str, wish: LinuxResources) -> Result<(), Arc<ContainerError>> {
        self.found(id)?.update(wish).await
    }

    /// A container that does not exist is removed already; one that runs is killed.
    pub async fn remove_container(&self, id: &str) -> Result<(), Arc<ContainerError>> {
        match self.registry.container(id) {
            Ok(handle) => handle.remove().await,
            Err(error) => error.unless_absent().map_err(|error| Arc::new(ContainerError::Lookup(error))),
        }
    }

    pub fn container(&self, id: &str) -> Result<ContainerView, LookupError> {
        self.registry.container(id).map(|handle| handle.view.borrow().clone())
    }

    pub fn containers(&self) -> Vec<ContainerView> {
        self.registry.containers().iter().map(|handle| handle.view.borrow().clone()).collect()
    }

    /// The OCI runtime spec of a container as JSON text, for `crictl inspect`.
    pub fn oci_spec(&self, id: &ContainerId) -> Option<String> {
        let record = self.services.container_record(id).ok()??;
        String::from_utf8(record.spec.value).ok()
    }

    /// What runs the pod's containers.
    pub fn handler_of(&self, sandbox: &str) -> Option<Arc<Handler>> {
        self.pod(sandbox).map(|pod| pod.handler.clone())
    }

    pub(crate) fn pod(&self, id: &str) -> Option<Arc<Pod>> {
        self.sandbox_handle(id).ok().map(|handle| handle.pod)
    }

    pub fn services(&self) -> &Arc<Services> {
        &self.services
    }

    pub(crate) fn found(&self, id: &str) -> Result<ContainerHandle, Arc<ContainerError>> {
        self.registry.container(id).map_err(|error| Arc::new(ContainerError::Lookup(error)))
    }
}

fn record(
    id: &SandboxId,
    extension: &Extension,
    runtime_type: &str,
    created_at: Timestamp,
) -> Result<SandboxRecord, serde_json::Error> {
    let mut labels = extension.spec.labels.clone();
    labels.insert(crate::container::KIND_LABEL.to_owned(), "sandbox".to_owned());
    Ok(SandboxRecord {
        id: id.to_string(),
        labels,
        runtime: RuntimeInfo { name: runtime_type.to_owned(), options: None },
        spec: TypedValue { type_url: OCI_SPEC_TYPE.to_owned(), value: b"{}".to_vec() },
        sandboxer: SANDBOXER.to_owned(),
        extensions: [(EXTENSION.to_owned(), TypedValue::json(EXTENSION_TYPE, extension)?)].into(),
        created_at,
        updated_at: created_at,
    })
}

/// Waits until a set-up has ended one way or the other.
async fn settled(handle: &SandboxHandle) -> SetupOutcome {
    let mut setup = handle.setup.clone();
    let done = setup.wait_for(|outcome| !matches!(outcome, SetupOutcome::Running)).await;
    match done {
        Ok(outcome) => outcome.clone(),
        Err(_) => SetupOutcome::NotReady,
    }
}
