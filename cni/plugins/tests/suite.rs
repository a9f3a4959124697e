//! One suite over the reference plugins and ours: results, addresses, routes, files and rules have to be the same.

mod support;

use serde_json::{Value, json};

use support::compare;
use support::node::{Node, Pod};
use support::process::{sh, try_sh, until};

const DUAL: [&str; 2] = ["10.1.0.0/24", "fd00:1::/64"];

fn routes(mut bridge: Value) -> Value {
    bridge["ipam"]["routes"] = json!([{"dst": "0.0.0.0/0"}, {"dst": "::/0"}, {"dst": "192.0.2.0/24", "gw": "10.1.0.9", "priority": 77}]);
    bridge
}

/// ADD, and what is there; CHECK; DEL twice, and what is left.
fn life(node: &mut Node, version: &str, plugin: &Value, rules: fn(&mut Node, &str)) {
    let pod = node.pod("c1");
    let conf = Node::conf(version, plugin, None);
    let result = node.call("ADD", &pod, &conf).ok();
    node.observe("result", result.clone());
    node.observe_pod("added", &pod);
    node.observe_host("added");
    rules(node, "added");
    // The reference cannot CHECK a link without addresses: it looks for a plugin without a name.
    if version >= "0.4.0" && !plugin["ipam"].is_null() {
        let conf = Node::conf(version, plugin, Some(&result));
        node.call("CHECK", &pod, &conf).ok();
    }
    let again = node.call("ADD", &pod, &conf);
    assert!(!again.success, "a second ADD: {again:?}");
    let conf = Node::conf(version, plugin, Some(&result).filter(|_| version >= "0.4.0"));
    for when in ["deleted", "deleted again"] {
        node.call("DEL", &pod, &conf).ok();
        node.observe_pod(when, &pod);
        node.observe_host(when);
        rules(node, when);
    }
    sh("ip netns del c1");
    until("the pair goes with the namespace", || !sh("ip -o link").contains("veth"));
    node.call("DEL", &pod, &conf).ok();
}

fn nftables(node: &mut Node, when: &str) {
    node.observe_nftables(when);
}

fn iptables(node: &mut Node, when: &str) {
    node.observe_iptables(when);
}

fn no_rules(_: &mut Node, _: &str) {}

#[test]
fn a_pod_in_the_first_versions() {
    compare("a_pod_in_the_first_versions", |node| {
        for version in ["", "0.1.0", "0.2.0"] {
            let plugin = routes(node.bridge(&DUAL, json!({})));
            life(node, version, &plugin, no_rules);
            let pod = node.pod("c2");
            let mut host_local = json!({"type": "host-local"});
            host_local["ipam"] = plugin["ipam"].clone();
            let result = node.call("ADD", &pod, &Node::conf(version, &host_local, None)).ok();
            node.observe("addresses", result);
            for command in ["CHECK", "GC", "STATUS"] {
                let answer = node.call(command, &pod, &Node::conf(version, &plugin, None));
                node.observe(command, json!(answer.code()));
            }
            node.call("DEL", &pod, &Node::conf(version, &host_local, None)).ok();
            let nothing = json!({"type": "bridge", "bridge": "cni0"});
            let answer = node.call("ADD", &pod, &Node::conf(version, &nothing, None));
            node.observe("no addresses", json!(answer.code()));
            node.call("DEL", &pod, &Node::conf(version, &nothing, None)).ok();
            sh("ip netns del c2; ip link del cni0");
        }
    });
}

#[test]
fn a_pod_in_version_0_3_1() {
    compare("a_pod_in_version_0_3_1", |node| {
        let plugin = routes(node.bridge(&DUAL, json!({"ipMasq": true, "ipMasqBackend": "nftables"})));
        life(node, "0.3.1", &plugin, nftables);
    });
}

#[test]
fn a_pod_in_version_0_4_0() {
    compare("a_pod_in_version_0_4_0", |node| {
        let plugin = routes(node.bridge(&DUAL, json!({"ipMasq": true, "ipMasqBackend": "iptables"})));
        life(node, "0.4.0", &plugin, iptables);
    });
}

#[test]
fn a_pod_in_version_1_0_0() {
    compare("a_pod_in_version_1_0_0", |node| {
        let plugin = node.bridge(
            &DUAL,
            json!({"isDefaultGateway": true, "hairpinMode": true, "mtu": 1400, "ipMasq": true}),
        );
        life(node, "1.0.0", &plugin, iptables);
    });
}

#[test]
fn a_pod_in_version_1_1_0() {
    compare("a_pod_in_version_1_1_0", |node| {
        let plugin = node.bridge(
            &DUAL[..1],
            json!({"promiscMode": true, "portIsolation": true, "dns": {"nameservers": ["10.1.0.1"]}}),
        );
        life(node, "1.1.0", &plugin, no_rules);
        let pod = node.pod("c2");
        node.call("STATUS", &pod, &Node::conf("1.1.0", &plugin, None)).ok();
    });
}

#[test]
fn several_routes_to_one_destination() {
    compare("several_routes_to_one_destination", |node| {
        let mut plugin = node.bridge(&DUAL, json!({"isDefaultGateway": true}));
        plugin["ipam"]["routes"] = json!([
            {"dst": "192.0.2.0/24", "gw": "10.1.0.9"}, {"dst": "192.0.2.0/24", "gw": "10.1.0.8"},
            {"dst": "198.51.100.0/24", "gw": "10.1.0.9", "priority": 5}, {"dst": "198.51.100.0/24", "gw": "10.1.0.8", "priority": 6},
            {"dst": "0.0.0.0/0", "gw": "10.1.0.7"},
        ]);
        life(node, "1.0.0", &plugin, |node, when| {
            // The first one is used: their order counts.
            let routes = sh("ip -n c1 route show");
            node.observe(&format!("{when}: order"), json!(routes));
        });
        let pod = node.pod("c1");
        // The reference cannot CHECK what the kernel makes of these.
        let six =
            json!([{"dst": "2001:db8::/32", "gw": "fd00:1::9"}, {"dst": "2001:db8::/32", "gw": "fd00:1::8"}]);
        plugin["ipam"]["routes"] = six;
        let conf = Node::conf("1.0.0", &plugin, None);
        let result = node.call("ADD", &pod, &conf).ok();
        node.observe_pod("six", &pod);
        if node.set == support::Set::Ours {
            let conf = Node::conf("1.0.0", &plugin, Some(&result));
            node.call("CHECK", &pod, &conf).ok();
            sh("ip -n c1 route del 2001:db8::/32 via fd00:1::8");
            assert_eq!(node.call("CHECK", &pod, &conf).code(), 999);
        }
        node.call("DEL", &pod, &conf).ok();
        node.observe_pod("six, deleted", &pod);
        sh("ip netns del c1");
        let pod = node.pod("c1");
        plugin["ipam"]["routes"] =
            json!([{"dst": "192.0.2.0/24", "gw": "10.1.0.9"}, {"dst": "192.0.2.0/24", "gw": "10.1.0.9"}]);
        let twice = node.call("ADD", &pod, &Node::conf("1.0.0", &plugin, None));
        node.observe("the same one twice", json!(twice.code()));
    });
}

#[test]
fn a_link_without_addresses() {
    compare("a_link_without_addresses", |node| {
        let plugin =
            json!({"type": "bridge", "bridge": "cni0", "runtimeConfig": {"mac": "02:00:00:00:00:07"}});
        life(node, "1.0.0", &plugin, no_rules);
    });
}

#[test]
fn addresses_that_were_asked_for() {
    compare("addresses_that_were_asked_for", |node| {
        let mut pod = node.pod("c1");
        pod.args = "IgnoreUnknown=1;K8S_POD_NAME=a;IP=10.1.0.77;MAC=02:00:00:00:00:09".to_owned();
        let mut plugin = node.bridge(&DUAL, json!({"runtimeConfig": {"ips": ["fd00:1::99/64"]}}));
        let conf = Node::conf("1.0.0", &plugin, None);
        let result = node.call("ADD", &pod, &conf).ok();
        node.observe("result", result);
        node.observe_pod("added", &pod);
        node.observe_host("added");
        let mut other = node.pod("c2");
        other.args = pod.args.clone();
        let taken = node.call("ADD", &other, &conf);
        node.observe("taken", json!(taken.code()));
        node.call("DEL", &other, &conf).ok();
        other.args = "IP=10.9.9.9;IgnoreUnknown=1".to_owned();
        let outside = node.call("ADD", &other, &conf);
        node.observe("outside", json!(outside.code()));
        for pod in [&other, &pod] {
            node.call("DEL", pod, &conf).ok();
        }
        plugin["runtimeConfig"] = json!({});
        node.observe_host("deleted");
    });
}

#[test]
fn ranges_in_turn_until_they_are_used_up() {
    compare("ranges_in_turn_until_they_are_used_up", |node| {
        let mut plugin = node.bridge(&[], json!({}));
        plugin["ipam"]["ranges"] = json!([[
            {"subnet": "10.1.0.0/24", "rangeStart": "10.1.0.10", "rangeEnd": "10.1.0.11", "gateway": "10.1.0.254"},
            {"subnet": "10.1.0.0/24", "rangeStart": "10.1.0.20", "rangeEnd": "10.1.0.20", "gateway": "10.1.0.254"},
        ]]);
        let conf = Node::conf("1.0.0", &plugin, None);
        let pods: Vec<Pod> = (1..=4).map(|number| node.pod(&format!("c{number}"))).collect();
        for pod in &pods[..3] {
            let result = node.call("ADD", pod, &conf).ok();
            node.observe("result", result);
        }
        let full = node.call("ADD", &pods[3], &conf);
        node.observe("full", json!(full.code()));
        node.call("DEL", &pods[3], &conf).ok();
        node.observe_pod("refused", &pods[3]);
        node.observe_host("refused");
        node.call("DEL", &pods[1], &conf).ok();
        let result = node.call("ADD", &pods[3], &conf).ok();
        node.observe("the one that was given back", result);
        node.observe_host("at last");
    });
}

#[test]
fn a_pod_whose_namespace_is_gone() {
    compare("a_pod_whose_namespace_is_gone", |node| {
        let plugin = node.bridge(&DUAL, json!({}));
        let conf = Node::conf("1.0.0", &plugin, None);
        for (id, netns) in [("c1", "/run/netns/c1"), ("c2", "")] {
            let mut pod = node.pod(id);
            node.call("ADD", &pod, &conf).ok();
            sh(&format!("ip netns del {id}"));
            pod.netns = netns.to_owned();
            node.call("DEL", &pod, &conf).ok();
            node.call("DEL", &pod, &conf).ok();
        }
        until("the pairs go", || !sh("ip -o link").contains("veth"));
        node.observe_host("deleted");
    });
}

#[test]
fn check_finds_what_is_missing() {
    compare("check_finds_what_is_missing", |node| {
        let plugin = routes(node.bridge(&DUAL, json!({})));
        let pod = node.pod("c1");
        let result = node.call("ADD", &pod, &Node::conf("1.0.0", &plugin, None)).ok();
        let conf = Node::conf("1.0.0", &plugin, Some(&result));
        let inside = |command: &str| sh(&format!("ip -n c1 {command}"));
        let missing = node.call("CHECK", &pod, &Node::conf("1.0.0", &plugin, None));
        node.observe("no previous result", json!(missing.success));
        for (broken, mended) in [
            ("route del 192.0.2.0/24", "route add 192.0.2.0/24 via 10.1.0.9 metric 77"),
            ("addr del fd00:1::2/64 dev eth0", "addr add fd00:1::2/64 dev eth0"),
            ("link set eth0 address 02:00:00:00:00:01", ""),
        ] {
            node.call("CHECK", &pod, &conf).ok();
            inside(broken);
            let answer = node.call("CHECK", &pod, &conf);
            node.observe(broken, json!([answer.success, answer.stdout["code"]]));
            if !mended.is_empty() {
                inside(mended);
                if mended.contains("fd00") {
                    inside("route replace default via fd00:1::1 dev eth0");
                }
            }
        }
    });
}

#[test]
fn loopback() {
    compare("loopback", |node| {
        let pod = node.pod("c1");
        // The reference answers older versions in the shape of the newer ones.
        for version in ["1.0.0", "1.1.0"] {
            let conf = Node::conf(version, &json!({"type": "loopback"}), None);
            let result = node.call("ADD", &pod, &conf).ok();
            node.observe("result", result);
            node.observe_pod("added", &pod);
        }
        let conf = Node::conf("1.0.0", &json!({"type": "loopback"}), None);
        node.call("CHECK", &pod, &conf).ok();
        let previous =
            json!({"cniVersion": "1.0.0", "ips": [{"address": "10.1.0.2/24"}], "dns": {"search": ["a"]}});
        let chained =
            node.call("ADD", &pod, &Node::conf("1.0.0", &json!({"type": "loopback"}), Some(&previous)));
        node.observe("chained", chained.ok());
        node.call("DEL", &pod, &conf).ok();
        node.call("DEL", &pod, &conf).ok();
        node.observe_pod("deleted", &pod);
        let down = node.call("CHECK", &pod, &conf);
        node.observe("down", json!(down.code()));
        sh("ip netns del c1");
        node.call("DEL", &pod, &conf).ok();
    });
}

#[test]
fn host_local_alone() {
    compare("host_local_alone", |node| {
        let resolv_conf = node.path("resolv.conf");
        support::process::write(
            &resolv_conf,
            b"# x\nnameserver 10.0.0.1\nsearch a b\ndomain c\noptions ndots:5\n",
        );
        let plugin = json!({"type": "host-local", "ipam": {
            "type": "host-local", "dataDir": node.path("ipam"), "subnet": "10.1.0.0/29", "resolvConf": resolv_conf,
            "ranges": [[{"subnet": "fd00:1::/64", "rangeStart": "fd00:1::10"}]],
            "routes": [{"dst": "10.0.0.0/8", "gw": "10.1.0.1", "mtu": 1400, "advmss": 1360, "priority": 5, "table": 100, "scope": 0}],
        }});
        for version in ["0.3.1", "0.4.0", "1.0.0", "1.1.0"] {
            let pod = node.pod(&format!("c-{version}"));
            let result = node.call("ADD", &pod, &Node::conf(version, &plugin, None)).ok();
            node.observe(version, result);
        }
        let reserved = node.reserved();
        node.observe("reserved", reserved);
        let pod = Pod {
            id: "c-1.0.0".into(),
            netns: "/run/netns/c-1.0.0".into(),
            ifname: "eth0".into(),
            args: String::new(),
        };
        let conf = Node::conf("1.0.0", &plugin, None);
        node.call("CHECK", &pod, &conf).ok();
        let again = node.call("ADD", &pod, &conf);
        node.observe("again", json!(again.code()));
        node.call("DEL", &pod, &conf).ok();
        node.call("DEL", &pod, &conf).ok();
        let unknown = node.call("CHECK", &pod, &conf);
        node.observe("unknown", json!(unknown.code()));
        let reserved = node.reserved();
        node.observe("given back", reserved);
    });
}

#[test]
fn hardware_addresses_are_held_to() {
    compare("hardware_addresses_are_held_to", |node| {
        let plugin = node.bridge(&DUAL[..1], json!({"macspoofchk": true}));
        life(node, "1.0.0", &plugin, nftables);
    });
}

#[test]
fn two_pods_and_the_host_reach_each_other() {
    compare("two_pods_and_the_host_reach_each_other", |node| {
        let plugin = node.bridge(&DUAL, json!({"isDefaultGateway": true}));
        for id in ["c1", "c2"] {
            let pod = node.pod(id);
            node.call("ADD", &pod, &Node::conf("1.0.0", &plugin, None)).ok();
        }
        assert!(try_sh("ip netns exec c1 busybox ping -c 1 -W 5 10.1.0.3"));
        assert!(try_sh("busybox ping -c 1 -W 5 10.1.0.2"));
        until("IPv6", || try_sh("ip netns exec c2 busybox ping6 -c 1 -W 5 fd00:1::2"));
        node.observe_host("reached");
    });
}

#[test]
fn rules_of_further_pods() {
    compare("rules_of_further_pods", |node| {
        for (index, subnets) in
            [["10.1.0.0/24", "fd00:1::/64"], ["10.2.0.0/20", "fd00:2::/60"], ["10.4.0.0/14", "fd00:4::/125"]]
                .iter()
                .enumerate()
        {
            let more = json!({"bridge": format!("cni{index}"), "ipMasq": true, "ipMasqBackend": "nftables"});
            let plugin = node.bridge(subnets, more);
            for id in ["c", "d"] {
                let pod = node.pod(&format!("{id}{index}"));
                sh(&format!("rm -rf {}", node.reservations().display()));
                node.call("ADD", &pod, &Node::conf("1.0.0", &plugin, None)).ok();
            }
        }
        node.observe_nftables("added");
    });
}
