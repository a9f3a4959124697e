//! Results of all versions, and what only looks like one.

use serde_json::json;

use super::*;

fn bridge() -> Value {
    json!({
        "cniVersion": "1.1.0",
        "interfaces": [
            { "name": "cni0", "mac": "aa:bb:cc:dd:ee:01" },
            { "name": "eth0", "mac": "aa:bb:cc:dd:ee:02", "mtu": 1500, "sandbox": "/var/run/netns/a" },
            { "name": "net1", "sandbox": "/var/run/netns/a" },
            { "name": "eth0" },
        ],
        "ips": [
            { "interface": 2, "address": "192.168.0.9/24" },
            { "interface": 1, "address": "10.0.0.7/24", "gateway": "10.0.0.1" },
            { "interface": 3, "address": "10.9.9.9/24" },
            { "interface": 1, "address": "fd00::7/64", "gateway": "" },
            { "interface": 1, "address": "10.0.0.7/24" },
        ],
        "routes": [{ "dst": "0.0.0.0/0" }, { "dst": "::/0", "gw": "fd00::1", "mtu": 1400, "table": 7 }],
        "dns": { "nameservers": ["10.0.0.10"], "search": null },
    })
}

#[test]
fn every_part_is_read() {
    let result = CniResult::parse(&bridge()).unwrap();
    assert_eq!(result.interfaces[1].mtu, Some(1500));
    assert_eq!(result.ips[1].address.to_string(), "10.0.0.7/24");
    assert_eq!(result.ips[1].gateway, Some("10.0.0.1".parse().unwrap()));
    assert_eq!(result.ips[3].gateway, None);
    assert_eq!((result.routes[1].mtu, result.routes[1].table), (Some(1400), Some(7)));
    assert_eq!(result.dns.nameservers, ["10.0.0.10"]);
}

#[test]
fn the_pods_addresses_are_those_of_its_interface_in_order() {
    let ips = |raw: &Value| -> Vec<String> {
        CniResult::parse(raw).unwrap().pod_ips("eth0").iter().map(IpAddr::to_string).collect()
    };
    assert_eq!(ips(&bridge()), ["10.0.0.7", "fd00::7"]);
    let old =
        json!({ "cniVersion": "0.3.1", "ips": [{ "version": "4", "address": "10.1.0.2/16" }], "dns": null });
    assert_eq!(ips(&old), ["10.1.0.2"]);
    let nowhere = json!({
        "interfaces": [{ "name": "cali1" }, { "name": "eth0" }],
        "ips": [{ "interface": 0, "address": "10.1.0.1/16" }, { "interface": 1, "address": "10.1.0.2/16" }],
    });
    assert_eq!(ips(&nowhere), ["10.1.0.2"], "a plugin that says nothing of namespaces");
    assert_eq!(ips(&json!({})), [""; 0]);
    assert_eq!(ips(&json!({ "interfaces": null, "ips": null, "routes": null })), [""; 0]);
}

#[test]
fn what_is_no_result_is_refused() {
    let address = |address: &str| json!({ "ips": [{ "address": address }] });
    let table = [
        json!([]),
        json!("a"),
        json!({ "ips": {} }),
        json!({ "ips": [{}] }),
        json!({ "ips": [{ "interface": 0, "address": "10.0.0.1/8" }] }),
        json!({ "ips": [{ "interface": -1, "address": "10.0.0.1/8" }] }),
        json!({ "ips": [{ "address": "10.0.0.1/8", "gateway": "x" }] }),
        address("10.0.0.1"),
        address("10.0.0.1/33"),
        address("fd00::1/129"),
        address("fd00::1/+4"),
        address("10.0.0.1/"),
        address(&"é".repeat(100)),
        json!({ "routes": [{ "dst": "default" }] }),
    ];
    for raw in table {
        assert!(CniResult::parse(&raw).is_err(), "{raw}");
    }
}

#[test]
fn results_change_versions() {
    let old = in_version(&bridge(), Version::V0_4_0).unwrap();
    assert_eq!(old["cniVersion"], "0.4.0");
    assert_eq!((&old["ips"][0]["version"], &old["ips"][3]["version"]), (&json!("4"), &json!("6")));
    assert_eq!(in_version(&old, Version::V1_1_0).unwrap(), bridge());
    assert_eq!(in_version(&json!({}), Version::V1_0_0).unwrap(), json!({ "cniVersion": "1.0.0" }));
    for version in [json!("0.2.0"), json!("9"), json!(1)] {
        let error = in_version(&json!({ "cniVersion": version }), Version::V1_0_0).unwrap_err();
        assert!(error.to_string().contains("is not supported"), "{error}");
    }
}

#[test]
fn damaged_results_never_panic() {
    let whole = bridge().to_string().into_bytes();
    let mut read = 0;
    for place in 0..whole.len() {
        for byte in [b'"', b'{', b'[', b'9', b'-', b'/', b',', b'\\', 0xff] {
            let mut damaged = whole.clone();
            damaged[place] = byte;
            let Ok(raw) = serde_json::from_slice::<Value>(&damaged) else { continue };
            let converted = in_version(&raw, Version::V0_4_0);
            read += usize::from(
                CniResult::parse(&raw)
                    .is_ok_and(|result| converted.is_ok() && result.pod_ips("eth0").len() < 6),
            );
        }
    }
    assert!(read > 100, "{read} were still results");
}
