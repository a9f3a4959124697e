//! Configurations, good and bad.

use serde_json::{Value, json};

use super::*;
use crate::call::Verb;
use crate::version::Version;

fn call(input: Value, args: &str) -> Call {
    Call {
        verb: Verb::Status,
        version: Version::V1_0_0,
        network: "pods".to_owned(),
        input,
        args: args.to_owned(),
        path: Vec::new(),
    }
}

#[test]
fn ranges_come_from_everywhere_in_the_references_order() {
    let input = json!({
        "ipam": {
            "type": "host-local", "subnet": "10.1.1.0/24", "rangeStart": "", "gateway": null,
            "ranges": [[{"subnet": "10.1.2.0/24"}, {"subnet": "10.1.3.0/24"}]],
            "routes": [{"dst": "0.0.0.0/0"}], "dataDir": "",
        },
        "runtimeConfig": {"ipRanges": [[{"subnet": "fd00::/64"}]], "ips": ["10.1.1.7/24", ""]},
        "args": {"cni": {"ips": ["fd00::9"]}},
    });
    let config = AddConfig::parse(&call(input, "IgnoreUnknown=1;IP=10.1.2.8")).unwrap();
    let sets: Vec<String> = config.sets.iter().map(ToString::to_string).collect();
    assert_eq!(
        sets,
        [
            "fd00::1-fd00::ffff:ffff:ffff:ffff",
            "10.1.1.1-10.1.1.254",
            "10.1.2.1-10.1.2.254,10.1.3.1-10.1.3.254"
        ]
    );
    let requested: Vec<String> = config.requested.iter().map(ToString::to_string).collect();
    assert_eq!(requested, ["10.1.1.7", "10.1.2.8", "fd00::9"]);
    assert_eq!(config.store.folder, PathBuf::from("/var/lib/cni/networks/pods"));
}

#[test]
fn bad_configurations_are_refused_by_field() {
    let with = |ipam: Value| json!({"ipam": ipam});
    let many: Vec<_> = (0..65).map(|i| json!([{"subnet": format!("10.1.{i}.0/24")}])).collect();
    for input in [
        json!({}),
        json!({"ipam": null}),
        with(json!({})),
        with(json!({"ranges": [[]]})),
        with(json!({"subnet": "10.1.1.0"})),
        with(json!({"subnet": "10.1.1.0/33"})),
        with(json!({"subnet": "10.1.1.5/24"})),
        with(json!({"subnet": "10.1.1.0/31"})),
        with(json!({"subnet": "10.1.1.0/24", "gateway": "ten"})),
        with(json!({"subnet": "10.1.1.0/24", "rangeStart": "10.1.2.1"})),
        with(json!({"subnet": "10.1.1.0/24", "rangeStart": "10.1.1.9", "rangeEnd": "10.1.1.8"})),
        with(json!({"subnet": "10.1.1.0/24", "routes": [{"dst": "default"}]})),
        with(json!({"subnet": "10.1.1.0/24", "dataDir": "relative"})),
        with(json!({"subnet": "10.1.1.0/24", "ranges": [[{"subnet": "10.1.0.0/16"}]]})),
        with(json!({"ranges": [[{"subnet": "10.1.0.0/24"}, {"subnet": "fd00::/64"}]]})),
        with(json!({"ranges": many})),
    ] {
        let error =
            AddConfig::parse(&call(input.clone(), "")).err().unwrap_or_else(|| panic!("{input} passes"));
        assert_eq!(error.to_json(Version::V1_0_0)["code"], 7, "{input}: {error}");
    }
    let good = with(json!({"subnet": "10.1.1.0/24"}));
    for args in ["IP=ten", "K8S_POD_NAME=a"] {
        let error = AddConfig::parse(&call(good.clone(), args)).unwrap_err();
        assert_eq!(error.to_json(Version::V1_0_0)["code"], 4, "{args}");
    }
}
