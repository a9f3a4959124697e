//! Port-forward, whatever transport carries it: pairs of streams, each pair one connection into the sandbox.
//!
//! The pairs run side by side inside the session and share nothing but the client's connection; one that fails
//! tells so on its error stream and is gone. The session has no end of its own: it lasts until the client leaves.

mod pairing;
mod relay;

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::time::Instant;

use crate::backend::Backend;
use crate::channel::Offers;
use crate::port_forward::pairing::{Half, Pairing};
use crate::port_forward::relay::{fail, forward};

/// What runs for one pair. Dropping it ends the pair.
type Pair = Pin<Box<dyn Future<Output = ()> + Send>>;

pub(crate) struct PortForward {
    pub(crate) sandbox: String,
    pub(crate) creation_timeout: Duration,
}

impl PortForward {
    pub(crate) async fn run(self, mut offers: Offers, backend: Arc<dyn Backend>) {
        let sandbox: Arc<str> = self.sandbox.into();
        let mut waiting = Pairing::new(self.creation_timeout);
        let mut pairs: FuturesUnordered<Pair> = FuturesUnordered::new();
        loop {
            tokio::select! {
                // Cancel-safe: an offer is taken whole or stays in the channel.
                offer = offers.recv() => match offer.map(|offer| waiting.admit(offer)) {
                    Some(Some(pair)) => pairs.push(Box::pin(forward(pair, Arc::clone(&sandbox), Arc::clone(&backend)))),
                    Some(None) => {}
                    None => return,
                },
                // Cancel-safe: the pairs stay in their set.
                Some(()) = pairs.next(), if !pairs.is_empty() => {}
                // Cancel-safe: a timer.
                () = until(waiting.deadline()) => for half in waiting.expire() {
                    pairs.push(Box::pin(timed_out(half)));
                },
            }
        }
    }
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

/// A data stream without its error stream is broken off; the other way round the client can be told.
async fn timed_out(half: Half) {
    if let Half::Error(error) = half {
        fail(error, "timed out waiting for the data stream").await;
    }
}
