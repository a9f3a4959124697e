//! Containers: one driver task each, which alone writes the container's state.

mod create;
pub(crate) mod driver;
mod handle;
mod pid;
mod start;
mod state;
pub(crate) mod teardown;

pub use create::CreateError;
pub(crate) use create::{CreateInput, EXTENSION, Extension, KIND_LABEL, create};
pub use driver::UpdateError;
pub use handle::ContainerError;
pub(crate) use handle::ContainerHandle;
pub use pid::TargetError;
pub use start::{BundleFailed, StartError};
pub(crate) use start::{create_anew, recorded as recorded_exit, write_bundle};
pub use state::ContainerState;
pub(crate) use state::KILLED;
