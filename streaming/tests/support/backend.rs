//! A backend whose processes and connections the test plays through channels.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use runtime_core::error::ErrorKind;
use streaming::{
    AttachRequest, Backend, BackendError, Connection, Event, ExecRequest, Input, Output, Process,
};
use tokio::io::DuplexStream;
use tokio::sync::{mpsc, watch};

/// What a process got from its client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Got {
    Stdin(Bytes),
    Closed,
    Size(u16, u16),
}

/// The test's side of a process.
pub(crate) struct Played {
    pub(crate) got: mpsc::Receiver<Got>,
    pub(crate) events: mpsc::Sender<io::Result<Event>>,
}

impl Played {
    /// All of stdin until it is closed.
    pub(crate) async fn stdin(&mut self) -> Vec<u8> {
        let mut all = Vec::new();
        loop {
            match super::soon("stdin", self.got.recv()).await.expect("the process is still wanted") {
                Got::Stdin(bytes) => all.extend(bytes),
                Got::Closed => return all,
                Got::Size(..) => {}
            }
        }
    }

    pub(crate) async fn say(&self, event: Event) {
        super::soon("output", self.events.send(Ok(event))).await.expect("the process is still wanted");
    }

    /// Waits until the server has dropped both ends.
    pub(crate) async fn dropped(mut self) {
        super::soon("dropping the output", self.events.closed()).await;
        super::soon("dropping the input", async { while self.got.recv().await.is_some() {} }).await;
    }
}

pub(crate) struct Stage {
    started: mpsc::Sender<Played>,
    connections: mpsc::Sender<(u16, DuplexStream)>,
    pub(crate) calls: AtomicUsize,
    /// Processes whose ends are not dropped yet.
    alive: watch::Sender<usize>,
    stdin_queue: usize,
}

/// The test's ends of a [`Stage`].
pub(crate) struct Wings {
    pub(crate) started: mpsc::Receiver<Played>,
    pub(crate) connections: mpsc::Receiver<(u16, DuplexStream)>,
    pub(crate) alive: watch::Receiver<usize>,
}

impl Stage {
    pub(crate) fn new() -> (Arc<Self>, Wings) {
        Self::with_stdin_queue(64)
    }

    pub(crate) fn with_stdin_queue(stdin_queue: usize) -> (Arc<Self>, Wings) {
        let (started, started_end) = mpsc::channel(64);
        let (connections, connections_end) = mpsc::channel(64);
        let (alive, alive_end) = watch::channel(0);
        let stage = Self { started, connections, calls: AtomicUsize::new(0), alive, stdin_queue };
        (Arc::new(stage), Wings { started: started_end, connections: connections_end, alive: alive_end })
    }

    async fn play(&self) -> Result<Process, BackendError> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        let (got, got_end) = mpsc::channel(self.stdin_queue);
        let (events, events_end) = mpsc::channel(64);
        self.alive.send_modify(|alive| *alive += 2);
        let input = PlayedInput { got, _alive: Alive(self.alive.clone()) };
        let output = PlayedOutput { events: events_end, _alive: Alive(self.alive.clone()) };
        let refused = |_| BackendError::new(ErrorKind::NotFound, "no such container");
        self.started.send(Played { got: got_end, events }).await.map_err(refused)?;
        Ok(Process { input: Box::new(input), output: Box::new(output) })
    }
}

struct Alive(watch::Sender<usize>);

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.send_modify(|alive| *alive -= 1);
    }
}

struct PlayedInput {
    got: mpsc::Sender<Got>,
    _alive: Alive,
}

impl PlayedInput {
    async fn pass(&self, got: Got) -> io::Result<()> {
        self.got.send(got).await.map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

#[async_trait]
impl Input for PlayedInput {
    async fn stdin(&mut self, bytes: Bytes) -> io::Result<()> {
        self.pass(Got::Stdin(bytes)).await
    }

    async fn close_stdin(&mut self) -> io::Result<()> {
        self.pass(Got::Closed).await
    }

    async fn resize(&mut self, width: u16, height: u16) -> io::Result<()> {
        self.pass(Got::Size(width, height)).await
    }
}

struct PlayedOutput {
    events: mpsc::Receiver<io::Result<Event>>,
    _alive: Alive,
}

#[async_trait]
impl Output for PlayedOutput {
    async fn next(&mut self) -> io::Result<Option<Event>> {
        self.events.recv().await.transpose()
    }
}

/// The port at which nobody listens.
pub(crate) const CLOSED_PORT: u16 = 81;

#[async_trait]
impl Backend for Stage {
    async fn exec(&self, _: &ExecRequest) -> Result<Process, BackendError> {
        self.play().await
    }

    async fn attach(&self, _: &AttachRequest) -> Result<Process, BackendError> {
        self.play().await
    }

    async fn port_forward(&self, _: &str, port: u16) -> Result<Box<dyn Connection>, BackendError> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        if port == CLOSED_PORT {
            return Err(BackendError::new(ErrorKind::Unavailable, "connection refused"));
        }
        let (ours, theirs) = tokio::io::duplex(4096);
        let gone = |_| BackendError::new(ErrorKind::Internal, "the test is over");
        self.connections.send((port, theirs)).await.map_err(gone)?;
        Ok(Box::new(ours))
    }
}

/// Remembers every request, for tests of what reaches the backend.
#[derive(Default)]
pub(crate) struct Refusing {
    pub(crate) asked: Mutex<Vec<String>>,
}

#[async_trait]
impl Backend for Refusing {
    async fn exec(&self, request: &ExecRequest) -> Result<Process, BackendError> {
        self.asked.lock().unwrap().push(format!("exec {}", request.container));
        Err(BackendError::new(ErrorKind::NotFound, "container \"box\" is not running"))
    }

    async fn attach(&self, request: &AttachRequest) -> Result<Process, BackendError> {
        self.asked.lock().unwrap().push(format!("attach {}", request.container));
        Err(BackendError::new(ErrorKind::NotFound, "container \"box\" is not running"))
    }

    async fn port_forward(&self, sandbox: &str, _: u16) -> Result<Box<dyn Connection>, BackendError> {
        Err(BackendError::new(ErrorKind::NotFound, format!("sandbox {sandbox} is not there")))
    }
}
