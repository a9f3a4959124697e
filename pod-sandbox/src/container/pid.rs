//! Whose processes a container sees: the PID namespace of its mode.

use std::path::PathBuf;

use runtime_core::error::ErrorKind;
use runtime_core::ids::ContainerId;
use runtime_core::task::Shims;

use super::ContainerHandle;
use crate::oci_spec::PidNamespace;
use crate::registry::{LookupError, Registry};
use crate::spec::{ContainerSpec, PidMode};

#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    #[error("its target container cannot be found")]
    Lookup(#[from] LookupError),
    #[error("its target container {id} is of another pod")]
    OtherPod { id: ContainerId },
    #[error("its target container {id} is not running")]
    NotRunning { id: ContainerId },
}

impl TargetError {
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Lookup(LookupError::NotFound { .. }) | Self::NotRunning { .. } => {
                ErrorKind::FailedPrecondition
            }
            Self::Lookup(source) => source.kind(),
            Self::OtherPod { .. } => ErrorKind::InvalidArgument,
        }
    }
}

/// The namespace of a container of pod `sandbox`. The path of a target's is good as long as the target runs, so that it
/// is looked up again before the container is started.
pub(super) fn namespace(
    shims: &Shims,
    registry: &Registry,
    sandbox: &runtime_core::ids::SandboxId,
    spec: &ContainerSpec,
) -> Result<PidNamespace, TargetError> {
    let of_pod = || PidNamespace::Join(shims.pins(sandbox.as_str()).pid);
    match &spec.security.pid {
        PidMode::Container => Ok(PidNamespace::Own),
        PidMode::Host => Ok(PidNamespace::Host),
        PidMode::Pod => Ok(of_pod()),
        PidMode::Target(id) => {
            let target = registry.container(id.as_str())?;
            if target.pod.id != *sandbox {
                return Err(TargetError::OtherPod { id: target.id });
            }
            let (mode, pid) = running(&target)?;
            Ok(match mode {
                PidMode::Host => PidNamespace::Host,
                PidMode::Pod => of_pod(),
                PidMode::Container | PidMode::Target(_) => PidNamespace::Join(of_process(pid)),
            })
        }
    }
}

fn running(target: &ContainerHandle) -> Result<(PidMode, i32), TargetError> {
    let view = target.view.borrow();
    // One that ended while no daemon looked has the pid 0 for a moment.
    match view.state.pid().filter(|pid| *pid > 0) {
        Some(pid) => Ok((view.spec.security.pid.clone(), pid)),
        None => Err(TargetError::NotRunning { id: target.id.clone() }),
    }
}

fn of_process(pid: i32) -> PathBuf {
    PathBuf::from(format!("/proc/{pid}/ns/pid"))
}
