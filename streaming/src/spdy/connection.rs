//! One SPDY connection: reader, writer and session side by side in one task, and how they end each other.
//!
//! ```text
//! client gone, protocol broken, idle, flooded → the session is dropped at once (and told: GOAWAY, if it can be)
//! session over → all that is queued, GOAWAY, writing side closed, then read until the client has closed too
//! ```
//!
//! Reading on at the end matters: closing a socket with unread bytes makes the kernel send a reset, which may
//! overtake what the client has not read yet.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use runtime_core::error::chain;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;

use crate::activity::Activity;
use crate::channel::{Link, Offers, Signal};
pub(crate) use crate::spdy::reader::Stall;
use crate::spdy::reader::{Hangup, ReadError, Reader};
use crate::spdy::writer::{WriteError, Writer};

/// How long a client may take to close after us, or to take the news that it broke the protocol.
const FAREWELL: Duration = Duration::from_secs(5);

#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Streams open at a time.
    pub(crate) streams: usize,
    pub(crate) stall: Stall,
    pub(crate) idle: Duration,
}

enum End {
    Session,
    Read(ReadError),
    Written(Result<(), WriteError>),
    Flooded,
    Idle,
}

/// Carries the streams of one client until it or the session ends.
pub(crate) async fn serve<R, W, F>(read: R, write: W, limits: Limits, session: impl FnOnce(Offers) -> F)
where
    R: AsyncRead + Hangup + Unpin,
    W: AsyncWrite + Unpin,
    F: Future<Output = ()>,
{
    let activity = Arc::new(Activity::new());
    let (link, queues) = Link::new(limits.streams);
    let (offers, incoming) = mpsc::channel(limits.streams);
    let writer = match Writer::new(write, queues, Arc::clone(&activity)) {
        Ok(writer) => writer,
        Err(error) => return tracing::error!(error = chain(&error), "streaming connection given up"),
    };
    let reader = Reader::new(read, link.clone(), offers, Arc::clone(&activity), limits.stall);
    let (mut reading, mut writing) = (pin!(reader.run()), pin!(writer.run()));
    let mut session = Box::pin(session(incoming));
    let end = tokio::select! {
        // Cancel-safe: polled again below, or over.
        error = &mut reading => End::Read(error),
        // Cancel-safe: polled again below, or over.
        result = &mut writing => End::Written(result),
        // Cancel-safe: whatever else ends the connection ends the session too.
        () = &mut session => End::Session,
        // Cancel-safe: it only waits.
        () = link.flooded() => End::Flooded,
        // Cancel-safe: a timer.
        () = activity.idle(limits.idle) => End::Idle,
    };
    drop(session);
    match end {
        End::Session => {
            let farewell = async {
                let (result, ()) = tokio::join!(&mut writing, link.close());
                result
            };
            let written = tokio::select! {
                // Cancel-safe: the connection is over when another arm ends.
                result = farewell => result.is_ok(),
                // Cancel-safe: not polled again when it ends; goes on below otherwise.
                _ = &mut reading => false,
                // Cancel-safe: it only waits.
                () = link.flooded() => false,
                // Cancel-safe: a timer. A client that reads slowly is not idle.
                () = activity.idle(limits.idle) => false,
            };
            if written {
                // Whether it closed or the time is over: the connection ends here.
                let _ = tokio::time::timeout(FAREWELL, reading).await;
            }
        }
        End::Read(error) => {
            tracing::debug!(error = chain(&error), "streaming connection ended by the client");
            if error.is_protocol() {
                link.signal(Signal::Abort);
                // The client may be past listening.
                let _ = tokio::time::timeout(FAREWELL, writing).await;
            }
        }
        End::Written(Err(error)) => tracing::debug!(error = chain(&error), "streaming connection lost"),
        End::Written(Ok(())) => {}
        End::Flooded => tracing::debug!("streaming client cut off: it does not read what it asks for"),
        End::Idle => tracing::debug!("streaming connection idle for too long"),
    }
}
