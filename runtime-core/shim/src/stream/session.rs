//! The client's side of a session.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tokio::net::UnixStream;

use super::frame::{self, ClientFrame, Frame, FrameReader, MAX_PAYLOAD, ShimFrame};
use crate::protocol::Code;
use crate::protocol::io::{StartFailure, StreamOpen};

/// A session cannot be opened.
#[derive(Debug, Error)]
pub enum OpenError {
    /// Nobody serves the socket.
    #[error("connect to the shim's streams at {path}")]
    Connect {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// The shim said no.
    #[error("{message}")]
    Refused { code: Code, message: String, start_failure: Option<StartFailure> },
    /// The connection was lost before the answer.
    #[error("connection to the shim was lost")]
    Lost {
        #[source]
        source: io::Error,
    },
    /// There was no answer in time.
    #[error("no answer within {limit:?}")]
    Late { limit: Duration },
}

/// A session that is open. Dropping both halves closes the connection.
#[derive(Debug)]
pub struct Session {
    pub input: SessionInput,
    pub output: SessionOutput,
}

/// The way to the process.
#[derive(Debug)]
pub struct SessionInput {
    socket: Arc<UnixStream>,
    /// A frame that a given-up call has begun to send.
    begun: Vec<u8>,
    written: usize,
}

/// The way from the process.
#[derive(Debug)]
pub struct SessionOutput {
    socket: Arc<UnixStream>,
    reader: FrameReader,
    ended: bool,
}

/// What comes from a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SessionEvent {
    Stdout(Vec<u8>),
    Stderr(Vec<u8>),
    /// Its exit code, when all its output was told.
    Exit(i32),
}

impl Session {
    /// Opens a session with the shim that serves `socket` (see `layout::stream_socket`), within `limit`.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub async fn open(socket: &Path, wish: StreamOpen, limit: Duration) -> Result<Self, OpenError> {
        let late = |_| Err(OpenError::Late { limit });
        tokio::time::timeout(limit, Self::negotiate(socket, wish)).await.unwrap_or_else(late)
    }

    async fn negotiate(path: &Path, wish: StreamOpen) -> Result<Self, OpenError> {
        let connected = UnixStream::connect(path).await;
        let socket = connected.map_err(|source| OpenError::Connect { path: path.into(), source })?;
        let mut written = 0;
        // A shim that has no room answers without reading: whether it got the wish is told by the answer.
        let sent = frame::write(&socket, &ClientFrame::Open(wish).encode(), &mut written).await;
        let mut reader = FrameReader::default();
        let answer = match reader.next(&socket).await {
            Ok(Some(answer)) => answer,
            Ok(None) => {
                let source = sent.err().unwrap_or_else(|| io::ErrorKind::UnexpectedEof.into());
                return Err(OpenError::Lost { source });
            }
            Err(source) => return Err(OpenError::Lost { source }),
        };
        match answer {
            ShimFrame::Opened => Ok(Self::over(Arc::new(socket), reader)),
            ShimFrame::Failed(failed) => Err(OpenError::Refused {
                code: Code::from_number(failed.code),
                message: failed.message,
                start_failure: failed.start_failure,
            }),
            ShimFrame::Stdout(_) | ShimFrame::Stderr(_) | ShimFrame::Exit(_) => {
                Err(OpenError::Lost { source: io::ErrorKind::InvalidData.into() })
            }
        }
    }

    fn over(socket: Arc<UnixStream>, reader: FrameReader) -> Self {
        Self {
            input: SessionInput { socket: socket.clone(), begun: Vec::new(), written: 0 },
            output: SessionOutput { socket, reader, ended: false },
        }
    }
}

impl SessionInput {
    /// Sends input; waits while the process does not take it. When this is given up, some of it may have been sent.
    ///
    /// # Errors
    /// When the connection is lost.
    pub async fn stdin(&mut self, bytes: &[u8]) -> io::Result<()> {
        for piece in bytes.chunks(MAX_PAYLOAD) {
            self.send(&ClientFrame::Stdin(piece.to_vec())).await?;
        }
        Ok(())
    }

    /// Tells that there is no more input.
    ///
    /// # Errors
    /// When the connection is lost.
    pub async fn close_stdin(&mut self) -> io::Result<()> {
        self.send(&ClientFrame::StdinEnd).await
    }

    /// Tells the size of the client's terminal, in columns and rows.
    ///
    /// # Errors
    /// When the connection is lost.
    pub async fn resize(&mut self, width: u16, height: u16) -> io::Result<()> {
        self.send(&ClientFrame::Resize { width, height }).await
    }

    async fn send(&mut self, frame: &ClientFrame) -> io::Result<()> {
        self.flush().await?;
        self.begun = frame.encode();
        self.flush().await
    }

    async fn flush(&mut self) -> io::Result<()> {
        frame::write(&self.socket, &self.begun, &mut self.written).await?;
        self.begun = Vec::new();
        self.written = 0;
        Ok(())
    }
}

impl SessionOutput {
    /// What comes next; `None` after the exit, and without one when the shim dropped the session. Cancel-safe.
    ///
    /// # Errors
    /// When the connection is lost.
    pub async fn next(&mut self) -> io::Result<Option<SessionEvent>> {
        if self.ended {
            return Ok(None);
        }
        let frame = self.reader.next(&self.socket).await;
        self.ended = !matches!(frame, Ok(Some(ShimFrame::Stdout(_) | ShimFrame::Stderr(_))));
        // A session is dropped wherever it is, also in the middle of a frame that its client does not read.
        let dropped = |error: io::Error| match error.kind() {
            io::ErrorKind::UnexpectedEof => Ok(None),
            _ => Err(error),
        };
        match frame.or_else(dropped)? {
            Some(ShimFrame::Stdout(bytes)) => Ok(Some(SessionEvent::Stdout(bytes))),
            Some(ShimFrame::Stderr(bytes)) => Ok(Some(SessionEvent::Stderr(bytes))),
            Some(ShimFrame::Exit(code)) => Ok(Some(SessionEvent::Exit(code))),
            Some(ShimFrame::Opened | ShimFrame::Failed(_)) => Err(io::ErrorKind::InvalidData.into()),
            None => Ok(None),
        }
    }
}
