//! Client side of a connection: calls in flight, matched to their answers by stream id.
//!
//! Two tasks belong to a connection, one reads and one writes; they end with the last handle. The table of calls in
//! flight is guarded by a short std mutex. A dropped call only forgets its entry: a frame is queued whole or not at
//! all, so that cancelling a caller never puts the connection out of step.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use prost::Message;
use prost_types::Any;
use thiserror::Error;
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use super::frame::{self, FLAG_NO_DATA, FLAG_REMOTE_CLOSED, FLAG_REMOTE_OPEN, Kind, Received};
use crate::protocol::Code;
use crate::protocol::envelope::{Request, Response, Status};

/// Frames that may wait for the socket before callers wait for the queue.
const WRITE_QUEUE: usize = 64;

/// Why a call has no answer.
#[derive(Debug, Error)]
pub enum CallError {
    /// The connection ended, before or during the call: whether the call took effect is not known.
    #[error("connection to the shim was lost during {method}")]
    Disconnected { method: &'static str },
    /// No answer in time; the shim may still be at it.
    #[error("shim did not answer {method} within {limit:?}")]
    DeadlineExceeded { method: &'static str, limit: Duration },
    /// The shim refused or failed.
    #[error("{message}")]
    Status { method: &'static str, code: Code, message: String, details: Vec<Any> },
    /// The answer is not what the method's name promises.
    #[error("answer of the shim to {method} is damaged")]
    Malformed {
        method: &'static str,
        #[source]
        source: prost::DecodeError,
    },
    /// The request does not fit in a frame.
    #[error("request {method} is too large")]
    TooLarge {
        method: &'static str,
        #[source]
        source: frame::TooLarge,
    },
}

/// A method of a service.
#[derive(Clone, Copy, Debug)]
pub struct Method {
    pub service: &'static str,
    pub name: &'static str,
}

enum Waiting {
    Unary(oneshot::Sender<Answer>),
    Stream(mpsc::UnboundedSender<Answer>),
}

enum Answer {
    Message(Vec<u8>),
    Failed(Status),
    End,
}

#[derive(Default)]
struct Calls {
    waiting: HashMap<u32, Waiting>,
    last_stream: u32,
    closed: bool,
}

#[derive(Default)]
struct Table(Mutex<Calls>);

impl Table {
    fn lock(&self) -> MutexGuard<'_, Calls> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Client streams have odd ids.
    fn enter(&self, waiting: Waiting) -> Option<u32> {
        let mut calls = self.lock();
        if calls.closed {
            return None;
        }
        loop {
            let stream = calls.last_stream.wrapping_add(if calls.last_stream == 0 { 1 } else { 2 }) | 1;
            calls.last_stream = stream;
            if let Entry::Vacant(place) = calls.waiting.entry(stream) {
                place.insert(waiting);
                return Some(stream);
            }
        }
    }

    fn close(&self) {
        let mut calls = self.lock();
        calls.closed = true;
        // Dropping the senders is what tells the callers.
        calls.waiting.clear();
    }
}

/// A connection to a shim. Cheap to clone; closed when the last clone and the last stream are gone.
#[derive(Clone)]
pub struct Connection {
    inner: Arc<Inner>,
}

struct Inner {
    table: Arc<Table>,
    frames: mpsc::Sender<Vec<u8>>,
    closed: watch::Receiver<bool>,
    tasks: [JoinHandle<()>; 2],
}

impl Drop for Inner {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

impl Connection {
    /// Connects to a unix socket.
    ///
    /// # Errors
    /// Those of connect(2): `NotFound` and `ConnectionRefused` mean that nobody serves the socket.
    pub async fn open(path: &Path) -> io::Result<Self> {
        Ok(Self::over(UnixStream::connect(path).await?))
    }

    /// Speaks over a connected socket.
    #[must_use]
    pub fn over(socket: UnixStream) -> Self {
        let (reader, writer) = socket.into_split();
        let table = Arc::new(Table::default());
        let (frames, queue) = mpsc::channel(WRITE_QUEUE);
        let (closing, closed) = watch::channel(false);
        let tasks = [spawn(read_answers(reader, table.clone(), closing)), spawn(write_frames(writer, queue))];
        Self { inner: Arc::new(Inner { table, frames, closed, tasks }) }
    }

    /// Whether the peer is gone.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        *self.inner.closed.borrow()
    }

    /// Resolves when the peer is gone.
    pub async fn closed(&self) {
        let mut closed = self.inner.closed.clone();
        // An error means that the reading task is gone, which is the same.
        let _ = closed.wait_for(|closed| *closed).await;
    }

    /// One request, one answer. `limit` bounds the wait and is told to the shim.
    ///
    /// # Errors
    /// See [`CallError`]. The shim never cancels what it has begun.
    pub async fn unary(
        &self,
        method: Method,
        payload: Vec<u8>,
        limit: Option<Duration>,
    ) -> Result<Vec<u8>, CallError> {
        let (sender, receiver) = oneshot::channel();
        let call = async {
            let _entry =
                self.begin(method, payload, Opening { limit, flags: 0 }, Waiting::Unary(sender)).await?;
            match receiver.await {
                Ok(Answer::Message(message)) => Ok(message),
                Ok(Answer::Failed(status)) => Err(failed(method.name, status)),
                Ok(Answer::End) | Err(_) => Err(CallError::Disconnected { method: method.name }),
            }
        };
        let Some(limit) = limit else { return call.await };
        tokio::time::timeout(limit, call)
            .await
            .unwrap_or(Err(CallError::DeadlineExceeded { method: method.name, limit }))
    }

    /// One request, many answers. The caller's half stays open until the stream is dropped.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn stream(&self, method: Method, payload: Vec<u8>) -> Result<AnswerStream, CallError> {
        let (sender, answers) = mpsc::unbounded_channel();
        let opening = Opening { limit: None, flags: FLAG_REMOTE_OPEN };
        let entry = self.begin(method, payload, opening, Waiting::Stream(sender)).await?;
        Ok(AnswerStream { method: method.name, answers, entry, finished: false })
    }

    async fn begin(
        &self,
        method: Method,
        payload: Vec<u8>,
        opening: Opening,
        waiting: Waiting,
    ) -> Result<CallEntry, CallError> {
        let disconnected = || CallError::Disconnected { method: method.name };
        let request = Request {
            service: method.service.into(),
            method: method.name.into(),
            payload,
            timeout_nano: opening
                .limit
                .map_or(0, |limit| i64::try_from(limit.as_nanos()).unwrap_or(i64::MAX)),
            metadata: Vec::new(),
        };
        let body = request.encode_to_vec();
        let stream = self.inner.table.enter(waiting).ok_or_else(disconnected)?;
        let entry = CallEntry { connection: self.clone(), stream };
        let frame = frame::encode(stream, Kind::Request, opening.flags, &body)
            .map_err(|source| CallError::TooLarge { method: method.name, source })?;
        self.inner.frames.send(frame).await.map_err(|_| disconnected())?;
        Ok(entry)
    }
}

struct Opening {
    limit: Option<Duration>,
    flags: u8,
}

/// A call's place in the table; given back on drop.
struct CallEntry {
    connection: Connection,
    stream: u32,
}

impl Drop for CallEntry {
    fn drop(&mut self) {
        self.connection.inner.table.lock().waiting.remove(&self.stream);
    }
}

/// Answers of a streaming call, in order. Dropping it before the end tells the shim to stop.
pub struct AnswerStream {
    method: &'static str,
    answers: mpsc::UnboundedReceiver<Answer>,
    entry: CallEntry,
    finished: bool,
}

impl AnswerStream {
    /// The next answer; `None` at the regular end. Cancel-safe.
    ///
    /// # Errors
    /// See [`CallError`]; nothing comes after an error.
    pub async fn next(&mut self) -> Result<Option<Vec<u8>>, CallError> {
        if self.finished {
            return Ok(None);
        }
        let answer = self.answers.recv().await;
        self.finished = !matches!(answer, Some(Answer::Message(_)));
        match answer {
            Some(Answer::Message(message)) => Ok(Some(message)),
            Some(Answer::End) => Ok(None),
            Some(Answer::Failed(status)) => Err(failed(self.method, status)),
            None => Err(CallError::Disconnected { method: self.method }),
        }
    }
}

impl Drop for AnswerStream {
    fn drop(&mut self) {
        if self.finished {
            return;
        }
        let flags = FLAG_REMOTE_CLOSED | FLAG_NO_DATA;
        let frame = frame::encode(self.entry.stream, Kind::Data, flags, &[]).expect("an empty payload fits");
        let frames = self.entry.connection.inner.frames.clone();
        if let Err(mpsc::error::TrySendError::Full(frame)) = frames.try_send(frame) {
            // The queue is full of calls; the runtime that runs them can also wait for a place.
            spawn(async move {
                let _ = frames.send(frame).await;
            });
        }
    }
}

fn failed(method: &'static str, status: Status) -> CallError {
    let code = Code::from_number(status.code);
    CallError::Status { method, code, message: status.message, details: status.details }
}

#[expect(clippy::disallowed_methods, reason = "both tasks of a connection end with its last handle")]
fn spawn(task: impl Future<Output = ()> + Send + 'static) -> JoinHandle<()> {
    tokio::spawn(task)
}

async fn write_frames(mut writer: OwnedWriteHalf, mut queue: mpsc::Receiver<Vec<u8>>) {
    while let Some(frame) = queue.recv().await {
        // The reading task sees the same failure and tells the callers.
        if writer.write_all(&frame).await.is_err() {
            return;
        }
    }
}

async fn read_answers(mut reader: OwnedReadHalf, table: Arc<Table>, closing: watch::Sender<bool>) {
    while let Ok(Some(received)) = frame::read(&mut reader).await {
        deliver(&table, received);
    }
    table.close();
    closing.send_replace(true);
}

fn deliver(table: &Table, received: Received) {
    let (header, answer) = match received {
        Received::Oversized { header } => {
            let status = Status {
                code: Code::ResourceExhausted.number(),
                message: format!("answer of {} bytes is larger than a ttrpc frame", header.length),
                details: Vec::new(),
            };
            (header, Answer::Failed(status))
        }
        Received::Frame { header, payload } => {
            let Some(answer) = parse(header, payload) else {
                return;
            };
            (header, answer)
        }
    };
    let mut calls = table.lock();
    // An answer that nobody waits for any more is dropped.
    let last = header.kind != Kind::Data || header.flags & FLAG_REMOTE_CLOSED != 0;
    if let Some(Waiting::Stream(sender)) = calls.waiting.get(&header.stream) {
        let _ = sender.send(answer);
        if last && header.kind == Kind::Data && header.flags & FLAG_NO_DATA == 0 {
            let _ = sender.send(Answer::End);
        }
        if last {
            calls.waiting.remove(&header.stream);
        }
    } else if let Some(Waiting::Unary(sender)) = calls.waiting.remove(&header.stream) {
        let _ = sender.send(answer);
    }
}

fn parse(header: frame::Header, payload: Vec<u8>) -> Option<Answer> {
    match header.kind {
        Kind::Data if header.flags & FLAG_NO_DATA != 0 => {
            (header.flags & FLAG_REMOTE_CLOSED != 0).then_some(Answer::End)
        }
        Kind::Data => Some(Answer::Message(payload)),
        Kind::Response => Some(match Response::decode(payload.as_slice()) {
            Ok(Response { status: Some(status), .. }) if status.code != 0 => Answer::Failed(status),
            Ok(Response { payload, .. }) => Answer::Message(payload),
            Err(error) => Answer::Failed(Status {
                code: Code::Internal.number(),
                message: format!("answer of the shim is damaged: {error}"),
                details: Vec::new(),
            }),
        }),
        Kind::Request | Kind::Unknown(_) => None,
    }
}
