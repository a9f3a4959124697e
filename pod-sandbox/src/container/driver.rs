//! The task that owns one container: Start, Stop, End and Remove, and the exit of its process.
//!
//! Waiting for a process to die is a state with a deadline, not a blocked driver: a second Stop with a shorter
//! grace period moves the deadline, and everyone who asked is answered when the exit has been recorded.

use std::sync::Arc;
use std::time::Duration;

use runtime_core::error::ErrorKind;
use runtime_core::ids::ContainerId;
use runtime_core::task::ShimError;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::start::{self, Running, StartError};
use super::{ContainerState, teardown};
use crate::facts::{ContainerExit, ExitReason, Fact};
use crate::journal::JournalError;
use crate::pod::{NoShim, Pod};
use crate::registry::{LookupError, Registry};
use crate::services::{Services, StoreFailed};
use crate::view::ContainerView;

/// Requests that may wait for one container.
const REQUEST_CAPACITY: usize = 64;
/// Between two tries to delete a task.
const DELETE_RETRY: Duration = Duration::from_secs(10);
/// How often SIGKILL is repeated to a process that does not go.
const KILL_AGAIN: Duration = Duration::from_secs(5);
/// SIGKILL was sent this many times: the process hangs in the kernel, whoever waits is told so.
const KILL_TRIES: u32 = 12;

const SIGKILL: i32 = 9;
/// containerd's exit code of a container that could not be started.
const START_ERROR: i32 = 128;

#[derive(Debug, thiserror::Error)]
pub enum ContainerError {
    #[error(transparent)]
    Lookup(#[from] LookupError),
    #[error("container {id} was removed meanwhile")]
    Removed { id: ContainerId },
    #[error("container {id} is {state} and cannot be started")]
    NotStartable { id: ContainerId, state: &'static str },
    #[error("cannot start container {id}")]
    Start {
        id: ContainerId,
        #[source]
        source: StartError,
    },
    #[error("cannot signal container {id}")]
    Kill {
        id: ContainerId,
        #[source]
        source: ShimError,
    },
    #[error("cannot reach container {id}")]
    NoShim {
        id: ContainerId,
        #[source]
        source: NoShim,
    },
    #[error("container {id} does not die of SIGKILL")]
    Unkillable { id: ContainerId },
    #[error("cannot delete the task of container {id}")]
    Delete {
        id: ContainerId,
        #[source]
        source: ShimError,
    },
    #[error("cannot take away the files of container {id}")]
    Remove {
        id: ContainerId,
        #[source]
        source: teardown::RemoveError,
    },
    #[error("cannot record what happened to container {id}")]
    Journal {
        id: ContainerId,
        #[source]
        source: JournalError,
    },
    #[error("cannot change the record of container {id}")]
    Record {
        id: ContainerId,
        #[source]
        source: StoreFailed,
    },
}

impl ContainerError {
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Lookup(source) => source.kind(),
            Self::Removed { .. } => ErrorKind::NotFound,
            Self::NotStartable { .. } => ErrorKind::FailedPrecondition,
            Self::Start { source, .. } => source.kind(),
            Self::Kill { source, .. } | Self::Delete { source, .. } => source.kind(),
            Self::NoShim { .. } => ErrorKind::Unavailable,
            Self::Unkillable { .. } => ErrorKind::DeadlineExceeded,
            Self::Remove { .. } | Self::Journal { .. } | Self::Record { .. } => ErrorKind::Internal,
        }
    }
}

pub(crate) type Outcome = Result<(), Arc<ContainerError>>;
type Reply = oneshot::Sender<Outcome>;

#[derive(Debug)]
pub(crate) enum Request {
    Start(Reply),
    /// The stop signal, then SIGKILL when the grace period is over.
    Stop(Duration, Reply),
    /// SIGKILL; answered when the task is deleted, too.
    End(Reply),
    Remove(Reply),
}

/// The way to a container's driver.
#[derive(Clone, Debug)]
pub(crate) struct ContainerHandle {
    pub(crate) id: ContainerId,
    pub(crate) pod: Arc<Pod>,
    pub(crate) view: watch::Receiver<ContainerView>,
    requests: mpsc::Sender<Request>,
}

impl ContainerHandle {
    pub(crate) async fn start(&self) -> Outcome {
        self.ask(Request::Start).await
    }

    pub(crate) async fn stop(&self, grace: Duration) -> Outcome {
        self.gone_is_fine(self.ask(|reply| Request::Stop(grace, reply)).await)
    }

    pub(crate) async fn end(&self) -> Outcome {
        self.gone_is_fine(self.ask(Request::End).await)
    }

    pub(crate) async fn remove(&self) -> Outcome {
        self.gone_is_fine(self.ask(Request::Remove).await)
    }

    async fn ask(&self, request: impl FnOnce(Reply) -> Request) -> Outcome {
        let (reply, answer) = oneshot::channel();
        let gone = || Arc::new(ContainerError::Removed { id: self.id.clone() });
        self.requests.send(request(reply)).await.map_err(|_| gone())?;
        answer.await.unwrap_or_else(|_| Err(gone()))
    }

    fn gone_is_fine(&self, outcome: Outcome) -> Outcome {
        match outcome {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }
}

/// A SIGKILL that is due, or repeated.
#[derive(Clone, Copy)]
struct Deadline {
    at: Instant,
    kills: u32,
}

pub(crate) struct ContainerDriver {
    services: Arc<Services>,
    registry: Arc<Registry>,
    pod: Arc<Pod>,
    id: ContainerId,
    view: watch::Sender<ContainerView>,
    requests: mpsc::Receiver<Request>,
    /// Watches the running task; `Some` from start to exit.
    exit: Option<JoinHandle<Option<ContainerExit>>>,
    /// The shim still has a task of ours, running or not.
    task_exists: bool,
    deadline: Option<Deadline>,
    stopping: Vec<Reply>,
    ending: Vec<Reply>,
    removing: Vec<Reply>,
}

/// How a driver begins: created just now, or found after a restart.
pub(crate) struct Begin {
    pub(crate) view: ContainerView,
    /// Recovery found a start that may be under way, or a running task.
    pub(crate) task_exists: bool,
    pub(crate) removing: bool,
}

impl ContainerDriver {
    pub(crate) fn spawn(
        services: &Arc<Services>,
        registry: &Arc<Registry>,
        pod: &Arc<Pod>,
        begin: Begin,
    ) -> ContainerHandle {
        let (sender, requests) = mpsc::channel(REQUEST_CAPACITY);
        let Begin { view, task_exists, removing } = begin;
        let driver = Self {
            services: services.clone(),
            registry: registry.clone(),
            pod: pod.clone(),
            id: view.id.clone(),
            view: watch::Sender::new(view),
            requests,
            exit: None,
            task_exists,
            deadline: None,
            stopping: Vec::new(),
            ending: Vec::new(),
            removing: Vec::new(),
        };
        let handle = ContainerHandle {
            id: driver.id.clone(),
            pod: pod.clone(),
            view: driver.view.subscribe(),
            requests: sender,
        };
        services.tasks.spawn_endless("container driver", driver.run(removing));
        handle
    }

    async fn run(mut self, removing: bool) {
        self.resume().await;
        if removing {
            let (reply, _) = oneshot::channel();
            self.removing.push(reply);
            self.kill_now().await;
        }
        while !self.settle().await {
            let deadline = self.deadline;
            let owes = self.exit.is_none() && self.task_exists;
            let exit = self.exit.as_mut();
            tokio::select! {
                // Cancel-safe: the join handle stays and is polled again.
                exit = watched(exit) => self.exited(exit).await,
                // Cancel-safe: a timer. The task was not deleted, which is tried again.
                () = tokio::time::sleep(DELETE_RETRY), if owes => {}
                // Cancel-safe: a timer.
                () = due(deadline) => self.escalate().await,
                // Cancel-safe: a request is taken whole or stays in the channel.
                request = self.requests.recv() => match request {
                    Some(request) => self.answer(request).await,
                    None => return,
                },
            }
        }
    }

    /// After a restart: watch what runs, and find out how a start ended that was under way.
    async fn resume(&mut self) {
        match self.state() {
            ContainerState::Running { .. } | ContainerState::Stopping { .. } => self.watch(),
            ContainerState::Starting => {
                let found = start::find_out(&self.services, &self.pod, &self.id).await;
                match found {
                    Ok(Some(running)) => self.started(running),
                    Ok(None) => {
                        self.task_exists = false;
                        self.note(Fact::StartUndone { container: self.id.clone() });
                    }
                    Err(error) if error.is_final() => self.start_failed(&error),
                    Err(error) => self.unknown(&error),
                }
            }
            ContainerState::Created | ContainerState::Exited { .. } | ContainerState::Unknown { .. } => {}
        }
    }

    async fn answer(&mut self, request: Request) {
        match request {
            Request::Start(reply) => {
                let outcome = self.start().await;
                let _ = reply.send(outcome.map_err(Arc::new));
            }
            Request::Stop(grace, reply) => {
                self.stopping.push(reply);
                self.stop(grace).await;
            }
            Request::End(reply) => {
                self.ending.push(reply);
                self.kill_now().await;
            }
            Request::Remove(reply) => {
                self.removing.push(reply);
                self.note(Fact::RemovingContainer { container: self.id.clone() });
                self.kill_now().await;
            }
        }
    }

    async fn start(&mut self) -> Result<(), ContainerError> {
        let state = match self.state() {
            ContainerState::Created => None,
            // A retry of a start that succeeded.
            ContainerState::Running { .. } => return Ok(()),
            ContainerState::Starting => Some("starting"),
            ContainerState::Stopping { .. } => Some("stopping"),
            ContainerState::Exited { .. } => Some("exited"),
            ContainerState::Unknown { .. } => Some("in an unknown state"),
        };
        if let Some(state) = state {
            return Err(ContainerError::NotStartable { id: self.id.clone(), state });
        }
        let journal = |source| ContainerError::Journal { id: self.id.clone(), source };
        self.pod.record(&Fact::Starting { container: self.id.clone() }).map_err(journal)?;
        self.task_exists = true;
        let view = self.view.borrow().clone();
        match start::start(&self.services, &self.pod, &view).await {
            Ok(running) => {
                self.started(running);
                Ok(())
            }
            Err(source) => {
                self.start_failed(&source);
                Err(ContainerError::Start { id: self.id.clone(), source })
            }
        }
    }

    /// A start that was tried and failed is the container's end, with the reason that kubectl shows.
    fn start_failed(&mut self, error: &StartError) {
        let message = runtime_core::error::chain(error);
        if error.is_final() {
            let at = self.services.clock.now();
            let exit = ContainerExit { code: START_ERROR, reason: ExitReason::StartError, message, at };
            self.note(Fact::Exited { container: self.id.clone(), exit });
        } else {
            self.note(Fact::StartUndone { container: self.id.clone() });
        }
    }

    fn started(&mut self, running: Running) {
        self.task_exists = true;
        self.note(Fact::Started { container: self.id.clone(), pid: running.pid, at: running.at });
        self.watch();
    }

    fn watch(&mut self) {
        self.task_exists = true;
        let wait = start::wait(self.services.clone(), self.pod.clone(), self.id.clone());
        self.exit = Some(self.services.tasks.spawn_endless("container exit", wait));
    }

    async fn stop(&mut self, grace: Duration) {
        if self.exit.is_none() {
            return;
        }
        if grace.is_zero() {
            return self.kill_now().await;
        }
        let at = Instant::now() + grace;
        let sooner = self.deadline.is_none_or(|deadline| at < deadline.at);
        if sooner {
            self.deadline = Some(Deadline { at, kills: 0 });
        }
        if let ContainerState::Running { pid, since } = self.state() {
            self.publish(ContainerState::Stopping { pid, since });
            let signal = self.services.stop_signal(&self.view.borrow());
            self.signal(signal).await;
        }
    }

    async fn kill_now(&mut self) {
        if self.exit.is_some() {
            self.deadline = Some(Deadline { at: Instant::now(), kills: 0 });
            self.escalate().await;
        }
    }

    /// The deadline is due: SIGKILL, again and again, and an answer for those who wait when it is hopeless.
    async fn escalate(&mut self) {
        let kills = self.deadline.map_or(0, |deadline| deadline.kills) + 1;
        self.deadline = Some(Deadline { at: Instant::now() + KILL_AGAIN, kills });
        self.signal(SIGKILL).await;
        if kills >= KILL_TRIES {
            self.deadline = None;
            self.answer_all(&Arc::new(ContainerError::Unkillable { id: self.id.clone() }));
        }
    }

    async fn signal(&self, signal: i32) {
        let shim = match self.pod.shim().await {
            Ok(shim) => shim,
            Err(error) => {
                tracing::warn!(container = %self.id, %error, "signal not sent");
                return;
            }
        };
        match shim.kill(self.id.as_str(), signal).await {
            // It has gone before the signal: its exit is on the way.
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => {
                tracing::warn!(container = %self.id, error = %runtime_core::error::chain(&error), "signal not sent")
            }
            Ok(()) => {}
        }
    }

    async fn exited(&mut self, exit: ContainerExit) {
        self.exit = None;
        self.deadline = None;
        self.note(Fact::Exited { container: self.id.clone(), exit });
        for reply in self.stopping.drain(..) {
            let _ = reply.send(Ok(()));
        }
    }

    /// Does what an ended container still owes, and answers those who wait for it. True when it is removed.
    async fn settle(&mut self) -> bool {
        if self.exit.is_some() {
            return false;
        }
        for reply in self.stopping.drain(..) {
            let _ = reply.send(Ok(()));
        }
        if self.task_exists {
            match teardown::delete_task(&self.services, &self.pod, &self.id).await {
                Ok(()) => self.task_exists = false,
                Err(error) => {
                    tracing::warn!(container = %self.id, error = %runtime_core::error::chain(&error), "task not deleted");
                    self.answer_all(&Arc::new(error));
                    return false;
                }
            }
        }
        for reply in self.ending.drain(..) {
            let _ = reply.send(Ok(()));
        }
        if self.removing.is_empty() {
            return false;
        }
        let view = self.view.borrow().clone();
        match teardown::remove(&self.services, &view).await {
            Ok(()) => {
                self.registry.remove_container(&view);
                for reply in self.removing.drain(..) {
                    let _ = reply.send(Ok(()));
                }
                true
            }
            Err(error) => {
                self.answer_all(&Arc::new(error));
                false
            }
        }
    }

    /// Everyone who waits is told why it does not go on; the next request tries again.
    fn answer_all(&mut self, error: &Arc<ContainerError>) {
        for reply in self.stopping.drain(..).chain(self.ending.drain(..)).chain(self.removing.drain(..)) {
            let _ = reply.send(Err(error.clone()));
        }
    }

    fn state(&self) -> ContainerState {
        self.view.borrow().state.clone()
    }

    fn unknown(&self, error: &StartError) {
        self.publish(ContainerState::Unknown { why: runtime_core::error::chain(error) });
    }

    /// Records a fact and shows what follows from it. A journal that cannot be written is reported: the state
    /// shown is still the truth of this process, and the exit file tells the next one.
    fn note(&self, fact: Fact) {
        if let Err(error) = self.pod.record(&fact) {
            tracing::error!(container = %self.id, error = %runtime_core::error::chain(&error), "fact not recorded");
        }
        self.publish(self.state().after(&fact));
    }

    fn publish(&self, state: ContainerState) {
        self.view.send_modify(|view| view.state = state);
    }
}

/// The exit of the watched task; never without one.
async fn watched(exit: Option<&mut JoinHandle<Option<ContainerExit>>>) -> ContainerExit {
    let Some(handle) = exit else {
        return std::future::pending().await;
    };
    match handle.await {
        Ok(Some(exit)) => exit,
        // The daemon stops, and this driver with it.
        Ok(None) => std::future::pending().await,
        Err(error) => unreachable!("the exit watcher neither panics nor is aborted: {error}"),
    }
}

async fn due(deadline: Option<Deadline>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline.at).await,
        None => std::future::pending().await,
    }
}
