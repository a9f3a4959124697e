//! What snapshots take that are still written to: walked in the background, and known from the last walk.
//!
//! Everybody who asks for figures asks often, and a walk over a big tree takes long: an answer is a little old and
//! says how old. One short lock over plain data guards all figures. A walk is a task of the group and ends early
//! when its snapshot is forgotten, which its owner does in time, or when the daemon stops.

use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{Measured, usage};
use crate::clock::SharedClock;
use crate::tasks::TaskGroup;

/// From when on a figure is old and the next question begins a walk; containerd's `stats_collect_period`.
const AGE: Duration = Duration::from_secs(10);
/// A walk that has taken long comes again after so many times that: it costs at most a tenth of a core.
const REST: u32 = 9;
/// How long those wait who ask before the first walk has ended. Then the figure is missing: crictl gives up after 2 s.
const FIRST_WALK: Duration = Duration::from_secs(1);
/// Walks at a time, over all snapshots.
const PARALLEL: usize = 2;

/// The figures by the snapshots' ids, which are never used again. Clones share them.
#[derive(Clone)]
pub(super) struct Recent {
    tasks: TaskGroup,
    clock: SharedClock,
    turns: Arc<Semaphore>,
    known: Arc<Mutex<HashMap<u64, Known>>>,
}

struct Known {
    /// `None` before the first walk has ended.
    figure: watch::Sender<Option<Measured>>,
    wait_until: Instant,
    /// When the next walk may begin; `None` while one runs.
    due: Option<Instant>,
    cancel: CancellationToken,
}

impl Drop for Known {
    fn drop(&mut self) {
        self.cancel.cancel();
    }
}

impl Recent {
    pub(super) fn new(tasks: TaskGroup, clock: SharedClock) -> Self {
        Self { tasks, clock, turns: Arc::new(Semaphore::new(PARALLEL)), known: Arc::default() }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a walk over `folder` if it is time for one. True when nobody has asked for this snapshot before.
    pub(super) fn refresh(&self, id: u64, folder: PathBuf) -> bool {
        let now = Instant::now();
        let mut known = self.lock();
        let is_new = !known.contains_key(&id);
        let entry = known.entry(id).or_insert_with(|| Known {
            figure: watch::Sender::new(None),
            wait_until: now + FIRST_WALK,
            due: Some(now),
            cancel: self.tasks.stopping().child_token(),
        });
        if entry.due.is_some_and(|due| due <= now) {
            entry.due = None;
            self.tasks.spawn("snapshot-usage", self.clone().walk(id, folder, entry.cancel.clone()));
        }
        is_new
    }

    /// The last figure. Cancel-safe.
    pub(super) async fn figure(&self, id: u64) -> Option<Measured> {
        let (mut figure, wait_until) = {
            let known = self.lock();
            let entry = known.get(&id)?;
            (entry.figure.subscribe(), entry.wait_until)
        };
        let first = tokio::time::timeout_at(wait_until, figure.wait_for(Option::is_some)).await;
        *first.ok()?.ok()?
    }

    pub(super) fn forget(&self, id: u64) {
        self.lock().remove(&id);
    }

    async fn walk(self, id: u64, folder: PathBuf, cancel: CancellationToken) {
        let Some(turn) = cancel.run_until_cancelled(self.turns.acquire()).await else { return };
        let (at, begun) = (self.clock.now(), Instant::now());
        let (stop, root) = (cancel.clone(), folder.clone());
        let walked = tokio::task::spawn_blocking(move || usage::of_tree(&root, &stop)).await;
        drop(turn);
        let walked = walked.map_err(io::Error::other).flatten();
        self.keep(id, walked.map(|usage| Measured { usage, at }), begun).unwrap_or_else(|error| {
            if !cancel.is_cancelled() {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(folder = %folder.display(), error, "what a snapshot takes is not known");
            }
        });
    }

    /// A walk that failed leaves nothing: the next question begins anew.
    fn keep(&self, id: u64, walked: io::Result<Measured>, begun: Instant) -> io::Result<()> {
        let mut known = self.lock();
        let measured = walked.inspect_err(|_| drop(known.remove(&id)))?;
        if let Some(entry) = known.get_mut(&id) {
            entry.figure.send_replace(Some(measured));
            let now = Instant::now();
            entry.due = Some(now + AGE.max(now.duration_since(begun) * REST));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use tokio::sync::OwnedSemaphorePermit;

    use super::*;
    use crate::clock;

    impl Recent {
        pub(in crate::snapshot) fn len(&self) -> usize {
            self.lock().len()
        }

        async fn all_turns(&self) -> OwnedSemaphorePermit {
            self.turns.clone().acquire_many_owned(PARALLEL.try_into().unwrap()).await.unwrap()
        }
    }

    fn recent() -> (tempfile::TempDir, Recent) {
        (tempfile::tempdir().unwrap(), Recent::new(TaskGroup::new(), clock::system()))
    }

    async fn ask(recent: &Recent, folder: &tempfile::TempDir) -> Option<Measured> {
        recent.refresh(1, folder.path().to_owned());
        recent.figure(1).await
    }

    /// A pause of the clock that auto-advances ends when all else waits.
    async fn walk_has_ended(recent: &Recent) {
        while recent.lock().get(&1).is_some_and(|known| known.due.is_none()) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_question_waits_and_an_old_figure_is_renewed_behind_the_answer() {
        let (folder, recent) = recent();
        let first = ask(&recent, &folder).await.expect("the first walk is waited for");
        assert_eq!(first.usage.inodes, 1);
        File::create(folder.path().join("new")).unwrap();
        tokio::time::advance(AGE / 2).await;
        assert_eq!(ask(&recent, &folder).await, Some(first));
        walk_has_ended(&recent).await;
        assert_eq!(ask(&recent, &folder).await, Some(first), "nobody has walked");
        tokio::time::advance(AGE).await;
        assert_eq!(ask(&recent, &folder).await, Some(first), "nobody waits for the second walk");
        walk_has_ended(&recent).await;
        let second = ask(&recent, &folder).await.expect("a figure");
        assert!(second.usage.inodes == 2 && second.at > first.at, "{second:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_first_walk_that_takes_too_long_is_not_waited_for() {
        let (folder, recent) = recent();
        let busy = recent.all_turns().await;
        let begun = Instant::now();
        assert_eq!(ask(&recent, &folder).await, None);
        assert_eq!(begun.elapsed(), FIRST_WALK);
        assert_eq!(ask(&recent, &folder).await, None);
        assert_eq!(begun.elapsed(), FIRST_WALK, "only once");
        drop(busy);
        walk_has_ended(&recent).await;
        assert!(ask(&recent, &folder).await.is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_walk_that_fails_or_is_forgotten_leaves_nothing() {
        let (folder, recent) = recent();
        recent.refresh(1, folder.path().join("missing"));
        assert_eq!((recent.figure(1).await, recent.len()), (None, 0));
        let busy = recent.all_turns().await;
        recent.refresh(1, folder.path().to_owned());
        recent.forget(1);
        assert!(recent.tasks.stop(Duration::from_secs(1)).await, "its walk has ended too");
        drop(busy);
        assert_eq!((recent.figure(1).await, recent.len()), (None, 0));
    }
}
