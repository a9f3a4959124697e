//! The pin of the holder's pid namespace. The holder is the task that has the sandbox's own id, an ordinary one
//! otherwise; containers of the pod join its namespace by the pin.

use runtime_shim::layout::{Bundle, PinnedNamespace};
use runtime_shim::ttrpc::server::Status;
use runtime_sys::namespace;

use crate::container::{Container, Phase};
use crate::failure;

/// Pins the pid namespace of a created holder, unless it shares the node's.
pub(crate) fn pin(container: &Container, bundle: &Bundle) -> Result<(), Status> {
    if !container.config.own_pid_namespace {
        return Ok(());
    }
    let gone = || failure::precondition(format!("the holder {} has exited", container.target.id));
    let (Phase::Created { pid } | Phase::Running { pid }) = container.phase() else {
        return Err(gone());
    };
    // Signal 0 only asks. An unreaped child's pid is its own, and nobody reaps before this has returned.
    let signalled = container.signal(0, false).map_err(|error| failure::internal(&error))?;
    if signalled != crate::container::Signalled::Sent {
        return Err(gone());
    }
    let path = bundle.namespace(PinnedNamespace::Pid);
    namespace::pin_pid_namespace(pid, &path).map_err(|error| failure::internal(&error))
}

/// Gives the pin back; success when that is already done.
pub(crate) fn unpin(bundle: &Bundle) -> Result<(), Status> {
    let unpinned = namespace::unpin(&bundle.namespace(PinnedNamespace::Pid));
    unpinned.map_err(|error| failure::internal(&error))
}
