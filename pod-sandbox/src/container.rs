//! Containers: one driver task each, which alone writes the container's state.

mod create;
pub(crate) mod driver;
mod handle;
mod start;
mod state;
pub(crate) mod teardown;

pub use create::CreateError;
pub(crate) use create::{CreateInput, EXTENSION, Extension, KIND_LABEL, create};
pub use handle::ContainerError;
pub(crate) use handle::ContainerHandle;
pub use start::StartError;
pub(crate) use start::recorded as recorded_exit;
pub use state::ContainerState;
pub(crate) use state::KILLED;
