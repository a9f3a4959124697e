//! One at a time by name: pulls that need the same blob wait for each other instead of fetching it twice.
//!
//! The lowest layer's chain id is the digest of its tar, and so of its blob when that is not compressed: blobs and
//! chains have turns of their own.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use runtime_core::ids::{ChainId, Digest};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

#[derive(Default)]
pub(super) struct Once {
    turns: Mutex<HashMap<String, Weak<Semaphore>>>,
}

/// The turn of one holder; the next one's when dropped.
pub(super) struct Turn {
    _permit: OwnedSemaphorePermit,
}

impl Once {
    /// Waits until nobody else fetches this blob. Cancel-safe.
    pub(super) async fn blob(&self, digest: &Digest) -> Turn {
        self.turn(format!("blob/{digest}")).await
    }

    /// Waits until nobody else unpacks this chain. Cancel-safe.
    pub(super) async fn chain(&self, id: &ChainId) -> Turn {
        self.turn(format!("chain/{id}")).await
    }

    async fn turn(&self, name: String) -> Turn {
        let semaphore = self.semaphore(name);
        let permit = semaphore.acquire_owned().await;
        Turn { _permit: permit.expect("these semaphores are never closed") }
    }

    fn semaphore(&self, name: String) -> Arc<Semaphore> {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(semaphore) = turns.get(&name).and_then(Weak::upgrade) {
            return semaphore;
        }
        turns.retain(|_, semaphore| semaphore.strong_count() > 0);
        let semaphore = Arc::new(Semaphore::new(1));
        turns.insert(name, Arc::downgrade(&semaphore));
        semaphore
    }
}
