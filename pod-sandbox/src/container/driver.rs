//! The task that owns one container: Start, Stop, End, Update and Remove, and the exit of its process.
//!
//! Waiting for a process to die is a state with a deadline, not a blocked driver: a second Stop with a shorter
//! grace period moves the deadline, and everyone who asked is answered when the exit has been recorded.

mod owed;
mod starting;
mod update;

use std::sync::Arc;
use std::time::Duration;

use runtime_core::error::ErrorKind;
use runtime_core::ids::ContainerId;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::ContainerState;
use super::handle::{ContainerError, ContainerHandle, Outcome, Reply, Request};
use super::start::{self, Running, StartError};
use crate::facts::{ContainerExit, Fact};
use crate::pod::Pod;
use crate::registry::Registry;
use crate::services::Services;
use crate::signal::SIGKILL;
use crate::view::ContainerView;
use owed::Owed;
use update::Updates;

pub use update::UpdateError;

/// Requests that may wait for one container.
const REQUEST_CAPACITY: usize = 64;
/// The longest grace period that is waited for; longer ones are as good as for ever.
const MAX_GRACE: Duration = Duration::from_secs(365 * 24 * 3600);
/// How often SIGKILL is repeated to a process that does not go.
const KILL_AGAIN: Duration = Duration::from_secs(5);
/// SIGKILL was sent this many times: the process hangs in the kernel, whoever waits is told so.
const KILL_TRIES: u32 = 12;

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
    /// The start under way, or the look at one that a daemon before this one left.
    starting: Option<JoinHandle<StartEnd>>,
    /// Those who asked for it.
    start_waiters: Vec<Reply>,
    /// Watches the running task; `Some` from start to exit.
    exit: Option<JoinHandle<Option<ContainerExit>>>,
    /// The shim still has a task of ours, running or not.
    task_exists: bool,
    updates: Updates,
    deadline: Option<Deadline>,
    owed: Owed,
    stopping: Vec<Reply>,
    ending: Vec<Reply>,
    removing: Vec<Reply>,
    /// The channel of requests is closed.
    deaf: bool,
}

/// What became of a start: `None` inside when nothing runs and nothing is left, `None` outside when the daemon stops.
type StartEnd = Option<Result<Option<Running>, StartError>>;

/// How a driver begins: created just now, or found after a restart.
pub(crate) struct Begin {
    pub(crate) view: ContainerView,
    /// Recovery found a start that may be under way, or a running task.
    pub(crate) task_exists: bool,
}

impl ContainerDriver {
    /// Starts the driver of a container made just now.
    pub(crate) fn spawn(
        services: &Arc<Services>,
        registry: &Arc<Registry>,
        pod: &Arc<Pod>,
        begin: Begin,
    ) -> ContainerHandle {
        let (driver, handle) = Self::new(services, registry, pod, begin);
        services.tasks.spawn_endless("container driver", driver.run());
        handle
    }

    /// Starts the driver of a container found after a restart. It is known before its driver does anything.
    pub(crate) fn revive(services: &Arc<Services>, registry: &Arc<Registry>, pod: &Arc<Pod>, begin: Begin) {
        let (driver, handle) = Self::new(services, registry, pod, begin);
        registry.insert_container(handle);
        services.tasks.spawn_endless("container driver", driver.run());
    }

    fn new(
        services: &Arc<Services>,
        registry: &Arc<Registry>,
        pod: &Arc<Pod>,
        begin: Begin,
    ) -> (Self, ContainerHandle) {
        let (sender, requests) = mpsc::channel(REQUEST_CAPACITY);
        let Begin { view, task_exists } = begin;
        let driver = Self {
            services: services.clone(),
            registry: registry.clone(),
            pod: pod.clone(),
            id: view.id.clone(),
            view: watch::Sender::new(view),
            requests,
            starting: None,
            start_waiters: Vec::new(),
            exit: None,
            task_exists,
            updates: Updates::default(),
            deadline: None,
            owed: Owed::default(),
            stopping: Vec::new(),
            ending: Vec::new(),
            removing: Vec::new(),
            deaf: false,
        };
        let handle = ContainerHandle {
            id: driver.id.clone(),
            pod: pod.clone(),
            view: driver.view.subscribe(),
            cpu: Arc::default(),
            requests: sender,
        };
        (driver, handle)
    }

    async fn run(mut self) {
        self.resume();
        if self.is_unwanted() {
            self.kill_now().await;
        }
        while !self.owed.is_over() {
            self.settle();
            let (deadline, retry) = (self.deadline, self.owed.retry());
            let (starting, exit) = (self.starting.as_mut(), self.exit.as_mut());
            let (updating, owed) = (self.updates.task(), self.owed.task());
            tokio::select! {
                // Cancel-safe: the join handle stays and is polled again.
                end = joined(starting) => self.start_ended(end).await,
                // Cancel-safe: the join handle stays and is polled again.
                exit = joined(exit) => self.exited(exit).await,
                // Cancel-safe: the join handle stays and is polled again.
                outcome = joined(updating) => self.update_ended(outcome).await,
                // Cancel-safe: the join handle stays and is polled again.
                paid = joined(owed) => self.paid(paid),
                // Cancel-safe: a timer. What failed is tried again.
                () = until(retry) => self.owed.try_again(),
                // Cancel-safe: a timer.
                () = until(deadline.map(|deadline| deadline.at)) => self.escalate().await,
                // Cancel-safe: a request is taken whole or stays in the channel.
                request = self.requests.recv(), if !self.deaf => match request {
                    Some(request) => self.answer(request).await,
                    // Nobody can ask any more, which ends no removal.
                    None if self.is_unwanted() => self.deaf = true,
                    None => return,
                },
            }
        }
    }

    /// After a restart: watch what runs, and find out how a start ended that was under way.
    fn resume(&mut self) {
        match self.state() {
            ContainerState::Running { .. } | ContainerState::Stopping { .. } => self.watch(),
            ContainerState::Starting => {
                let (services, pod, id) = (self.services.clone(), self.pod.clone(), self.id.clone());
                let look = async move { start::find_out(&services, &pod, &id).await };
                self.starting = Some(self.services.tasks.spawn_endless("interrupted start", look));
            }
            ContainerState::Created | ContainerState::Exited { .. } | ContainerState::Unknown { .. } => {}
        }
    }

    async fn answer(&mut self, request: Request) {
        if matches!(request, Request::Stop(..) | Request::End(_) | Request::Remove(_)) {
            self.owed.try_again();
            self.give_up_start();
        }
        match request {
            Request::Start(reply) => self.start(reply),
            Request::Stop(grace, reply) => {
                match self.state() {
                    // Whatever runs there is killed first.
                    ContainerState::Unknown { .. } => self.ending.push(reply),
                    _ => self.stopping.push(reply),
                }
                self.stop(grace).await;
            }
            Request::End(reply) => {
                self.ending.push(reply);
                self.kill_now().await;
            }
            Request::Remove(reply) => {
                self.removing.push(reply);
                self.note(Fact::RemovingContainer { container: self.id.clone() });
                self.view.send_modify(|view| view.removing = true);
                self.kill_now().await;
            }
            Request::Update(wish, reply) => self.update(*wish, reply).await,
        }
    }

    async fn stop(&mut self, grace: Duration) {
        if self.is_idle() {
            return;
        }
        if grace.is_zero() {
            return self.kill_now().await;
        }
        // A kubelet may send the largest number there is.
        let at = Instant::now() + grace.min(MAX_GRACE);
        let sooner = self.deadline.is_none_or(|deadline| at < deadline.at);
        if sooner {
            self.deadline = Some(Deadline { at, kills: 0 });
        }
        self.ask_to_end().await;
    }

    /// The stop signal, once; one that is still starting gets it as soon as it runs.
    async fn ask_to_end(&mut self) {
        if let ContainerState::Running { pid, since } = self.state() {
            self.publish(ContainerState::Stopping { pid, since });
            let signal = self.services.stop_signal(&self.view.borrow());
            self.signal(signal).await;
        }
    }

    /// Nothing runs and nothing is being started.
    fn is_idle(&self) -> bool {
        self.exit.is_none() && self.starting.is_none()
    }

    async fn kill_now(&mut self) {
        if !self.is_idle() {
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
            // Who waits is told; one that is to be removed is killed whenever it can be.
            self.deadline = self.deadline.filter(|_| self.is_unwanted());
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

    /// Everyone who waits is told why it does not go on.
    fn answer_all(&mut self, error: &Arc<ContainerError>) {
        for reply in self.stopping.drain(..).chain(self.ending.drain(..)).chain(self.removing.drain(..)) {
            let _ = reply.send(Err(error.clone()));
        }
    }

    /// Somebody asked to remove it.
    fn is_unwanted(&self) -> bool {
        self.view.borrow().removing
    }

    fn state(&self) -> ContainerState {
        self.view.borrow().state.clone()
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

/// The result of a task; never without one, and never once the daemon stops, as this driver ends with it.
async fn joined<T>(task: Option<&mut JoinHandle<Option<T>>>) -> T {
    let Some(task) = task else { return std::future::pending().await };
    match task.await {
        Ok(Some(result)) => result,
        Ok(None) => std::future::pending().await,
        Err(error) => unreachable!("a driver's task neither panics nor is aborted: {error}"),
    }
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
