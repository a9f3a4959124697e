//! Setting a pod up: climbing the stages, each recorded before it is entered.
//!
//! A failure here undoes nothing: the driver runs the one teardown from the stage that was reached.

use std::collections::BTreeMap;

use runtime_core::error::ErrorKind;
use runtime_core::task::{PodNamespaces, ShimError, ShimSpec};
use tokio_util::sync::CancellationToken;

use super::files::{FilesError, ensure_files};
use crate::facts::{Fact, Stage};
use crate::journal::JournalError;
use crate::network::NetworkError;
use crate::pod::{Pod, ShimSlot};
use crate::services::{RecordError, Services};
use crate::spec::IpcMode;
use crate::timing::{Stopwatch, Timings};

#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    #[error("cannot record the set-up of pod {pod}")]
    Journal {
        pod: String,
        #[source]
        source: JournalError,
    },
    #[error("cannot write the files of pod {pod}")]
    Files {
        pod: String,
        #[source]
        source: FilesError,
    },
    #[error("cannot start the shim of pod {pod}")]
    Shim {
        pod: String,
        #[source]
        source: ShimError,
    },
    #[error("cannot make the namespaces of pod {pod}")]
    Namespaces {
        pod: String,
        #[source]
        source: ShimError,
    },
    #[error("cannot set up the network of pod {pod}")]
    Network {
        pod: String,
        #[source]
        source: NetworkError,
    },
    #[error("cannot record the network of pod {pod}")]
    Record {
        pod: String,
        #[source]
        source: RecordError,
    },
    #[error("pod {pod} was stopped while it was set up")]
    Interrupted { pod: String },
}

impl SetupError {
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Journal { .. } | Self::Files { .. } | Self::Record { .. } => ErrorKind::Internal,
            Self::Network { source, .. } => source.kind(),
            Self::Interrupted { .. } => ErrorKind::Cancelled,
            Self::Shim { source, .. } | Self::Namespaces { source, .. } => source.kind(),
        }
    }
}

/// Climbs to the top; `reached` always names the last stage that was recorded. `interrupted` cuts the plugins short,
/// which may take long; the other stages are waited for.
pub(super) async fn climb(
    services: &Services,
    pod: &Pod,
    reached: &mut Stage,
    interrupted: &CancellationToken,
) -> Result<Timings, SetupError> {
    let name = || format!("{}/{}", pod.spec.metadata.namespace, pod.spec.metadata.name);
    let mut stopwatch = Stopwatch::start();

    enter(pod, Stage::Files, reached)?;
    let hostname =
        ensure_files(&pod.files, &pod.spec).map_err(|source| SetupError::Files { pod: name(), source })?;
    stopwatch.lap("files");

    enter(pod, Stage::ShimUp, reached)?;
    let spec = ShimSpec { id: pod.id.as_str(), binary: &pod.handler.shim };
    let shim =
        services.shims.start(&spec).await.map_err(|source| SetupError::Shim { pod: name(), source })?;
    pod.set_shim(ShimSlot::Up(shim.clone()));
    let process = shim.process();
    record(pod, &Fact::Shim { pid: process.pid, start_time: process.start_time })?;
    stopwatch.lap("shim");

    enter(pod, Stage::NamespacesMade, reached)?;
    let namespaces = PodNamespaces {
        hostname,
        own_ipc: pod.spec.ipc == IpcMode::Pod,
        net_pin: pod.network.as_ref().map(|network| network.intent.pin.clone()),
        sysctls: sysctls(services, pod),
    };
    shim.create_sandbox(&namespaces)
        .await
        .map_err(|source| SetupError::Namespaces { pod: name(), source })?;
    stopwatch.lap("namespaces");

    if let Some(network) = &pod.network {
        enter(pod, Stage::NetworkUp, reached)?;
        let results = tokio::select! {
            biased;
            // Dropped, it kills the plugin; the teardown that follows detaches.
            results = services.networks.attach(&network.intent) => results,
            // Cancel-safe: a token.
            () = interrupted.cancelled() => return Err(SetupError::Interrupted { pod: name() }),
        };
        let results = results.map_err(|source| SetupError::Network { pod: name(), source })?;
        stopwatch.lap("network");
        let recorded = services.record_network(&pod.id, &results).await;
        recorded.map_err(|source| SetupError::Record { pod: name(), source })?;
        // Set once: a pod is set up once.
        let _ = network.results.set(results);
        stopwatch.lap("record");
    }
    Ok(stopwatch.finish())
}

/// The node's defaults for a network of the pod's own, then the pod's wishes.
fn sysctls(services: &Services, pod: &Pod) -> BTreeMap<String, String> {
    let mut sysctls = BTreeMap::new();
    if pod.network.is_some() {
        sysctls.extend(services.networks.sysctls.clone());
    }
    sysctls.extend(pod.spec.sysctls.clone());
    sysctls
}

fn enter(pod: &Pod, stage: Stage, reached: &mut Stage) -> Result<(), SetupError> {
    record(pod, &Fact::Entering(stage))?;
    *reached = stage;
    Ok(())
}

fn record(pod: &Pod, fact: &Fact) -> Result<(), SetupError> {
    pod.record(fact).map_err(|source| SetupError::Journal { pod: pod.id.to_string(), source })
}
