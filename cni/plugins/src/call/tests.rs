//! Requests by their environment and input.

use super::*;

const CONF: &str = r#"{"cniVersion": "1.0.0", "name": "pods", "type": "bridge"}"#;

fn request(variables: &[(&str, &str)], stdin: &str) -> Result<Request, CallError> {
    let get = |name: &'static str| {
        variables.iter().rev().find(|(other, _)| *other == name).map(|(_, value)| OsString::from(value))
    };
    Request::from(|name| get(name).filter(|value| !value.is_empty()), stdin.as_bytes())
}

const ADD: [(&str, &str); 5] = [
    ("CNI_COMMAND", "ADD"),
    ("CNI_CONTAINERID", "c1"),
    ("CNI_NETNS", "/run/netns/a"),
    ("CNI_IFNAME", "eth0"),
    ("CNI_PATH", "/opt/cni/bin:relative"),
];

fn changed(variable: &'static str, value: &'static str) -> Result<Request, CallError> {
    let mut variables = ADD.to_vec();
    variables.push((variable, value));
    request(&variables, CONF)
}

#[test]
fn a_call_is_read_as_the_runtime_makes_it() {
    let Ok(Request::Call(call)) = request(&ADD, CONF) else { panic!("no call") };
    let at = Attachment { container: "c1".to_owned(), ifname: "eth0".to_owned() };
    assert_eq!(call.verb, Verb::Add(at, "/run/netns/a".into()));
    assert_eq!((call.network.as_str(), call.version), ("pods", Version::V1_0_0));
    assert_eq!(call.path, [PathBuf::from("/opt/cni/bin")], "a relative folder is whose?");
    assert!(matches!(changed("CNI_COMMAND", ""), Ok(Request::Nothing)));
    assert!(matches!(changed("CNI_COMMAND", "VERSION"), Ok(Request::Version)));
    let without_netns = [("CNI_COMMAND", "DEL"), ("CNI_NETNS", "")];
    let variables: Vec<_> = ADD.into_iter().chain(without_netns).collect();
    let Ok(Request::Call(call)) = request(&variables, CONF) else { panic!("no call") };
    assert!(matches!(call.verb, Verb::Del(_, None)));
}

#[test]
fn bad_variables_are_refused_by_name() {
    let long: &'static str = "a".repeat(201).leak();
    for (variable, value, code) in [
        ("CNI_COMMAND", "EAT", 4),
        ("CNI_CONTAINERID", "", 4),
        ("CNI_CONTAINERID", "../etc", 4),
        ("CNI_CONTAINERID", "a/b", 4),
        ("CNI_CONTAINERID", "a b", 4),
        ("CNI_CONTAINERID", long, 4),
        ("CNI_NETNS", "", 4),
        ("CNI_IFNAME", "", 4),
        ("CNI_IFNAME", "..", 4),
        ("CNI_IFNAME", "eth/0", 4),
        ("CNI_IFNAME", "eth0:1", 4),
        ("CNI_IFNAME", "eth 0", 4),
        ("CNI_IFNAME", "eth\u{7}", 4),
        ("CNI_IFNAME", "sixteen_letters_", 4),
        ("CNI_PATH", "", 4),
    ] {
        let error = changed(variable, value).err().unwrap_or_else(|| panic!("{variable}={value} passes"));
        assert_eq!(error.code().number(), code, "{variable}={value}: {error}");
        assert!(error.to_string().contains(variable), "{error}");
    }
}

#[test]
fn bad_configurations_are_refused() {
    let large = format!(r#"{{"cniVersion": "1.0.0", "name": "pods", "x": "{}"}}"#, "x".repeat(1 << 20));
    let deep = format!(r#"{{"cniVersion": "1.0.0", "name": "pods", "x": {}}}"#, "[".repeat(100_000));
    for (text, code) in [
        ("", 6),
        ("nothing", 6),
        ("[]", 6),
        (r#"{"name": 7}"#, 6),
        (r#"{"cniVersion": "1.0.0"}"#, 7),
        (r#"{"cniVersion": "1.0.0", "name": "a/b"}"#, 7),
        (r#"{"cniVersion": "1.0.0", "name": ".."}"#, 7),
        (r#"{"cniVersion": "9.9.9", "name": "pods"}"#, 1),
        (large.as_str(), 7),
        (deep.as_str(), 6),
    ] {
        let error = request(&ADD, text).err().unwrap_or_else(|| panic!("passes: {text:.80}"));
        assert_eq!(error.code().number(), code, "{text:.80}: {error}");
    }
}

#[test]
fn a_version_that_is_missing_is_the_first() {
    for conf in [r#"{"name": "pods"}"#, r#"{"name": "pods", "cniVersion": ""}"#] {
        let Ok(Request::Call(call)) = request(&ADD, conf) else { panic!("no call: {conf}") };
        assert_eq!(call.version, Version::V0_1_0);
    }
}

#[test]
fn verbs_need_their_version() {
    let old = CONF.replace("1.0.0", "0.3.1");
    for (command, conf, allowed) in [
        ("CHECK", old.as_str(), false),
        ("CHECK", CONF, true),
        ("GC", CONF, false),
        ("STATUS", CONF, false),
        ("DEL", old.as_str(), true),
    ] {
        let mut variables = ADD.to_vec();
        variables.push(("CNI_COMMAND", command));
        let answer = request(&variables, conf);
        assert_eq!(answer.is_ok(), allowed, "{command}");
        if let Err(error) = answer {
            assert_eq!(error.code().number(), 1, "{error}");
        }
    }
}
