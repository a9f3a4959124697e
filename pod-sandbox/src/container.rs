//! Containers: one driver task each, which alone writes the container's state.

mod create;
pub(crate) mod driver;
mod start;
mod state;
mod teardown;

pub use create::CreateError;
pub(crate) use create::{CreateInput, EXTENSION, Extension, KIND_LABEL, create};
pub use driver::ContainerError;
pub use start::StartError;
pub(crate) use start::recorded as recorded_exit;
pub use state::ContainerState;
pub(crate) use state::KILLED;
