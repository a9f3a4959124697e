//! The streaming server's way to containers and pods.

use std::io;

use async_trait::async_trait;
use bytes::Bytes;
use pod_sandbox::{PodService, Streams};
use runtime_core::error::chain;
use runtime_core::task::{Session, SessionEvent, SessionInput, SessionOutput};
use streaming::{
    AttachRequest, Backend, BackendError, Connection, Event, ExecRequest, Input, Output, Process,
};

use crate::status::Kind;

/// Streams of this node's containers.
pub(crate) struct ContainerStreams {
    pub(crate) pods: PodService,
}

#[async_trait]
impl Backend for ContainerStreams {
    async fn exec(&self, request: &ExecRequest) -> Result<Process, BackendError> {
        let ExecRequest { container, command, tty, stdin, stdout, stderr } = request;
        let streams = Streams { stdin: *stdin, stdout: *stdout, stderr: *stderr, terminal: *tty };
        self.pods.exec(container, command, streams).await.map(process).map_err(|error| failed(&error))
    }

    async fn attach(&self, request: &AttachRequest) -> Result<Process, BackendError> {
        let AttachRequest { container, tty, stdin, stdout, stderr } = request;
        let streams = Streams { stdin: *stdin, stdout: *stdout, stderr: *stderr, terminal: *tty };
        self.pods.attach(container, streams).await.map(process).map_err(|error| failed(&error))
    }

    async fn port_forward(&self, sandbox: &str, port: u16) -> Result<Box<dyn Connection>, BackendError> {
        let stream = self.pods.port_forward(sandbox, port).await.map_err(|error| failed(&error))?;
        Ok(Box::new(stream))
    }
}

fn failed<E: Kind>(error: &E) -> BackendError {
    BackendError::new(error.kind(), chain(error))
}

fn process(session: Session) -> Process {
    Process { input: Box::new(Keys(session.input)), output: Box::new(Screen(session.output)) }
}

/// What the client types.
struct Keys(SessionInput);

#[async_trait]
impl Input for Keys {
    async fn stdin(&mut self, bytes: Bytes) -> io::Result<()> {
        self.0.stdin(&bytes).await
    }

    async fn close_stdin(&mut self) -> io::Result<()> {
        self.0.close_stdin().await
    }

    async fn resize(&mut self, width: u16, height: u16) -> io::Result<()> {
        self.0.resize(width, height).await
    }
}

/// What the client sees.
struct Screen(SessionOutput);

#[async_trait]
impl Output for Screen {
    async fn next(&mut self) -> io::Result<Option<Event>> {
        let event = self.0.next().await?;
        Ok(event.map(|event| match event {
            SessionEvent::Stdout(bytes) => Event::Stdout(bytes.into()),
            SessionEvent::Stderr(bytes) => Event::Stderr(bytes.into()),
            SessionEvent::Exit(code) => Event::Exit(code),
        }))
    }
}
