//! What every CRI call works with, and how a call that changes something is detached from its client.

use std::future::Future;
use std::sync::Arc;

use imagesvc::ImageService;
use pod_sandbox::PodService;
use runtime_core::plugin::NodePaths;
use runtime_core::tasks::TaskGroup;
use tonic::{Response, Status};

/// The services behind the CRI; clones are the same services.
#[derive(Clone)]
pub(crate) struct Cri {
    pub(crate) pods: PodService,
    pub(crate) images: ImageService,
    pub(crate) streams: Arc<streaming::Server>,
    pub(crate) node: NodePaths,
    pub(crate) tasks: TaskGroup,
}

impl Cri {
    /// Runs a changing call to its end even when the client goes away, so that nothing is left half-made: the
    /// client's retry finds the result.
    pub(crate) async fn detached<T, F>(&self, name: &'static str, call: F) -> Result<Response<T>, Status>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, Status>> + Send + 'static,
    {
        let task = self.tasks.spawn(name, call);
        let result = task.await.map_err(|_| Status::internal(format!("{name} ended unexpectedly")))?;
        result.map(Response::new).inspect_err(|status| report(name, status))
    }
}

/// One log line for a call that failed.
pub(crate) fn report(name: &'static str, status: &Status) {
    tracing::warn!(call = name, code = ?status.code(), message = status.message(), "call failed");
}
