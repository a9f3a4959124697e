//! What an ended container still owes: its task deleted and, when it is to be removed, all the rest. One step at a time,
//! beside the driver, which goes on to answer; a step that failed is tried again after a while, or when somebody asks.

use std::sync::Arc;

use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::{ContainerDriver, ContainerError, ContainerExit, ContainerState};
use crate::container::teardown;
use crate::facts::{ExitReason, Fact};
use crate::services::Services;

/// containerd's exit code of a container that nothing else is known of.
const UNKNOWN: i32 = 255;

/// A step of the teardown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Debt {
    /// The task at the shim.
    Task,
    /// Bundle, snapshot, record: the container is no more.
    Rest,
}

/// `None` when the daemon stops.
pub(super) type Paid = Option<Result<(), ContainerError>>;

#[derive(Debug, Default)]
pub(super) struct Owed {
    step: Option<(Debt, JoinHandle<Paid>)>,
    retry: Option<Instant>,
    over: bool,
}

impl Owed {
    pub(super) fn begin(
        &mut self,
        services: &Services,
        debt: Debt,
        step: impl Future<Output = Result<(), ContainerError>> + Send + 'static,
    ) {
        self.step = Some((debt, services.tasks.spawn_endless("container teardown", step)));
    }

    /// The step under way.
    pub(super) fn task(&mut self) -> Option<&mut JoinHandle<Paid>> {
        self.step.as_mut().map(|(_, task)| task)
    }

    pub(super) fn is_under_way(&self) -> bool {
        self.step.is_some()
    }

    /// Which step it was that ended so.
    pub(super) fn ended(&mut self, result: &Result<(), ContainerError>) -> Debt {
        let debt = self.step.take().map_or(Debt::Task, |(debt, _)| debt);
        match result {
            Ok(()) => self.over = debt == Debt::Rest,
            Err(_) => self.retry = Some(Instant::now() + teardown::RETRY),
        }
        debt
    }

    /// When a step that failed is tried again.
    pub(super) fn retry(&self) -> Option<Instant> {
        self.retry
    }

    pub(super) fn try_again(&mut self) {
        self.retry = None;
    }

    /// Everything is taken away.
    pub(super) fn is_over(&self) -> bool {
        self.over
    }
}

impl ContainerDriver {
    /// Answers those who wait for what has come to be, and begins what an ended container still owes.
    pub(super) fn settle(&mut self) {
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
    pub(super) fn paid(&mut self, result: Result<(), ContainerError>) {
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
}
