//! Our plugins with bad input, killed at any moment, and in turn with the reference ones: errors of the right code, and
//! nothing is left.

mod support;

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use support::node::{Node, Pod};
use support::observe::json_of;
use support::ours;
use support::process::{self, sh, until};

const DUAL: [&str; 2] = ["10.1.0.0/24", "fd00:1::/64"];

/// Nothing of any pod is on the host; the bridge and the frames of rules may stay.
fn assert_clean(node: &Node) {
    until("no pair on the host", || !sh("ip -o link").contains("veth"));
    let reserved = node.reserved();
    let files: Vec<&String> = reserved.as_object().into_iter().flatten().map(|(name, _)| name).collect();
    assert!(files.iter().all(|name| *name == "lock" || name.starts_with("last_reserved_ip.")), "{reserved}");
    let rules = sh("nft list ruleset; iptables-save -t nat; ip6tables-save -t nat");
    for mark in ["10.1.0.2", "10.1.0.3", "fd00:1::2", "c1", "CNI-DN-", "dnat to"] {
        assert!(!rules.contains(mark), "{mark} in\n{rules}");
    }
}

#[test]
fn bad_calls_have_the_right_code_and_leave_nothing() {
    ours("bad_calls_have_the_right_code_and_leave_nothing", |node| {
        let pod = node.pod("c1");
        let good = node.bridge(&DUAL, json!({}));
        let changed = |change: &dyn Fn(&mut Value)| {
            let mut conf = Node::conf("1.0.0", &good, None);
            change(&mut conf);
            conf
        };
        let large = "x".repeat(1 << 20);
        for (what, conf, code) in [
            ("oversized", changed(&|conf| conf["x"] = json!(large)), 7),
            ("network name", changed(&|conf| conf["name"] = json!("../../etc")), 7),
            ("version", changed(&|conf| conf["cniVersion"] = json!("0.5.0")), 1),
            ("bridge name", changed(&|conf| conf["bridge"] = json!("a/b")), 7),
            ("vlan", changed(&|conf| conf["vlan"] = json!(7)), 2),
            ("CIDR", changed(&|conf| conf["ipam"]["ranges"] = json!([[{"subnet": "10.1.0.0/40"}]])), 7),
            ("host bits", changed(&|conf| conf["ipam"]["ranges"] = json!([[{"subnet": "10.1.0.7/24"}]])), 7),
            (
                "backend",
                changed(&|conf| {
                    conf["ipMasq"] = json!(true);
                    conf["ipMasqBackend"] = json!("ebtables");
                }),
                7,
            ),
            ("path as plugin", changed(&|conf| conf["ipam"]["type"] = json!("../../../bin/sh")), 7),
            ("unknown plugin", changed(&|conf| conf["ipam"]["type"] = json!("nobody")), 999),
            ("types", changed(&|conf| conf["isGateway"] = json!("yes")), 7),
        ] {
            let answer = node.call("ADD", &pod, &conf);
            assert_eq!(answer.code(), code, "{what}: {}", answer.stdout);
            assert!(answer.stdout["msg"].as_str().unwrap().len() < 2100);
        }
        let conf = Node::conf("1.0.0", &good, None);
        for (what, change) in [
            ("no namespace", Pod { netns: "/run/netns/nobody".into(), ..pod.clone() }),
            ("no namespace but a file", Pod { netns: "/etc/passwd".into(), ..pod.clone() }),
            ("the host's", Pod { netns: "/proc/self/ns/net".into(), ..pod.clone() }),
        ] {
            assert_eq!(node.call("ADD", &change, &conf).code(), 8, "{what}");
        }
        let hosts = Pod { netns: "/proc/self/ns/net".into(), ..pod.clone() };
        assert_eq!(node.call("DEL", &hosts, &conf).code(), 8);
        let slash = Pod { ifname: "eth/0".into(), ..pod.clone() };
        assert_eq!(node.call("ADD", &slash, &conf).code(), 4);
        let traversal = Pod { id: "../c1".into(), ..pod.clone() };
        assert_eq!(node.call("ADD", &traversal, &conf).code(), 4);
        let portmap = json!({"type": "portmap", "runtimeConfig": {"portMappings": [{"hostPort": 1, "containerPort": 1, "protocol": "tcp"}]}});
        assert_eq!(node.call("ADD", &pod, &Node::conf("1.0.0", &portmap, None)).code(), 6, "not chained");
        assert_eq!(node.call("ADD", &pod, &changed(&|conf| conf["bridge"] = json!("lo"))).code(), 999);
        assert_clean(node);
        assert!(!sh("ip -n c1 -o link").contains("eth0"));
    });
}

#[test]
fn a_second_add_does_not_harm_the_first() {
    ours("a_second_add_does_not_harm_the_first", |node| {
        let pod = node.pod("c1");
        let plugin = node
            .bridge(&DUAL, json!({"isDefaultGateway": true, "ipMasq": true, "ipMasqBackend": "nftables"}));
        let conf = Node::conf("1.0.0", &plugin, None);
        let result = node.call("ADD", &pod, &conf).ok();
        let rules = sh("nft list ruleset");
        assert_eq!(node.call("ADD", &pod, &conf).code(), 999);
        let other = Pod { id: "c2".into(), ..pod.clone() };
        assert_eq!(node.call("ADD", &other, &conf).code(), 999, "the same namespace");
        node.call("CHECK", &pod, &Node::conf("1.0.0", &plugin, Some(&result))).ok();
        assert_eq!(sh("nft list ruleset"), rules);
        assert_eq!(node.reserved().as_object().unwrap().len(), 5, "{}", node.reserved());
        assert!(process::try_sh("busybox ping -c 1 -W 5 10.1.0.2"));
    });
}

#[test]
fn a_namespace_can_get_its_network_again() {
    ours("a_namespace_can_get_its_network_again", |node| {
        let pod = node.pod("c1");
        for delete_link in [false, true, false] {
            let plugin = node.bridge(&DUAL, json!({"isDefaultGateway": true, "deleteLink": delete_link}));
            let conf = Node::conf("1.0.0", &plugin, None);
            node.call("ADD", &pod, &conf).ok();
            assert!(process::try_sh(
                "busybox ping -c 1 -W 5 $(ip -n c1 -4 -o addr show eth0 | grep -o '10\\.1\\.0\\.[0-9]*' | head -n 1)"
            ));
            node.call("DEL", &pod, &conf).ok();
            let link = json_of("ip -n c1 -j -d addr").to_string();
            assert_eq!(link.contains("left by orlop-cni"), !delete_link, "{link}");
            assert!(!link.contains("10.1.0."), "{link}");
        }
        sh("ip netns del c1");
        assert_clean(node);
    });
}

/// The chain of a pod: what is killed, and what takes it back.
fn chain(node: &Node, backend: &str) -> [Value; 2] {
    let bridge =
        node.bridge(&DUAL, json!({"isDefaultGateway": true, "ipMasq": true, "ipMasqBackend": backend}));
    let mappings = json!([{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}]);
    [bridge, json!({"type": "portmap", "backend": backend, "runtimeConfig": {"portMappings": mappings}})]
}

fn take_back(node: &Node, pod: &Pod, plugins: &[Value; 2]) {
    for plugin in plugins.iter().rev() {
        node.call("DEL", pod, &Node::conf("1.0.0", plugin, None)).ok();
    }
}

/// Kills a call after this time.
fn cut(node: &Node, command: &str, pod: &Pod, conf: &Value, after: Duration) {
    let started = Instant::now();
    let mut child = node.start(command, pod, conf);
    while started.elapsed() < after {
        std::thread::park_timeout(Duration::from_micros(50));
    }
    let _ = child.kill();
    let _ = child.wait();
    // What it started ends with it, a moment later.
    until("no program of the plugin is left", || !programs_run());
}

/// Whether a program that writes rules runs on this node.
fn programs_run() -> bool {
    let here = std::fs::read_link("/proc/self/ns/net").expect("a process has a network");
    let is_one = |entry: std::fs::DirEntry| {
        let name = std::fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
        let writes =
            ["nft", "iptables", "ip6tables", "xtables"].iter().any(|program| name.starts_with(program));
        writes && std::fs::read_link(entry.path().join("ns/net")).is_ok_and(|there| there == here)
    };
    std::fs::read_dir("/proc").expect("read /proc").flatten().any(is_one)
}

fn killed_at_any_moment(node: &mut Node, backend: &str) {
    let plugins = chain(node, backend);
    let result =
        json!({"cniVersion": "1.0.0", "ips": [{"address": "10.1.0.2/24"}, {"address": "fd00:1::2/64"}]});
    for step in 0..40 {
        let pod = node.pod("c1");
        let after = Duration::from_micros(step * 400);
        if step % 3 == 2 {
            cut(node, "ADD", &pod, &Node::conf("1.0.0", &plugins[1], Some(&result)), after);
        } else {
            cut(node, "ADD", &pod, &Node::conf("1.0.0", &plugins[0], None), after);
        }
        if step % 4 == 3 {
            cut(node, "DEL", &pod, &Node::conf("1.0.0", &plugins[0], None), after / 4);
        }
        take_back(node, &pod, &plugins);
        sh("ip netns del c1");
        assert_clean(node);
    }
    let pod = node.pod("c1");
    node.call("ADD", &pod, &Node::conf("1.0.0", &plugins[0], None)).ok();
    assert!(process::try_sh("ip netns exec c1 busybox ping -c 1 -W 5 10.1.0.1"));
    take_back(node, &pod, &plugins);
}

#[test]
fn killed_at_any_moment_with_nftables() {
    ours("killed_at_any_moment_with_nftables", |node| killed_at_any_moment(node, "nftables"));
}

#[test]
fn killed_at_any_moment_with_iptables() {
    ours("killed_at_any_moment_with_iptables", |node| killed_at_any_moment(node, "iptables"));
}

#[test]
fn rules_go_with_a_namespace_that_is_gone_and_a_changed_backend() {
    ours("rules_go_with_a_namespace_that_is_gone_and_a_changed_backend", |node| {
        for (with, without) in [("iptables", "nftables"), ("nftables", "iptables")] {
            let (pod, plugins) = (node.pod("c1"), chain(node, with));
            let result = node.call("ADD", &pod, &Node::conf("1.0.0", &plugins[0], None)).ok();
            node.call("ADD", &pod, &Node::conf("1.0.0", &plugins[1], Some(&result))).ok();
            sh("ip netns del c1");
            take_back(node, &pod, &chain(node, without));
            assert_clean(node);
        }
    });
}

#[test]
fn a_node_changes_from_one_set_of_plugins_to_the_other() {
    ours("a_node_changes_from_one_set_of_plugins_to_the_other", |node| {
        for backend in ["nftables", "iptables"] {
            for (from, to) in [("reference", "ours"), ("ours", "reference")] {
                let (pod, plugins) = (node.pod("c1"), chain(node, backend));
                let result = node.call_in(from, "ADD", &pod, &Node::conf("1.0.0", &plugins[0], None)).ok();
                let conf = |index: usize| Node::conf("1.0.0", &plugins[index], Some(&result));
                node.call_in(from, "ADD", &pod, &conf(1)).ok();
                let other = node.pod("c2");
                let beside = node.call_in(to, "ADD", &other, &Node::conf("1.0.0", &plugins[0], None)).ok();
                assert_ne!(beside["ips"], result["ips"]);
                for index in [0, 1] {
                    node.call_in(to, "CHECK", &pod, &conf(index)).ok();
                }
                assert!(process::try_sh("ip netns exec c1 busybox ping -c 1 -W 5 10.1.0.1"));
                for index in [1, 0] {
                    node.call_in(to, "DEL", &pod, &conf(index)).ok();
                }
                node.call_in(to, "DEL", &other, &Node::conf("1.0.0", &plugins[0], Some(&beside))).ok();
                sh("ip netns del c1; ip netns del c2");
                assert_clean(node);
            }
        }
    });
}

#[test]
fn collection_keeps_the_pods_that_the_runtime_knows() {
    ours("collection_keeps_the_pods_that_the_runtime_knows", |node| {
        for backend in ["nftables", "iptables"] {
            let [bridge, _] = chain(node, backend);
            let pods = ["c1", "d2"].map(|id| node.pod(id));
            let results =
                pods.each_ref().map(|pod| node.call("ADD", pod, &Node::conf("1.1.0", &bridge, None)).ok());
            let mut conf = Node::conf("1.1.0", &bridge, None);
            conf["cni.dev/valid-attachments"] = json!([{"containerID": "d2", "ifname": "eth0"}]);
            node.call("GC", &pods[0], &conf).ok();
            node.call("CHECK", &pods[1], &Node::conf("1.1.0", &bridge, Some(&results[1]))).ok();
            let rules = sh("nft list ruleset; iptables-save -t nat");
            let [of_c1, of_d2] = results
                .each_ref()
                .map(|result| result["ips"][0]["address"].as_str().unwrap().replace("/24", ""));
            assert!(!rules.contains(&of_c1) && rules.contains(&of_d2), "{of_c1} {of_d2}\n{rules}");
            for pod in &pods {
                node.call("DEL", pod, &Node::conf("1.1.0", &bridge, None)).ok();
            }
            sh("ip netns del c1; ip netns del d2");
            assert_clean(node);
        }
    });
}

#[test]
fn addresses_of_another_plugin() {
    ours("addresses_of_another_plugin", |node| {
        let pod = node.pod("c1");
        let script = "#!/bin/sh\necho $CNI_COMMAND >> $(dirname $0)/calls\n[ -e /run/netns/fail ] && { echo '{\"code\":11,\"msg\":\"later\"}'; exit 1; }\n\
            [ $CNI_COMMAND = ADD ] && echo '{\"cniVersion\":\"1.0.0\",\"ips\":[{\"address\":\"10.7.0.2/24\"}]}'\nexit 0\n";
        let path = node.path("bin/giver");
        process::write(&path, script.as_bytes());
        sh(&format!("chmod 755 {}", path.display()));
        let plugin = json!({"type": "bridge", "isDefaultGateway": true, "ipam": {"type": "giver"}});
        let conf = Node::conf("1.0.0", &plugin, None);
        let result = node.call("ADD", &pod, &conf).ok();
        assert_eq!(result["ips"], json!([{"address": "10.7.0.2/24", "gateway": "10.7.0.1", "interface": 2}]));
        assert!(process::try_sh("busybox ping -c 1 -W 5 10.7.0.2"));
        node.call("DEL", &pod, &conf).ok();
        sh("touch /run/netns/fail");
        assert_eq!(node.call("ADD", &pod, &conf).code(), 11);
        assert!(!sh("ip -n c1 -o link").contains("eth0"), "undone");
        sh("rm /run/netns/fail");
        node.call("ADD", &pod, &conf).ok();
        let calls = sh(&format!("cat {}", node.path("bin/calls").display()));
        assert_eq!(calls.split_whitespace().collect::<Vec<_>>(), ["ADD", "DEL", "ADD", "ADD"]);
    });
}
