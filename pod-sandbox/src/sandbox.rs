//! Pods: one driver task each, which alone writes the pod's state.

pub(crate) mod driver;
mod files;
mod setup;
mod state;
mod teardown;

pub use setup::SetupError;
pub(crate) use state::SandboxFacts;
pub use state::SandboxState;
pub use teardown::TeardownError;
