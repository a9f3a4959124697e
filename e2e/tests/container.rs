//! Containers: how they begin, what their status tells, how they end, and what is refused.

use std::collections::BTreeMap;

use cri_proto::v1 as cri;
use cri_proto::v1::ContainerState;
use e2e::images;
use e2e::node::{BUSYBOX, Node};
use e2e::pod::{container, id_value, key_value, process_of, said, security};
use e2e::{process, wait};
use serde_json::json;
use tonic::Code;

#[test]
fn a_container_goes_from_created_to_running_to_exited() {
    let mut node = Node::start();
    let pod = node.run_pod("life");
    let mut config = container("top", &["top", "-b"]);
    let pairs = [("a", "1"), ("quoted \"key\"", "line\nbreak"), ("unicode", "☃ \u{202e}")];
    config.labels = pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
    config.annotations = config.labels.clone();
    config.metadata.as_mut().expect("metadata").attempt = 3;
    let id = pod.create(&config).unwrap();
    assert_eq!(id.len(), 64);
    let cri = node.cri();
    let created = cri.container(&id).unwrap();
    assert_eq!(created.state(), ContainerState::ContainerCreated);
    assert_eq!((created.started_at, created.finished_at), (0, 0));

    cri.start(&id).unwrap();
    let running = cri.container(&id).unwrap();
    assert_eq!(running.state(), ContainerState::ContainerRunning);
    assert_eq!(running.metadata, config.metadata);
    assert_eq!((&running.labels, &running.annotations), (&config.labels, &config.annotations));
    assert_eq!(running.created_at, created.created_at);
    assert!(running.started_at >= running.created_at && running.finished_at == 0);
    assert_eq!(running.log_path, pod.log_path("top").to_string_lossy());
    assert_eq!(running.image.as_ref().map(|image| image.image.as_str()), Some(BUSYBOX));
    assert!(pod.log_path("top").exists(), "the log is there when StartContainer answers");

    node.restart_daemon();
    assert_eq!(cri.container(&id).unwrap(), running);
    let listed = cri.containers().unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!((&listed[0].id, &listed[0].pod_sandbox_id), (&id, &pod.id));
    assert_eq!((&listed[0].labels, &listed[0].metadata), (&config.labels, &config.metadata));

    cri.stop(&id, 10).unwrap();
    let exited = cri.container(&id).unwrap();
    assert_eq!(exited.state(), ContainerState::ContainerExited);
    assert_eq!(exited.exit_code, 143);
    assert_eq!(exited.reason, "Error");
    assert!(exited.finished_at >= exited.started_at);
    cri.stop(&id, 10).unwrap();
    node.restart_daemon();
    assert_eq!(cri.container(&id).unwrap(), exited);
    cri.remove(&id).unwrap();
    cri.remove(&id).unwrap();
    assert_eq!(cri.container(&id).unwrap_err().code(), Code::NotFound);
    assert_eq!(cri.containers().unwrap(), vec![]);
}

#[test]
fn exit_codes_and_reasons_are_those_of_the_process() {
    let mut node = Node::start();
    let pod = node.run_pod("codes");
    let cases = [
        ("zero", "exit 0", 0, "Completed"),
        ("three", "exit 3", 3, "Error"),
        ("high", "exit 255", 255, "Error"),
        ("killed", "kill -KILL $$", 137, "Error"),
        ("segv", "kill -SEGV $$", 139, "Error"),
    ];
    let mut ended = Vec::new();
    for (name, line, code, reason) in cases {
        // PID 1 of a PID namespace ignores signals it sends itself: a child of it dies in its place.
        let line =
            if line.starts_with("kill") { format!("sh -c '{line}'; exit $?") } else { line.to_owned() };
        let status = pod.run_sh(name, &line);
        assert_eq!((status.exit_code, status.reason.as_str()), (code, reason), "{name}");
        assert!(status.finished_at >= status.started_at, "{name}");
        ended.push(status);
    }
    node.restart_daemon();
    for status in ended {
        assert_eq!(node.cri().container(&status.id).unwrap(), status);
    }
}

#[test]
fn a_container_that_ignores_term_is_killed_after_its_grace_period() {
    let node = Node::start();
    let pod = node.run_pod("stubborn");
    let id = pod.start_sh("stubborn", "trap '' TERM; echo ready; while true; do sleep 1; done");
    wait::until("the trap is set", || pod.log("stubborn").contains("ready"));
    let started = std::time::Instant::now();
    node.cri().stop(&id, 1).unwrap();
    let took = started.elapsed();
    assert!(took >= std::time::Duration::from_secs(1), "{took:?}");
    assert_eq!(node.cri().container(&id).unwrap().exit_code, 137);
}

#[test]
fn the_stop_signal_of_the_container_or_its_image_is_used() {
    let node = Node::start();
    let pod = node.run_pod("signals");
    let line = "trap 'echo got USR1; exit 5' USR1; echo ready; while true; do sleep 0.1; done";
    let image = images::busybox_with("stop-signal", &json!({"Env": ["PATH=/bin"], "StopSignal": "SIGUSR1"}));
    let (reference, _) = node.provide("docker.io", "library/stop-signal", "1", &image);
    let mut by_image = container("by-image", &["sh", "-c", line]);
    by_image.image = Some(e2e::client::image_spec(&reference));
    let mut by_config = container("by-config", &["sh", "-c", line]);
    by_config.stop_signal = cri::Signal::Sigusr1.into();
    for (name, config) in [("by-image", by_image), ("by-config", by_config)] {
        let id = pod.start(&config);
        wait::until("the trap is set", || pod.log(name).contains("ready"));
        node.cri().stop(&id, 10).unwrap();
        assert_eq!(node.cri().container(&id).unwrap().exit_code, 5, "{name}");
        assert_eq!(said(&pod.log(name)), ["ready", "got USR1"]);
    }
}

#[test]
fn a_command_that_does_not_exist_is_a_start_error() {
    let node = Node::start();
    let pod = node.run_pod("nothing");
    let id = pod.create(&container("nothing", &["/no/such/command"])).unwrap();
    let status = node.cri().start(&id).unwrap_err();
    assert!(status.message().contains("/no/such/command"), "{status}");
    let ended = node.cri().container(&id).unwrap();
    assert_eq!(ended.state(), ContainerState::ContainerExited);
    assert_eq!(ended.reason, "StartError");
    assert!(matches!(ended.exit_code, 127 | 128), "{}", ended.exit_code);
    assert!(ended.message.contains("/no/such/command"), "{}", ended.message);
    node.cri().remove(&id).unwrap();
}

#[test]
fn a_container_that_cannot_be_is_refused_by_what_is_wrong_with_it() {
    let node = Node::start();
    let pod = node.run_pod("refused");
    let refuse = |codes: &[Code], what: &str, change: &dyn Fn(&mut cri::ContainerConfig)| {
        let mut config = container("refused", &["true"]);
        change(&mut config);
        let status = pod.create(&config).map(|id| panic!("{what}: created {id}")).unwrap_err();
        assert!(codes.contains(&status.code()), "{what}: {status}");
        assert!(status.message().contains(what), "{what}: {status}");
        assert_eq!(node.cri().containers().unwrap(), vec![], "{what}: no half-made container");
    };
    let invalid = [Code::InvalidArgument];
    refuse(&invalid, "../escape.log", &|config| config.log_path = "../escape.log".to_owned());
    refuse(&invalid, "/etc/escape.log", &|config| config.log_path = "/etc/escape.log".to_owned());
    refuse(&[Code::NotFound], "not-pulled", &|config| {
        config.image = Some(e2e::client::image_spec("docker.io/library/not-pulled:1"));
    });
    let user = [Code::InvalidArgument, Code::NotFound, Code::FailedPrecondition];
    refuse(&user, "nonesuch", &|config| security(config).run_as_username = "nonesuch".to_owned());
    refuse(&invalid, "group", &|config| security(config).run_as_group = id_value(1001));
    refuse(&invalid, "name", &|config| config.metadata.as_mut().expect("metadata").name.clear());
    refuse(&invalid, "KEY", &|config| config.envs = vec![key_value("KEY", "nul\0byte")]);
    refuse(&invalid, "relative/path", &|config| {
        let (container_path, host_path) = ("/data".to_owned(), "relative/path".to_owned());
        config.mounts = vec![cri::Mount { container_path, host_path, ..Default::default() }];
    });
    let unknown = "f".repeat(64);
    let status = node.cri().create(&unknown, &pod.config, &container("lost", &["true"])).unwrap_err();
    assert_eq!(status.code(), Code::NotFound, "{status}");
    assert!(status.message().contains(&unknown), "{status}");
    assert_eq!(node.cri().start(&unknown).unwrap_err().code(), Code::NotFound);
}

#[test]
fn a_created_or_running_container_is_removed_by_force() {
    let node = Node::start();
    let pod = node.run_pod("force");
    let created = pod.create(&container("created", &["top", "-b"])).unwrap();
    let running = pod.start_sh("running", "exec top -b");
    let pid = process_of(&node.cri(), &running).pid;
    for id in [created, running] {
        node.cri().remove(&id).unwrap();
        assert_eq!(node.cri().container(&id).unwrap_err().code(), Code::NotFound);
    }
    assert_eq!(process::look(pid), None);
    let again = pod.start_sh("running", "exec top -b");
    assert_eq!(node.cri().containers().unwrap().len(), 1, "{again}");
}

#[test]
fn containers_are_listed_by_filter() {
    let node = Node::start();
    let (one, two) = (node.run_pod("one"), node.run_pod("two"));
    let mut config = container("top", &["top", "-b"]);
    config.labels.insert("tier".to_owned(), "web".to_owned());
    let running = one.start(&config);
    let created = two.create(&container("idle", &["true"])).unwrap();
    let list = |filter: cri::ContainerFilter| -> Vec<String> {
        let request = cri::ListContainersRequest { filter: Some(filter) };
        node.cri().list_containers(request).unwrap().containers.into_iter().map(|item| item.id).collect()
    };
    let state = |state: ContainerState| Some(cri::ContainerStateValue { state: state.into() });
    let web = BTreeMap::from([("tier".to_owned(), "web".to_owned())]);
    let by_state = |wanted| cri::ContainerFilter { state: state(wanted), ..Default::default() };
    assert_eq!(list(by_state(ContainerState::ContainerRunning)), std::slice::from_ref(&running));
    assert_eq!(list(by_state(ContainerState::ContainerCreated)), std::slice::from_ref(&created));
    assert_eq!(
        list(cri::ContainerFilter { pod_sandbox_id: two.id.clone(), ..Default::default() }),
        [created]
    );
    assert_eq!(
        list(cri::ContainerFilter { label_selector: web, ..Default::default() }),
        std::slice::from_ref(&running)
    );
    assert_eq!(list(cri::ContainerFilter { id: running.clone(), ..Default::default() }), [running]);
}
