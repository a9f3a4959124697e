//! The reading half of a connection: frames become offers, bytes in pipes, and signals to the writer.
//!
//! It is the only one that adds streams. It never waits for the writer, so that a client that does not read can
//! still be heard; it waits for a full pipe, since there is no other way to slow a SPDY client down.

use std::future::Future;
use std::io::{self, Cursor};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader, Chain, Interest};
use tokio::net::tcp::OwnedReadHalf;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::activity::Activity;
use crate::channel::{CHUNK_BYTES, Finished, Link, Offer, ResetReason, Signal};
use crate::pipe::Pipe;
use crate::spdy::frame::{FIN, FrameError, FrameHead, Kind, UNIDIRECTIONAL, take_stream, take_u32};
use crate::spdy::header_block::{HeaderReader, InflateError};

/// A control frame carries a few short headers; the longest legitimate one is far below.
const MAX_CONTROL: usize = 64 * 1024;

/// How often a client that has to wait is asked whether it is still there. One that has closed with unsent bytes in
/// its kernel cannot say so itself: its FIN queues behind them.
const PROBE_INTERVAL: Duration = Duration::from_secs(5);

/// Tells of a peer that has closed although there is still something to read from it.
pub(crate) trait Hangup {
    fn hung_up(&self) -> impl Future<Output = ()> + Send;
}

impl Hangup for Chain<Cursor<Bytes>, OwnedReadHalf> {
    async fn hung_up(&self) {
        // Readiness for priority data is never asked of the kernel, but includes that the peer has closed. An error
        // means that the runtime ends.
        let _ = self.get_ref().1.ready(Interest::PRIORITY).await;
    }
}

/// What happens to a stream whose reader does not take its data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stall {
    /// The client waits: all streams are one process's.
    Wait,
    /// The stream is broken off after this long, for the sake of the others.
    ResetAfter(Duration),
}

pub(crate) struct Reader<R> {
    io: BufReader<R>,
    headers: HeaderReader,
    body: Vec<u8>,
    link: Link,
    offers: mpsc::Sender<Offer>,
    activity: Arc<Activity>,
    stall: Stall,
    last_stream: u32,
    going_away: bool,
}

impl<R: AsyncRead + Hangup + Unpin> Reader<R> {
    pub(crate) fn new(
        io: R,
        link: Link,
        offers: mpsc::Sender<Offer>,
        activity: Arc<Activity>,
        stall: Stall,
    ) -> Self {
        Self {
            io: BufReader::with_capacity(CHUNK_BYTES, io),
            headers: HeaderReader::new(),
            body: Vec::new(),
            link,
            offers,
            activity,
            stall,
            last_stream: 0,
            going_away: false,
        }
    }

    /// Reads until the client is gone or breaks the protocol.
    pub(crate) async fn run(mut self) -> ReadError {
        loop {
            if let Err(error) = self.frame().await {
                return error;
            }
        }
    }

    async fn frame(&mut self) -> Result<(), ReadError> {
        let mut head = [0; 8];
        self.io.read_exact(&mut head).await?;
        self.activity.touch();
        match FrameHead::parse(head)? {
            FrameHead::Data { stream, fin, length } => self.data(stream, fin, length).await,
            FrameHead::Control { kind: Kind::Ignored | Kind::Settings, length, .. } => {
                self.pass_over(length).await
            }
            FrameHead::Control { length, .. } if length > MAX_CONTROL => Err(ReadError::TooLong(length)),
            FrameHead::Control { kind, flags, length } => {
                self.body.resize(length, 0);
                self.io.read_exact(&mut self.body).await?;
                self.control(kind, flags)
            }
        }
    }

    async fn data(&mut self, stream: u32, fin: bool, mut left: usize) -> Result<(), ReadError> {
        let mut pipe = self.destination(stream);
        while left > 0 {
            let bytes = self.io.fill_buf().await?;
            if bytes.is_empty() {
                return Err(ReadError::Lost(io::ErrorKind::UnexpectedEof.into()));
            }
            let bytes = &bytes[..bytes.len().min(left)];
            let taken = pipe.as_ref().map_or(bytes.len(), |pipe| pipe.offer(bytes));
            if taken > 0 {
                self.io.consume(taken);
                self.activity.touch();
                left -= taken;
            } else if let Some(full) = pipe.take() {
                pipe = self.wait_for_room(stream, full).await?;
            }
        }
        if fin && pipe.is_some() {
            self.link.finish_receiving(stream);
        }
        Ok(())
    }

    /// Where data for this stream goes; nowhere if the stream is not there.
    fn destination(&self, stream: u32) -> Option<Arc<Pipe>> {
        match self.link.pipe(stream) {
            Some(Ok(pipe)) => Some(pipe),
            Some(Err(Finished)) => {
                self.link.reset(stream, ResetReason::AlreadyFinished);
                None
            }
            None => {
                // What was under way when we ended a stream is no mistake of the client.
                if stream > self.last_stream || stream.is_multiple_of(2) {
                    self.link.signal(Signal::Reset { stream, reason: ResetReason::UnknownStream });
                }
                None
            }
        }
    }

    async fn wait_for_room(&self, stream: u32, pipe: Arc<Pipe>) -> Result<Option<Arc<Pipe>>, ReadError> {
        let start = Instant::now();
        loop {
            tokio::select! {
                // Cancel-safe: it only waits.
                () = pipe.room() => return Ok(Some(pipe)),
                // Cancel-safe: it only waits. Nothing else would tell of a client that is gone while we do not read.
                () = self.io.get_ref().hung_up() => {
                    return Err(ReadError::Lost(io::ErrorKind::ConnectionAborted.into()));
                }
                // Cancel-safe: a timer.
                () = tokio::time::sleep(PROBE_INTERVAL) => self.link.signal(Signal::Probe),
            }
            if let Stall::ResetAfter(limit) = self.stall
                && start.elapsed() >= limit
            {
                tracing::debug!(stream, "stream reset: its data is not taken");
                self.link.reset(stream, ResetReason::Stalled);
                return Ok(None);
            }
        }
    }

    async fn pass_over(&mut self, mut left: usize) -> Result<(), ReadError> {
        while left > 0 {
            let bytes = self.io.fill_buf().await?.len().min(left);
            if bytes == 0 {
                return Err(ReadError::Lost(io::ErrorKind::UnexpectedEof.into()));
            }
            self.io.consume(bytes);
            left -= bytes;
        }
        Ok(())
    }

    fn control(&mut self, kind: Kind, flags: u8) -> Result<(), ReadError> {
        let mut body = self.body.as_slice();
        match kind {
            Kind::SynStream => return self.open(flags),
            Kind::SynReply | Kind::Headers => {
                let stream = take_stream(&mut body)?;
                // We have no use for them, but the blocks after this one need it inflated.
                self.headers.inflate(body)?;
                if flags & FIN != 0 {
                    self.link.finish_receiving(stream);
                }
            }
            Kind::RstStream => {
                self.link.forget(take_stream(&mut body)?);
            }
            Kind::Ping => {
                // Even ids would answer a PING of ours; we send none.
                let id = take_u32(&mut body)?;
                if !id.is_multiple_of(2) {
                    self.link.signal(Signal::Pong { id });
                }
            }
            Kind::GoAway => self.going_away = true,
            Kind::Ignored | Kind::Settings => {}
        }
        Ok(())
    }

    fn open(&mut self, flags: u8) -> Result<(), ReadError> {
        let mut body = self.body.as_slice();
        let stream = take_stream(&mut body)?;
        // The associated stream, the priority and the slot mean nothing here.
        let (_, block) = body.split_at_checked(6).ok_or(FrameError::Short)?;
        let headers = self.headers.inflate(block)?.parse();
        if stream <= self.last_stream || stream.is_multiple_of(2) || flags & UNIDIRECTIONAL != 0 {
            self.link.reset(stream, ResetReason::Protocol);
            return Ok(());
        }
        self.last_stream = stream;
        let offer = match headers {
            Ok(headers) if !self.going_away => self.link.open(stream, headers, flags & FIN != 0),
            Ok(_) => None,
            Err(error) => {
                tracing::debug!(stream, %error, "stream refused");
                self.link.signal(Signal::Reset { stream, reason: ResetReason::Protocol });
                return Ok(());
            }
        };
        match offer {
            // Where nobody takes offers any more, the offer comes back, is dropped and so refused.
            Some(offer) => drop(self.offers.try_send(offer)),
            None => self.link.signal(Signal::Reset { stream, reason: ResetReason::Refused }),
        }
        Ok(())
    }
}

/// Why reading ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadError {
    #[error("the client is gone")]
    Lost(#[from] io::Error),
    #[error("malformed frame")]
    Frame(#[from] FrameError),
    #[error("control frame of {0} bytes; {MAX_CONTROL} are allowed")]
    TooLong(usize),
    #[error("unreadable headers")]
    Headers(#[from] InflateError),
}

impl ReadError {
    /// True when the client is there to be told.
    pub(crate) fn is_protocol(&self) -> bool {
        match self {
            Self::Lost(_) => false,
            Self::Frame(_) | Self::TooLong(_) | Self::Headers(_) => true,
        }
    }
}
