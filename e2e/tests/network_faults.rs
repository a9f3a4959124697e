//! CNI plugins that fail in every way: the error says which, nothing is left, and nobody else notices.

use std::time::Instant;

use e2e::network::{Network, PLUGIN_SECONDS};
use e2e::node::Node;
use e2e::pod::Pod;
use e2e::witness::Witness;
use e2e::{fixture, wait, web};

/// What the fault plugin does (`src/bin/fake_cni.rs`), and a word of the error that it leads to.
const MODES: [(&str, &str); 7] = [
    ("fail", "told to fail"),
    ("silent", "no answer but this line"),
    ("crash", "signal"),
    ("garbage", "JSON"),
    ("empty", "no CNI result"),
    ("babble", "wrote more than"),
    ("hang", "did not finish ADD within 10s"),
];
/// The ways in which a DEL can go wrong: what it answers does not matter.
const DEL_MODES: [&str; 4] = ["fail", "silent", "crash", "hang"];

fn assert_next_pod_works(node: &Node, config: cri_proto::v1::PodSandboxConfig) {
    let pod = node.run_pod_as(config);
    web::serve(&pod);
    let say = |status: tonic::Status| panic!("after a fault: {status}");
    node.cri().stop_pod(&pod.id).unwrap_or_else(say);
    node.cri().remove_pod(&pod.id).unwrap_or_else(say);
}

#[test]
fn a_plugin_that_fails_to_add_is_named_and_undone() {
    let node = Node::start_on(Network::with_fault);
    let witness = Witness::start(&node);
    for (mode, word) in MODES {
        node.network().set_fault("ADD", mode);
        let config = node.net_pod_config(mode);
        let status = node.cri().run_pod(&config).unwrap_err();
        assert!(status.message().contains("fault"), "{mode}: the plugin is not named: {status}");
        assert!(status.message().contains(word), "{mode}: {status}");
        assert!(!status.message().contains('\x1b'), "{mode}: control characters in {status:?}");
        assert!(status.message().len() < 4096, "{mode}: {} bytes of message", status.message().len());
        node.network().clear_fault("ADD");
        node.assert_no_network_left(mode);
        wait::until("only the witness is listed", || node.cri().pods().unwrap().len() == 1);
        // The kubelet asks for the same pod again.
        assert_next_pod_works(&node, config);
        witness.check(&node);
    }
    node.assert_no_network_left("all of them");
}

#[test]
fn a_hanging_plugin_holds_up_nobody_else() {
    let node = Node::start_on(Network::with_fault);
    let witness = Witness::start(&node);
    let mut barrier = node.network().hold("cni-add.before");
    node.network().set_fault("ADD", "hang");
    let (client, config) = (node.cri(), node.net_pod_config("hangs"));
    let started = Instant::now();
    let caller = std::thread::spawn(move || client.run_pod(&config));
    barrier.wait_reached();
    barrier.release();
    let host = node.run_pod("host");
    assert_eq!(host.run_sh("say", "exit 3").exit_code, 3);
    node.cri().remove_pod(&host.id).unwrap();
    node.cri().status(Default::default()).unwrap();
    witness.check(&node);
    assert!(!caller.is_finished(), "it hangs no more after {:?}", started.elapsed());
    let status = caller.join().expect("the call does not panic").unwrap_err();
    assert!(started.elapsed().as_secs() >= PLUGIN_SECONDS, "{:?}: {status}", started.elapsed());
    node.assert_no_network_left("the plugin that hung");
    node.network().clear_fault("ADD");
    assert_next_pod_works(&node, node.net_pod_config("next"));
}

#[test]
fn a_failed_del_is_told_and_tried_again() {
    let mut node = Node::start_on(Network::with_fault);
    let witness = Witness::start(&node);
    for (index, mode) in DEL_MODES.into_iter().enumerate() {
        let pod = node.run_net_pod(mode);
        web::serve(&pod);
        node.network().set_fault("DEL", mode);
        let status = node.cri().stop_pod(&pod.id).unwrap_err();
        assert!(status.message().contains("fault"), "{mode}: the plugin is not named: {status}");
        if index % 2 == 0 {
            node.restart_daemon();
            node.cri().remove_pod(&pod.id).unwrap_err();
        }
        assert!(
            node.cri().pods().unwrap().iter().any(|listed| listed.id == pod.id),
            "{mode}: a pod that holds an address is not forgotten"
        );
        node.network().clear_fault("DEL");
        node.cri().stop_pod(&pod.id).unwrap_or_else(|status| panic!("{mode}: {status}"));
        node.assert_no_network_left(mode);
        node.cri().remove_pod(&pod.id).unwrap();
        witness.check(&node);
    }
}

#[test]
fn what_neither_add_nor_del_could_finish_is_undone_later() {
    let mut node = Node::start_on(Network::with_fault);
    for restart in [false, true] {
        node.network().set_fault("ADD", "fail");
        node.network().set_fault("DEL", "fail");
        let config = node.net_pod_config(&fixture::unique("both"));
        let status = node.cri().run_pod(&config).unwrap_err();
        assert!(status.message().contains("fault"), "{status}");
        node.network().clear_fault("ADD");
        if restart {
            node.restart_daemon();
        }
        node.network().clear_fault("DEL");
        let id = node.cri().run_pod(&config).unwrap();
        let pod = Pod::known(&node, id, config);
        web::serve(&pod);
        // As the kubelet does with what it finds and does not know.
        for listed in node.cri().pods().unwrap() {
            node.cri().stop_pod(&listed.id).unwrap();
            node.cri().remove_pod(&listed.id).unwrap();
        }
        node.assert_no_network_left("both");
    }
}
