//! The CRI streaming server: exec, attach and port-forward for the kubelet and crictl, useful alone.
//!
//! An RPC turns a request into a one-use URL ([`Server::exec`] and its siblings); whoever opens that URL gets the
//! streams. What runs behind a stream is asked of the [`Backend`]. The crate knows neither CRI types nor containers.
//!
//! ```text
//! server (TCP, caps) → upgrade (HTTP, token) → spdy::connection (frames ⇄ channels) → remote_command | port_forward
//! ```
//!
//! Tasks: one that accepts and one a connection, all endless tasks of the given group. A connection's reader, writer
//! and session are parts of its one task, so whatever ends it drops the [`Process`] at once. The session layer sees
//! `channel` and `headers` only: another transport has to feed these and to write `Outgoing` and `Signal`.

mod activity;
mod backend;
mod channel;
mod config;
mod handshakes;
mod headers;
mod pipe;
mod port_forward;
mod protocol;
mod remote_command;
mod request;
mod server;
mod spdy;
mod token;
mod upgrade;

pub use backend::{Backend, BackendError, Connection, Event, Input, Output, Process};
pub use config::Config;
pub use request::{AttachRequest, ExecRequest, PortForwardRequest, RequestError};
pub use server::{BindError, Server};
pub use token::TokenError;
