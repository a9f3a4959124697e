//! The stream socket: each connection is one session, an attachment (`attach`) or an interactive exec (`exec`).
//!
//! A session owns its connection and ends with it. How many there may be is bounded, and so is the time that a
//! connection has to say what it wants.

mod attach;
mod exec;

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::time::Duration;

use runtime_shim::protocol::io::{StreamFailed, StreamOpen, stream_open::Wish};
use runtime_shim::protocol::{Code, from_any};
use runtime_shim::stream::frame::{self, ClientFrame, Frame, FrameReader, ShimFrame};
use runtime_shim::ttrpc::server::Status;
use tokio::io::Interest;
use tokio::net::UnixStream;
use tokio::sync::Mutex;

use crate::io::cri_log::Stream;
use crate::io::input::Input;
use crate::tasks::Tasks;
use crate::{failure, log};

/// Sessions at a time.
const MAX_SESSIONS: usize = 64;
/// How long a connection may take to say what it wants.
const OPEN_LIMIT: Duration = Duration::from_secs(10);

/// The sessions of this shim.
pub(crate) struct Sessions {
    tasks: Rc<Tasks>,
    count: Cell<usize>,
}

/// One of the sessions that there may be.
struct Place(Rc<Sessions>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.count.set(self.0.count.get() - 1);
    }
}

impl Sessions {
    pub(crate) fn new(tasks: Rc<Tasks>) -> Rc<Self> {
        Rc::new(Self { tasks, count: Cell::new(0) })
    }

    /// Serves one connection to its end.
    pub(crate) async fn serve(self: Rc<Self>, socket: UnixStream) {
        let peer = Peer { socket, reader: RefCell::default(), writing: Mutex::new(()) };
        let result = match self.place() {
            Some(_place) => self.run(&peer).await,
            None => Err(full()),
        };
        if let Err(status) = result {
            // A client that does not read a frame's length has other troubles.
            let _ = tokio::time::timeout(OPEN_LIMIT, peer.send(&ShimFrame::Failed(failed(status)))).await;
        }
        runtime_sys::memory::trim();
    }

    fn place(self: &Rc<Self>) -> Option<Place> {
        let count = self.count.get();
        (count < MAX_SESSIONS).then(|| {
            self.count.set(count + 1);
            Place(self.clone())
        })
    }

    /// An error is what the client is to be told in answer to its wish.
    async fn run(&self, peer: &Peer) -> Result<(), Status> {
        let late = |_| Err(Status::new(Code::DeadlineExceeded, "the connection did not say what it wants"));
        match tokio::time::timeout(OPEN_LIMIT, peer.wish()).await.unwrap_or_else(late)? {
            Wish::Attach(wish) => attach::run(&self.tasks, &wish, peer).await,
            Wish::Exec(wish) => exec::run(&self.tasks, wish, peer).await,
        }
    }
}

fn full() -> Status {
    Status::new(Code::ResourceExhausted, format!("this pod has {MAX_SESSIONS} attach and exec sessions"))
}

fn failed(status: Status) -> StreamFailed {
    let start_failure = status.details.iter().find_map(|detail| from_any(detail).ok());
    StreamFailed { code: status.code.number(), message: status.message, start_failure }
}

/// The client of a session.
struct Peer {
    socket: UnixStream,
    /// Taken by the one who reads.
    reader: RefCell<FrameReader>,
    /// Held while a frame is written.
    writing: Mutex<()>,
}

impl Peer {
    async fn wish(&self) -> Result<Wish, Status> {
        let damaged = |error: &dyn std::fmt::Display| failure::invalid(format!("session: {error}"));
        match self.receive().await.map_err(|error| damaged(&error))? {
            Some(ClientFrame::Open(StreamOpen { wish: Some(wish) })) => Ok(wish),
            Some(_) => Err(damaged(&"it has to begin with a wish that this shim knows")),
            None => Err(damaged(&"closed before it began")),
        }
    }

    /// The next frame. For one task at a time.
    async fn receive(&self) -> io::Result<Option<ClientFrame>> {
        let mut reader = self.reader.take();
        let frame = reader.next(&self.socket).await;
        self.reader.replace(reader);
        frame
    }

    /// Sends a frame; waits while the client does not read.
    async fn send(&self, frame: &ShimFrame) -> io::Result<()> {
        let _writing = self.writing.lock().await;
        frame::write(&self.socket, &frame.encode(), &mut 0).await
    }

    async fn send_output(&self, stream: Stream, bytes: &[u8]) -> io::Result<()> {
        let bytes = bytes.to_vec();
        self.send(&match stream {
            Stream::Stdout => ShimFrame::Stdout(bytes),
            Stream::Stderr => ShimFrame::Stderr(bytes),
        })
        .await
    }

    /// Resolves when the client has closed the connection, whatever it has sent before. Cancel-safe.
    async fn gone(&self) {
        loop {
            // Readable it may stay for long. A connection's closing counts as readiness for urgent data, too, of which
            // a client of ours sends none.
            match self.socket.ready(Interest::PRIORITY).await {
                Ok(ready) if !ready.is_read_closed() => tokio::time::sleep(OPEN_LIMIT).await,
                Ok(_) | Err(_) => return,
            }
        }
    }

    /// Brings the client's input and window sizes to a process, until the client is gone or sends what it may not.
    /// `on_end` is told of the input's end; without it the client has no share in the input.
    async fn feed(&self, input: &Input, on_end: Option<&dyn Fn()>) {
        let mut open = on_end.is_some();
        loop {
            match self.receive().await {
                Ok(Some(ClientFrame::Stdin(bytes))) if open => {
                    tokio::select! {
                        // What a client sent before it left still goes in, as far as there is room.
                        biased;
                        // Cancel-safe: what is lost with it is the input of a client that is gone.
                        () = input.write(&bytes) => {}
                        // Cancel-safe: readiness only.
                        () = self.gone() => return,
                    }
                }
                Ok(Some(ClientFrame::StdinEnd)) => {
                    open = false;
                    if let Some(on_end) = on_end {
                        on_end();
                    }
                }
                Ok(Some(ClientFrame::Stdin(_))) => {}
                Ok(Some(ClientFrame::Resize { width, height })) => input.resize(width, height),
                Ok(Some(ClientFrame::Open(_))) => return log::note("a session wished twice"),
                Ok(None) => return,
                Err(error) => return log::note(&format!("session: {error}")),
            }
        }
    }
}
