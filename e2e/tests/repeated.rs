//! Verbs that come twice, side by side with others, or at a bad moment: joined, answered again or refused, never stuck.

use std::thread;

use cri_proto::v1::{ContainerState, PodSandboxState};
use e2e::leak::shims_of;
use e2e::network::Network;
use e2e::node::Node;
use e2e::pod::{container, net_container, wait_exited};
use e2e::{fixture, process, wait};
use rustix::process::Signal;
use tonic::Code;

#[test]
fn another_configuration_takes_the_place_of_a_pod() {
    let mut node = Node::start();
    for restart in [false, true] {
        let mut config = node.net_pod_config(&fixture::unique("place"));
        let first = node.run_pod_as(config.clone());
        let old = first.start(&net_container("main", &["sleep", "3600"]));
        assert_eq!(node.cri().run_pod(&config).expect("the same again"), first.id);
        if restart {
            node.restart_daemon();
        }
        config.labels.insert("new".to_owned(), "yes".to_owned());
        let second = node.cri().run_pod(&config).expect("another configuration");
        assert_ne!(second, first.id);
        assert_eq!(node.cri().pod(&first.id).expect_err("it is gone").code(), Code::NotFound);
        assert_eq!(node.cri().container(&old).expect_err("it went along").code(), Code::NotFound);
        assert_eq!(node.left_of(&[&first.id, &old]), Vec::<String>::new());
        node.cri().remove_pod(&second).expect("remove");
    }
}

#[test]
fn another_configuration_takes_the_place_of_a_container_that_does_not_run() {
    let node = Node::start();
    let pod = node.run_pod("place");
    let config = |argument: &str| container("main", &["sleep", argument]);
    let first = pod.create(&config("3600")).expect("create");
    assert_eq!(pod.create(&config("3600")).expect("the same again"), first);
    let second = pod.create(&config("3601")).expect("another configuration");
    assert_ne!(second, first);
    assert_eq!(node.cri().container(&first).expect_err("it is gone").code(), Code::NotFound);
    node.cri().start(&second).expect("start");
    node.cri().start(&second).expect("a retry of a start that succeeded");
    assert_eq!(pod.create(&config("3601")).expect("the same again"), second);
    let refused = pod.create(&config("3602")).expect_err("what runs is not replaced");
    assert!(refused.message().contains("main"), "{refused}");
    assert_eq!(node.cri().container(&second).expect("status").state(), ContainerState::ContainerRunning);
}

#[test]
fn a_container_that_is_being_removed_is_not_given_out_again() {
    let mut node = Node::with_faults();
    let pod = node.run_pod("again");
    for restart in [false, true] {
        let config = container(&fixture::unique("main"), &["sleep", "3600"]);
        let first = pod.start(&config);
        let mut barrier = node.hold("runc-delete.before");
        let (client, id) = (node.cri(), first.clone());
        let removal = thread::spawn(move || client.remove(&id));
        barrier.wait_reached();
        if restart {
            node.restart_daemon();
            let _ = removal.join().expect("no panic");
            barrier.release();
            let second = pod.create(&config).expect("create");
            assert_ne!(second, first);
            node.cri().start(&second).expect("it is a new one");
        } else {
            let (cri, id) = (node.cri(), pod.id.clone());
            let (pod_config, wish) = (pod.config.clone(), config.clone());
            let creation = thread::spawn(move || cri.create(&id, &pod_config, &wish));
            let refused = node.cri().start(&first).expect_err("it is being removed");
            assert!([Code::FailedPrecondition, Code::NotFound].contains(&refused.code()), "{refused}");
            barrier.release();
            removal.join().expect("no panic").expect("removed");
            let second = creation.join().expect("no panic").expect("created when the first was gone");
            assert_ne!(second, first);
            node.cri().start(&second).expect("it is a new one");
        }
    }
}

#[test]
fn a_pod_cut_off_in_its_set_up_that_cannot_be_undone_says_so() {
    let mut node = Node::start_on(Network::with_fault);
    let config = node.net_pod_config("cut-off");
    let mut barrier = node.network().hold("cni-add.before");
    let (client, asked) = (node.cri(), config.clone());
    let caller = thread::spawn(move || client.run_pod(&asked));
    barrier.wait_reached();
    node.kill9();
    caller.join().expect("no panic").expect_err("its daemon was killed");
    node.network().set_fault("DEL", "fail");
    node.resume();
    barrier.release();
    for _ in 0..2 {
        let status = node.cri().run_pod(&config).expect_err("the old one is in the way");
        assert!(status.message().contains("fault"), "the plugin is not named: {status}");
    }
    node.network().clear_fault("DEL");
    let id = node.cri().run_pod(&config).expect("run");
    assert_eq!(node.cri().pod(&id).expect("status").state(), PodSandboxState::SandboxReady);
    node.cri().remove_pod(&id).expect("remove");
    node.assert_no_network_left("the pod that was cut off");
}

#[test]
fn nothing_starts_in_a_pod_that_is_being_stopped() {
    let node = Node::start_on(Network::with_fault);
    let pod = node.run_net_pod("stopping");
    let id = pod.create(&net_container("late", &["sleep", "3600"])).expect("create");
    let mut barrier = node.network().hold("cni-del.before");
    let (client, sandbox) = (node.cri(), pod.id.clone());
    let stop = thread::spawn(move || client.stop_pod(&sandbox));
    barrier.wait_reached();
    let status = node.cri().start(&id).expect_err("its network is being given back");
    assert_eq!(status.code(), Code::FailedPrecondition, "{status}");
    let status = pod.create(&net_container("later", &["true"])).expect_err("no more containers");
    assert_eq!(status.code(), Code::FailedPrecondition, "{status}");
    barrier.release();
    stop.join().expect("no panic").expect("stopped");
    node.cri().start(&id).expect_err("it is stopped");
    assert_eq!(node.cri().container(&id).expect("status").state(), ContainerState::ContainerCreated);
}

#[test]
fn many_stops_of_a_pod_whose_plugin_hangs_are_one() {
    let node = Node::start_on(Network::with_fault);
    let pod = node.run_net_pod("hangs");
    node.network().set_fault("DEL", "hang");
    let before = node.network().calls("DEL");
    let ask = |remove: bool| {
        let (client, id) = (node.cri(), pod.id.clone());
        thread::spawn(move || if remove { client.remove_pod(&id) } else { client.stop_pod(&id) })
    };
    let callers: Vec<_> = (0..10).map(|number| ask(number % 2 == 1)).collect();
    for caller in callers {
        let status = caller.join().expect("no panic").expect_err("the plugin hangs");
        assert!(status.message().contains("fault"), "{status}");
    }
    let calls = node.network().calls("DEL") - before;
    assert!(calls <= 2, "{calls} tries for ten callers at once");
    node.network().clear_fault("DEL");
    node.cri().remove_pod(&pod.id).expect("remove");
}

#[test]
fn an_id_that_names_nothing_in_particular_is_refused() {
    let node = Node::start();
    let cri = node.cri();
    // Two of seventeen hexadecimal ids begin alike.
    let pods: Vec<_> = (0..17).map(|number| node.run_pod(&format!("one-{number}")).id).collect();
    let first = |id: &String| id[..1].to_owned();
    let alike = pods.iter().map(first).find(|start| pods.iter().filter(|id| first(id) == *start).count() > 1);
    for id in [String::new(), alike.expect("two of them")] {
        for status in [cri.stop_pod(&id), cri.remove_pod(&id), cri.pod(&id).map(drop)] {
            assert_eq!(status.expect_err("it names none").code(), Code::InvalidArgument, "{id:?}");
        }
        if id.is_empty() {
            let verbs = [cri.stop(&id, 0), cri.remove(&id), cri.container(&id).map(drop)];
            for status in verbs {
                assert_eq!(status.expect_err("it names none").code(), Code::InvalidArgument);
            }
        }
    }
    assert_eq!(cri.pods().expect("list").len(), pods.len());
    cri.stop_pod("0123456789").expect("a pod that does not exist is stopped");
}

#[test]
fn a_pod_below_the_root_cgroup_takes_its_own_along() {
    let node = Node::start();
    for parent in ["/", "//"] {
        let mut config = node.pod_config(&fixture::unique("root"));
        config.linux.as_mut().expect("it has it").cgroup_parent = parent.to_owned();
        let pod = node.run_pod_as(config);
        pod.start(&container("main", &["sleep", "3600"]));
        node.cri().remove_pod(&pod.id).expect("remove");
        node.assert_no_pods_left();
    }
}

#[test]
fn a_shim_that_hangs_holds_up_no_stop() {
    let mut node = Node::start();
    for restart in [false, true] {
        let pod = node.run_net_pod(&fixture::unique("hangs"));
        let id = pod.start(&net_container("main", &["sleep", "3600"]));
        let shims = shims_of(&pod.id);
        let [shim] = shims.as_slice() else { panic!("one shim: {shims:?}") };
        process::signal(shim.pid, Signal::STOP);
        if restart {
            node.restart_daemon();
            // That it does not answer makes nothing of it dead.
            assert_eq!(node.cri().pod(&pod.id).expect("status").state(), PodSandboxState::SandboxReady);
            let state = node.cri().container(&id).expect("status").state();
            assert_eq!(state, ContainerState::ContainerRunning);
        }
        node.cri().stop_pod(&pod.id).expect("stop");
        assert_eq!(wait_exited(&node.cri(), &id).exit_code, 137);
        node.cri().remove_pod(&pod.id).expect("remove");
        node.assert_no_network_left("the shim that hung");
        node.assert_no_pods_left();
    }
}

#[test]
fn a_shim_killed_in_the_midst_of_a_stop_leaves_nothing() {
    let mut node = Node::start_on(Network::with_fault);
    for restart in [false, true] {
        let pod = node.run_net_pod(&fixture::unique("killed"));
        let id = pod.start(&net_container("main", &["sleep", "3600"]));
        node.network().set_fault("DEL", "fail");
        node.cri().stop_pod(&pod.id).expect_err("the plugin fails");
        let shims = shims_of(&pod.id);
        let [shim] = shims.as_slice() else { panic!("one shim: {shims:?}") };
        process::signal(shim.pid, Signal::KILL);
        node.network().clear_fault("DEL");
        if restart {
            node.restart_daemon();
        }
        node.cri().stop_pod(&pod.id).expect("stop");
        assert_eq!(wait_exited(&node.cri(), &id).exit_code, 137);
        node.cri().remove_pod(&pod.id).expect("remove");
        node.assert_no_network_left("the pod without a shim");
        node.assert_no_pods_left();
    }
}

#[test]
fn a_shim_that_hung_for_a_while_across_a_restart_goes_on() {
    let mut node = Node::start();
    let pod = node.run_pod("pauses");
    let id = pod.start_sh("main", "sleep 3600");
    let stages = |node: &Node| node.cri().pod_info(&pod.id).expect("info")["stagesMicroseconds"].clone();
    let before = stages(&node);
    let shims = shims_of(&pod.id);
    let [shim] = shims.as_slice() else { panic!("one shim: {shims:?}") };
    process::signal(shim.pid, Signal::STOP);
    node.restart_daemon();
    process::signal(shim.pid, Signal::CONT);
    wait::until("it answers", || node.cri().exec_in(&id, &["true"], 5).is_ok_and(|end| end.exit_code == 0));
    let now = stages(&node);
    assert!(now["shim"].as_u64().is_some_and(|time| time > 0), "{now}");
    assert_eq!(now, before, "how long its start took is not forgotten");
}
