//! Running pulls: callers with the same reference and credentials wait for one job.
//!
//! A job is a task of the group. It ends by itself, or early once nobody waits for it or the daemon stops.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{PullError, PulledImage, Puller};
use crate::reference::Reference;
use crate::registry::Auth;
use crate::service::PullRequest;

type Outcome = Result<PulledImage, Arc<PullError>>;
/// Credentials are part of it: who may not pull must not get what another one pulls.
type Key = (Reference, Option<Auth>);

pub(crate) struct Jobs {
    puller: Arc<Puller>,
    running: Mutex<HashMap<Key, Weak<Job>>>,
}

/// Held by everyone who waits; the last to go cancels.
struct Job {
    outcome: watch::Receiver<Option<Outcome>>,
    _cancel: DropGuard,
}

impl Jobs {
    pub(crate) fn new(puller: Puller) -> Self {
        Self { puller: Arc::new(puller), running: Mutex::default() }
    }

    pub(crate) async fn pull(&self, request: PullRequest) -> Outcome {
        let reference = Reference::parse(&request.reference).map_err(PullError::from)?;
        let image = reference.to_string();
        let job = self.join((reference, request.auth.clone()), request);
        let mut outcome = job.outcome.clone();
        match outcome.wait_for(Option::is_some).await.map(|outcome| outcome.clone()) {
            Ok(Some(outcome)) => outcome,
            Ok(None) | Err(_) => Err(Arc::new(PullError::Lost { image })),
        }
    }

    fn join(&self, key: Key, request: PullRequest) -> Arc<Job> {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        // A job that has ended answers nobody new: the registry is asked by every pull.
        let joined = running.get(&key).and_then(Weak::upgrade);
        if let Some(job) = joined.filter(|job| job.outcome.borrow().is_none()) {
            return job;
        }
        running.retain(|_, job| job.strong_count() > 0);
        let job = Arc::new(self.start(key.0.clone(), request));
        running.insert(key, Arc::downgrade(&job));
        job
    }

    fn start(&self, reference: Reference, request: PullRequest) -> Job {
        let tasks = &self.puller.parts.tasks;
        let cancel: CancellationToken = tasks.stopping().child_token();
        let (sender, outcome) = watch::channel(None);
        let (puller, token) = (Arc::clone(&self.puller), cancel.clone());
        tasks.spawn("image-pull", async move {
            let pulled = puller.pull(reference, request, token).await;
            drop(sender.send(Some(pulled.map_err(Arc::new))));
        });
        Job { outcome, _cancel: cancel.drop_guard() }
    }
}
