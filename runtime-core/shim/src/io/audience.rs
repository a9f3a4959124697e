//! Those who watch a container's output: each with a bounded queue of what it has not taken yet.
//!
//! Publishing never waits. A watcher that lags further behind than its queue is long is cut off; the container and its
//! log do not notice. Without watchers nothing is kept.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::{Rc, Weak};

use tokio::sync::Notify;

use super::cri_log::Stream;

/// Bytes that may wait for one watcher.
const MAX_LAG: usize = 1 << 20;
/// What a chunk costs besides its bytes, so that a container which writes byte by byte fills no memory.
const CHUNK_COST: usize = 64;

/// The watchers of one container.
#[derive(Default)]
pub(crate) struct Audience(RefCell<Vec<Weak<Shared>>>);

/// One watcher; leaves when it is dropped.
pub(crate) struct Watcher(Rc<Shared>);

/// Some output of one stream.
pub(crate) struct Chunk {
    pub(crate) stream: Stream,
    pub(crate) bytes: Rc<[u8]>,
}

struct Shared {
    wants: Wants,
    queue: RefCell<VecDeque<Chunk>>,
    queued: Cell<usize>,
    lags: Cell<bool>,
    /// There is something new to see.
    news: Notify,
}

/// Which streams a watcher wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wants {
    pub(crate) stdout: bool,
    pub(crate) stderr: bool,
}

impl Wants {
    pub(crate) fn has(self, stream: Stream) -> bool {
        match stream {
            Stream::Stdout => self.stdout,
            Stream::Stderr => self.stderr,
        }
    }
}

impl Audience {
    /// A watcher of what is published from now on.
    pub(crate) fn join(&self, wants: Wants) -> Watcher {
        let shared = Rc::new(Shared {
            wants,
            queue: RefCell::default(),
            queued: Cell::new(0),
            lags: Cell::new(false),
            news: Notify::new(),
        });
        let mut watchers = self.0.borrow_mut();
        // A container that writes nothing never sees its watchers leave.
        watchers.retain(|watcher| watcher.strong_count() > 0);
        watchers.push(Rc::downgrade(&shared));
        Watcher(shared)
    }

    /// Shows output to those who want it.
    pub(crate) fn publish(&self, stream: Stream, bytes: &[u8]) {
        let mut watchers = self.0.borrow_mut();
        if watchers.is_empty() || bytes.is_empty() {
            return;
        }
        let bytes: Rc<[u8]> = bytes.into();
        watchers.retain(|watcher| watcher.upgrade().is_some_and(|watcher| watcher.push(stream, &bytes)));
        if watchers.is_empty() {
            *watchers = Vec::new();
        }
    }
}

impl Shared {
    /// Queues output; `false` when the watcher is cut off.
    fn push(&self, stream: Stream, bytes: &Rc<[u8]>) -> bool {
        if !self.wants.has(stream) {
            return true;
        }
        let queued = self.queued.get() + cost(bytes);
        if queued > MAX_LAG {
            self.lags.set(true);
            self.queue.take();
        } else {
            self.queued.set(queued);
            self.queue.borrow_mut().push_back(Chunk { stream, bytes: bytes.clone() });
        }
        self.news.notify_waiters();
        !self.lags.get()
    }
}

fn cost(bytes: &[u8]) -> usize {
    bytes.len() + CHUNK_COST
}

impl Watcher {
    /// The next output, if there is some already.
    pub(crate) fn take(&self) -> Option<Chunk> {
        let chunk = self.0.queue.borrow_mut().pop_front()?;
        self.0.queued.set(self.0.queued.get() - cost(&chunk.bytes));
        Some(chunk)
    }

    /// Resolves when there is something to take. Cancel-safe.
    pub(crate) async fn ready(&self) {
        self.until(|shared| !shared.queue.borrow().is_empty()).await;
    }

    /// Resolves when this watcher was cut off. Cancel-safe.
    pub(crate) async fn lagged(&self) {
        self.until(|shared| shared.lags.get()).await;
    }

    async fn until(&self, condition: impl Fn(&Shared) -> bool) {
        loop {
            // Asked for before the look, so that nothing falls in between.
            let news = self.0.news.notified();
            if condition(&self.0) {
                return;
            }
            news.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOTH: Wants = Wants { stdout: true, stderr: true };

    fn taken(watcher: &Watcher) -> Vec<(Stream, Vec<u8>)> {
        std::iter::from_fn(|| watcher.take()).map(|chunk| (chunk.stream, chunk.bytes.to_vec())).collect()
    }

    #[test]
    fn watchers_see_what_they_want_from_their_joining_on() {
        let audience = Audience::default();
        audience.publish(Stream::Stdout, b"before");
        let (both, err) = (audience.join(BOTH), audience.join(Wants { stdout: false, stderr: true }));
        audience.publish(Stream::Stdout, b"out");
        audience.publish(Stream::Stderr, b"err");
        assert_eq!(taken(&both), [(Stream::Stdout, b"out".to_vec()), (Stream::Stderr, b"err".to_vec())]);
        assert_eq!(taken(&err), [(Stream::Stderr, b"err".to_vec())]);
        drop((both, err));
        audience.publish(Stream::Stdout, b"after");
        assert!(audience.0.borrow().is_empty());
    }

    #[test]
    fn those_who_left_are_forgotten_without_any_output() {
        let audience = Audience::default();
        for _ in 0..100 {
            drop(audience.join(BOTH));
        }
        let last = audience.join(BOTH);
        assert_eq!(audience.0.borrow().len(), 1);
        drop(last);
    }

    #[tokio::test]
    async fn one_that_lags_is_cut_off_alone() {
        let audience = Audience::default();
        let (slow, fast) = (audience.join(BOTH), audience.join(BOTH));
        for _ in 0..=MAX_LAG / 1024 {
            audience.publish(Stream::Stdout, &[0; 1024]);
            fast.ready().await;
            assert_eq!(taken(&fast).len(), 1);
        }
        slow.lagged().await;
        assert!(slow.take().is_none());
        assert_eq!(audience.0.borrow().len(), 1);
    }
}
