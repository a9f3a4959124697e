//! Registries: which hosts to ask for a reference, in what order, and the distribution protocol towards them.
//!
//! Nothing here is kept beyond HTTP connections; what is fetched is checked and stored by `pull`.

mod answer;
mod attempt;
mod auth;
mod client;
mod endpoint;
mod hosts;
mod origin;
mod retry;
mod session;

pub use attempt::{AttemptError, RegistryError};
pub use auth::Auth;
pub(crate) use client::Clients;
pub use client::FileError;
pub use hosts::HostsError;
pub(crate) use hosts::endpoints;
pub use retry::Retry;
pub(crate) use session::{Blob, Session};
