//! Server side: one handler for all connections, on one thread (tokio `LocalSet`).
//!
//! A call runs in a task of its own that belongs to nobody: neither the caller's going away nor its deadline ends it.
//! A streaming handler is told about both through [`Outgoing::cancelled`] and decides for itself.

use std::cell::RefCell;
use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

use prost::Message;
use prost_types::Any;
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, watch};
use tokio::task::spawn_local;

use super::frame::{self, FLAG_NO_DATA, FLAG_REMOTE_CLOSED, Header, Kind, Received};
use crate::protocol::Code;
use crate::protocol::envelope::{self, Request, Response};

/// Frames that may wait for the socket of a connection.
const WRITE_QUEUE: usize = 16;

/// A failed call.
#[derive(Clone, Debug, PartialEq)]
pub struct Status {
    pub code: Code,
    pub message: String,
    pub details: Vec<Any>,
}

impl Status {
    /// A failure without details.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), details: Vec::new() }
    }

    fn to_wire(&self) -> envelope::Status {
        envelope::Status {
            code: self.code.number(),
            message: self.message.clone(),
            details: self.details.clone(),
        }
    }
}

/// What a handler leaves to be sent when it returns.
pub enum Reply {
    /// The answer of a unary call.
    Message(Vec<u8>),
    /// Everything was sent through [`Outgoing`].
    StreamEnd,
}

/// A handler's running call.
pub type CallFuture = Pin<Box<dyn Future<Output = Result<Reply, Status>>>>;

/// The services of a process.
pub trait Handler {
    /// Begins a call. An unknown service or method is answered with [`Code::Unimplemented`].
    fn call(self: Rc<Self>, service: &str, method: &str, payload: Vec<u8>, outgoing: Outgoing) -> CallFuture;
}

/// Way back to the caller during a streaming call.
#[derive(Clone)]
pub struct Outgoing {
    stream: u32,
    frames: mpsc::Sender<Vec<u8>>,
    cancelled: watch::Receiver<bool>,
}

impl Outgoing {
    /// Sends one message; waits while the caller is slow.
    ///
    /// # Errors
    /// When the message is too large or the caller is gone.
    pub async fn send(&self, message: &[u8]) -> io::Result<()> {
        let frame = frame::encode(self.stream, Kind::Data, 0, message).map_err(io::Error::other)?;
        self.frames.send(frame).await.map_err(|_| io::ErrorKind::BrokenPipe.into())
    }

    /// Resolves when the caller closed its half of the stream or is gone. Cancel-safe.
    pub async fn cancelled(&self) {
        let mut cancelled = self.cancelled.clone();
        let _ = cancelled.wait_for(|cancelled| *cancelled).await;
    }
}

/// Serves one connection until the peer closes it. Calls that are under way go on.
///
/// # Errors
/// When the connection breaks in the middle of a frame.
pub async fn serve(socket: UnixStream, handler: Rc<dyn Handler>) -> io::Result<()> {
    let (mut reader, writer) = socket.into_split();
    let (frames, queue) = mpsc::channel(WRITE_QUEUE);
    spawn_local(write_frames(writer, queue));
    let connection = Rc::new(ServerConnection { frames, open: RefCell::default() });
    let result = connection.run(&mut reader, &handler).await;
    // Streams that are still open lose their sender and see the end.
    connection.open.borrow_mut().clear();
    result
}

struct ServerConnection {
    frames: mpsc::Sender<Vec<u8>>,
    open: RefCell<HashMap<u32, watch::Sender<bool>>>,
}

impl ServerConnection {
    async fn run(self: &Rc<Self>, reader: &mut OwnedReadHalf, handler: &Rc<dyn Handler>) -> io::Result<()> {
        while let Some(received) = frame::read(reader).await? {
            match received {
                Received::Oversized { header } => {
                    let message = format!("request of {} bytes is larger than a ttrpc frame", header.length);
                    self.refuse(header.stream, Code::ResourceExhausted, message);
                }
                Received::Frame { header, payload } => self.received(header, &payload, handler),
            }
        }
        Ok(())
    }

    fn received(self: &Rc<Self>, header: Header, payload: &[u8], handler: &Rc<dyn Handler>) {
        match header.kind {
            Kind::Request if self.open.borrow().contains_key(&header.stream) => {
                self.refuse(
                    header.stream,
                    Code::InvalidArgument,
                    format!("stream {} is in use", header.stream),
                );
            }
            Kind::Request => match Request::decode(payload) {
                Ok(request) => self.begin(header.stream, request, handler),
                Err(error) => {
                    self.refuse(header.stream, Code::InvalidArgument, format!("request is damaged: {error}"));
                }
            },
            Kind::Data if header.flags & FLAG_REMOTE_CLOSED != 0 => {
                if let Some(cancel) = self.open.borrow().get(&header.stream) {
                    cancel.send_replace(true);
                }
            }
            Kind::Data | Kind::Response | Kind::Unknown(_) => {}
        }
    }

    fn begin(self: &Rc<Self>, stream: u32, request: Request, handler: &Rc<dyn Handler>) {
        let (cancel, cancelled) = watch::channel(false);
        self.open.borrow_mut().insert(stream, cancel);
        let outgoing = Outgoing { stream, frames: self.frames.clone(), cancelled };
        let call = handler.clone().call(&request.service, &request.method, request.payload, outgoing);
        let running = spawn_local(call);
        let limit =
            u64::try_from(request.timeout_nano).ok().filter(|nanos| *nanos > 0).map(Duration::from_nanos);
        let name = request.method;
        let connection = self.clone();
        spawn_local(async move {
            let late = || Err(Status::new(Code::DeadlineExceeded, format!("{name} is not done in time")));
            let ended = match limit {
                None => running.await,
                Some(limit) => tokio::time::timeout(limit, running).await.unwrap_or_else(|_| Ok(late())),
            };
            let result = ended.unwrap_or_else(|error| Err(Status::new(Code::Internal, error.to_string())));
            connection.finish(stream, result).await;
        });
    }

    async fn finish(&self, stream: u32, result: Result<Reply, Status>) {
        self.open.borrow_mut().remove(&stream);
        // A caller that is gone has no use for the answer.
        let _ = self.frames.send(last_frame(stream, result)).await;
    }

    fn refuse(self: &Rc<Self>, stream: u32, code: Code, message: String) {
        let connection = self.clone();
        spawn_local(async move {
            let _ = connection.frames.send(last_frame(stream, Err(Status::new(code, message)))).await;
        });
    }
}

fn last_frame(stream: u32, result: Result<Reply, Status>) -> Vec<u8> {
    let response = match result {
        Ok(Reply::StreamEnd) => {
            return frame::encode(stream, Kind::Data, FLAG_REMOTE_CLOSED | FLAG_NO_DATA, &[])
                .expect("an empty payload fits");
        }
        Ok(Reply::Message(payload)) => Response { status: None, payload },
        Err(status) => Response { status: Some(status.to_wire()), payload: Vec::new() },
    };
    frame::encode(stream, Kind::Response, 0, &response.encode_to_vec()).unwrap_or_else(|error| {
        let status = Status::new(Code::ResourceExhausted, error.to_string());
        let response = Response { status: Some(status.to_wire()), payload: Vec::new() };
        frame::encode(stream, Kind::Response, 0, &response.encode_to_vec()).expect("a short message fits")
    })
}

async fn write_frames(mut writer: OwnedWriteHalf, mut queue: mpsc::Receiver<Vec<u8>>) {
    while let Some(frame) = queue.recv().await {
        if writer.write_all(&frame).await.is_err() {
            return;
        }
    }
}
