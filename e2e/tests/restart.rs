//! kill -9 of the daemon between every two stages: what runs, runs on; what was half done is finished or undone.
//!
//! The OCI runtime and the shim are wrappers that stop at barriers (`src/fault.rs`). At each barrier the daemon is
//! killed, the wrapper is let go before or after the daemon is back, and a witness container in a pod of its own
//! must not have noticed: same process, no number missing in its log (`src/witness.rs`).

use std::time::Duration;

use cri_proto::v1::{ContainerState, PodSandboxState};
use e2e::node::Node;
use e2e::pod::{Pod, container, process_of, wait_exited, with_go};
use e2e::witness::{COUNT, ORDERS, Witness, killed_at, numbers};
use e2e::{fixture, process, wait};

#[test]
fn killed_while_a_pod_is_run() {
    let mut node = Node::with_faults();
    let witness = Witness::start(&node);
    for stage in ["shim-start.before", "shim-start.after"] {
        for order in ORDERS {
            let config = node.pod_config(&fixture::unique("run"));
            let asked = config.clone();
            // The answer is lost with the daemon; the caller only has to come back.
            let reached = killed_at(&mut node, stage, order, move |cri| drop(cri.run_pod(&asked)));
            assert!(reached, "no shim came by {stage}");
            let id =
                node.cri().run_pod(&config).unwrap_or_else(|status| panic!("{stage} {order:?}: {status}"));
            assert_eq!(node.cri().pod(&id).unwrap().state(), PodSandboxState::SandboxReady);
            let pod = Pod::known(&node, id, config);
            assert_eq!(pod.run_sh("say", "exit 5").exit_code, 5);
            witness.check(&node);
            node.cri().remove_pod(&pod.id).unwrap();
            wait::until("only the witness is listed", || node.cri().pods().unwrap().len() == 1);
        }
    }
}

#[test]
fn killed_while_a_container_is_started() {
    let mut node = Node::with_faults();
    let witness = Witness::start(&node);
    let pod = node.run_pod("start");
    for stage in ["runc-create.before", "runc-create.after", "runc-start.before", "runc-start.after"] {
        for order in ORDERS {
            let name = fixture::unique("started");
            let id = pod.create(&container(&name, &["sh", "-c", COUNT])).unwrap();
            let asked = id.clone();
            let reached = killed_at(&mut node, stage, order, move |cri| drop(cri.start(&asked)));
            assert!(reached, "no runc came by {stage}");
            // The retry of a client that got no answer, whatever became of the first.
            node.cri().start(&id).unwrap_or_else(|status| panic!("{stage} {order:?}: {status}"));
            let status = node.cri().container(&id).unwrap();
            assert_eq!(
                (status.state(), status.reason.as_str()),
                (ContainerState::ContainerRunning, ""),
                "{stage} {order:?}: {}",
                status.message
            );
            wait::until("it counts", || numbers(&pod.log(&name)).len() > 3);
            node.cri().stop(&id, 5).unwrap();
            let log = numbers(&pod.log(&name));
            assert!(
                log.iter().copied().eq(1..=log.len()),
                "{stage} {order:?}: it was started twice: {log:?}"
            );
            node.cri().remove(&id).unwrap_or_else(|status| panic!("{stage} {order:?}: {status}"));
            assert_eq!(pod.run_sh(&fixture::unique("next"), "exit 6").exit_code, 6, "{stage} {order:?}");
            witness.check(&node);
        }
    }
}

#[test]
fn killed_between_the_stop_signal_and_the_exit() {
    let mut node = Node::start();
    let witness = Witness::start(&node);
    let pod = node.run_pod("signalled");
    for exits_while_away in [true, false] {
        let name = fixture::unique("signalled");
        let script = "code=3; trap 'echo term; code=12' TERM; echo ready; \
                      until test -e /go/now; do sleep 0.02; done; exit $code";
        let (config, go) = with_go(&node, container(&name, &["sh", "-c", script]));
        let id = pod.start(&config);
        let pid = process_of(&node.cri(), &id).pid;
        wait::until("the trap is set", || pod.log(&name).contains("ready"));
        let terms = || pod.log(&name).matches("F term").count();
        let stop = |node: &Node| {
            let (client, asked) = (node.cri(), id.clone());
            std::thread::spawn(move || client.stop(&asked, 3600))
        };
        let first = stop(&node);
        wait::until("the signal has come", || terms() == 1);
        assert!(!first.is_finished(), "the stop is answered before the exit");
        node.kill9();
        first.join().expect("the call does not panic").expect_err("its daemon was killed");
        if exits_while_away {
            fixture::write(&go.join("now"), "");
            wait::until("it ends without a daemon", || process::look(pid).is_none());
        }
        node.resume();
        if exits_while_away {
            assert_eq!(wait_exited(&node.cri(), &id).exit_code, 12);
            node.cri().stop(&id, 3600).unwrap();
        } else {
            assert_eq!(node.cri().container(&id).unwrap().state(), ContainerState::ContainerRunning);
            let again = stop(&node);
            wait::until("the signal has come again", || terms() == 2);
            assert!(!again.is_finished(), "the stop is answered before the exit");
            fixture::write(&go.join("now"), "");
            again.join().expect("the call does not panic").unwrap();
        }
        let status = node.cri().container(&id).unwrap();
        assert_eq!((status.state(), status.exit_code), (ContainerState::ContainerExited, 12));
        assert_eq!(status.reason, "Error");
        node.cri().remove(&id).unwrap();
        witness.check(&node);
    }
}

#[test]
fn killed_while_a_stopped_container_is_deleted() {
    let mut node = Node::with_faults();
    let witness = Witness::start(&node);
    for stage in ["runc-delete.before", "runc-delete.after"] {
        for order in ORDERS {
            let pod = node.run_pod(&fixture::unique("stop"));
            let id =
                pod.start_sh("stopped", "trap 'exit 12' TERM; echo ready; while true; do sleep 0.05; done");
            wait::until("the trap is set", || pod.log("stopped").contains("ready"));
            let asked = id.clone();
            // The answer needs the exit only: the deletion goes on behind it.
            let reached = killed_at(&mut node, stage, order, move |cri| cri.stop(&asked, 10).unwrap());
            assert!(reached, "no runc came by {stage}");
            let say = |status: tonic::Status| panic!("{stage} {order:?}: {status}");
            node.cri().stop(&id, 10).unwrap_or_else(say);
            let status = node.cri().container(&id).unwrap();
            assert_eq!(status.state(), ContainerState::ContainerExited, "{stage} {order:?}");
            assert_eq!(status.exit_code, 12, "{stage} {order:?}");
            node.cri().remove(&id).unwrap_or_else(say);
            assert_eq!(pod.run_sh("next", "exit 6").exit_code, 6, "{stage} {order:?}");
            node.cri().remove_pod(&pod.id).unwrap_or_else(say);
            assert_nothing_of(&node, &[&id, &pod.id]);
            witness.check(&node);
        }
    }
}

#[test]
fn killed_in_the_grace_period_of_a_stop() {
    let mut node = Node::start();
    let pod = node.run_pod("grace");
    let id = pod.start_sh("stubborn", "trap 'echo term' TERM; echo ready; while true; do sleep 0.1; done");
    wait::until("the trap is set", || pod.log("stubborn").contains("ready"));
    let (client, asked) = (node.cri(), id.clone());
    let caller = std::thread::spawn(move || client.stop(&asked, 3600));
    wait::until("the signal has come", || pod.log("stubborn").contains("F term"));
    assert!(!caller.is_finished());
    node.restart_daemon();
    assert!(caller.join().expect("the call does not panic").is_err());
    assert_eq!(node.cri().container(&id).unwrap().state(), ContainerState::ContainerRunning);
    node.cri().stop(&id, 1).unwrap();
    assert_eq!(node.cri().container(&id).unwrap().exit_code, 137);
}

#[test]
fn killed_while_things_are_removed() {
    let mut node = Node::with_faults();
    let witness = Witness::start(&node);
    for verb in ["remove container", "stop pod", "remove pod"] {
        for stage in ["runc-delete.before", "runc-delete.after"] {
            for order in ORDERS {
                let pod = node.run_pod(&fixture::unique("removed"));
                let id = pod.start_sh("count", COUNT);
                let (pod_id, container_id) = (pod.id.clone(), id.clone());
                let reached = killed_at(&mut node, stage, order, move |cri| {
                    let answer = match verb {
                        "remove container" => cri.remove(&container_id),
                        "stop pod" => cri.stop_pod(&pod_id),
                        _ => cri.remove_pod(&pod_id),
                    };
                    answer.expect_err("it is answered before the task is deleted");
                });
                assert!(reached, "{verb}: no runc came by {stage}");
                let say = |status: tonic::Status| panic!("{verb} at {stage} {order:?}: {status}");
                node.cri().remove(&id).unwrap_or_else(say);
                node.cri().stop_pod(&pod.id).unwrap_or_else(say);
                node.cri().remove_pod(&pod.id).unwrap_or_else(say);
                assert_nothing_of(&node, &[&id, &pod.id]);
                witness.check(&node);
            }
        }
    }
    assert_eq!(node.cri().pods().unwrap().len(), 1);
}

/// No process, mount, cgroup or entry of the state folder carries one of these ids.
fn assert_nothing_of(node: &Node, ids: &[&str]) {
    let left = || node.left_of(ids);
    wait::within(wait::PATIENCE, || left().is_empty().then_some(()))
        .unwrap_or_else(|| panic!("left behind: {:?}", left()));
}

#[test]
fn killed_at_many_moments_of_a_whole_life() {
    let mut node = Node::start();
    let witness = Witness::start(&node);
    for milliseconds in (0..120).step_by(8) {
        let config = node.pod_config(&fixture::unique("moment"));
        let (client, asked) = (node.cri(), config.clone());
        let life = move || {
            let pod = client.run_pod(&asked)?;
            let id = client.create(&pod, &asked, &container("count", &["sh", "-c", COUNT]))?;
            client.start(&id)?;
            client.stop(&id, 0)?;
            client.remove(&id)?;
            client.stop_pod(&pod)?;
            client.remove_pod(&pod)
        };
        let caller = std::thread::spawn(life);
        wait::pause(Duration::from_millis(milliseconds));
        node.restart_daemon();
        // It ended, or it was cut off: both are right.
        let _ = caller.join().expect("the calls do not panic");
        let id =
            node.cri().run_pod(&config).unwrap_or_else(|status| panic!("after {milliseconds} ms: {status}"));
        let pod = Pod::known(&node, id, config);
        assert_eq!(pod.run_sh("again", "exit 8").exit_code, 8, "after {milliseconds} ms");
        node.cri().remove_pod(&pod.id).unwrap_or_else(|status| panic!("after {milliseconds} ms: {status}"));
        witness.check(&node);
    }
    wait::until("only the witness is listed", || node.cri().pods().unwrap().len() == 1);
}

#[test]
fn exits_while_the_daemon_is_away_carry_the_right_code() {
    let mut node = Node::start();
    let pod = node.run_pod("away");
    let start = |code: u8| {
        let script = format!("until test -e /go/now; do sleep 0.02; done; echo bye; exit {code}");
        let (config, go) = with_go(&node, container(&format!("code-{code}"), &["sh", "-c", &script]));
        let id = pod.start(&config);
        (i32::from(code), process_of(&node.cri(), &id).pid, id, go)
    };
    let containers = [0, 1, 42].map(start);
    let stays = pod.start_sh("stays", "exec top -b");
    node.kill9();
    for (_, pid, _, go) in &containers {
        fixture::write(&go.join("now"), "");
        wait::until("it ends without a daemon", || process::look(*pid).is_none());
    }
    node.resume();
    for (code, _, id, _) in &containers {
        let status = wait_exited(&node.cri(), id);
        assert_eq!(status.exit_code, *code);
        assert_eq!(status.reason, if *code == 0 { "Completed" } else { "Error" });
        assert!(status.finished_at >= status.started_at);
    }
    assert_eq!(node.cri().sh(&stays, "echo here"), "here\n");
    node.cri().stop(&stays, 5).unwrap();
}

#[test]
fn everything_is_listed_as_before_after_kill_and_after_stop() {
    let mut node = Node::start();
    let pods = [node.run_pod("one"), node.run_pod("two"), node.run_pod("stopped")];
    let running = pods[0].start_sh("running", "exec top -b");
    pods[0].create(&container("created", &["true"])).unwrap();
    pods[1].run_sh("exited", "exit 3");
    node.cri().stop_pod(&pods[2].id).unwrap();
    let look = |node: &Node| {
        let mut pods = node.cri().pods().unwrap();
        let mut containers = node.cri().containers().unwrap();
        pods.sort_by(|one, other| one.id.cmp(&other.id));
        containers.sort_by(|one, other| one.id.cmp(&other.id));
        let statuses: Vec<_> =
            containers.iter().map(|item| node.cri().container(&item.id).unwrap()).collect();
        (pods, containers, statuses, node.cri().images().unwrap())
    };
    let before = look(&node);
    let process = process_of(&node.cri(), &running);
    node.restart_daemon();
    assert_eq!(look(&node), before);
    node.stop_daemon();
    assert_eq!(process::look(process.pid), Some(process), "a stop leaves containers alone");
    node.resume();
    assert_eq!(look(&node), before);
    assert_eq!(node.cri().sh(&running, "echo here"), "here\n");
}

#[test]
fn a_pod_whose_shim_was_killed_has_failed_and_can_be_removed() {
    let mut node = Node::start();
    let witness = Witness::start(&node);
    for daemon_away in [false, true] {
        let pod = node.run_pod(&fixture::unique("shim"));
        let id = pod.start_sh("top", "exec top -b");
        let container_process = process_of(&node.cri(), &id);
        let shims: Vec<_> = e2e::leak::shims_of(&pod.id);
        let [shim] = shims.as_slice() else { panic!("one shim: {shims:?}") };
        if daemon_away {
            node.kill9();
        }
        process::signal(shim.pid, rustix::process::Signal::KILL);
        if daemon_away {
            node.resume();
        }
        let status = wait_exited(&node.cri(), &id);
        assert_eq!((status.exit_code, status.reason.as_str()), (137, "ShimDied"));
        wait::until("the pod is not ready", || {
            node.cri().pod(&pod.id).unwrap().state() == PodSandboxState::SandboxNotready
        });
        wait::until("its processes are gone", || {
            process::look(container_process.pid).is_none_or(|now| now.started != container_process.started)
        });
        node.cri().stop_pod(&pod.id).unwrap();
        node.cri().remove_pod(&pod.id).unwrap();
        witness.check(&node);
    }
}
