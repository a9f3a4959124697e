//! What an ended container still owes: its task deleted and, when it is to be removed, all the rest. One step at a time,
//! beside the driver, which goes on to answer; a step that failed is tried again after a while, or when somebody asks.

use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::ContainerError;
use crate::services::Services;

/// Between two tries of a step that failed.
const RETRY: Duration = Duration::from_secs(10);

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
            Err(_) => self.retry = Some(Instant::now() + RETRY),
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
