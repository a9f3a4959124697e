//! What a kubelet or crictl sends for a pod, and what is refused.

use std::collections::BTreeMap;
use std::sync::Arc;

use cri_proto::v1::NamespaceMode;
use pod_sandbox::Timings;
use pod_sandbox::spec::{IpcMode, NetworkMode, PidMode};
use runtime_core::clock::Timestamp;
use runtime_core::ids::SandboxId;

use super::*;

fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn modes(network: NamespaceMode, pid: NamespaceMode, ipc: NamespaceMode) -> v1::NamespaceOption {
    v1::NamespaceOption { network: network.into(), pid: pid.into(), ipc: ipc.into(), ..Default::default() }
}

/// A pod on the node's network, as a kubelet asks for it.
pub(in crate::convert) fn config() -> v1::PodSandboxConfig {
    let namespaces = modes(NamespaceMode::Node, NamespaceMode::Container, NamespaceMode::Pod);
    v1::PodSandboxConfig {
        metadata: Some(v1::PodSandboxMetadata {
            name: "web".into(),
            uid: "0123456789abcdef0123456789abcdef".into(),
            namespace: "default".into(),
            attempt: 2,
        }),
        log_directory: "/var/log/pods/web".into(),
        labels: map(&[("app", "wéb"), ("", " ")]),
        annotations: map(&[("note", "line\nbreak\u{1}")]),
        linux: Some(v1::LinuxPodSandboxConfig {
            cgroup_parent: "/kubepods/podu".into(),
            security_context: Some(v1::LinuxSandboxSecurityContext {
                namespace_options: Some(namespaces),
                ..Default::default()
            }),
            ..Default::default()
        }),
        ..Default::default()
    }
}

fn with(change: impl FnOnce(&mut v1::PodSandboxConfig)) -> Result<PodSpec, ConvertError> {
    let mut config = config();
    change(&mut config);
    pod_spec(Some(config), "runc".to_owned())
}

fn with_modes(options: v1::NamespaceOption) -> Result<PodSpec, ConvertError> {
    with(|config| {
        let linux = config.linux.as_mut().expect("it has one");
        linux.security_context.as_mut().expect("it has one").namespace_options = Some(options);
    })
}

pub(in crate::convert) fn view(state: SandboxState) -> SandboxView {
    SandboxView {
        id: SandboxId::parse("pod1").expect("valid"),
        spec: Arc::new(with(|_| ()).expect("a good pod")),
        created_at: Timestamp(7),
        state,
        shim_pid: Some(9),
        network: None,
        timings: Timings(vec![("shim".into(), std::time::Duration::from_millis(2))]),
    }
}

#[test]
fn a_kubelets_pod_is_taken_as_it_is() {
    let spec = with(|_| ()).expect("a good pod");
    assert_eq!((spec.network, spec.ipc, &spec.pid), (NetworkMode::Host, IpcMode::Pod, &PidMode::Container));
    assert_eq!(spec.metadata.attempt, 2);
    assert_eq!(spec.labels, config().labels);
    assert_eq!(spec.annotations, config().annotations);
    assert_eq!((spec.hostname.as_str(), spec.dns.is_none()), ("", true));
    assert_eq!(spec.log_directory.as_deref(), Some("/var/log/pods/web".as_ref()));
    assert_eq!((spec.cgroup_parent.as_str(), spec.runtime_handler.as_str()), ("/kubepods/podu", "runc"));
}

#[test]
fn status_and_summary_give_everything_back() {
    let status = status(&view(SandboxState::Ready { since: Timestamp(8) }));
    assert_eq!(status.metadata, config().metadata);
    assert_eq!((&status.labels, &status.annotations), (&config().labels, &config().annotations));
    assert_eq!((status.id.as_str(), status.created_at), ("pod1", 7));
    assert_eq!(status.state(), v1::PodSandboxState::SandboxReady);
    let options = status.linux.and_then(|it| it.namespaces).and_then(|it| it.options);
    let asked = modes(NamespaceMode::Node, NamespaceMode::Container, NamespaceMode::Pod);
    assert_eq!(options, Some(asked));

    let summary = summary(&view(SandboxState::Stopped));
    assert_eq!(summary.metadata, config().metadata);
    assert_eq!(summary.state(), v1::PodSandboxState::SandboxNotready);
}

#[test]
fn namespace_modes_are_what_this_version_can_make() {
    use NamespaceMode::{Container, Node, Pod, Target};
    let host = with_modes(modes(Node, Node, Node)).expect("all of the node's");
    assert_eq!((host.ipc, host.pid), (IpcMode::Host, PidMode::Host));
    let own = with_modes(modes(Pod, Pod, Pod)).expect("all of the pod's own");
    assert_eq!((own.network, own.ipc, own.pid), (NetworkMode::Pod, IpcMode::Pod, PidMode::Pod));
    let never = [modes(Container, Container, Pod), modes(Node, Target, Pod), modes(Node, Container, Target)];
    for options in never {
        let error = with_modes(options.clone()).expect_err("never");
        assert!(matches!(error, ConvertError::Invalid { .. }), "{options:?}: {error}");
    }
    let mut strange = modes(Node, Container, Pod);
    strange.pid = 99;
    assert!(matches!(with_modes(strange), Err(ConvertError::Invalid { .. })));
}

#[test]
fn a_pod_without_options_wants_a_network_of_its_own() {
    let spec = with(|it| it.linux = None).expect("the CRI's defaults");
    assert_eq!((spec.network, spec.pid), (NetworkMode::Pod, PidMode::Pod));
}

#[test]
fn only_sysctls_of_the_pods_own_namespaces_are_taken() {
    let with_sysctl = |name: &str, value: &str| {
        with(|it| it.linux.as_mut().expect("it has one").sysctls = map(&[(name, value)]))
    };
    let spec = with_sysctl("kernel.shm_rmid_forced", "1").expect("it has an IPC namespace");
    assert_eq!(spec.sysctls, map(&[("kernel.shm_rmid_forced", "1")]));
    // The network is the node's; the others are no names or values.
    for (name, value) in [
        ("net.ipv4.ip_forward", "1"),
        ("vm.swappiness", "1"),
        ("kernel.shm_rmid_forced", "1\n2"),
        ("kernel.shm_rmid_forced+kernel.core_pattern", "|/x"),
        ("kernel/../vm/swappiness", "1"),
    ] {
        let error = with_sysctl(name, value).expect_err("refused");
        assert!(matches!(error, ConvertError::Sysctl(_)), "{name}: {error}");
    }
}

#[test]
fn what_comes_later_is_refused() {
    let mut options = modes(NamespaceMode::Node, NamespaceMode::Container, NamespaceMode::Pod);
    options.userns_options =
        Some(v1::UserNamespace { mode: NamespaceMode::Pod.into(), ..Default::default() });
    assert!(matches!(with_modes(options), Err(ConvertError::Unimplemented { .. })));
}

#[test]
fn dns_is_taken_when_it_says_anything() {
    let dns = |servers: &[&str], options: &[&str]| {
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        v1::DnsConfig { servers: words(servers), searches: Vec::new(), options: words(options) }
    };
    let spec = with(|it| it.dns_config = Some(dns(&["10.10.10.10"], &["ndots:8"]))).expect("good");
    assert_eq!(
        spec.dns.map(|it| (it.servers, it.options)),
        Some((vec!["10.10.10.10".into()], vec!["ndots:8".into()]))
    );
    assert_eq!(with(|it| it.dns_config = Some(dns(&[], &[]))).expect("good").dns, None);
    for bad in ["10.0.0.1\nnameserver 6.6.6.6", "", "a b"] {
        assert!(with(|it| it.dns_config = Some(dns(&[bad], &[]))).is_err(), "{bad:?}");
    }
}

#[test]
fn bad_values_are_refused_by_name() {
    type Change = fn(&mut v1::PodSandboxConfig);
    let table: [(&str, Change); 9] = [
        ("metadata", |it| it.metadata = None),
        ("name", |it| it.metadata.as_mut().expect("there").name.clear()),
        ("uid", |it| it.metadata.as_mut().expect("there").uid.clear()),
        ("namespace", |it| it.metadata.as_mut().expect("there").namespace = "a\nb".into()),
        ("hostname", |it| it.hostname = "host\nname".into()),
        ("hostname", |it| it.hostname = "h".repeat(65)),
        ("log_directory", |it| it.log_directory = "logs".into()),
        ("log_directory", |it| it.log_directory = "/var/log/../../etc".into()),
        ("cgroup_parent", |it| it.linux.as_mut().expect("there").cgroup_parent = "/a/../../b".into()),
    ];
    for (what, change) in table {
        let error = with(change).expect_err(what);
        assert!(error.to_string().contains(what), "{error}");
        assert_eq!(error.kind(), runtime_core::error::ErrorKind::InvalidArgument);
    }
    assert!(matches!(pod_spec(None, String::new()), Err(ConvertError::Missing { .. })));
}
