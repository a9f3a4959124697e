//! Pods on a network of their own, made by the reference plugins: reached, listed, kept and given back.

use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::MetadataExt;

use cri_proto::v1 as cri;
use e2e::network::{DEFAULT_FILE, Network};
use e2e::node::Node;
use e2e::pod::{net_container, pod_namespaces, port_mapping, process_of};
use e2e::{process, wait, web};

fn network_condition(node: &Node) -> cri::RuntimeCondition {
    let status = node.cri().status(Default::default()).expect("Status answers").status.expect("a status");
    let found = status.conditions.into_iter().find(|condition| condition.r#type == "NetworkReady");
    found.expect("a condition of the network")
}

#[test]
fn pods_and_the_node_reach_each_other() {
    let node = Node::start();
    let (one, two) = (node.run_net_pod("one"), node.run_net_pod("two"));
    let (first, second) = (one.address(), two.address());
    assert_ne!(first, second);
    assert!(node.network().contains(first) && node.network().contains(second), "{first} {second}");
    let containers = [web::serve(&one), web::serve(&two)];
    assert_eq!(web::get_from(&node, &containers[0], second, web::PORT), "two");
    assert_eq!(web::get_from(&node, &containers[1], first, web::PORT), "one");
    assert_eq!(web::get_from(&node, &containers[0], Ipv4Addr::LOCALHOST, web::PORT), "one", "lo is up");
    process::run(process::command("busybox").args(["ping", "-c", "1", "-W", "5", &first.to_string()]));
    node.cri().sh(&containers[0], &format!("ping -c 1 -W 5 {second}"));
    let routes = node.cri().sh(&containers[0], "ip route");
    assert!(routes.contains(&format!("default via {} dev eth0", node.network().gateway())), "{routes}");
    let addresses = node.cri().sh(&containers[0], "ip -4 -o address show");
    assert!(addresses.contains(&format!("eth0    inet {first}/24")), "{addresses}");
    assert!(addresses.contains("lo    inet 127.0.0.1/8"), "{addresses}");
}

#[test]
fn containers_of_a_pod_share_its_pinned_network() {
    let node = Node::start();
    let pod = node.run_net_pod("shared");
    let ids = ["one", "two"].map(|name| pod.start(&net_container(name, &["top", "-b"])));
    let networks = ids.each_ref().map(|id| {
        let path = format!("/proc/{}/ns/net", process_of(&node.cri(), id).pid);
        std::fs::metadata(path).expect("a process has a network").ino()
    });
    let pin = std::fs::metadata(Network::pin(&pod.id)).expect("the pin is there").ino();
    assert_eq!(networks, [pin, pin]);
    assert_ne!(pin, std::fs::metadata("/proc/self/ns/net").expect("so has this one").ino());
    node.cri().sh(&ids[0], "ip link show eth0");

    let status = node.cri().pod(&pod.id).unwrap();
    let options = status.linux.and_then(|linux| linux.namespaces?.options).expect("namespace options");
    assert_eq!(options.network(), cri::NamespaceMode::Pod);
    let host = node.run_pod("host");
    let network = node.cri().pod(&host.id).unwrap().network.unwrap_or_default();
    assert_eq!(network.ip, "", "a pod on the node's network has no address of its own");
}

#[test]
fn host_ports_lead_to_the_pod_and_port_zero_is_none() {
    let node = Node::start();
    for (index, backend) in ["nftables", "iptables"].into_iter().enumerate() {
        let plugins = [node.network().bridge_plugin(), Network::portmap_plugin(backend)];
        node.network().write(DEFAULT_FILE, &node.network().conflist("1.0.0", &plugins));
        let host_port = node.network().host_port(u16::try_from(index).unwrap());
        let mut config = node.net_pod_config(backend);
        config.port_mappings = vec![port_mapping(web::PORT, host_port), port_mapping(web::PORT, 0)];
        let pod = node.run_pod_as(config);
        let container = web::serve(&pod);
        let by_loopback = SocketAddr::from((Ipv4Addr::LOCALHOST, host_port));
        web::wait_served(&pod, by_loopback);
        let gateway: Ipv4Addr = node.network().gateway().parse().unwrap();
        web::wait_served(&pod, SocketAddr::from((gateway, host_port)));
        assert_eq!(web::get_from(&node, &container, gateway, host_port), backend, "by itself");
        node.cri().stop_pod(&pod.id).unwrap();
        assert_eq!(web::get(by_loopback), None, "{backend}");
        node.cri().remove_pod(&pod.id).unwrap();
        node.assert_no_network_left("the pod");
    }
}

#[test]
fn a_host_port_belongs_to_one_pod_at_a_time() {
    let node = Node::start();
    let host_port = node.network().host_port(0);
    let config = |name: &str| {
        let mut config = node.net_pod_config(name);
        config.port_mappings = vec![port_mapping(web::PORT, host_port)];
        config
    };
    let first = node.run_pod_as(config("first"));
    web::serve(&first);
    let status = node.cri().run_pod(&config("second")).unwrap_err();
    assert!(status.message().contains(&host_port.to_string()), "{status}");
    web::wait_served(&first, SocketAddr::from((Ipv4Addr::LOCALHOST, host_port)));
    node.cri().remove_pod(&first.id).unwrap();
    let second = node.run_pod_as(config("second"));
    web::serve(&second);
    web::wait_served(&second, SocketAddr::from((Ipv4Addr::LOCALHOST, host_port)));
}

#[test]
fn addresses_and_connections_outlive_the_daemon() {
    let mut node = Node::start();
    let pod = node.run_net_pod("kept");
    web::serve(&pod);
    let server = SocketAddr::from((pod.address(), web::PORT));
    let before = node.cri().pod(&pod.id).unwrap();
    node.kill9();
    assert_eq!(web::get(server).as_deref(), Some("kept"), "without a daemon");
    node.resume();
    assert_eq!(node.cri().pod(&pod.id).unwrap(), before);
    assert_eq!(web::get(server).as_deref(), Some("kept"));
    assert_ne!(node.run_net_pod("later").address(), pod.address());
    let id = pod.start(&net_container("later", &["top", "-b"]));
    assert_eq!(
        web::get_from(&node, &id, Ipv4Addr::LOCALHOST, web::PORT),
        "kept",
        "it joins the same network"
    );
}

#[test]
fn a_stop_gives_the_network_back() {
    let mut node = Node::start();
    for restart in [false, true] {
        let pod = node.run_net_pod("stopped");
        web::serve(&pod);
        assert!(!node.network_left().is_empty(), "the check sees what a pod has");
        assert!(Network::pin(&pod.id).exists());
        if restart {
            node.restart_daemon();
        }
        for _ in 0..2 {
            node.cri().stop_pod(&pod.id).unwrap();
            node.assert_no_network_left("the pod");
        }
        assert_eq!(node.cri().pod(&pod.id).unwrap().state(), cri::PodSandboxState::SandboxNotready);
        node.cri().remove_pod(&pod.id).unwrap();
    }
}

#[test]
fn the_network_is_ready_when_its_configuration_is() {
    let node = Node::start();
    assert!(network_condition(&node).status);
    let network = node.network();
    let nothing = || network.clear();
    let broken = || {
        network.clear();
        network.write("10-broken.conflist", &serde_json::json!({"name": "broken"}));
    };
    let cases: [(&dyn Fn(), String); 2] =
        [(&nothing, network.conf_dir().display().to_string()), (&broken, "10-broken.conflist".to_owned())];
    for (take_away, named) in cases {
        take_away();
        let condition = network_condition(&node);
        assert!(!condition.status, "{condition:?}");
        assert!(!condition.reason.is_empty() && condition.message.contains(&named), "{condition:?}");
        let status = node.cri().run_pod(&node.net_pod_config("early")).unwrap_err();
        assert!(status.message().contains(&named), "{status}");
        wait::until("no half-made pod is listed", || node.cri().pods().unwrap().is_empty());
        let host = node.run_pod("host");
        assert_eq!(host.run_sh("say", "exit 4").exit_code, 4);
        node.cri().remove_pod(&host.id).unwrap();

        network.clear();
        network.write(DEFAULT_FILE, &network.bridged("1.0.0"));
        let condition = network_condition(&node);
        assert!(condition.status, "{condition:?}");
        let pod = node.run_net_pod("early");
        web::serve(&pod);
        node.cri().remove_pod(&pod.id).unwrap();
    }
}

#[test]
fn a_stop_needs_no_configuration_any_more() {
    let mut node = Node::start();
    for restart in [false, true] {
        node.network().write(DEFAULT_FILE, &node.network().bridged("1.0.0"));
        let pod = node.run_net_pod("orphan");
        node.network().clear();
        if restart {
            node.restart_daemon();
        }
        node.cri().stop_pod(&pod.id).unwrap();
        node.assert_no_network_left("the pod");
        node.cri().remove_pod(&pod.id).unwrap();
    }
}

#[test]
fn every_version_of_the_configuration_and_point_to_point_links_work() {
    let node = Node::start();
    let network = node.network();
    let versions = ["0.3.1", "0.4.0", "1.0.0", "1.1.0"].map(|version| network.bridged(version));
    for (index, conf) in versions.into_iter().chain([network.point_to_point()]).enumerate() {
        network.write(DEFAULT_FILE, &conf);
        let host_port = network.host_port(0);
        let mut config = node.net_pod_config(&format!("version-{index}"));
        config.port_mappings = vec![port_mapping(web::PORT, host_port)];
        let pod = node.run_pod_as(config);
        assert!(network.contains(pod.address()), "{conf}");
        web::serve(&pod);
        web::wait_served(&pod, SocketAddr::from((Ipv4Addr::LOCALHOST, host_port)));
        node.cri().stop_pod(&pod.id).unwrap();
        node.cri().remove_pod(&pod.id).unwrap();
        node.assert_no_network_left("the pod");
    }
}

#[test]
fn a_network_taken_away_by_others_does_not_stop_a_stop() {
    let mut node = Node::start();
    // The plugin `bridge` (1.9.1) finds its masquerading by the addresses in the namespace: without that, it stays.
    let mut bridge = node.network().bridge_plugin();
    bridge["ipMasq"] = false.into();
    let plugins = [bridge, Network::portmap_plugin("nftables")];
    node.network().write(DEFAULT_FILE, &node.network().conflist("1.0.0", &plugins));
    for restart in [false, true] {
        let pod = node.run_net_pod("robbed");
        web::serve(&pod);
        let name = format!("cni-{}", pod.id);
        process::run(process::command("ip").args(["netns", "delete", &name]));
        assert!(!Network::pin(&pod.id).exists());
        if restart {
            node.restart_daemon();
        }
        node.cri().stop_pod(&pod.id).unwrap();
        node.assert_no_network_left("the pod");
        node.cri().remove_pod(&pod.id).unwrap();
    }
    let pod = node.run_net_pod("cut");
    let veths = std::fs::read_dir(format!("/sys/class/net/{}/brif", node.network().bridge())).unwrap();
    for veth in veths.flatten() {
        let name = veth.file_name().to_string_lossy().into_owned();
        process::run(process::command("ip").args(["link", "delete", &name]));
    }
    node.cri().stop_pod(&pod.id).unwrap();
    node.assert_no_network_left("the pod");
}

#[test]
fn ten_pods_at_once_get_an_address_each() {
    let node = Node::start();
    let names: Vec<String> = (0..10).map(|number| format!("many-{number}")).collect();
    let one = |name: &String| {
        let mut config = node.net_pod_config(name);
        pod_namespaces(&mut config).pid = cri::NamespaceMode::Pod.into();
        let pod = node.run_pod_as(config);
        web::serve(&pod);
        pod
    };
    let pods: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = names.iter().map(|name| scope.spawn(move || one(name))).collect();
        threads.into_iter().map(|thread| thread.join().expect("a pod runs")).collect()
    });
    let addresses: std::collections::BTreeSet<Ipv4Addr> = pods.iter().map(e2e::pod::Pod::address).collect();
    assert_eq!(addresses.len(), pods.len(), "{addresses:?}");
    std::thread::scope(|scope| {
        for pod in &pods {
            scope.spawn(|| node.cri().remove_pod(&pod.id).unwrap());
        }
    });
    node.assert_no_pods_left();
}
