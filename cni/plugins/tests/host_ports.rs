//! Host ports by the reference plugins and by ours: the same rules, and they lead to the pod.

mod support;

use serde_json::{Value, json};

use support::node::{Node, Pod};
use support::process::{sh, try_sh, until};
use support::{compare, ours};

const DUAL: [&str; 2] = ["10.1.0.0/24", "fd00:1::/64"];

/// A pod on the bridge, and the result that portmap gets.
fn pod(node: &Node, id: &str) -> (Pod, Value) {
    let pod = node.pod(id);
    let plugin = node.bridge(&DUAL, json!({"isDefaultGateway": true, "hairpinMode": true}));
    let result = node.call("ADD", &pod, &Node::conf("1.0.0", &plugin, None)).ok();
    (pod, result)
}

fn portmap(more: &Value, mappings: &Value) -> Value {
    let mut plugin = json!({"type": "portmap", "runtimeConfig": {"portMappings": mappings}});
    for (key, value) in more.as_object().into_iter().flatten() {
        plugin[key] = value.clone();
    }
    plugin
}

fn some_mappings() -> Value {
    json!([
        {"hostPort": 8080, "containerPort": 80, "protocol": "tcp"},
        {"hostPort": 8081, "containerPort": 81, "protocol": "tcp", "hostIP": "127.0.0.2"},
        {"hostPort": 8082, "containerPort": 82, "protocol": "tcp", "hostIP": "0.0.0.0"},
        {"hostPort": 8083, "containerPort": 83, "protocol": "tcp", "hostIP": "::1"},
        {"hostPort": 5353, "containerPort": 53, "protocol": "udp"},
        {"hostPort": 7777, "containerPort": 77, "protocol": "sctp"},
    ])
}

fn observe(node: &mut Node, when: &str, backend: &str) {
    if backend == "iptables" { node.observe_iptables(when) } else { node.observe_nftables(when) }
}

/// Two pods with these mappings: rules, CHECK, rules of the other one after DEL, nothing after the last.
fn life(node: &mut Node, backend: &str, more: &Value, mappings: &Value) {
    let mut more = more.clone();
    more["backend"] = json!(backend);
    let plugin = portmap(&more, mappings);
    let pods = ["c1", "c2"].map(|id| pod(node, id));
    for (pod, result) in &pods {
        let conf = Node::conf("1.0.0", &plugin, Some(result));
        let answer = node.call("ADD", pod, &conf).ok();
        assert_eq!(&answer, result, "the result is passed on");
        node.call("CHECK", pod, &conf).ok();
    }
    observe(node, "added", backend);
    node.observe_host("added");
    for (pod, result) in &pods {
        let conf = Node::conf("1.0.0", &plugin, Some(result));
        node.call("DEL", pod, &conf).ok();
        node.call("DEL", pod, &conf).ok();
        assert_ne!(node.call("CHECK", pod, &conf).code(), 0);
        observe(node, &format!("without {}", pod.id), backend);
    }
}

#[test]
fn rules_of_nftables() {
    compare("rules_of_nftables", |node| life(node, "nftables", &json!({}), &some_mappings()));
}

#[test]
fn rules_of_iptables() {
    compare("rules_of_iptables", |node| life(node, "iptables", &json!({}), &some_mappings()));
}

#[test]
fn many_ports() {
    compare("many_ports", |node| {
        let mappings: Vec<Value> = (0..32)
            .map(|i| json!({"hostPort": 9000 + i, "containerPort": 80, "protocol": if i % 2 == 0 { "tcp" } else { "udp" }}))
            .collect();
        life(node, "iptables", &json!({"snat": false}), &json!(mappings));
    });
}

/// Mappings of this many ports.
fn ports(first: usize, number: usize) -> Value {
    let one = |port| json!({"hostPort": port, "containerPort": 80, "protocol": if port % 2 == 0 { "tcp" } else { "udp" }});
    (first..first + number).map(one).collect::<Vec<_>>().into()
}

fn rules_to_pods() -> usize {
    sh("nft list ruleset").matches("dnat to").count()
}

#[test]
fn thousands_of_ports_of_nftables() {
    ours("thousands_of_ports_of_nftables", |node| {
        let calls =
            [("c1", 1000, 4096), ("c2", 6000, 1000), ("c3", 7000, 4096)].map(|(id, first, number)| {
                let (pod, result) = pod(node, id);
                let plugin = portmap(&json!({"backend": "nftables"}), &ports(first, number));
                (pod, Node::conf("1.0.0", &plugin, Some(&result)))
            });
        let mut expected = 0;
        for ((pod, conf), number) in calls.iter().zip([4096, 1000, 4096]) {
            node.call("ADD", pod, conf).ok();
            node.call("CHECK", pod, conf).ok();
            expected += 2 * number;
            assert_eq!(rules_to_pods(), expected);
        }
        // Again, in place of the ones that are there.
        node.call("ADD", &calls[1].0, &calls[1].1).ok();
        assert_eq!(rules_to_pods(), expected);
        for (pod, conf) in &calls {
            node.call("DEL", pod, conf).ok();
        }
        let rules = sh("nft list ruleset");
        assert!(!rules.contains("dnat to") && !rules.contains("masquerade"), "{rules}");
    });
}

#[test]
fn many_pods_at_once_leave_no_rule() {
    ours("many_pods_at_once_leave_no_rule", |node| {
        let pods: Vec<(Pod, Value)> = (0..40)
            .map(|index| {
                let pod = node.pod(&format!("c{index}"));
                let ips = json!([{"address": format!("10.1.0.{}/24", index + 2)}, {"address": format!("fd00:1::{}/64", index + 2)}]);
                let plugin = portmap(&json!({"backend": "nftables", "snat": true}), &ports(1000 + 10 * index, 10));
                (pod, Node::conf("1.0.0", &plugin, Some(&json!({"cniVersion": "1.0.0", "ips": ips}))))
            })
            .collect();
        for turn in 0..4 {
            let (some, others) = pods.split_at(20);
            for answer in node.call_all("ADD", some) {
                answer.ok();
            }
            // The ones come while the others go.
            std::thread::scope(|scope| {
                let adding = scope.spawn(|| node.call_all("ADD", others));
                let deleted = node.call_all("DEL", some);
                deleted
                    .into_iter()
                    .chain(adding.join().expect("add pods"))
                    .for_each(|answer| drop(answer.ok()));
            });
            let left = |pods: &[(Pod, Value)]| {
                let rules = sh("nft list ruleset");
                pods.iter().filter(|(pod, _)| rules.contains(&format!("comment \"{}\"", pod.id))).count()
            };
            assert_eq!((left(some), left(others)), (0, 20), "turn {turn}");
            assert_eq!(rules_to_pods(), 20 * 20);
            for answer in node.call_all("DEL", others) {
                answer.ok();
            }
            assert_eq!((left(&pods), rules_to_pods()), (0, 0), "turn {turn}");
        }
    });
}

#[test]
fn ports_in_the_first_versions() {
    compare("ports_in_the_first_versions", |node| {
        for version in ["", "0.1.0", "0.2.0"] {
            let pod = node.pod("c1");
            let plugin = node.bridge(&DUAL, json!({"isDefaultGateway": true}));
            let result = node.call("ADD", &pod, &Node::conf(version, &plugin, None)).ok();
            let conf = Node::conf(
                version,
                &portmap(&json!({"backend": "nftables"}), &some_mappings()),
                Some(&result),
            );
            let passed_on = node.call("ADD", &pod, &conf).ok();
            assert_eq!(passed_on, result);
            node.observe_nftables("added");
            node.call("DEL", &pod, &conf).ok();
            node.observe_nftables("deleted");
            node.call("DEL", &pod, &Node::conf(version, &plugin, None)).ok();
            sh("ip netns del c1");
        }
    });
}

/// Takes the programs of iptables away from this node, which are links to one; gives its path.
fn hide_iptables() -> String {
    let program = sh("readlink -f $(command -v iptables-save)").trim().to_owned();
    sh(&format!("mount --bind /dev/null {program}"));
    assert!(!try_sh("iptables-save || ip6tables-save"));
    program
}

#[test]
fn nothing_is_to_be_removed_where_no_program_wrote() {
    ours("nothing_is_to_be_removed_where_no_program_wrote", |node| {
        let (pod, result) = pod(node, "c1");
        let mut bridge = node.bridge(&DUAL, json!({"ipMasq": true, "ipMasqBackend": "nftables"}));
        let ports = portmap(&json!({"backend": "nftables"}), &some_mappings());
        node.call("ADD", &pod, &Node::conf("1.1.0", &ports, Some(&result))).ok();
        // Somebody else has rules in the old tables.
        sh("for program in iptables-legacy ip6tables-legacy; do $program -t nat -N OTHER; done");
        hide_iptables();
        for _ in 0..2 {
            node.call("DEL", &pod, &Node::conf("1.1.0", &ports, Some(&result))).ok();
            node.call("DEL", &pod, &Node::conf("1.1.0", &bridge, Some(&result))).ok();
        }
        bridge["cni.dev/valid-attachments"] = json!([]);
        node.call("GC", &pod, &Node::conf("1.1.0", &bridge, None)).ok();
        assert_eq!(rules_to_pods(), 0);
    });
}

#[test]
fn a_rule_that_cannot_be_removed_is_told() {
    ours("a_rule_that_cannot_be_removed_is_told", |node| {
        let (pod, result) = pod(node, "c1");
        let conf =
            Node::conf("1.0.0", &portmap(&json!({"backend": "iptables"}), &some_mappings()), Some(&result));
        node.call("ADD", &pod, &conf).ok();
        let hidden = hide_iptables();
        let answer = node.call("DEL", &pod, &conf);
        assert_eq!(answer.code(), 999);
        assert!(answer.stdout["msg"].to_string().contains("iptables-save is not installed"), "{answer:?}");
        sh(&format!("umount {hidden}"));
        node.call("DEL", &pod, &conf).ok();
        assert!(!sh("iptables-save -t nat").contains("CNI-DN-"));
    });
}

#[test]
fn conditions_and_marks_of_iptables() {
    compare("conditions_and_marks_of_iptables", |node| {
        let more = json!({"markMasqBit": 5, "conditionsV4": ["!", "-s", "192.0.2.0/24"], "conditionsV6": ["!", "-s", "2001:db8::/32"]});
        life(node, "iptables", &more, &some_mappings());
    });
}

#[test]
fn everything_masqueraded_by_iptables() {
    compare("everything_masqueraded_by_iptables", |node| {
        life(node, "iptables", &json!({"masqAll": true}), &some_mappings());
    });
}

#[test]
fn marks_set_by_somebody_else() {
    compare("marks_set_by_somebody_else", |node| {
        sh("iptables -t nat -N OTHER-MARK; ip6tables -t nat -N OTHER-MARK");
        life(node, "iptables", &json!({"externalSetMarkChain": "OTHER-MARK"}), &some_mappings());
    });
}

#[test]
fn conditions_of_nftables() {
    compare("conditions_of_nftables", |node| {
        let more = json!({"snat": false, "conditionsV4": ["ip", "saddr", "!= 192.0.2.0/24"], "conditionsV6": ["ip6 saddr != 2001:db8::/32"]});
        life(node, "nftables", &more, &some_mappings());
    });
}

#[test]
fn nothing_to_map() {
    compare("nothing_to_map", |node| {
        let (pod, result) = pod(node, "c1");
        for mappings in [json!([]), json!(null)] {
            let conf =
                Node::conf("1.0.0", &portmap(&json!({"backend": "nftables"}), &mappings), Some(&result));
            assert_eq!(node.call("ADD", &pod, &conf).ok(), result);
            node.call("CHECK", &pod, &conf).ok();
            node.call("DEL", &pod, &conf).ok();
        }
        observe(node, "after all", "nftables");
        observe(node, "after all", "iptables");
    });
}

/// A server in the pod that says its name to one client after the other.
fn serve(pod: &Pod) -> std::process::Child {
    let line = format!("exec busybox nc -ll -p 80 -e echo {}", pod.id);
    let mut command = support::process::command("ip");
    command.args(["netns", "exec", &pod.id, "sh", "-c", &line]).spawn().expect("start a server")
}

fn ports_lead(node: &mut Node, backend: &str) {
    let (server, result) = pod(node, "c1");
    let (_client, _) = pod(node, "c2");
    let mappings = json!([{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}]);
    let conf = Node::conf("1.0.0", &portmap(&json!({"backend": backend}), &mappings), Some(&result));
    node.call("ADD", &server, &conf).ok();
    let mut child = serve(&server);
    let says = |prefix: &str, host: &str| {
        try_sh(&format!("{prefix} busybox nc -w 3 {host} 8080 </dev/null | grep -q c1"))
    };
    until("the host by localhost", || says("", "127.0.0.1"));
    until("the host by the bridge", || says("", "10.1.0.1"));
    until("another pod", || says("ip netns exec c2", "10.1.0.1"));
    until("the pod itself", || says("ip netns exec c1", "10.1.0.1"));
    node.call("DEL", &server, &conf).ok();
    assert!(!says("", "127.0.0.1"), "the port is free again");
    let _ = child.kill();
    let _ = child.wait();
    node.observe("reached", json!(true));
}

#[test]
fn a_port_leads_to_the_pod_by_nftables() {
    compare("a_port_leads_to_the_pod_by_nftables", |node| ports_lead(node, "nftables"));
}

#[test]
fn a_port_leads_to_the_pod_by_iptables() {
    compare("a_port_leads_to_the_pod_by_iptables", |node| ports_lead(node, "iptables"));
}
