//! CNI plugins that say they have succeeded, with a result that is none. How they fail is in `network_faults.rs`.

use e2e::network::Network;
use e2e::node::Node;
use serde_json::{Value, json};
use tonic::Code;

use super::Outcome::{Contained, Refused};
use super::bounds::{self, Bounds};
use super::{Outcome, assert_none};

/// A result, and what RunPodSandbox answers.
struct Case(&'static str, String, Outcome);

fn table() -> Vec<Case> {
    let refused = |word| Refused(Code::Internal, word);
    let text = |value: Value| value.to_string();
    let ips = |ips: Value| text(json!({"cniVersion": "1.0.0", "ips": ips}));
    let eth0 = json!([{"name": "eth0", "sandbox": "/proc/self/ns/net"}]);
    let address = |address: &str| ips(json!([{"address": address}]));
    vec![
        Case("a list", "[]".to_owned(), refused("not a JSON object")),
        Case("brackets without end", "[".repeat(100_000), refused("JSON")),
        Case("two results", "{}{}".to_owned(), refused("JSON")),
        Case("no address", "{}".to_owned(), refused("address")),
        Case("addresses that are text", ips(json!("10.0.0.1/24")), refused("not as the specification says")),
        Case("an address without its prefix", address("10.0.0.1"), refused("no address with a prefix")),
        Case("an address with a long prefix", address("10.0.0.1/33"), refused("no address with a prefix")),
        Case(
            "an address with a command",
            address("10.0.0.1/24; reboot"),
            refused("no address with a prefix"),
        ),
        Case(
            "an address of no interface",
            text(json!({"cniVersion": "1.0.0", "interfaces": eth0,
                "ips": [{"address": "10.0.0.1/24", "interface": 7}]})),
            refused("is of interface 7, and there are 1"),
        ),
        Case(
            "an address of less than no interface",
            ips(json!([{"address": "10.0.0.1/24", "interface": -1}])),
            refused("not as the specification says"),
        ),
        Case(
            "a gateway that is none",
            ips(json!([{"address": "10.0.0.1/24", "gateway": "gate"}])),
            refused("gateway is no IP address"),
        ),
        Case(
            "a version that nobody knows",
            text(json!({"cniVersion": "99.0.0", "ips": [{"address": "10.0.0.1/24"}]})),
            refused("99.0.0"),
        ),
        Case(
            "10 000 addresses",
            ips((0..10_000)
                .map(|n| json!({"address": format!("10.1.{}.{}/16", n / 256, n % 256)}))
                .collect()),
            Contained,
        ),
    ]
}

#[test]
fn results_that_are_none_are_refused_and_undone() {
    let node = Node::start_on(Network::with_fault);
    let (cri, bounds) = (bounds::client(&node), Bounds::of(&node));
    let mut wrong = Vec::new();
    for Case(name, answer, outcome) in table() {
        node.network().set_answer("ADD", &answer);
        let ran = cri.run_pod(&node.net_pod_config("bad"));
        let removed = ran.as_ref().ok().map(|id| cri.stop_pod(id).and_then(|()| cri.remove_pod(id)));
        wrong.extend(outcome.check(name, ran.map(drop)).err());
        wrong.extend(removed.and_then(Result::err).map(|status| format!("{name}: is not removed: {status}")));
        wrong.extend(bounds.check(name));
        node.assert_no_network_left(name);
    }
    node.network().clear_fault("ADD");
    assert_eq!(cri.pods().expect("pods are listed"), vec![]);
    let pod = node.run_net_pod("next");
    e2e::web::serve(&pod);
    assert_none(wrong);
}
