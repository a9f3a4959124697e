//! Tables of configurations that are networks, and of those that are none.

use serde_json::json;

use super::*;

fn parse(list: &Value) -> Result<Network, String> {
    let parsed = Network::parse(list.to_string().as_bytes(), Path::new("/etc/cni/net.d/10-a.conflist"));
    parsed.map_err(|error| error.to_string())
}

fn list(field: &str, value: &Value) -> Value {
    let mut list = json!({ "name": "pods", "cniVersion": "1.0.0", "plugins": [{ "type": "bridge" }] });
    list[field] = value.clone();
    list
}

#[test]
fn a_list_keeps_all_that_stands_in_it() {
    let mut whole = list("plugins", &json!([{ "type": "bridge", "mtu": 1400 }, { "type": "portmap" }]));
    whole["disableCheck"] = true.into();
    whole["disableGC"] = "TRUE".into();
    whole["vendor"] = json!({ "a": 1 });
    let network = parse(&whole).unwrap();
    assert_eq!((network.name.as_str(), network.version), ("pods", Version::V1_0_0));
    assert!(network.check_disabled && network.gc_disabled);
    assert_eq!(network.json(), whole);
    let stored = serde_json::to_vec(&network).unwrap();
    assert_eq!(serde_json::from_slice::<Network>(&stored).unwrap(), network);
}

#[test]
fn the_highest_version_of_both_sides_is_spoken() {
    let table = [
        (json!("0.3.0"), json!(null), "0.3.0"),
        (json!("0.3.1"), json!(["0.4.0", "1.0.0"]), "1.0.0"),
        (json!("1.1.0"), json!(["0.4.0"]), "1.1.0"),
        (json!(null), json!(["1.1.0", "1.0.0"]), "1.1.0"),
        (json!("0.4.0"), json!(["2.0.0", "1.2.0"]), "0.4.0"),
        (json!("9.9.9"), json!(["0.2.0", "0.3.1"]), "0.3.1"),
    ];
    for (one, many, expected) in table {
        let mut list = list("cniVersion", &one);
        list["cniVersions"] = many;
        assert_eq!(parse(&list).unwrap().version.as_str(), expected, "{list}");
    }
}

#[test]
fn what_is_no_network_is_refused_by_name() {
    let table = [
        ("name", json!(null), "`name` is missing"),
        ("name", json!("../etc"), "network name \"../etc\""),
        ("name", json!("-a"), "network name \"-a\""),
        ("name", json!(""), "network name \"\""),
        ("name", json!("a".repeat(101)), "at most 100"),
        ("cniVersion", json!(null), "`cniVersion` is missing"),
        ("cniVersion", json!("0.2.0"), "`cniVersion` 0.2.0 is not supported"),
        ("cniVersion", json!(1), "`cniVersion` has the wrong type"),
        ("cniVersions", json!([1]), "`cniVersions` has the wrong type"),
        ("disableCheck", json!(1), "`disableCheck` has the wrong type"),
        ("disableGC", json!("perhaps"), "`disableGC` has the wrong type"),
        ("plugins", json!({}), "`plugins` has the wrong type"),
        ("plugins", json!([]), "no plugins"),
        ("plugins", json!(vec![json!({ "type": "a" }); 33]), "33 plugins"),
        ("plugins", json!(["bridge"]), "a plugin is not a JSON object"),
        ("plugins", json!([{}]), "no `type`"),
        ("plugins", json!([{ "type": "../.." }]), "\"..\" is not a plain file name"),
        ("plugins", json!([{ "type": "bridge/" }]), "\"\" is not a plain file name"),
        ("plugins", json!([{ "type": ".." }]), "not a plain file name"),
        ("plugins", json!([{ "type": "a\u{0}b" }]), "not a plain file name"),
        ("plugins", json!([{ "type": "bridge", "ipam": { "type": "/bin/sh" } }]), "not a plain file name"),
    ];
    for (field, value, reason) in table {
        let error = parse(&list(field, &value)).unwrap_err();
        assert!(error.contains(reason), "{field}: {value}: {error}");
    }
}

#[test]
fn of_a_plugin_that_is_a_path_the_last_part_counts() {
    for path in ["bridge", "/opt/cni/bin/bridge", "../../bin/bridge", "a//bridge"] {
        assert_eq!(plugin_type(&json!({ "type": path })).unwrap(), "bridge");
    }
}

#[test]
fn bytes_that_are_no_json_are_refused() {
    let deep = "[".repeat(100_000);
    for bytes in [&b""[..], b"[]", b"null", b"\"a\"", b"{\"name\":\"\xff\"}", deep.as_bytes()] {
        assert!(Network::parse(bytes, Path::new("x")).is_err());
    }
}

#[test]
fn a_single_plugin_is_a_chain_of_one() {
    let plugin = json!({ "name": "pods", "cniVersion": "0.3.1", "type": "ptp", "mtu": 9000 });
    let network = Network::parse_plugin(plugin.to_string().as_bytes(), Path::new("x")).unwrap();
    assert_eq!(network.plugins, std::slice::from_ref(&plugin));
    assert_eq!(network.json(), json!({ "name": "pods", "cniVersion": "0.3.1", "plugins": [plugin] }));
    let list = list("name", &json!("pods")).to_string();
    let error = Network::parse_plugin(list.as_bytes(), Path::new("x")).unwrap_err();
    assert!(error.to_string().contains(".conflist"), "{error}");
}

#[test]
fn damaged_lists_never_panic_nor_name_a_path() {
    let mut list = list("plugins", &json!([{ "type": "bridge", "ipam": { "type": "host-local" } }]));
    list["cniVersions"] = json!(["0.4.0"]);
    let whole = list.to_string().into_bytes();
    let mut read = 0;
    for place in 0..whole.len() {
        for byte in [b'"', b'{', b'[', b'0', b'-', b'/', b'.', b'\\', 0xff] {
            let mut damaged = whole.clone();
            damaged[place] = byte;
            let Ok(network) = Network::parse(&damaged, Path::new("x")) else { continue };
            assert!(
                !network.name.contains('/') && network.plugins.iter().all(|one| plugin_type(one).is_ok())
            );
            read += 1;
        }
    }
    assert!(read > 50, "{read} were still networks");
}
