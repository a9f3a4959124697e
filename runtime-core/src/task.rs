//! Tasks: the shims of this node and the containers that run in them.
//!
//! A [`Shim`] is a handle on one living shim process; [`Shims`] starts them, finds them again after a restart and
//! cleans up behind dead ones. Truth about a task is the shim's answer, the exit file and the process itself;
//! nothing here keeps state of its own.

mod cleanup;
mod error;
mod exec;
pub mod plugin;
mod shim;
mod shims;
mod stream;

pub use runtime_shim::layout::Bundle;

pub use error::ShimError;
pub use exec::{ExecOutput, ExecRequest};
pub use plugin::Runtime;
pub use runtime_shim::sysctl;
pub use shim::{PodNamespaces, Process, Shim, TaskExit, TaskRequest, TaskStatus};
pub use shims::{Pins, RuntimeOptions, ShimSpec, Shims, ShimsConfig};
pub use stream::{AttachWish, ExecWish, Session, SessionEvent, SessionInput, SessionOutput, Stdin};
