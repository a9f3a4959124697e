//! What a node's settings and a pod's annotations make of its network, and a pod that nobody wants any more.

use std::time::Instant;

use e2e::network::{Network, PLUGIN_SECONDS};
use e2e::node::Node;
use e2e::pod::net_container;
use e2e::web;
use serde_json::{Value, json};

#[test]
fn a_pod_is_on_as_many_networks_as_the_settings_allow() {
    let mut node = Node::start();
    let second_file = "20-second.conflist";
    node.network().write(second_file, &node.network().second());
    let pod = node.run_net_pod("on-one");
    let container = pod.start(&net_container("look", &["top", "-b"]));
    let links = node.cri().sh(&container, "ls /sys/class/net");
    assert_eq!(links.split_whitespace().collect::<Vec<_>>(), ["eth0", "lo"]);
    node.cri().remove_pod(&pod.id).unwrap();

    for (most, restart) in [("max_conf_num = 2", false), ("max_conf_num = 0", true)] {
        node.reconfigure(if restart { "max_conf_num = 2" } else { "max_conf_num = 1" }, most);
        let pod = node.run_net_pod("on-two");
        let container = web::serve(&pod);
        let links = node.cri().sh(&container, "ls /sys/class/net");
        assert_eq!(links.split_whitespace().collect::<Vec<_>>(), ["eth0", "eth1", "lo"], "{most}");
        let on_eth1 = node.cri().sh(&container, "ip -4 -o address show dev eth1");
        assert!(
            !on_eth1.contains(&pod.address().to_string()),
            "the pod's address is that of the first: {on_eth1}"
        );
        let routes = node.cri().sh(&container, "ip route show default");
        assert!(routes.contains("dev eth0"), "{routes}");
        // Both go, though one of them is configured no more.
        node.network().remove(second_file);
        if restart {
            node.restart_daemon();
        }
        node.cri().stop_pod(&pod.id).unwrap();
        node.assert_no_network_left(most);
        node.cri().remove_pod(&pod.id).unwrap();
        node.network().write(second_file, &node.network().second());
    }
}

#[test]
fn annotated_bandwidth_is_told_to_the_plugin_that_can_shape_it() {
    let node = Node::start_on(Network::with_fault);
    let mut config = node.net_pod_config("shaped");
    config.annotations.insert("kubernetes.io/ingress-bandwidth".into(), "10M".into());
    let pod = node.run_pod_as(config);
    // The burst is containerd's: without a bound of its own.
    let told = json!({"ingressRate": 10_000_000, "ingressBurst": u32::MAX});
    assert_eq!(node.network().last_told("ADD")["config"]["runtimeConfig"]["bandwidth"], told);
    node.cri().remove_pod(&pod.id).unwrap();
    assert_eq!(node.network().last_told("DEL")["config"]["runtimeConfig"]["bandwidth"], told);

    let pod = node.run_net_pod("unshaped");
    assert_eq!(node.network().last_told("ADD")["config"]["runtimeConfig"]["bandwidth"], Value::Null);
    node.cri().remove_pod(&pod.id).unwrap();

    let mut config = node.net_pod_config("misshaped");
    config.annotations.insert("kubernetes.io/egress-bandwidth".into(), "fast".into());
    let status = node.cri().run_pod(&config).unwrap_err();
    assert_eq!(status.code(), tonic::Code::InvalidArgument, "{status}");
    assert!(status.message().contains("egress-bandwidth"), "{status}");
    node.assert_no_pods_left();
}

#[test]
fn the_settings_pick_which_address_is_the_pods() {
    let mut node = Node::start_on(Network::with_fault);
    node.network().set_fault("ADD", "second-address");
    let cases = [
        ("", false),
        ("ip_pref = \"ipv6\"", true),
        ("ip_pref = \"ipv4\"", false),
        ("ip_pref = \"cni\"", false),
    ];
    let mut line = "max_conf_num = 1".to_owned();
    for (setting, six_first) in cases {
        let next = format!("max_conf_num = 1\n{setting}");
        node.reconfigure(&line, &next);
        line = next;
        let pod = node.run_net_pod("dual");
        let network = node.cri().pod(&pod.id).unwrap().network.expect("the pod has a network");
        let mut addresses = vec![network.ip];
        addresses.extend(network.additional_ips.into_iter().map(|other| other.ip));
        assert_eq!(addresses.len(), 2, "{setting}: {addresses:?}");
        assert_eq!(addresses[0] == "fd00:6f72::7", six_first, "{setting}: {addresses:?}");
        assert_ne!(addresses[1] == "fd00:6f72::7", six_first, "{setting}: {addresses:?}");
        node.cri().remove_pod(&pod.id).unwrap();
    }
}

#[test]
fn a_pod_that_is_stopped_waits_for_no_plugin() {
    let mut node = Node::start_on(Network::with_fault);
    for restart in [false, true] {
        let mut barrier = node.network().hold("cni-add.before");
        node.network().set_fault("ADD", "hang");
        let (client, config) = (node.cri(), node.net_pod_config("unwanted"));
        let caller = std::thread::spawn(move || client.run_pod(&config));
        barrier.wait_reached();
        barrier.release();
        // Not listed yet, but whoever learned its name may have it stopped.
        let told = node.network().last_told("ADD");
        let pod = told["pod"].as_str().expect("the plugin was told a pod");
        if restart {
            node.restart_daemon();
        }
        let started = Instant::now();
        node.cri().stop_pod(pod).unwrap();
        node.cri().remove_pod(pod).unwrap();
        assert!(started.elapsed().as_secs() < PLUGIN_SECONDS, "it waited {:?}", started.elapsed());
        caller.join().expect("the call does not panic").unwrap_err();
        node.assert_no_network_left("the pod that was stopped");
        node.network().clear_fault("ADD");
        node.assert_no_pods_left();
    }
}
