//! The streams of one connection as the session layer sees them, and what is queued for the transport to write.
//!
//! ```text
//! transport's reader ── Link::open ──→ Offer ─ accept ─→ Channel { Inbound, Outbound }     (refused when dropped)
//!         │                                                  ↑ Pipe          │ Outgoing (bounded, waits)
//!         └── Link::pipe ── bytes ───────────────────────────┘               ↓
//! transport's writer ←──────────────────────────────── Signal first, then Outgoing
//! ```
//!
//! A stream is in the table until both halves have ended, or one was reset; giving up an [`Inbound`] ends its half.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::headers::Headers;
use crate::pipe::{Pipe, Received};

/// The largest piece of data queued at a time.
pub(crate) const CHUNK_BYTES: usize = 32 * 1024;
/// Pieces that wait for a slow client; past this the session waits.
const QUEUED_PIECES: usize = 8;
/// Signals that wait for a slow client. One that asks for more without reading the answers is cut off.
const QUEUED_SIGNALS: usize = 4096;

/// What waits its turn at the writer.
#[derive(Debug)]
pub(crate) enum Outgoing {
    Data {
        stream: u32,
        bytes: Bytes,
    },
    Finish {
        stream: u32,
    },
    /// Broken off, but not before what was sent until then.
    BreakOff {
        stream: u32,
    },
    /// Nothing follows: say good-bye and close the writing side.
    Close,
}

/// What goes out before anything that waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Signal {
    Accept {
        stream: u32,
    },
    Reset {
        stream: u32,
        reason: ResetReason,
    },
    Pong {
        id: u32,
    },
    /// Something that means nothing, to find out whether the client is still there.
    Probe,
    /// The client broke the protocol: say so and end.
    Abort,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ResetReason {
    Protocol,
    UnknownStream,
    Refused,
    Cancelled,
    /// More data than the stream's reader took in time.
    Stalled,
    AlreadyFinished,
}

/// The transport's receiving ends of a [`Link`].
pub(crate) struct Queues {
    pub(crate) outgoing: mpsc::Receiver<Outgoing>,
    pub(crate) signals: mpsc::Receiver<Signal>,
}

/// What all handles of one connection share.
#[derive(Clone, Debug)]
pub(crate) struct Link {
    outgoing: mpsc::Sender<Outgoing>,
    signals: mpsc::Sender<Signal>,
    flooded: CancellationToken,
    table: Arc<Mutex<Table>>,
}

#[derive(Debug)]
struct Table {
    streams: HashMap<u32, Entry>,
    limit: usize,
}

#[derive(Debug)]
struct Entry {
    pipe: Arc<Pipe>,
    sending: bool,
    receiving: bool,
}

impl Link {
    pub(crate) fn new(limit: usize) -> (Self, Queues) {
        let (outgoing, outgoing_end) = mpsc::channel(QUEUED_PIECES);
        let (signals, signals_end) = mpsc::channel(QUEUED_SIGNALS);
        let table = Arc::new(Mutex::new(Table { streams: HashMap::new(), limit }));
        let link = Self { outgoing, signals, flooded: CancellationToken::new(), table };
        (link, Queues { outgoing: outgoing_end, signals: signals_end })
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues a signal. A client that does not read what it causes is found by [`Link::flooded`].
    pub(crate) fn signal(&self, signal: Signal) {
        if let Err(mpsc::error::TrySendError::Full(_)) = self.signals.try_send(signal) {
            self.flooded.cancel();
        }
    }

    /// Fires when the client lets too many answers pile up.
    pub(crate) async fn flooded(&self) {
        self.flooded.cancelled().await;
    }

    /// Ends the connection once all that was queued before is written.
    pub(crate) async fn close(&self) {
        // A writer that is gone has closed already.
        let _ = self.outgoing.send(Outgoing::Close).await;
    }

    /// Enters a new stream; `None` when there are too many.
    pub(crate) fn open(&self, id: u32, headers: Headers, finished: bool) -> Option<Offer> {
        let pipe = Arc::new(Pipe::default());
        if finished {
            pipe.finish();
        }
        let mut table = self.table();
        if table.streams.len() >= table.limit {
            return None;
        }
        table.streams.insert(id, Entry { pipe: Arc::clone(&pipe), sending: true, receiving: !finished });
        drop(table);
        let inbound = Inbound { id, link: self.clone(), pipe: Arc::clone(&pipe) };
        let outbound = Outbound { id, link: self.clone(), pipe, open: true };
        Some(Offer { id, headers, channel: Some(Channel { inbound, outbound }) })
    }

    /// Where the data of a stream goes. An inner error tells that the client has finished it before.
    pub(crate) fn pipe(&self, id: u32) -> Option<Result<Arc<Pipe>, Finished>> {
        let table = self.table();
        let entry = table.streams.get(&id)?;
        // A half that the session gave up stays open to the client, whose data is swallowed.
        Some(if entry.receiving { Ok(Arc::clone(&entry.pipe)) } else { Err(Finished) })
    }

    /// The client has sent its last on this stream.
    pub(crate) fn finish_receiving(&self, id: u32) {
        let mut table = self.table();
        let Some(entry) = table.streams.get_mut(&id) else { return };
        entry.receiving = false;
        entry.pipe.finish();
        let over = !entry.sending;
        if over {
            table.streams.remove(&id);
        }
    }

    fn finish_sending(&self, id: u32) {
        let mut table = self.table();
        let Some(entry) = table.streams.get_mut(&id) else { return };
        entry.sending = false;
        let over = !entry.receiving || entry.pipe.is_abandoned();
        if over {
            table.streams.remove(&id);
        }
    }

    fn abandon_receiving(&self, id: u32, pipe: &Pipe) {
        pipe.abandon();
        let mut table = self.table();
        if table.streams.get(&id).is_some_and(|entry| !entry.sending) {
            table.streams.remove(&id);
        }
    }

    /// The stream is over in both directions. False when it was over already.
    pub(crate) fn forget(&self, id: u32) -> bool {
        let entry = self.table().streams.remove(&id);
        if let Some(entry) = &entry {
            entry.pipe.reset();
        }
        entry.is_some()
    }

    /// Breaks a stream off and tells the client.
    pub(crate) fn reset(&self, stream: u32, reason: ResetReason) {
        self.forget(stream);
        self.signal(Signal::Reset { stream, reason });
    }
}

#[cfg(test)]
impl Link {
    pub(crate) fn is_open(&self, id: u32) -> bool {
        self.table().streams.contains_key(&id)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.table().streams.is_empty()
    }
}

/// The client goes on sending on a stream that it has finished.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Finished;

/// The offers of one connection, in the order of their coming.
pub(crate) type Offers = mpsc::Receiver<Offer>;

/// A stream that the client wants to open. It is refused when dropped.
#[derive(Debug)]
pub(crate) struct Offer {
    pub(crate) id: u32,
    pub(crate) headers: Headers,
    channel: Option<Channel>,
}

impl Offer {
    pub(crate) fn accept(mut self) -> Channel {
        let channel = self.channel.take().expect("only accept and drop take the channel");
        channel.outbound.link.signal(Signal::Accept { stream: self.id });
        channel
    }
}

impl Drop for Offer {
    fn drop(&mut self) {
        if let Some(mut channel) = self.channel.take() {
            channel.outbound.open = false;
            channel.outbound.link.reset(self.id, ResetReason::Refused);
        }
    }
}

/// Both directions of an accepted stream.
#[derive(Debug)]
pub(crate) struct Channel {
    pub(crate) inbound: Inbound,
    pub(crate) outbound: Outbound,
}

/// From the client.
#[derive(Debug)]
pub(crate) struct Inbound {
    id: u32,
    link: Link,
    pipe: Arc<Pipe>,
}

impl Inbound {
    /// Cancel-safe.
    pub(crate) async fn next(&mut self) -> Received {
        self.pipe.next().await
    }
}

impl Drop for Inbound {
    fn drop(&mut self) {
        self.link.abandon_receiving(self.id, &self.pipe);
    }
}

/// To the client. Dropped before it is finished, it breaks the stream off.
#[derive(Debug)]
pub(crate) struct Outbound {
    id: u32,
    link: Link,
    pipe: Arc<Pipe>,
    open: bool,
}

impl Outbound {
    /// Queues the bytes in pieces, waiting for a slow client.
    pub(crate) async fn send(&mut self, mut bytes: Bytes) -> Result<(), SendError> {
        while !bytes.is_empty() {
            if self.pipe.is_reset() {
                return Err(SendError::Reset);
            }
            let piece = bytes.split_to(bytes.len().min(CHUNK_BYTES));
            let data = Outgoing::Data { stream: self.id, bytes: piece };
            self.link.outgoing.send(data).await.map_err(|_| SendError::Closed)?;
        }
        Ok(())
    }

    /// Waits until the client breaks the stream off. Cancel-safe.
    pub(crate) async fn broken_off(&self) {
        self.pipe.broken_off().await;
    }

    /// Ends this half after all that was sent.
    pub(crate) async fn finish(mut self) -> Result<(), SendError> {
        if self.pipe.is_reset() {
            return Err(SendError::Reset);
        }
        let finish = Outgoing::Finish { stream: self.id };
        self.link.outgoing.send(finish).await.map_err(|_| SendError::Closed)?;
        self.open = false;
        self.link.finish_sending(self.id);
        Ok(())
    }

    /// Breaks the stream off after all that was sent: a reset at once, as a drop does it, would overtake that.
    pub(crate) async fn break_off(mut self) -> Result<(), SendError> {
        self.open = false;
        if !self.link.forget(self.id) {
            return Err(SendError::Reset);
        }
        let broken = Outgoing::BreakOff { stream: self.id };
        self.link.outgoing.send(broken).await.map_err(|_| SendError::Closed)
    }
}

impl Drop for Outbound {
    fn drop(&mut self) {
        if self.open && self.link.forget(self.id) {
            self.link.signal(Signal::Reset { stream: self.id, reason: ResetReason::Cancelled });
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SendError {
    #[error("the client has reset the stream")]
    Reset,
    #[error("the connection is closed")]
    Closed,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accepted(link: &Link, id: u32) -> Channel {
        link.open(id, Headers::default(), false).unwrap().accept()
    }

    #[tokio::test]
    async fn what_was_sent_goes_before_the_break() {
        let (link, mut queues) = Link::new(10);
        let Channel { mut outbound, .. } = accepted(&link, 1);
        outbound.send(Bytes::from_static(b"last words")).await.unwrap();
        outbound.break_off().await.unwrap();
        assert!(matches!(queues.outgoing.recv().await, Some(Outgoing::Data { stream: 1, .. })));
        assert!(matches!(queues.outgoing.recv().await, Some(Outgoing::BreakOff { stream: 1 })));
        assert!(link.is_empty());
        assert_eq!(queues.signals.recv().await, Some(Signal::Accept { stream: 1 }));
        assert!(queues.signals.try_recv().is_err(), "and no reset overtakes it");
    }

    #[tokio::test]
    async fn a_stream_lasts_until_both_halves_have_ended() {
        let (link, mut queues) = Link::new(10);
        let Channel { mut inbound, outbound } = accepted(&link, 1);
        assert_eq!(queues.signals.recv().await, Some(Signal::Accept { stream: 1 }));
        outbound.finish().await.unwrap();
        assert!(link.is_open(1));
        link.pipe(1).unwrap().unwrap().offer(b"more");
        link.finish_receiving(1);
        assert!(link.is_empty());
        assert_eq!(inbound.next().await, Received::Data(Bytes::from_static(b"more")));
        assert_eq!(inbound.next().await, Received::End);
    }

    #[tokio::test]
    async fn a_half_that_nobody_reads_does_not_keep_a_stream() {
        let (link, _queues) = Link::new(10);
        let Channel { inbound, outbound } = accepted(&link, 1);
        drop(inbound);
        assert!(link.is_open(1));
        outbound.finish().await.unwrap();
        assert!(link.is_empty());
        let Channel { inbound, outbound } = accepted(&link, 3);
        outbound.finish().await.unwrap();
        drop(inbound);
        assert!(link.is_empty());
    }

    #[tokio::test]
    async fn dropping_refuses_an_offer_and_cancels_a_stream() {
        let (link, mut queues) = Link::new(1);
        drop(link.open(1, Headers::default(), false).unwrap());
        let refused = Signal::Reset { stream: 1, reason: ResetReason::Refused };
        assert_eq!(queues.signals.recv().await, Some(refused));

        let channel = accepted(&link, 3);
        assert!(link.open(5, Headers::default(), false).is_none(), "one at a time");
        drop(channel);
        assert_eq!(queues.signals.recv().await, Some(Signal::Accept { stream: 3 }));
        let cancelled = Signal::Reset { stream: 3, reason: ResetReason::Cancelled };
        assert_eq!(queues.signals.recv().await, Some(cancelled));
        assert!(link.is_empty());
        assert!(queues.signals.try_recv().is_err(), "each says so once");
    }

    #[tokio::test]
    async fn signals_that_pile_up_are_noticed() {
        let (link, _queues) = Link::new(1);
        for id in 0..=u32::try_from(QUEUED_SIGNALS).unwrap() {
            link.signal(Signal::Pong { id });
        }
        link.flooded().await;
    }
}
