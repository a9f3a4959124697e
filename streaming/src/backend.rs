//! What the streaming server asks of the runtime behind it: processes to talk to and connections into pods.
//!
//! A client may vanish at any moment. Then the future of a call or the returned [`Process`] or connection is dropped
//! where it stands, and that is all the notice the backend gets.

use std::io;

use async_trait::async_trait;
use bytes::Bytes;
use runtime_core::error::ErrorKind;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::request::{AttachRequest, ExecRequest};

#[async_trait]
pub trait Backend: Send + Sync + 'static {
    /// Starts the command; called once all of the client's streams are there.
    async fn exec(&self, request: &ExecRequest) -> Result<Process, BackendError>;

    /// Joins the container's main process.
    async fn attach(&self, request: &AttachRequest) -> Result<Process, BackendError>;

    /// Connects to the port inside the sandbox.
    async fn port_forward(&self, sandbox: &str, port: u16) -> Result<Box<dyn Connection>, BackendError>;
}

/// Both ends of a process. Dropping either tells the backend that the client is gone.
pub struct Process {
    pub input: Box<dyn Input>,
    pub output: Box<dyn Output>,
}

#[async_trait]
pub trait Input: Send {
    /// Hands bytes to the process; waiting here is what slows the client down.
    async fn stdin(&mut self, bytes: Bytes) -> io::Result<()>;

    /// The client sends no more.
    async fn close_stdin(&mut self) -> io::Result<()>;

    async fn resize(&mut self, width: u16, height: u16) -> io::Result<()>;
}

#[async_trait]
pub trait Output: Send {
    /// The next event; `None` without an [`Event::Exit`] before it says that the process was lost. Must be
    /// cancel-safe.
    async fn next(&mut self) -> io::Result<Option<Event>>;
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    Stdout(Bytes),
    Stderr(Bytes),
    /// The last event.
    Exit(i32),
}

/// A connection to a port of a pod.
pub trait Connection: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Connection for T {}

/// Why the backend refused; the message reaches the person at the client.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub struct BackendError {
    pub message: String,
    pub kind: ErrorKind,
}

impl BackendError {
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { message: message.into(), kind }
    }
}
