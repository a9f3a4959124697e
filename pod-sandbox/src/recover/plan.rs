//! What recovery does about what it found: pure, and tested as a table.

use std::sync::Arc;

use runtime_core::clock::Timestamp;
use runtime_core::ids::{SandboxId, SnapshotKey};

use super::observe::{JournalFound, ObservedContainer, ObservedPod};
use crate::container::ContainerState;
use crate::facts::{ContainerExit, ExitReason, Fact, Stage};
use crate::journal::Journal;
use crate::sandbox::{SandboxFacts, SandboxState};
use crate::spec::PodSpec;
use crate::view::ContainerView;

/// What to do about a pod's shim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ShimPlan {
    /// Its process lives: connect to it in the background.
    Attach,
    Gone,
}

#[derive(Debug)]
pub(super) struct PlannedPod {
    pub(super) id: SandboxId,
    pub(super) spec: Arc<PodSpec>,
    pub(super) created_at: Timestamp,
    pub(super) journal: Journal,
    pub(super) facts: SandboxFacts,
    pub(super) shim: ShimPlan,
    /// Facts that happened while nobody was there to write them down.
    pub(super) learned: Vec<Fact>,
    pub(super) containers: Vec<PlannedContainer>,
}

#[derive(Debug)]
pub(super) struct PlannedContainer {
    pub(super) view: ContainerView,
    pub(super) task_exists: bool,
    pub(super) removing: bool,
}

pub(super) fn plan(observed: Vec<ObservedPod>, now: Timestamp) -> Vec<PlannedPod> {
    observed.into_iter().map(|pod| plan_pod(pod, now)).collect()
}

fn plan_pod(pod: ObservedPod, now: Timestamp) -> PlannedPod {
    let (journal, history) = match pod.journal {
        JournalFound::Read(journal, facts) => (journal, History::Known(facts)),
        JournalFound::Absent { new, same_boot: true } => (new, History::Known(Vec::new())),
        JournalFound::Absent { new, same_boot: false } => (new, History::OtherBoot),
        JournalFound::Unreadable { new, why } => (new, History::Unreadable(why)),
    };
    let mut learned = Vec::new();
    let mut facts = history.sandbox(now, &mut learned);
    let ready = matches!(facts.state, SandboxState::Ready { .. });
    if ready && !pod.shim_alive {
        let died = Fact::ShimDied { at: now };
        facts = facts.after(&died);
        learned.push(died);
    }
    let shim = if pod.shim_alive { ShimPlan::Attach } else { ShimPlan::Gone };
    let scene = Scene { sandbox: &pod.id, history: &history, shim, now };
    let planned = pod.containers.into_iter().map(|container| scene.plan(container, &mut learned));
    let containers = planned.collect();
    PlannedPod {
        id: pod.id,
        spec: Arc::new(pod.extension.spec),
        created_at: pod.record.created_at,
        journal,
        facts,
        shim,
        learned,
        containers,
    }
}

/// What is known of a pod's past.
enum History {
    Known(Vec<Fact>),
    /// The host was restarted: nothing of the pod runs.
    OtherBoot,
    Unreadable(String),
}

impl History {
    fn sandbox(&self, now: Timestamp, learned: &mut Vec<Fact>) -> SandboxFacts {
        match self {
            Self::Known(facts) => facts.iter().fold(SandboxFacts::default(), SandboxFacts::after),
            Self::OtherBoot => {
                let stopped = Fact::Stopped { at: now };
                let facts = SandboxFacts::default().after(&stopped);
                learned.push(stopped);
                facts
            }
            Self::Unreadable(why) => SandboxFacts {
                state: SandboxState::Unknown { why: why.clone() },
                // Whatever may be there is taken down: every step of a teardown is fine with nothing.
                reached: Stage::NamespacesMade,
                removing: false,
            },
        }
    }
}

/// What a container's pod is like.
struct Scene<'a> {
    sandbox: &'a SandboxId,
    history: &'a History,
    shim: ShimPlan,
    now: Timestamp,
}

impl Scene<'_> {
    fn plan(&self, found: ObservedContainer, learned: &mut Vec<Fact>) -> PlannedContainer {
        let past = past(&found, self.history, self.now);
        let mut state = past.state;
        let missed = missed(&found, &state, self.shim, self.now);
        if let Some(fact) = missed {
            state = state.after(&fact);
            learned.push(fact);
        }
        // A record without an OCI spec is a creation that never ended.
        let removing = past.removing || found.record.spec.value.is_empty();
        let own_key = SnapshotKey::of_container(&found.id);
        let view = ContainerView {
            id: found.id,
            sandbox: self.sandbox.clone(),
            spec: Arc::new(found.extension.spec),
            image: Arc::new(found.extension.image),
            created_at: found.record.created_at,
            state,
            user: found.extension.user,
            snapshotter: found.record.snapshotter,
            snapshot_key: SnapshotKey::parse(found.record.snapshot_key).unwrap_or(own_key),
        };
        PlannedContainer { view, task_exists: past.started, removing }
    }
}

struct Past {
    state: ContainerState,
    /// A start was begun at least once, so that there may be a task to delete.
    started: bool,
    removing: bool,
}

fn past(found: &ObservedContainer, history: &History, now: Timestamp) -> Past {
    let facts = match history {
        History::Known(facts) => facts,
        History::OtherBoot => {
            let exit = ContainerExit {
                code: 255,
                reason: ExitReason::Unknown,
                message: "the host was restarted".to_owned(),
                at: now,
            };
            return Past {
                state: ContainerState::Exited { since: None, exit },
                started: false,
                removing: false,
            };
        }
        History::Unreadable(why) => {
            return Past {
                state: ContainerState::Unknown { why: why.clone() },
                started: true,
                removing: false,
            };
        }
    };
    let mut past = Past { state: ContainerState::Created, started: false, removing: false };
    for fact in facts.iter().filter(|fact| concerns(fact, found)) {
        past.started |= matches!(fact, Fact::Starting { .. });
        past.removing |= matches!(fact, Fact::RemovingContainer { .. });
        past.state = past.state.after(fact);
    }
    past
}

fn concerns(fact: &Fact, found: &ObservedContainer) -> bool {
    match fact {
        Fact::Starting { container }
        | Fact::StartUndone { container }
        | Fact::Started { container, .. }
        | Fact::Exited { container, .. }
        | Fact::RemovingContainer { container } => *container == found.id,
        Fact::ShimDied { .. } => true,
        Fact::Entering(_)
        | Fact::Shim { .. }
        | Fact::Ready { .. }
        | Fact::Stopping
        | Fact::Stopped { .. }
        | Fact::Removing => false,
    }
}

/// An end that came while no daemon was there to record it.
fn missed(found: &ObservedContainer, state: &ContainerState, shim: ShimPlan, now: Timestamp) -> Option<Fact> {
    let exited = |exit: ContainerExit| Fact::Exited { container: found.id.clone(), exit };
    match (state, &found.exit, shim) {
        (ContainerState::Running { .. } | ContainerState::Stopping { .. }, Some(exit), _) => {
            Some(exited(exit.clone()))
        }
        (ContainerState::Starting, Some(exit), ShimPlan::Gone) => Some(exited(exit.clone())),
        (
            ContainerState::Running { .. } | ContainerState::Stopping { .. } | ContainerState::Starting,
            None,
            ShimPlan::Gone,
        ) => Some(Fact::ShimDied { at: now }),
        (
            ContainerState::Created
            | ContainerState::Exited { .. }
            | ContainerState::Unknown { .. }
            | ContainerState::Starting
            | ContainerState::Running { .. }
            | ContainerState::Stopping { .. },
            _,
            _,
        ) => None,
    }
}

#[cfg(test)]
mod tests;
