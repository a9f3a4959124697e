//! What recovery does about what it found: pure, and tested as a table.

use std::sync::Arc;

use runtime_core::clock::Timestamp;
use runtime_core::ids::{SandboxId, SnapshotKey};
use runtime_core::record::SandboxRecord;

use super::observe::{JournalFound, Observed, ObservedContainer, ObservedPod};
use crate::container::ContainerState;
use crate::facts::{ContainerExit, ExitReason, Fact, Stage};
use crate::journal::Journal;
use crate::network::NetworkIntent;
use crate::pod::PodNetwork;
use crate::sandbox::{SandboxFacts, SandboxState};
use crate::services::NETWORK;
use crate::spec::PodSpec;
use crate::view::ContainerView;

/// What to do about a pod's shim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ShimPlan {
    /// Its process lives: connect to it in the background.
    Attach,
    Gone,
}

/// Where the pod's facts go from now on.
#[derive(Debug)]
pub(super) enum JournalPlan {
    GoOn(Journal),
    /// A new journal that begins with the facts learned.
    Begin,
    /// As before, and the one that cannot be read is kept beside it.
    SetAsideAndBegin,
}

#[derive(Debug)]
pub(super) struct PlannedPod {
    pub(super) id: SandboxId,
    pub(super) spec: Arc<PodSpec>,
    pub(super) network: Option<PodNetwork>,
    pub(super) created_at: Timestamp,
    pub(super) journal: JournalPlan,
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
}

/// Everything that recovery does.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) pods: Vec<PlannedPod>,
    /// To be taken away: their pod is gone.
    pub(super) orphans: Vec<ContainerView>,
}

pub(super) fn plan(observed: Observed, now: Timestamp) -> Plan {
    let orphan = |found: ObservedContainer| {
        let sandbox = SandboxId::parse(found.record.sandbox_id.clone()).ok()?;
        Some(view(found, &sandbox, ContainerState::Created))
    };
    Plan {
        pods: observed.pods.into_iter().map(|pod| plan_pod(pod, now)).collect(),
        orphans: observed.orphans.into_iter().filter_map(orphan).collect(),
    }
}

fn plan_pod(pod: ObservedPod, now: Timestamp) -> PlannedPod {
    let rebooted = matches!(pod.journal, JournalFound::OtherBoot);
    let (journal, mut past, mut learned) = match pod.journal {
        JournalFound::Read(journal, facts) => (JournalPlan::GoOn(journal), facts, Vec::new()),
        JournalFound::Absent => (JournalPlan::Begin, Vec::new(), Vec::new()),
        // What runs went with the boot; what the networks keep of the pod did not.
        JournalFound::OtherBoot if pod.extension.network.is_some() => {
            (JournalPlan::Begin, Vec::new(), vec![Fact::Entering(Stage::NetworkUp), Fact::Stopping])
        }
        JournalFound::OtherBoot => (JournalPlan::Begin, Vec::new(), vec![Fact::Stopped { at: now }]),
        JournalFound::Unreadable { why } => {
            (JournalPlan::SetAsideAndBegin, Vec::new(), vec![Fact::Unreadable { why }])
        }
    };
    past.extend(learned.iter().cloned());
    let mut facts = past.iter().fold(SandboxFacts::default(), SandboxFacts::after);
    if matches!(facts.state, SandboxState::Ready { .. }) && !pod.shim_alive {
        let died = Fact::ShimDied { at: now };
        facts = facts.after(&died);
        learned.push(died);
    }
    let shim = if pod.shim_alive { ShimPlan::Attach } else { ShimPlan::Gone };
    let scene = Scene { sandbox: &pod.id, past: &past, rebooted, shim, now };
    let planned = pod.containers.into_iter().map(|container| scene.plan(container, &mut learned));
    let containers = planned.collect();
    PlannedPod {
        id: pod.id,
        network: network(&pod.record, pod.extension.network),
        spec: Arc::new(pod.extension.spec),
        created_at: pod.record.created_at,
        journal,
        facts,
        shim,
        learned,
        containers,
    }
}

/// The pod's networks with what they answered. An answer that cannot be read is none: plugins have their own.
fn network(record: &SandboxRecord, intent: Option<NetworkIntent>) -> Option<PodNetwork> {
    let network = PodNetwork::intended(intent?);
    if let Some(value) = record.extensions.get(NETWORK) {
        match value.parse_json() {
            // Set once: it was made here.
            Ok(results) => drop(network.results.set(results)),
            Err(error) => {
                tracing::error!(sandbox = record.id, %error, "a pod's network cannot be understood")
            }
        }
    }
    Some(network)
}

/// What a container's pod is like.
struct Scene<'a> {
    sandbox: &'a SandboxId,
    past: &'a [Fact],
    /// The pod is of an earlier boot of the host: nothing of it runs.
    rebooted: bool,
    shim: ShimPlan,
    now: Timestamp,
}

impl Scene<'_> {
    fn plan(&self, found: ObservedContainer, learned: &mut Vec<Fact>) -> PlannedContainer {
        let past = self.past_of(&found);
        let mut state = past.state;
        let missed =
            if self.rebooted { Some(self.ended_with_the_boot(&found)) } else { self.missed(&found, &state) };
        if let Some(fact) = missed {
            state = state.after(&fact);
            learned.push(fact);
        }
        // A record without an OCI spec is a creation that never ended.
        let removing = past.removing || found.record.spec.value.is_empty();
        let view = ContainerView { removing, ..view(found, self.sandbox, state) };
        // What an earlier boot left of a task may lie on disk.
        PlannedContainer { view, task_exists: past.started || self.rebooted }
    }

    fn past_of(&self, found: &ObservedContainer) -> Past {
        let mut past = Past { state: ContainerState::Created, started: false, removing: false };
        for fact in self.past.iter().filter(|fact| concerns(fact, found)) {
            past.started |= matches!(fact, Fact::Starting { .. } | Fact::Unreadable { .. });
            past.removing |= matches!(fact, Fact::RemovingContainer { .. });
            past.state = past.state.after(fact);
        }
        past
    }

    fn ended_with_the_boot(&self, found: &ObservedContainer) -> Fact {
        let exit = ContainerExit {
            code: 255,
            reason: ExitReason::Unknown,
            message: "the host was restarted".to_owned(),
            at: self.now,
        };
        Fact::Exited { container: found.id.clone(), exit }
    }

    /// An end that came while no daemon was there to record it.
    fn missed(&self, found: &ObservedContainer, state: &ContainerState) -> Option<Fact> {
        let exited = |exit: &ContainerExit| Fact::Exited { container: found.id.clone(), exit: exit.clone() };
        match (state, self.shim) {
            (ContainerState::Running { .. } | ContainerState::Stopping { .. }, ShimPlan::Attach) => {
                found.exit.as_ref().map(exited)
            }
            (
                ContainerState::Running { .. } | ContainerState::Stopping { .. } | ContainerState::Starting,
                ShimPlan::Gone,
            ) => Some(found.exit.as_ref().map_or(Fact::ShimDied { at: self.now }, exited)),
            // The shim knows how far the start came.
            (ContainerState::Starting, ShimPlan::Attach)
            | (ContainerState::Created | ContainerState::Exited { .. } | ContainerState::Unknown { .. }, _) => {
                None
            }
        }
    }
}

/// How a recovered container shows.
pub(super) fn view(found: ObservedContainer, sandbox: &SandboxId, state: ContainerState) -> ContainerView {
    let own_key = SnapshotKey::of_container(&found.id);
    ContainerView {
        id: found.id,
        sandbox: sandbox.clone(),
        resources: Arc::new(found.extension.resources()),
        removing: false,
        spec: Arc::new(found.extension.spec),
        image: Arc::new(found.extension.image),
        created_at: found.record.created_at,
        state,
        user: found.extension.user,
        snapshotter: found.record.snapshotter,
        snapshot_key: SnapshotKey::parse(found.record.snapshot_key).unwrap_or(own_key),
    }
}

struct Past {
    state: ContainerState,
    /// A start was begun at least once, so that there may be a task to delete.
    started: bool,
    removing: bool,
}

fn concerns(fact: &Fact, found: &ObservedContainer) -> bool {
    match fact {
        Fact::Starting { container }
        | Fact::StartUndone { container }
        | Fact::Started { container, .. }
        | Fact::Exited { container, .. }
        | Fact::RemovingContainer { container } => *container == found.id,
        Fact::ShimDied { .. } | Fact::Unreadable { .. } => true,
        Fact::Entering(_)
        | Fact::Shim { .. }
        | Fact::Ready { .. }
        | Fact::Stopping
        | Fact::NetworkDown
        | Fact::Stopped { .. }
        | Fact::Removing => false,
    }
}

#[cfg(test)]
mod tests;
