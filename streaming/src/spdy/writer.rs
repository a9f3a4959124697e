//! The writing half of a connection: what is queued becomes frames. Signals go before data, so that a stream is
//! accepted before anything is sent on it and PINGs are answered in time.

use std::io;
use std::sync::Arc;

use tokio::io::{AsyncWrite, AsyncWriteExt};

use crate::activity::Activity;
use crate::channel::{Outgoing, Queues, ResetReason, Signal};
use crate::spdy::frame::{Kind, write_control, write_data_head};
use crate::spdy::header_block::HeaderWriter;

/// Frames are gathered up to this size before they are written.
const BATCH_BYTES: usize = 64 * 1024;

/// The status in a GOAWAY frame.
const GOODBYE: u32 = 0;
const PROTOCOL_ERROR: u32 = 1;

pub(crate) struct Writer<W> {
    io: W,
    queues: Queues,
    activity: Arc<Activity>,
    headers: HeaderWriter,
    batch: Vec<u8>,
    last_accepted: u32,
    /// Whether the batch holds anything but probes.
    carries: bool,
}

enum Turn {
    Signal(Signal),
    Outgoing(Outgoing),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Next {
    Go,
    Stop,
}

impl<W: AsyncWrite + Unpin> Writer<W> {
    pub(crate) fn new(io: W, queues: Queues, activity: Arc<Activity>) -> Result<Self, WriteError> {
        let headers = HeaderWriter::new()?;
        Ok(Self { io, queues, activity, headers, batch: Vec::new(), last_accepted: 0, carries: false })
    }

    /// Writes until it is told to close; then the writing side is closed and all is with the kernel.
    pub(crate) async fn run(mut self) -> Result<(), WriteError> {
        loop {
            let Some(turn) = self.wait().await else { return Ok(()) };
            let mut next = self.encode(turn)?;
            while next == Next::Go && self.batch.len() < BATCH_BYTES {
                let Some(turn) = self.at_hand() else { break };
                next = self.encode(turn)?;
            }
            self.io.write_all(&self.batch).await?;
            self.io.flush().await?;
            self.batch.clear();
            // A client that neither sends nor gets anything is idle, however often it is probed.
            if std::mem::take(&mut self.carries) {
                self.activity.touch();
            }
            if next == Next::Stop {
                self.io.shutdown().await?;
                return Ok(());
            }
        }
    }

    async fn wait(&mut self) -> Option<Turn> {
        tokio::select! {
            biased;
            // Cancel-safe: a signal is taken whole or stays in the channel.
            signal = self.queues.signals.recv() => signal.map(Turn::Signal),
            // Cancel-safe: a piece is taken whole or stays in the channel.
            outgoing = self.queues.outgoing.recv() => outgoing.map(Turn::Outgoing),
        }
    }

    fn at_hand(&mut self) -> Option<Turn> {
        let signal = self.queues.signals.try_recv().map(Turn::Signal);
        signal.or_else(|_| self.queues.outgoing.try_recv().map(Turn::Outgoing)).ok()
    }

    fn encode(&mut self, turn: Turn) -> Result<Next, WriteError> {
        self.carries |= !matches!(turn, Turn::Signal(Signal::Probe));
        let batch = &mut self.batch;
        match turn {
            Turn::Outgoing(Outgoing::Data { stream, bytes }) => {
                write_data_head(stream, false, bytes.len(), batch);
                batch.extend(&bytes);
            }
            Turn::Outgoing(Outgoing::Finish { stream }) => write_data_head(stream, true, 0, batch),
            Turn::Outgoing(Outgoing::BreakOff { stream }) => {
                return self.encode(Turn::Signal(Signal::Reset { stream, reason: ResetReason::Cancelled }));
            }
            Turn::Outgoing(Outgoing::Close) => {
                self.go_away(GOODBYE);
                return Ok(Next::Stop);
            }
            Turn::Signal(Signal::Accept { stream }) => {
                self.last_accepted = stream;
                let block = self.headers.empty_block()?;
                write_control(Kind::SynReply, &[&stream.to_be_bytes(), &block], batch);
            }
            Turn::Signal(Signal::Reset { stream, reason }) => {
                write_control(Kind::RstStream, &[&stream.to_be_bytes(), &code(reason).to_be_bytes()], batch);
            }
            Turn::Signal(Signal::Pong { id }) => write_control(Kind::Ping, &[&id.to_be_bytes()], batch),
            // No settings. A PING would have to be answered, for which a client that is stuck in sending has to wait
            // with its reader; what nobody answers cannot lock it up.
            Turn::Signal(Signal::Probe) => write_control(Kind::Settings, &[&0u32.to_be_bytes()], batch),
            Turn::Signal(Signal::Abort) => {
                self.go_away(PROTOCOL_ERROR);
                return Ok(Next::Stop);
            }
        }
        Ok(Next::Go)
    }

    fn go_away(&mut self, status: u32) {
        let body: [&[u8]; 2] = [&self.last_accepted.to_be_bytes(), &status.to_be_bytes()];
        write_control(Kind::GoAway, &body, &mut self.batch);
    }
}

fn code(reason: ResetReason) -> u32 {
    match reason {
        ResetReason::Protocol => 1,
        ResetReason::UnknownStream => 2,
        ResetReason::Refused => 3,
        ResetReason::Cancelled => 5,
        ResetReason::Stalled => 7,
        ResetReason::AlreadyFinished => 9,
    }
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum WriteError {
    #[error("cannot write to the client")]
    Io(#[from] io::Error),
    #[error("cannot compress headers")]
    Compress(#[from] flate2::CompressError),
}
