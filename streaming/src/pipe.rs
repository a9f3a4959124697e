//! The bytes that a client has sent on one stream and nobody has taken yet: bounded, and joined so that many small
//! frames cost no more than one large one.
//!
//! One task offers (the connection's reader), one takes (the session). The lock is never held across an await.

use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::{Bytes, BytesMut};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// Enough to keep a transfer going between two turns of the reader; a thousand streams stay affordable.
pub(crate) const PIPE_BYTES: usize = 64 * 1024;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Received {
    Data(Bytes),
    /// The client has finished its half.
    End,
    /// The stream was broken off; what was still in it is lost.
    Reset,
}

#[derive(Debug, Default)]
pub(crate) struct Pipe {
    state: Mutex<State>,
    filled: Notify,
    drained: Notify,
    reset: CancellationToken,
}

#[derive(Debug, Default)]
struct State {
    bytes: BytesMut,
    end: End,
    abandoned: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum End {
    #[default]
    Open,
    Finished,
    Reset,
}

impl Pipe {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in what fits and says how much that was. What nobody will read is swallowed.
    pub(crate) fn offer(&self, bytes: &[u8]) -> usize {
        let mut state = self.state();
        if state.abandoned || state.end != End::Open {
            return bytes.len();
        }
        let taken = bytes.len().min(PIPE_BYTES - state.bytes.len());
        state.bytes.extend_from_slice(&bytes[..taken]);
        drop(state);
        self.filled.notify_one();
        taken
    }

    /// Waits until something can be offered. Cancel-safe.
    pub(crate) async fn room(&self) {
        loop {
            {
                let state = self.state();
                if state.bytes.len() < PIPE_BYTES || state.abandoned || state.end != End::Open {
                    return;
                }
            }
            self.drained.notified().await;
        }
    }

    pub(crate) fn finish(&self) {
        let mut state = self.state();
        if state.end == End::Open {
            state.end = End::Finished;
        }
        drop(state);
        self.filled.notify_one();
    }

    pub(crate) fn reset(&self) {
        let mut state = self.state();
        state.end = End::Reset;
        state.bytes = BytesMut::new();
        drop(state);
        self.reset.cancel();
        self.filled.notify_one();
        self.drained.notify_one();
    }

    pub(crate) fn is_reset(&self) -> bool {
        self.reset.is_cancelled()
    }

    /// Waits until the stream is broken off, whatever is still in it. Cancel-safe.
    pub(crate) async fn broken_off(&self) {
        self.reset.cancelled().await;
    }

    /// Nobody will take anything any more.
    pub(crate) fn abandon(&self) {
        let mut state = self.state();
        state.abandoned = true;
        state.bytes = BytesMut::new();
        drop(state);
        self.drained.notify_one();
    }

    pub(crate) fn is_abandoned(&self) -> bool {
        self.state().abandoned
    }

    /// All that has come in, or the end. Cancel-safe.
    pub(crate) async fn next(&self) -> Received {
        loop {
            {
                let mut state = self.state();
                if !state.bytes.is_empty() {
                    let bytes = std::mem::take(&mut state.bytes).freeze();
                    drop(state);
                    self.drained.notify_one();
                    return Received::Data(bytes);
                }
                match state.end {
                    End::Open => {}
                    End::Finished => return Received::End,
                    End::Reset => return Received::Reset,
                }
            }
            self.filled.notified().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn small_offers_are_joined_and_the_end_comes_last() {
        let pipe = Pipe::default();
        assert_eq!(pipe.offer(b"ab"), 2);
        assert_eq!(pipe.offer(b"c"), 1);
        pipe.finish();
        assert_eq!(pipe.offer(b"late"), 4, "swallowed");
        assert_eq!(pipe.next().await, Received::Data(Bytes::from_static(b"abc")));
        assert_eq!(pipe.next().await, Received::End);
        assert_eq!(pipe.next().await, Received::End, "the end stays");
    }

    #[tokio::test]
    async fn a_full_pipe_has_room_again_once_read_reset_or_abandoned() {
        type Act = fn(&Pipe);
        let acts: [Act; 2] = [Pipe::reset, Pipe::abandon];
        for act in acts {
            let pipe = Pipe::default();
            assert_eq!(pipe.offer(&vec![0; PIPE_BYTES + 5]), PIPE_BYTES);
            assert_eq!(pipe.offer(b"x"), 0);
            let (_, ()) = tokio::join!(pipe.room(), async { act(&pipe) });
        }
        let pipe = Pipe::default();
        pipe.offer(&vec![0; PIPE_BYTES]);
        let ((), read) = tokio::join!(pipe.room(), pipe.next());
        assert!(matches!(read, Received::Data(bytes) if bytes.len() == PIPE_BYTES));
    }

    #[tokio::test]
    async fn a_reset_loses_what_was_in_it() {
        let pipe = Pipe::default();
        pipe.offer(b"ab");
        pipe.reset();
        assert_eq!(pipe.next().await, Received::Reset);
        assert!(pipe.is_reset());
        pipe.broken_off().await;
    }
}
