//! The task that owns one container: Start, Stop, End, Update and Remove, and the exit of its process.
//!
//! Waiting for a process to die is a state with a deadline, not a blocked driver: a second Stop with a shorter
//! grace period moves the deadline, and everyone who asked is answered when the exit has been recorded.

mod owed;
mod update;

use std::sync::Arc;
use std::time::Duration;

use runtime_core::error::ErrorKind;
use runtime_core::ids::ContainerId;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::handle::{ContainerError, ContainerHandle, Outcome, Reply, Request};
use super::start::{self, Running, StartError};
use super::{ContainerState, teardown};
use crate::facts::{ContainerExit, ExitReason, Fact};
use crate::pod::Pod;
use crate::registry::Registry;
use crate::services::Services;
use crate::signal::SIGKILL;
use crate::view::ContainerView;
use owed::{Debt, Owed};
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

/// What a status keeps of an error, in characters.
const MAX_MESSAGE: usize = 4096;
/// containerd's exit code of a container that could not be started.
const START_ERROR: i32 = 128;
/// containerd's exit code of a container that nothing else is known of.
const UNKNOWN: i32 = 255;

/// What a wish to start meets.
enum Start {
    Now,
    /// For what is under way.
    Wait,
    Already,
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

    /// Begins a start. Who asks for one that is under way waits for it, too.
    fn start(&mut self, reply: Reply) {
        match self.may_start() {
            Ok(Start::Already) => drop(reply.send(Ok(()))),
            Ok(Start::Wait) => self.start_waiters.push(reply),
            Ok(Start::Now) => {
                self.start_waiters.push(reply);
                self.begin_start();
            }
            Err(error) => drop(reply.send(Err(Arc::new(error)))),
        }
    }

    fn may_start(&self) -> Result<Start, ContainerError> {
        let refused = match self.state() {
            _ if self.is_unwanted() => "being removed",
            // A retry of a start that succeeded.
            ContainerState::Running { .. } => return Ok(Start::Already),
            ContainerState::Starting => return Ok(Start::Wait),
            ContainerState::Created if !self.registry.is_ready(&self.pod.id) => {
                return Err(ContainerError::PodNotReady { id: self.id.clone(), pod: self.pod.id.clone() });
            }
            // What an undone start left is still being deleted.
            ContainerState::Created if self.owed.is_under_way() => return Ok(Start::Wait),
            ContainerState::Created => return Ok(Start::Now),
            ContainerState::Stopping { .. } => "stopping",
            ContainerState::Exited { .. } => "exited",
            ContainerState::Unknown { .. } => "in an unknown state",
        };
        Err(ContainerError::NotStartable { id: self.id.clone(), state: refused })
    }

    /// A start that waits for what an earlier one left does not follow a wish to end.
    fn give_up_start(&mut self) {
        if self.is_idle() {
            let error = ContainerError::NotStartable { id: self.id.clone(), state: "being stopped" };
            self.answer_start(&Err(Arc::new(error)));
        }
    }

    /// Somebody asked to remove it.
    fn is_unwanted(&self) -> bool {
        self.view.borrow().removing
    }

    /// For those who wait.
    fn begin_start(&mut self) {
        if let Err(source) = self.pod.record(&Fact::Starting { container: self.id.clone() }) {
            let error = ContainerError::Journal { id: self.id.clone(), source };
            return self.answer_start(&Err(Arc::new(error)));
        }
        self.publish(ContainerState::Starting);
        self.task_exists = true;
        let (services, pod, view) = (self.services.clone(), self.pod.clone(), self.view.borrow().clone());
        let registry = self.registry.clone();
        let start = async move { start::start(&services, &registry, &pod, &view).await.map(Some) };
        self.starting = Some(self.services.tasks.spawn_endless("container start", start));
    }

    fn answer_start(&mut self, outcome: &Outcome) {
        for reply in self.start_waiters.drain(..) {
            let _ = reply.send(outcome.clone());
        }
    }

    async fn start_ended(&mut self, end: Result<Option<Running>, StartError>) {
        self.starting = None;
        let outcome = match end {
            Ok(Some(running)) => {
                self.started(running);
                Ok(())
            }
            // Whoever asked for it meanwhile gets a start of his own once what is left of this one is deleted.
            Ok(None) => {
                self.note(Fact::StartUndone { container: self.id.clone() });
                self.deadline = None;
                if !(self.stopping.is_empty() && self.ending.is_empty()) {
                    self.give_up_start();
                }
                return self.next_update().await;
            }
            Err(StartError::Stuck) => {
                // It may run: whoever wants it stopped waits until it is killed.
                self.ending.append(&mut self.stopping);
                self.publish(ContainerState::Unknown { why: StartError::Stuck.to_string() });
                Err(Arc::new(ContainerError::Start { id: self.id.clone(), source: StartError::Stuck }))
            }
            Err(source) => {
                self.start_failed(&source);
                Err(Arc::new(ContainerError::Start { id: self.id.clone(), source }))
            }
        };
        self.answer_start(&outcome);
        if self.exit.is_none() {
            // A stop that came meanwhile has nothing to kill; the next start is not its business.
            self.deadline = None;
        }
        // Asked to end while it was starting: now there is something to signal.
        if self.exit.is_some() && (self.is_unwanted() || !self.ending.is_empty()) {
            self.kill_now().await;
        } else if self.exit.is_some() && !self.stopping.is_empty() {
            self.ask_to_end().await;
        }
        self.next_update().await;
    }

    /// A start that was tried and failed is the container's end, with the reason that kubectl shows.
    fn start_failed(&mut self, error: &StartError) {
        let message: String = runtime_core::error::chain(error).chars().take(MAX_MESSAGE).collect();
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

    /// Answers those who wait for what has come to be, and begins what an ended container still owes.
    fn settle(&mut self) {
        if !self.is_idle() {
            return;
        }
        let unknown = matches!(self.state(), ContainerState::Unknown { .. });
        let removal = self.is_unwanted();
        // Nothing is taken away on suspicion: what cannot be told waits to be stopped or removed.
        if unknown && !removal && self.stopping.is_empty() && self.ending.is_empty() {
            return;
        }
        for reply in self.stopping.drain(..) {
            let _ = reply.send(Ok(()));
        }
        if !self.task_exists {
            for reply in self.ending.drain(..) {
                let _ = reply.send(Ok(()));
            }
        }
        if self.owed.is_under_way() || self.owed.retry().is_some() {
            return;
        }
        if self.task_exists {
            let (services, pod, id) = (self.services.clone(), self.pod.clone(), self.id.clone());
            let delete = async move { teardown::delete_task(&services, &pod, &id).await };
            self.owed.begin(&self.services, Debt::Task, delete);
        } else if removal {
            let (services, view) = (self.services.clone(), self.view.borrow().clone());
            let remove = async move { teardown::remove(&services, &view).await };
            self.owed.begin(&self.services, Debt::Rest, remove);
        }
    }

    /// A step of the teardown has ended.
    fn paid(&mut self, result: Result<(), ContainerError>) {
        let debt = match (self.owed.ended(&result), result) {
            (debt, Ok(())) => debt,
            (_, Err(error)) => {
                tracing::warn!(container = %self.id, error = %runtime_core::error::chain(&error), "teardown failed and will be tried again");
                let error = Arc::new(error);
                self.answer_all(&error);
                return self.answer_start(&Err(error));
            }
        };
        match debt {
            Debt::Task => {
                self.task_exists = false;
                self.end_unknown();
                self.start_those_who_waited();
            }
            Debt::Rest => {
                self.registry.remove_container(&self.view.borrow());
                for reply in self.removing.drain(..) {
                    let _ = reply.send(Ok(()));
                }
            }
        }
    }

    /// Nothing of it runs any more, which is all that can be told.
    fn end_unknown(&self) {
        if let ContainerState::Unknown { why } = self.state() {
            let at = self.services.clock.now();
            let exit = ContainerExit { code: UNKNOWN, reason: ExitReason::Unknown, message: why, at };
            self.note(Fact::Exited { container: self.id.clone(), exit });
        }
    }

    fn start_those_who_waited(&mut self) {
        if self.start_waiters.is_empty() {
            return;
        }
        match self.may_start() {
            Ok(Start::Now) => self.begin_start(),
            Ok(Start::Wait | Start::Already) => {}
            Err(error) => self.answer_start(&Err(Arc::new(error))),
        }
    }

    /// Everyone who waits is told why it does not go on.
    fn answer_all(&mut self, error: &Arc<ContainerError>) {
        for reply in self.stopping.drain(..).chain(self.ending.drain(..)).chain(self.removing.drain(..)) {
            let _ = reply.send(Err(error.clone()));
        }
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
