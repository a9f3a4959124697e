//! The named group that every async task of the daemon is spawned through.
//!
//! A task carries its name as a span, is counted, and is waited for when the daemon stops. Only a task that was
//! spawned as endless is dropped then; another that must end early watches [`TaskGroup::stopping`].

use std::future::Future;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument;

/// Handle on one group; clones share it.
#[derive(Clone, Debug, Default)]
pub struct TaskGroup {
    tracker: TaskTracker,
    draining: CancellationToken,
    stopping: CancellationToken,
}

impl TaskGroup {
    pub fn new() -> Self {
        Self::default()
    }

    /// Runs `future` detached from the caller: dropping the handle does not stop it.
    pub fn spawn<F>(&self, name: &'static str, future: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.tracker.spawn(future.instrument(tracing::debug_span!("task", task = name)))
    }

    /// Like [`TaskGroup::spawn`], for a task that has no end of its own: it is dropped when the daemon stops, at
    /// whatever it waits for. That must be as good as a kill -9.
    pub fn spawn_endless<F>(&self, name: &'static str, future: F) -> JoinHandle<Option<F::Output>>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let stopping = self.stopping.clone();
        self.spawn(name, async move { stopping.run_until_cancelled(future).await })
    }

    /// Fires when the daemon takes no more calls and waits for those under way: a stream without an end ends then.
    pub fn draining(&self) -> CancellationToken {
        self.draining.clone()
    }

    /// Fires when no call is under way any more.
    pub fn stopping(&self) -> CancellationToken {
        self.stopping.clone()
    }

    /// Fires [`TaskGroup::draining`].
    pub fn drain(&self) {
        self.draining.cancel();
    }

    /// Tells every task to end and waits at most `limit` for them. True when all have ended.
    pub async fn stop(&self, limit: Duration) -> bool {
        self.draining.cancel();
        self.stopping.cancel();
        self.tracker.close();
        tokio::time::timeout(limit, self.tracker.wait()).await.is_ok()
    }
}
