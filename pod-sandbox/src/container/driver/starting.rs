//! Start, from the wish to the running process. One that comes while what an undone start left is still being deleted
//! waits for that; a wish to end takes its place.

use std::sync::Arc;

use super::{ContainerDriver, ContainerError, ContainerExit, ContainerState, Outcome, Reply};
use crate::container::start::{self, Running, StartError};
use crate::facts::{ExitReason, Fact};

/// What a status keeps of an error, in characters.
const MAX_MESSAGE: usize = 4096;
/// containerd's exit code of a container that could not be started.
const START_ERROR: i32 = 128;

/// What a wish to start meets.
enum Start {
    Now,
    /// For what is under way.
    Wait,
    Already,
}

impl ContainerDriver {
    /// Begins a start. Who asks for one that is under way waits for it, too.
    pub(super) fn start(&mut self, reply: Reply) {
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
    pub(super) fn give_up_start(&mut self) {
        if self.is_idle() {
            let error = ContainerError::NotStartable { id: self.id.clone(), state: "being stopped" };
            self.answer_start(&Err(Arc::new(error)));
        }
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

    pub(super) fn answer_start(&mut self, outcome: &Outcome) {
        for reply in self.start_waiters.drain(..) {
            let _ = reply.send(outcome.clone());
        }
    }

    pub(super) async fn start_ended(&mut self, end: Result<Option<Running>, StartError>) {
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

    pub(super) fn watch(&mut self) {
        self.task_exists = true;
        let wait = start::wait(self.services.clone(), self.pod.clone(), self.id.clone());
        self.exit = Some(self.services.tasks.spawn_endless("container exit", wait));
    }

    pub(super) fn start_those_who_waited(&mut self) {
        if self.start_waiters.is_empty() {
            return;
        }
        match self.may_start() {
            Ok(Start::Now) => self.begin_start(),
            Ok(Start::Wait | Start::Already) => {}
            Err(error) => self.answer_start(&Err(Arc::new(error))),
        }
    }
}
