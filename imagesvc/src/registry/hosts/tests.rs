//! Tables of hosts.toml files and the endpoints they mean.

use std::path::PathBuf;
use std::time::Duration;

use super::*;

fn folder(registry: &str, text: &str) -> (tempfile::TempDir, Vec<PathBuf>) {
    let folder = tempfile::tempdir().unwrap();
    let hosts = folder.path().join(registry);
    std::fs::create_dir(&hosts).unwrap();
    std::io::Write::write_all(&mut std::fs::File::create(hosts.join("hosts.toml")).unwrap(), text.as_bytes())
        .unwrap();
    let folders = vec![PathBuf::from("/nonexistent"), folder.path().to_owned()];
    (folder, folders)
}

fn bases(endpoints: &[Endpoint]) -> Vec<String> {
    endpoints.iter().map(|endpoint| endpoint.base.to_string()).collect()
}

#[test]
fn without_a_file_the_registry_itself_is_asked() {
    for (registry, base) in [
        ("docker.io", "https://registry-1.docker.io/v2"),
        ("quay.io", "https://quay.io/v2"),
        ("localhost:5000", "http://localhost:5000/v2"),
        ("127.0.0.1:5000", "http://127.0.0.1:5000/v2"),
        ("10.0.0.1:5000", "https://10.0.0.1:5000/v2"),
        ("reg.example:443", "https://reg.example/v2"),
        ("localhost.example.com", "https://localhost.example.com/v2"),
    ] {
        let found = endpoints(&[], registry).unwrap();
        assert_eq!(bases(&found), [base]);
        assert_eq!(found[0].namespace, None);
    }
}

#[test]
fn hosts_are_asked_in_the_order_of_the_file_and_the_server_last() {
    let text = r#"
        server = "https://registry-1.docker.io"
        [host."http://z.example:5000"]
          capabilities = ["pull", "resolve"]
        [host."https://a.example/proxy"]
          capabilities = ["pull"]
          override_path = true
        [host."m.example/x"]
    "#;
    let (_keep, folders) = folder("docker.io", text);
    let found = endpoints(&folders, "docker.io").unwrap();
    assert_eq!(
        bases(&found),
        [
            "http://z.example:5000/v2",
            "https://a.example/proxy",
            "https://m.example/x/v2",
            "https://registry-1.docker.io/v2"
        ]
    );
    let resolve: Vec<bool> = found.iter().map(|endpoint| endpoint.may_resolve).collect();
    assert_eq!(resolve, [true, false, true, true]);
    let url = found[0].url("library/busybox", "manifests", "latest");
    assert_eq!(url.as_str(), "http://z.example:5000/v2/library/busybox/manifests/latest?ns=docker.io");
    let url = found[3].url("library/busybox", "manifests", "latest");
    assert_eq!(url.as_str(), "https://registry-1.docker.io/v2/library/busybox/manifests/latest");
}

#[test]
fn settings_of_a_host_are_read() {
    let text = r#"
        server = "http://reg.example"
        skip_verify = true
        [host."https://m.example"]
          ca = ["a.crt", "/etc/b.crt"]
          client = [["c.crt", "c.key"], ["both.pem", ""]]
          dial_timeout = "1500ms"
          [host."https://m.example".header]
            x-one = "1"
            x-two = ["2", "3"]
    "#;
    let (_keep, folders) = folder("_default", text);
    let found = endpoints(&folders, "reg.example").unwrap();
    let beside = |name: &str| folders[1].join("_default").join(name);
    let mirror = &found[0].transport;
    assert_eq!(mirror.authorities, [beside("a.crt"), PathBuf::from("/etc/b.crt")]);
    assert_eq!(
        mirror.identities,
        [(beside("c.crt"), beside("c.key")), (beside("both.pem"), beside("both.pem"))]
    );
    assert_eq!(mirror.dial_timeout, Some(Duration::from_millis(1500)));
    assert_eq!(found[0].headers.get_all("x-two").iter().count(), 2);
    assert!(found[1].transport.skip_verify && !mirror.skip_verify);
}

#[test]
fn mistakes_name_the_file_and_the_value() {
    for (text, expected) in [
        ("[host.\"ftp://x\"]\n", "ftp://x"),
        ("[host.\"https://u:p@x\"]\n", "credentials"),
        ("[host.\"https://x\"]\ndial_timeout = \"soon\"\n", "soon"),
        ("[host.\"https://x\"]\nclient = [[\"a\"]]\n", "client"),
        ("[host.\"https://x\".header]\n\"bad name\" = \"1\"\n", "bad name"),
        ("server = 3\n", "not a valid hosts.toml"),
    ] {
        let (_keep, folders) = folder("reg.example", text);
        let error = endpoints(&folders, "reg.example").unwrap_err();
        let message = error.to_string();
        assert!(message.contains(expected) && message.contains("hosts.toml"), "{message}");
    }
}
