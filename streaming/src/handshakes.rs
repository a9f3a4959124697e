//! The clients that have connected and not yet shown a token: so many and no more, the oldest of them goes first.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio_util::sync::CancellationToken;

#[derive(Clone, Debug)]
pub(crate) struct Handshakes {
    limit: usize,
    table: Arc<Mutex<Table>>,
}

#[derive(Debug, Default)]
struct Table {
    entered: u64,
    /// In the order of their coming.
    waiting: BTreeMap<u64, CancellationToken>,
}

/// One client's place. Dropping it makes room.
pub(crate) struct Handshake {
    number: u64,
    unwanted: CancellationToken,
    all: Handshakes,
}

impl Handshakes {
    pub(crate) fn new(limit: usize) -> Self {
        Self { limit, table: Arc::default() }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for a new client; with too many, the oldest loses its own.
    pub(crate) fn enter(&self) -> Handshake {
        let unwanted = CancellationToken::new();
        let mut table = self.table();
        table.entered += 1;
        let number = table.entered;
        table.waiting.insert(number, unwanted.clone());
        if table.waiting.len() > self.limit
            && let Some((_, oldest)) = table.waiting.pop_first()
        {
            oldest.cancel();
        }
        drop(table);
        Handshake { number, unwanted, all: self.clone() }
    }
}

impl Handshake {
    /// What the handshake comes to; `None` when the place was lost to another client.
    pub(crate) async fn run<T>(self, handshake: impl Future<Output = T>) -> Option<T> {
        self.unwanted.run_until_cancelled(handshake).await
    }
}

impl Drop for Handshake {
    fn drop(&mut self) {
        self.all.table().waiting.remove(&self.number);
    }
}
