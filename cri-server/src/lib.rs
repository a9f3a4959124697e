//! The orlop daemon: the CRI on top of the runtime core. Only this crate knows CRI types.
//!
//! A daemon is a set of plugin registrations: [`Daemon::builder`] takes the built-in ones plus yours, so that a
//! custom daemon with services of its own is a short program.

mod app;
mod builtins;
pub mod cli;
pub mod config;
mod convert;
mod cri;
mod image_service;
mod plugins;
mod rpc;
mod runtime_service;
mod serve;
mod status;
mod streams;

pub use app::{Builder, Daemon, DaemonError};
pub use builtins::registrations;
pub use runtime_api::GrpcService;
