//! What the drivers work with: the core's services and the places on disk. Nothing here changes after start.

use std::path::PathBuf;
use std::sync::Arc;

use runtime_core::clock::SharedClock;
use runtime_core::ids::{ContainerId, Namespace, SandboxId};
use runtime_core::record::{ContainerRecord, SandboxRecord, TypedValue};
use runtime_core::snapshot::Snapshotter;
use runtime_core::store::record::Table;
use runtime_core::store::{SharedStore, StoreError};
use runtime_core::task::Shims;
use runtime_core::tasks::TaskGroup;
use serde_json::Value;

use crate::handler::Handlers;
use crate::network::Networks;
use crate::oci_spec::HostFacts;
use crate::sandbox::TeardownError;
use crate::view::ContainerView;

/// A change of durable metadata that did not happen.
pub(crate) type StoreFailed = StoreError;

/// Under which a pod's record has what its networks answered.
pub(crate) const NETWORK: &str = "io.orlop.cri.network";
const NETWORK_TYPE: &str = "orlop.io/cri/network/1";

/// A record was not changed.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the record is gone")]
    Gone,
    #[error("what is to be recorded cannot be encoded")]
    Encode(#[from] serde_json::Error),
}

/// Where pods keep their files.
#[derive(Clone, Debug)]
pub struct PodPaths {
    /// `<root>/io.containerd.grpc.v1.cri`.
    pub root: PathBuf,
    /// `<state>/pods`.
    pub journals: PathBuf,
}

impl PodPaths {
    pub(crate) fn files(&self, sandbox: &SandboxId) -> PathBuf {
        self.root.join("sandboxes").join(sandbox.as_str())
    }

    pub(crate) fn journal(&self, sandbox: &SandboxId) -> PathBuf {
        self.journals.join(sandbox.as_str())
    }
}

/// What is decided once for the node.
#[derive(Clone, Debug)]
pub struct NodeSettings {
    pub boot_id: String,
    /// Clamp `oom_score_adj` to what this process may set (containerd's `restrict_oom_score_adj`).
    pub restrict_oom_score_adj: bool,
    /// What the host can do, looked up once.
    pub host: HostFacts,
    /// Name of the snapshotter behind [`Services::snapshotter`].
    pub snapshotter: String,
}

pub struct Services {
    pub store: SharedStore,
    pub snapshotter: Arc<dyn Snapshotter>,
    pub shims: Arc<Shims>,
    pub handlers: Handlers,
    pub networks: Networks,
    pub paths: PodPaths,
    pub settings: NodeSettings,
    pub clock: SharedClock,
    pub tasks: TaskGroup,
}

impl Services {
    pub(crate) fn sandboxes() -> Table<SandboxRecord> {
        Table::new(&Namespace::k8s())
    }

    pub(crate) fn containers() -> Table<ContainerRecord> {
        Table::new(&Namespace::k8s())
    }

    pub(crate) async fn put_sandbox(&self, record: SandboxRecord) -> Result<(), StoreFailed> {
        self.store.write(move |txn| Self::sandboxes().put(txn, &record)).await
    }

    pub(crate) async fn put_container(&self, record: ContainerRecord) -> Result<(), StoreFailed> {
        self.store.write(move |txn| Self::containers().put(txn, &record)).await
    }

    /// Keeps what the networks of a pod answered.
    pub(crate) async fn record_network(&self, id: &SandboxId, results: &[Value]) -> Result<(), RecordError> {
        let value = TypedValue::json(NETWORK_TYPE, &results)?;
        let key = id.to_string();
        self.store
            .write(move |txn| {
                let table = Self::sandboxes();
                let mut record = table.get(txn, &key)?.ok_or(RecordError::Gone)?;
                record.extensions.insert(NETWORK.to_owned(), value);
                table.put(txn, &record).map_err(RecordError::from)
            })
            .await
    }

    pub(crate) fn container_record(&self, id: &ContainerId) -> Result<Option<ContainerRecord>, StoreFailed> {
        Self::containers().get(&*self.store, id.as_str())
    }

    /// Takes the durable record of a pod away; gone already is fine.
    pub(crate) async fn forget_sandbox(&self, id: &SandboxId) -> Result<(), TeardownError> {
        let key = id.to_string();
        let forgotten: Result<(), StoreFailed> = self
            .store
            .write(move |txn| {
                Self::sandboxes().delete(txn, &key);
                Ok(())
            })
            .await;
        forgotten.map_err(|source| TeardownError::Record { pod: id.to_string(), source })
    }

    /// Takes the durable record of a container away; gone already is fine.
    pub(crate) async fn forget_container(&self, id: &ContainerId) -> Result<(), StoreFailed> {
        let key = id.to_string();
        self.store
            .write(move |txn| {
                Self::containers().delete(txn, &key);
                Ok(())
            })
            .await
    }

    /// What asks this container to end: its own wish, its image's, or TERM.
    pub(crate) fn stop_signal(&self, view: &ContainerView) -> i32 {
        view.spec
            .stop_signal
            .or_else(|| crate::signal::parse(&view.image.config.stop_signal))
            .unwrap_or(crate::signal::SIGTERM)
    }
}
