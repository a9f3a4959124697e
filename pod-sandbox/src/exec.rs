//! What is done in or to a running container without its driver: commands and log rotation.

use std::sync::Arc;
use std::time::Duration;

use runtime_core::error::ErrorKind;
use runtime_core::task::{ExecOutput, ExecRequest, Shim, ShimError};

use crate::container::{ContainerError, ContainerHandle, ContainerState};
use crate::pod::NoShim;
use crate::service::PodService;
use crate::services::StoreFailed;

/// The CRI's cap on each output of ExecSync.
const OUTPUT_LIMIT: u64 = 16 * 1024 * 1024;

#[derive(Debug, thiserror::Error)]
pub enum ExecError {
    #[error(transparent)]
    Container(Arc<ContainerError>),
    #[error("container {id} is not running")]
    NotRunning { id: String },
    #[error("no command was given for container {id}")]
    NoCommand { id: String },
    #[error("container {id} cannot be reached")]
    NoShim {
        id: String,
        #[source]
        source: NoShim,
    },
    #[error("the record of container {id} cannot be read")]
    Record {
        id: String,
        #[source]
        source: StoreFailed,
    },
    #[error("the OCI spec of container {id} has no process to take after")]
    NoProcess { id: String },
    #[error("command {command:?} in container {id} did not end within {seconds}s and was killed")]
    TimedOut { id: String, command: String, seconds: u64 },
    #[error("command {command:?} failed to run in container {id}")]
    Run {
        id: String,
        command: String,
        #[source]
        source: ShimError,
    },
    #[error("the streams of container {id} cannot be joined")]
    Attach {
        id: String,
        #[source]
        source: ShimError,
    },
    #[error("the log of container {id} cannot be reopened")]
    Reopen {
        id: String,
        #[source]
        source: ShimError,
    },
}

impl ExecError {
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Container(source) => source.kind(),
            Self::NotRunning { .. } => ErrorKind::FailedPrecondition,
            Self::NoCommand { .. } => ErrorKind::InvalidArgument,
            Self::NoShim { .. } => ErrorKind::Unavailable,
            Self::TimedOut { .. } => ErrorKind::DeadlineExceeded,
            Self::Run { source, .. } | Self::Attach { source, .. } | Self::Reopen { source, .. } => {
                source.kind()
            }
            Self::Record { .. } | Self::NoProcess { .. } => ErrorKind::Internal,
        }
    }
}

impl PodService {
    /// Whether something can be had from a container at this moment.
    pub fn check_running(&self, id: &str) -> Result<(), ExecError> {
        self.found_running(id).map(drop)
    }

    fn found_running(&self, id: &str) -> Result<ContainerHandle, ExecError> {
        let handle = self.found(id).map_err(ExecError::Container)?;
        if !runs(&handle.view.borrow().state) {
            return Err(ExecError::NotRunning { id: handle.id.to_string() });
        }
        Ok(handle)
    }

    /// A running container and the shim of its pod.
    pub(crate) async fn running(&self, id: &str) -> Result<(ContainerHandle, Shim), ExecError> {
        let handle = self.found_running(id)?;
        let shim = handle.pod.shim().await;
        let shim = shim.map_err(|source| ExecError::NoShim { id: handle.id.to_string(), source })?;
        Ok((handle, shim))
    }

    /// Runs a command to its end; a timeout kills everything it started.
    pub async fn exec_sync(
        &self,
        id: &str,
        command: &[String],
        timeout: Option<Duration>,
    ) -> Result<ExecOutput, ExecError> {
        let (handle, shim) = self.running(id).await?;
        let id = || handle.id.to_string();
        let Some(program) = command.first() else {
            return Err(ExecError::NoCommand { id: id() });
        };
        let request = ExecRequest {
            container: handle.id.as_str(),
            process: self.process(&handle.id, command, false)?,
            timeout,
            output_limit: OUTPUT_LIMIT,
        };
        let output = shim.exec(request).await;
        let output =
            output.map_err(|source| ExecError::Run { id: id(), command: program.clone(), source })?;
        if output.exit_code.is_none() {
            let seconds = timeout.unwrap_or_default().as_secs();
            return Err(ExecError::TimedOut { id: id(), command: program.clone(), seconds });
        }
        Ok(output)
    }

    /// The `process` object for a command: the container's own with other arguments, and a terminal of its own if any.
    pub(crate) fn process(
        &self,
        id: &runtime_core::ids::ContainerId,
        command: &[String],
        terminal: bool,
    ) -> Result<Vec<u8>, ExecError> {
        let record = self
            .services()
            .container_record(id)
            .map_err(|source| ExecError::Record { id: id.to_string(), source })?;
        let spec: Option<serde_json::Value> = record.and_then(|r| r.spec.parse_json().ok());
        let mut process = spec
            .and_then(|mut spec| spec.get_mut("process").map(serde_json::Value::take))
            .filter(serde_json::Value::is_object)
            .ok_or_else(|| ExecError::NoProcess { id: id.to_string() })?;
        process["args"] = command.into();
        process["terminal"] = terminal.into();
        if terminal {
            name_terminal(&mut process);
        }
        serde_json::to_vec(&process).map_err(|_| ExecError::NoProcess { id: id.to_string() })
    }

    /// The next output goes to a new file at the container's log path, which exists when this returns.
    pub async fn reopen_log(&self, id: &str) -> Result<(), ExecError> {
        let (handle, shim) = self.running(id).await?;
        let failed = |source| ExecError::Reopen { id: handle.id.to_string(), source };
        shim.reopen_log(handle.id.as_str()).await.map_err(failed)
    }
}

/// Programs ask the environment what the terminal is; one that the container names stays.
fn name_terminal(process: &mut serde_json::Value) {
    let names_one =
        |variable: &serde_json::Value| variable.as_str().is_some_and(|it| it.starts_with("TERM="));
    if let Some(env) = process["env"].as_array_mut()
        && !env.iter().any(names_one)
    {
        env.push(crate::oci_spec::DEFAULT_TERM.into());
    }
}

fn runs(state: &ContainerState) -> bool {
    matches!(state, ContainerState::Running { .. } | ContainerState::Stopping { .. })
}
