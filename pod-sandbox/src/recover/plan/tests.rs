//! What recovery decides, case by case.

use std::collections::BTreeMap;

use runtime_core::ids::{ContainerId, SandboxId};
use runtime_core::record::{ContainerRecord, OCI_SPEC_TYPE, RuntimeInfo, SandboxRecord, TypedValue};

use super::super::observe::Observed;
use super::*;
use crate::container::Extension as ContainerExtension;
use crate::facts::Stage;
use crate::service::Extension;
use crate::spec::sample;

const NOW: Timestamp = Timestamp(1000);

fn id() -> ContainerId {
    ContainerId::parse("c1").expect("valid")
}

fn container(exit: Option<ContainerExit>, spec: &[u8]) -> ObservedContainer {
    ObservedContainer {
        id: id(),
        record: ContainerRecord {
            id: "c1".into(),
            labels: BTreeMap::new(),
            image: "i".into(),
            runtime: RuntimeInfo::default(),
            spec: TypedValue { type_url: OCI_SPEC_TYPE.into(), value: spec.to_vec() },
            snapshotter: "overlayfs".into(),
            snapshot_key: "c1".into(),
            sandbox_id: "p1".into(),
            extensions: BTreeMap::new(),
            created_at: Timestamp(1),
            updated_at: Timestamp(1),
        },
        extension: ContainerExtension {
            spec: sample::container(),
            image: sample::image(),
            user: None,
            updated: None,
        },
        exit,
    }
}

/// Plans for one pod with the given past.
fn planned(
    past: impl FnOnce(Journal) -> JournalFound,
    shim_alive: bool,
    containers: Vec<ObservedContainer>,
) -> PlannedPod {
    let dir = tempfile::tempdir().expect("tempdir");
    let journal = Journal::create(&dir.path().join("p1"), "boot", &[]).expect("create");
    let observed = ObservedPod {
        id: SandboxId::parse("p1").expect("valid"),
        record: SandboxRecord {
            id: "p1".into(),
            labels: BTreeMap::new(),
            runtime: RuntimeInfo::default(),
            spec: TypedValue::default(),
            sandboxer: "podsandbox".into(),
            extensions: BTreeMap::new(),
            created_at: Timestamp(1),
            updated_at: Timestamp(1),
        },
        extension: Extension { spec: sample::pod(), boot_id: "boot".into(), network: None },
        journal: past(journal),
        shim_alive,
        containers,
    };
    plan(Observed { pods: vec![observed], orphans: vec![] }, NOW).pods.remove(0)
}

fn ready() -> Vec<Fact> {
    vec![
        Fact::Entering(Stage::ShimUp),
        Fact::Entering(Stage::NamespacesMade),
        Fact::Ready { at: Timestamp(2), timings: Default::default() },
    ]
}

fn started() -> Vec<Fact> {
    let starting = Fact::Starting { container: id() };
    [ready(), vec![starting, Fact::Started { container: id(), pid: 5, at: Timestamp(3) }]].concat()
}

fn exit(code: i32) -> ContainerExit {
    ContainerExit { code, reason: ExitReason::Error, message: String::new(), at: Timestamp(9) }
}

#[test]
fn what_runs_is_attached() {
    let pod = planned(|j| JournalFound::Read(j, started()), true, vec![container(None, b"{}")]);
    assert_eq!(pod.shim, ShimPlan::Attach);
    assert!(matches!(pod.facts.state, SandboxState::Ready { .. }));
    assert_eq!(pod.containers[0].view.state, ContainerState::Running { pid: 5, since: Timestamp(3) });
    assert!(pod.learned.is_empty());
}

#[test]
fn an_exit_that_nobody_saw_is_learned_from_its_file() {
    let pod = planned(|j| JournalFound::Read(j, started()), true, vec![container(Some(exit(42)), b"{}")]);
    let expected = ContainerState::Exited { since: Some(Timestamp(3)), exit: exit(42) };
    assert_eq!(pod.containers[0].view.state, expected);
    assert!(pod.containers[0].task_exists, "the task is still to be deleted");
    assert_eq!(pod.learned, [Fact::Exited { container: id(), exit: exit(42) }]);
}

#[test]
fn a_dead_shim_fails_the_pod_and_keeps_codes_it_wrote() {
    let without = planned(|j| JournalFound::Read(j, started()), false, vec![container(None, b"{}")]);
    assert!(matches!(without.facts.state, SandboxState::Died { .. }));
    let ContainerState::Exited { exit: end, .. } = &without.containers[0].view.state else {
        panic!("it cannot outlive its shim");
    };
    assert_eq!(end.reason, ExitReason::ShimDied);
    let with = planned(|j| JournalFound::Read(j, started()), false, vec![container(Some(exit(3)), b"{}")]);
    let ContainerState::Exited { exit: end, .. } = &with.containers[0].view.state else {
        panic!("it has exited");
    };
    assert_eq!(end.code, 3);
}

#[test]
fn an_interrupted_start_is_left_to_the_driver() {
    let past = [ready(), vec![Fact::Starting { container: id() }]].concat();
    let pod = planned(|j| JournalFound::Read(j, past), true, vec![container(None, b"{}")]);
    assert_eq!(pod.containers[0].view.state, ContainerState::Starting);
    assert!(pod.containers[0].task_exists);
}

#[test]
fn an_interrupted_creation_is_taken_away() {
    let pod = planned(|j| JournalFound::Read(j, ready()), true, vec![container(None, b"")]);
    assert!(pod.containers[0].view.removing);
}

#[test]
fn a_pod_without_a_journal_was_never_set_up_or_is_of_another_boot() {
    let fresh = planned(|_| JournalFound::Absent, false, vec![]);
    assert!(matches!(fresh.facts.state, SandboxState::SettingUp { .. }));
    let old = planned(|_| JournalFound::OtherBoot, false, vec![container(None, b"{}")]);
    assert_eq!(old.facts.state, SandboxState::Stopped);
    let ContainerState::Exited { exit: end, .. } = &old.containers[0].view.state else {
        panic!("nothing runs after a reboot");
    };
    assert_eq!(end.code, 255);
    // The next start finds the same in the new journal.
    let again = planned(|j| JournalFound::Read(j, old.learned), false, vec![container(None, b"{}")]);
    assert_eq!(again.facts.state, SandboxState::Stopped);
    assert_eq!(again.containers[0].view.state, old.containers[0].view.state);
}

#[test]
fn what_cannot_be_read_is_unknown_and_not_deleted() {
    let unreadable = |_| JournalFound::Unreadable { why: "damaged".into() };
    let pod = planned(unreadable, true, vec![container(None, b"{}")]);
    assert!(matches!(pod.facts.state, SandboxState::Unknown { .. }));
    assert!(matches!(pod.containers[0].view.state, ContainerState::Unknown { .. }));
    assert!(!pod.containers[0].view.removing);
    assert_eq!(pod.facts.reached, Stage::NetworkUp, "a Stop takes down whatever there may be");
    let again = planned(|j| JournalFound::Read(j, pod.learned), true, vec![container(None, b"{}")]);
    assert!(matches!(again.facts.state, SandboxState::Unknown { .. }), "and so it is at the next start");
    assert!(matches!(again.containers[0].view.state, ContainerState::Unknown { .. }));
    assert!(again.containers[0].task_exists);
}
