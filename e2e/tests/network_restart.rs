//! kill -9 of the daemon while a CNI plugin works: the pod is made or undone, never half of it.
//!
//! The gates (`Network::gated`) stop before or after each real plugin; they are let go before or after the daemon is
//! back.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use cri_proto::v1::{PodSandboxConfig, PodSandboxState};
use e2e::network::Network;
use e2e::node::Node;
use e2e::pod::{Pod, net_container, port_mapping};
use e2e::witness::{COUNT, ORDERS, Witness, killed_at};
use e2e::{fixture, wait, web};

const ADD_STAGES: [&str; 4] =
    ["cni-add-bridge.before", "cni-add-bridge.after", "cni-add-portmap.before", "cni-add-portmap.after"];
const DEL_STAGES: [&str; 4] =
    ["cni-del-portmap.before", "cni-del-portmap.after", "cni-del-bridge.before", "cni-del-bridge.after"];

/// With a host port, so that every plugin has something to make and to give back.
fn pod_config(node: &Node, name: &str) -> PodSandboxConfig {
    let mut config = node.net_pod_config(&fixture::unique(name));
    config.port_mappings = vec![port_mapping(web::PORT, node.network().host_port(0))];
    config
}

#[test]
fn killed_while_a_network_is_made() {
    let mut node = Node::start_on(Network::gated);
    let witness = Witness::start(&node);
    for stage in ADD_STAGES {
        for order in ORDERS {
            let at = format!("{stage} {order:?}");
            let config = pod_config(&node, "made");
            let asked = config.clone();
            let reached = killed_at(&mut node, stage, order, move |cri| drop(cri.run_pod(&asked)));
            assert!(reached, "no plugin came by {stage}");
            let id = node.cri().run_pod(&config).unwrap_or_else(|status| panic!("{at}: {status}"));
            assert_eq!(node.cri().pod(&id).unwrap().state(), PodSandboxState::SandboxReady);
            let pod = Pod::known(&node, id, config);
            web::serve(&pod);
            web::wait_served(&pod, SocketAddr::from((Ipv4Addr::LOCALHOST, node.network().host_port(0))));
            witness.check(&node);
            node.cri().stop_pod(&pod.id).unwrap_or_else(|status| panic!("{at}: {status}"));
            node.cri().remove_pod(&pod.id).unwrap();
            wait::until("only the witness is listed", || node.cri().pods().unwrap().len() == 1);
            node.assert_no_network_left(&at);
        }
    }
}

#[test]
fn killed_while_a_network_is_made_and_never_asked_again() {
    let mut node = Node::start_on(Network::gated);
    for stage in ADD_STAGES {
        for order in ORDERS {
            let config = pod_config(&node, "forgotten");
            let reached = killed_at(&mut node, stage, order, move |cri| drop(cri.run_pod(&config)));
            assert!(reached, "no plugin came by {stage}");
            for pod in node.cri().pods().unwrap() {
                node.cri().stop_pod(&pod.id).unwrap();
                node.cri().remove_pod(&pod.id).unwrap();
            }
            node.assert_no_network_left(&format!("{stage} {order:?}"));
            node.assert_no_pods_left();
        }
    }
}

#[test]
fn killed_while_a_network_is_given_back() {
    let mut node = Node::start_on(Network::gated);
    let witness = Witness::start(&node);
    for verb in ["stop pod", "remove pod"] {
        for stage in DEL_STAGES {
            for order in ORDERS {
                let at = format!("{verb} at {stage} {order:?}");
                let pod = node.run_pod_as(pod_config(&node, "given-back"));
                pod.start(&net_container("count", &["sh", "-c", COUNT]));
                let id = pod.id.clone();
                let reached = killed_at(&mut node, stage, order, move |cri| {
                    let answer = if verb == "stop pod" { cri.stop_pod(&id) } else { cri.remove_pod(&id) };
                    answer.expect_err("it is answered before the network is given back");
                });
                assert!(reached, "no plugin came by {stage}");
                let say = |status: tonic::Status| panic!("{at}: {status}");
                node.cri().stop_pod(&pod.id).unwrap_or_else(say);
                node.assert_no_network_left(&at);
                node.cri().remove_pod(&pod.id).unwrap_or_else(say);
                witness.check(&node);
            }
        }
    }
    wait::until("only the witness is listed", || node.cri().pods().unwrap().len() == 1);
}

#[test]
fn after_a_reboot_the_addresses_of_the_old_pods_are_given_back() {
    let mut node = Node::start_on(Network::gated);
    let config = pod_config(&node, "old");
    let pod = node.run_pod_as(config.clone());
    let web = web::serve(&pod);
    let half = node.net_pod_config("half");
    let mut barrier = node.network().hold("cni-add-portmap.before");
    let (client, asked) = (node.cri(), half.clone());
    let caller = std::thread::spawn(move || client.run_pod(&asked));
    barrier.wait_reached();
    node.reboot();
    caller.join().expect("the call does not panic").expect_err("its daemon was killed");
    barrier.release();

    let state = |id: &str| node.cri().pod(id).expect("it is listed").state();
    assert_eq!(state(&pod.id), PodSandboxState::SandboxNotready);
    let container = node.cri().container(&web).expect("it is listed");
    assert_eq!((container.exit_code, container.reason.as_str()), (255, "Unknown"));
    assert!(
        !node.network_left().is_empty(),
        "the addresses are still taken: there is something to give back"
    );
    // As the kubelet does with pods that it finds dead: with the half-made one, too.
    for listed in node.cri().pods().expect("list") {
        assert_eq!(listed.state(), PodSandboxState::SandboxNotready);
        node.cri().stop_pod(&listed.id).expect("stop");
        node.cri().remove_pod(&listed.id).expect("remove");
    }
    node.assert_no_network_left("the old boot");
    node.assert_no_pods_left();
}

#[test]
fn killed_at_many_moments_of_a_networked_life() {
    let mut node = Node::start();
    let witness = Witness::start(&node);
    for milliseconds in (0..240).step_by(12) {
        let config = node.net_pod_config(&fixture::unique("moment"));
        let (client, asked) = (node.cri(), config.clone());
        let life = move || {
            let pod = client.run_pod(&asked)?;
            let id = client.create(&pod, &asked, &net_container("count", &["sh", "-c", COUNT]))?;
            client.start(&id)?;
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
        assert!(node.network().contains(pod.address()));
        node.cri().remove_pod(&pod.id).unwrap_or_else(|status| panic!("after {milliseconds} ms: {status}"));
        witness.check(&node);
    }
    wait::until("only the witness is listed", || node.cri().pods().unwrap().len() == 1);
    node.assert_no_network_left("twenty lives");
}
