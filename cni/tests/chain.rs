//! Well-behaved plugins: what each is called with, in what order, and what is kept.

mod support;

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;

use cni::{CniError, Kind};
use serde_json::{Value, json};
use support::{Lab, attachment, network, text};

fn first() -> Value {
    json!({
        "cniVersion": "1.0.0",
        "interfaces": [{ "name": "eth0", "sandbox": "/var/run/netns/a" }],
        "ips": [{ "interface": 0, "address": "10.0.0.7/24", "gateway": "10.0.0.1" }],
    })
}

fn second() -> Value {
    let mut result = first();
    result["routes"] = json!([{ "dst": "0.0.0.0/0" }]);
    result
}

fn plugins() -> Value {
    json!([
        { "type": "one", "mtu": 1400, "capabilities": { "mac": false, "bandwidth": true } },
        { "type": "two", "prevResult": { "forged": true }, "capabilities": { "portMappings": true } },
    ])
}

fn lab() -> Lab {
    let lab = Lab::new();
    lab.plugin("one", &first()).plugin("two", &second());
    lab
}

#[tokio::test]
async fn add_goes_through_the_chain_and_hands_results_on() {
    let lab = lab();
    let added = lab.invoker().add(&network("1.0.0", &plugins()), &attachment()).await.unwrap();
    assert_eq!(lab.calls(), ["ADD one", "ADD two"]);
    assert_eq!(added.raw, second());
    assert_eq!(added.result.pod_ips("eth0"), ["10.0.0.7".parse::<std::net::IpAddr>().unwrap()]);
    assert_eq!(
        lab.input("one", "ADD"),
        json!({ "name": "pods", "cniVersion": "1.0.0", "type": "one", "mtu": 1400 })
    );
    assert_eq!(
        lab.input("two", "ADD"),
        json!({
            "name": "pods", "cniVersion": "1.0.0", "type": "two", "prevResult": first(),
            "runtimeConfig": { "portMappings": attachment().capabilities["portMappings"] },
        })
    );
    let path = format!("CNI_PATH={}:{}", lab.path("missing").display(), lab.path("bin").display());
    let expected = [
        "CNI_ARGS=IgnoreUnknown=1;K8S_POD_NAME=web",
        "CNI_COMMAND=ADD",
        "CNI_CONTAINERID=c1",
        "CNI_IFNAME=eth0",
        "CNI_NETNS=/var/run/netns/a",
        &path,
    ];
    assert_eq!(lab.environment("one", "ADD"), expected);
}

#[tokio::test]
async fn the_cache_has_the_reference_implementations_layout() {
    use base64::Engine;
    let lab = lab();
    let network = network("1.0.0", &plugins());
    lab.invoker().add(&network, &attachment()).await.unwrap();
    let mut kept: Value = serde_json::from_str(&fs::read_to_string(lab.cache_file()).unwrap()).unwrap();
    let config = kept["config"].take();
    let config = base64::engine::general_purpose::STANDARD.decode(config.as_str().unwrap()).unwrap();
    assert_eq!(serde_json::from_slice::<Value>(&config).unwrap(), network.json());
    assert_eq!(
        kept,
        json!({
            "kind": "cniCacheV1", "containerId": "c1", "ifName": "eth0", "networkName": "pods", "config": null,
            "netns": "/var/run/netns/a", "cniArgs": [["IgnoreUnknown", "1"], ["K8S_POD_NAME", "web"]],
            "capabilityArgs": attachment().capabilities, "result": second(),
        })
    );
    let mode = |path: &std::path::Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&lab.cache_file()), mode(&lab.path("cache/results"))), (0o600, 0o700));
    assert_eq!(fs::read_dir(lab.path("cache/results")).unwrap().count(), 1);
}

#[tokio::test]
async fn del_goes_backwards_with_the_kept_result_and_may_come_twice() {
    let lab = lab();
    let (network, invoker) = (network("0.4.0", &plugins()), lab.invoker());
    let added = invoker.add(&network, &attachment()).await.unwrap();
    assert_eq!(added.raw["ips"][0]["version"], "4");
    lab.calls();
    invoker.del(&network, &attachment(), None).await.unwrap();
    assert_eq!(lab.calls(), ["DEL two", "DEL one"]);
    for name in ["one", "two"] {
        assert_eq!(lab.input(name, "DEL")["prevResult"], added.raw);
    }
    assert_eq!(lab.input("two", "DEL")["runtimeConfig"], lab.input("two", "ADD")["runtimeConfig"]);
    assert!(!lab.cache_file().exists());
    let gone = cni::Attachment { netns: None, ..attachment() };
    invoker.del(&network, &gone, None).await.unwrap();
    assert_eq!(lab.calls(), ["DEL two", "DEL one"]);
    assert_eq!(lab.input("one", "DEL").get("prevResult"), None);
    assert!(lab.environment("one", "DEL").contains(&"CNI_NETNS=".to_owned()));
}

#[tokio::test]
async fn del_prefers_the_callers_result() {
    let lab = lab();
    let (network, invoker) = (network("1.0.0", &plugins()), lab.invoker());
    invoker.add(&network, &attachment()).await.unwrap();
    invoker.del(&network, &attachment(), Some(&first())).await.unwrap();
    assert_eq!(lab.input("one", "DEL")["prevResult"], first());
    // One that no version has must not keep DEL from running.
    invoker.del(&network, &attachment(), Some(&json!({ "cniVersion": "7" }))).await.unwrap();
    assert_eq!(lab.input("one", "DEL").get("prevResult"), None);
}

#[tokio::test]
async fn a_broken_cache_file_is_as_good_as_none() {
    let lab = lab();
    let (network, invoker) = (network("1.0.0", &plugins()), lab.invoker());
    let huge = " ".repeat((4 << 20) + 1);
    for content in
        ["", "{", "[]", r#"{"kind":"other","result":{}}"#, r#"{"kind":"cniCacheV1","result":7}"#, &huge]
    {
        invoker.add(&network, &attachment()).await.unwrap();
        File::create(lab.cache_file()).unwrap().write_all(content.as_bytes()).unwrap();
        invoker.del(&network, &attachment(), None).await.unwrap();
        assert_eq!(lab.input("one", "DEL").get("prevResult"), None);
        assert!(!lab.cache_file().exists());
    }
}

#[tokio::test]
async fn a_result_that_cannot_be_kept_is_an_error_with_its_path() {
    let lab = lab();
    File::create(lab.path("cache")).unwrap();
    let error = lab.invoker().add(&network("1.0.0", &plugins()), &attachment()).await.unwrap_err();
    assert!(matches!(error, CniError::Cache { .. }), "{error:?}");
    assert!(text(&error).contains("cache/results/pods-c1-eth0"), "{}", text(&error));
}

#[tokio::test]
async fn versions_decide_which_verbs_plugins_hear() {
    let valid = [("c1".to_owned(), "eth0".to_owned())];
    let table: [(&str, &[&str]); 5] = [
        ("0.3.0", &[]),
        ("0.3.1", &[]),
        ("0.4.0", &["CHECK one", "CHECK two"]),
        ("1.0.0", &["CHECK one", "CHECK two"]),
        ("1.1.0", &["CHECK one", "CHECK two", "STATUS one", "STATUS two", "GC one", "GC two"]),
    ];
    for (version, expected) in table {
        let lab = lab();
        let (network, invoker) = (network(version, &plugins()), lab.invoker());
        let added = invoker.add(&network, &attachment()).await.unwrap();
        assert_eq!(added.raw["cniVersion"], version);
        lab.calls();
        invoker.check(&network, &attachment(), None).await.unwrap();
        invoker.status(&network).await.unwrap();
        invoker.gc(&network, &valid).await.unwrap();
        assert_eq!(lab.calls(), expected, "{version}");
        invoker.del(&network, &attachment(), Some(&added.raw)).await.unwrap();
        let told = lab.input("one", "DEL").get("prevResult").is_some();
        assert_eq!(told, !version.starts_with("0.3"), "{version}");
    }
}

#[tokio::test]
async fn status_and_gc_are_about_the_network() {
    let lab = lab();
    let (network, invoker) = (network("1.1.0", &plugins()), lab.invoker());
    invoker.status(&network).await.unwrap();
    let path = format!("CNI_PATH={}:{}", lab.path("missing").display(), lab.path("bin").display());
    assert_eq!(lab.environment("one", "STATUS"), ["CNI_COMMAND=STATUS", &path]);
    assert_eq!(lab.input("two", "STATUS"), json!({ "name": "pods", "cniVersion": "1.1.0", "type": "two" }));
    let valid = [("c1".to_owned(), "eth0".to_owned()), ("c2".to_owned(), "eth0".to_owned())];
    invoker.gc(&network, &valid).await.unwrap();
    let expected =
        json!([{ "containerID": "c1", "ifname": "eth0" }, { "containerID": "c2", "ifname": "eth0" }]);
    assert_eq!(lab.input("two", "GC")["cni.dev/valid-attachments"], expected);
}

#[tokio::test]
async fn disabled_verbs_are_not_run() {
    let lab = lab();
    let mut network = network("1.1.0", &plugins());
    (network.check_disabled, network.gc_disabled) = (true, true);
    lab.invoker().check(&network, &attachment(), None).await.unwrap();
    lab.invoker().gc(&network, &[]).await.unwrap();
    assert_eq!(lab.calls(), [""; 0]);
}

#[tokio::test]
async fn check_gets_the_result_of_add() {
    let lab = lab();
    let (network, invoker) = (network("1.0.0", &plugins()), lab.invoker());
    invoker.add(&network, &attachment()).await.unwrap();
    invoker.check(&network, &attachment(), None).await.unwrap();
    for name in ["one", "two"] {
        assert_eq!(lab.input(name, "CHECK")["prevResult"], second());
    }
    assert!(lab.cache_file().exists());
}

#[tokio::test]
async fn the_first_folder_that_has_a_plugin_wins() {
    let lab = lab();
    fs::create_dir(lab.path("missing")).unwrap();
    fs::create_dir(lab.path("missing/two")).unwrap();
    fs::rename(lab.path("bin/one"), lab.path("missing/one")).unwrap();
    lab.script("one", "exit 9");
    lab.invoker().add(&network("1.0.0", &plugins()), &attachment()).await.unwrap();
    assert_eq!(lab.calls(), ["ADD one", "ADD two"]);
    let error =
        lab.invoker().add(&network("1.0.0", &json!([{ "type": "none" }])), &attachment()).await.unwrap_err();
    assert_eq!(error.kind(), Kind::NotFound);
    let both = format!("{}, {}", lab.path("missing").display(), lab.path("bin").display());
    assert!(error.to_string().contains("plugin none is not installed"), "{error}");
    assert!(error.to_string().contains(&both), "{error}");
}

#[tokio::test]
async fn nothing_is_run_for_an_attachment_that_cannot_be() {
    let lab = lab();
    let (network, invoker) = (network("1.0.0", &plugins()), lab.invoker());
    let odd = [
        cni::Attachment { container_id: "../c1".to_owned(), ..attachment() },
        cni::Attachment { if_name: "../../../x".to_owned(), ..attachment() },
        cni::Attachment { args: vec![("A".to_owned(), "1;B=2".to_owned())], ..attachment() },
        cni::Attachment { netns: None, ..attachment() },
    ];
    for at in odd {
        let error = invoker.add(&network, &at).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Invalid, "{error:?}");
    }
    assert!(
        invoker
            .gc(&support::network("1.1.0", &plugins()), &[("/".to_owned(), "eth0".to_owned())])
            .await
            .is_err()
    );
    assert_eq!(lab.calls(), [""; 0]);
}
