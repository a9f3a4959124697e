//! What a kubelet or crictl sends for a container, what comes back in its status, and what is refused.

use std::sync::Arc;

use cri_proto::v1::NamespaceMode;
use pod_sandbox::spec::{ImageConfig, ImageInput, LinuxResources, PidMode, SeccompSpec, UserSpec};
use pod_sandbox::{ContainerExit, ExitReason};
use runtime_core::clock::Timestamp;
use runtime_core::error::ErrorKind;
use runtime_core::ids::{ChainId, ContainerId, Digest, SandboxId, SnapshotKey};

use super::super::pod::{pod_spec, tests::config as pod_config};
use super::*;

fn pod() -> PodSpec {
    pod_spec(Some(pod_config()), String::new()).expect("a good pod")
}

fn config() -> v1::ContainerConfig {
    v1::ContainerConfig {
        metadata: Some(v1::ContainerMetadata { name: "main".into(), attempt: 3 }),
        image: Some(v1::ImageSpec {
            image: "sha256:1".into(),
            user_specified_image: "busybox".into(),
            ..Default::default()
        }),
        envs: vec![v1::KeyValue { key: "A".into(), value: b"1\n2".to_vec() }],
        mounts: vec![v1::Mount {
            container_path: "/data".into(),
            host_path: "/srv".into(),
            propagation: v1::MountPropagation::PropagationHostToContainer.into(),
            selinux_relabel: true,
            ..Default::default()
        }],
        labels: [("k".to_owned(), "v\n".to_owned())].into(),
        annotations: [("n".to_owned(), "ü".to_owned())].into(),
        log_path: "main/3.log".into(),
        stop_signal: v1::Signal::Sigusr1.into(),
        ..Default::default()
    }
}

fn with(change: impl FnOnce(&mut v1::ContainerConfig)) -> Result<ContainerSpec, ConvertError> {
    let mut config = config();
    change(&mut config);
    container_spec(Some(config), &pod())
}

fn with_security(
    change: impl FnOnce(&mut v1::LinuxContainerSecurityContext),
) -> Result<ContainerSpec, ConvertError> {
    let mut context = v1::LinuxContainerSecurityContext::default();
    change(&mut context);
    with(|config| {
        let security_context = Some(context);
        config.linux = Some(v1::LinuxContainerConfig { security_context, ..Default::default() });
    })
}

pub(in crate::convert) fn view(state: ContainerState) -> ContainerView {
    let digest = format!("sha256:{}", "b".repeat(64));
    ContainerView {
        id: ContainerId::parse("c1").expect("valid"),
        sandbox: SandboxId::parse("p1").expect("valid"),
        resources: Arc::new(LinuxResources { cpu_shares: 7, ..Default::default() }),
        removing: false,
        spec: Arc::new(with(|_| ()).expect("a good container")),
        image: Arc::new(ImageInput {
            id: Digest::parse(digest.clone()).expect("valid"),
            name: "docker.io/library/busybox:latest".into(),
            chain_id: ChainId::parse(digest).expect("valid"),
            config: ImageConfig::default(),
        }),
        created_at: Timestamp(5),
        user: None,
        state,
        snapshotter: "overlayfs".into(),
        snapshot_key: SnapshotKey::parse("c1").expect("valid"),
    }
}

#[test]
fn a_container_is_taken_and_given_back_as_it_is() {
    let exit = ContainerExit { code: 3, reason: ExitReason::Error, message: "m".into(), at: Timestamp(9) };
    let view = view(ContainerState::Exited { since: Some(Timestamp(6)), exit });
    let status = status(&view);
    let asked = config();
    assert_eq!(status.metadata, asked.metadata);
    assert_eq!(status.image.as_ref().map(|it| it.image.as_str()), Some("busybox"));
    assert_eq!(summary(&view).image, asked.image);
    assert_eq!((&status.labels, &status.annotations), (&asked.labels, &asked.annotations));
    assert_eq!(status.mounts, asked.mounts);
    assert_eq!(status.log_path, "/var/log/pods/web/main/3.log");
    assert_eq!(status.stop_signal, asked.stop_signal);
    let limits = status.resources.clone().and_then(|it| it.linux).expect("limits");
    assert_eq!(limits.cpu_shares, 7, "those in force, not those asked for");
    assert_eq!((status.created_at, status.started_at, status.finished_at), (5, 6, 9));
    assert_eq!((status.exit_code, status.reason.as_str(), status.message.as_str()), (3, "Error", "m"));
    assert_eq!(status.state(), v1::ContainerState::ContainerExited);
    let id = format!("sha256:{}", "b".repeat(64));
    assert_eq!((&status.image_id, &status.image_ref), (&id, &id));
    let summary = summary(&view);
    assert_eq!(
        (summary.pod_sandbox_id.as_str(), &summary.image_id, summary.labels),
        ("p1", &id, status.labels)
    );
}

#[test]
fn states_are_the_cris_four() {
    let table = [
        (ContainerState::Created, v1::ContainerState::ContainerCreated),
        (ContainerState::Starting, v1::ContainerState::ContainerCreated),
        (ContainerState::Running { pid: 1, since: Timestamp(1) }, v1::ContainerState::ContainerRunning),
        (ContainerState::Stopping { pid: 1, since: Timestamp(1) }, v1::ContainerState::ContainerRunning),
        (ContainerState::Unknown { why: "?".into() }, v1::ContainerState::ContainerUnknown),
    ];
    for (from, expected) in table {
        assert_eq!(status(&view(from)).state(), expected);
    }
}

#[test]
fn a_container_without_options_takes_the_pods_pid_mode() {
    assert_eq!(with(|_| ()).expect("good").security.pid, PidMode::Container);
    let pid = |mode: NamespaceMode| {
        let options = Some(v1::NamespaceOption { pid: mode.into(), ..Default::default() });
        with_security(|it| it.namespace_options = options).map(|spec| spec.security.pid)
    };
    assert_eq!(pid(NamespaceMode::Node), Ok(PidMode::Host));
    assert_eq!(pid(NamespaceMode::Container), Ok(PidMode::Container));
    assert_eq!(pid(NamespaceMode::Pod), Ok(PidMode::Pod));
    assert!(matches!(pid(NamespaceMode::Target), Err(ConvertError::Missing { .. })));
}

#[test]
fn pod_wide_pid_namespaces_and_targets() {
    let of_pod = |mode: PidMode, options: Option<v1::NamespaceOption>| {
        let mut pod = pod();
        pod.pid = mode;
        let mut config = config();
        let security_context =
            Some(v1::LinuxContainerSecurityContext { namespace_options: options, ..Default::default() });
        config.linux = Some(v1::LinuxContainerConfig { security_context, ..Default::default() });
        container_spec(Some(config), &pod).map(|spec| spec.security.pid)
    };
    let target = |id: &str| v1::NamespaceOption {
        pid: NamespaceMode::Target.into(),
        target_id: id.to_owned(),
        ..Default::default()
    };
    assert_eq!(of_pod(PidMode::Pod, None), Ok(PidMode::Pod));
    let asked = Some(v1::NamespaceOption::default());
    assert_eq!(of_pod(PidMode::Host, asked.clone()), Ok(PidMode::Host), "the pod's is the node's");
    assert_eq!(of_pod(PidMode::Container, asked), Ok(PidMode::Pod));
    let id = ContainerId::parse("c2").expect("valid");
    assert_eq!(of_pod(PidMode::Container, Some(target("c2"))), Ok(PidMode::Target(id)));
    assert!(matches!(of_pod(PidMode::Container, Some(target("../1"))), Err(ConvertError::Invalid { .. })));
}

#[test]
fn devices_are_taken_with_sound_permissions() {
    let of = |host: &str, container: &str, permissions: &str| {
        let device = v1::Device {
            host_path: host.into(),
            container_path: container.into(),
            permissions: permissions.into(),
        };
        with(|it| it.devices = vec![device]).map(|spec| spec.devices)
    };
    let devices = of("/dev/fuse", "/dev/other", "rwm").expect("good");
    assert_eq!(
        (devices[0].container_path.as_path(), devices[0].permissions.as_str()),
        (Path::new("/dev/other"), "rwm")
    );
    for (host, container, permissions) in [
        ("/dev/fuse", "/dev/x", ""),
        ("/dev/fuse", "/dev/x", "rx"),
        ("dev/fuse", "/dev/x", "r"),
        ("/dev/fuse", "/dev/../x", "r"),
    ] {
        let error = of(host, container, permissions).expect_err("bad");
        assert!(matches!(error, ConvertError::Invalid { .. }), "{error}");
    }
}

#[test]
fn users_and_groups() {
    let int = |value| Some(v1::Int64Value { value });
    let user = with_security(|it| {
        it.run_as_user = int(1001);
        it.run_as_group = int(1002);
        it.supplemental_groups = vec![1234, 5678];
    });
    let security = user.expect("good").security;
    assert_eq!((security.user, security.group), (Some(UserSpec::Uid(1001)), Some(1002)));
    assert_eq!(security.supplemental_groups, [1234, 5678]);
    let named = with_security(|it| it.run_as_username = "nobody".into()).expect("good");
    assert_eq!(named.security.user, Some(UserSpec::Name("nobody".into())));

    type Change = fn(&mut v1::LinuxContainerSecurityContext);
    let bad: [Change; 5] = [
        |it| it.run_as_group = Some(v1::Int64Value { value: 1 }),
        |it| it.run_as_user = Some(v1::Int64Value { value: -1 }),
        |it| it.supplemental_groups = vec![1 << 40],
        |it| it.supplemental_groups_policy = 7,
        |it| {
            it.run_as_user = Some(v1::Int64Value { value: 1 });
            it.run_as_username = "one".into();
        },
    ];
    for change in bad {
        assert_eq!(with_security(change).expect_err("refused").kind(), ErrorKind::InvalidArgument);
    }
}

#[test]
fn capabilities_lose_prefix_and_case() {
    let wish = v1::Capability {
        add_capabilities: vec!["CAP_NET_ADMIN".into(), "all".into()],
        drop_capabilities: vec!["net_raw".into()],
        ..Default::default()
    };
    let capabilities = with_security(|it| it.capabilities = Some(wish)).expect("good").security.capabilities;
    assert_eq!(
        (capabilities.add, capabilities.drop),
        (vec!["NET_ADMIN".into(), "ALL".into()], vec!["NET_RAW".into()])
    );
}

#[test]
#[expect(deprecated, reason = "older clients send only this")]
fn seccomp_comes_from_the_profile_or_the_older_text() {
    let profile = |kind: i32, path: &str| {
        Some(v1::SecurityProfile { profile_type: kind, localhost_ref: path.to_owned() })
    };
    let of = |profile: Option<v1::SecurityProfile>, text: &str| {
        let text = text.to_owned();
        with_security(|it| {
            it.seccomp = profile;
            it.seccomp_profile_path = text;
        })
        .map(|spec| spec.security.seccomp)
    };
    assert_eq!(of(None, ""), Ok(SeccompSpec::Unconfined));
    assert_eq!(of(profile(0, ""), "unconfined"), Ok(SeccompSpec::RuntimeDefault));
    assert_eq!(of(profile(1, ""), ""), Ok(SeccompSpec::Unconfined));
    assert_eq!(of(profile(2, "/p"), ""), Ok(SeccompSpec::Localhost("/p".into())));
    assert_eq!(of(None, "runtime/default"), Ok(SeccompSpec::RuntimeDefault));
    assert_eq!(of(None, "localhost/p"), Ok(SeccompSpec::Localhost("p".into())));
    assert!(of(None, "nonsense").is_err() && of(profile(9, ""), "").is_err());
}

#[test]
fn privileged_needs_a_privileged_pod() {
    let error = with_security(|it| it.privileged = true).expect_err("the pod is not");
    assert!(error.to_string().contains("privileged"), "{error}");
}

#[test]
fn log_paths_stay_inside_the_pods_folder() {
    let of = |path: &str| with(|it| it.log_path = path.to_owned()).map(|spec| spec.log_path);
    assert_eq!(of(""), Ok(None));
    assert_eq!(of("a/b.log"), Ok(Some("/var/log/pods/web/a/b.log".into())));
    for bad in ["/etc/passwd", "../x.log", "a/../../x.log", "a/", ".", "a\n.log"] {
        let error = of(bad).expect_err(bad);
        assert!(error.to_string().contains("log_path"), "{error}");
    }
}

#[test]
fn what_comes_later_is_refused_by_name() {
    type Change = fn(&mut v1::ContainerConfig);
    let table: [(&str, Change); 6] = [
        ("v/c=n", |it| it.cdi_devices = vec![v1::CdiDevice { name: "v/c=n".into() }]),
        ("image volume", |it| it.mounts[0].image = Some(v1::ImageSpec::default())),
        ("id-mapped", |it| it.mounts[0].uid_mappings = vec![v1::IdMapping::default()]),
        ("mount options", |it| it.mounts[0].mount_options = vec!["noexec".into()]),
        ("recursively read-only", |it| {
            it.mounts[0].propagation = 0;
            (it.mounts[0].readonly, it.mounts[0].recursive_read_only) = (true, true);
        }),
        ("AppArmor", |it| {
            let profile = v1::SecurityProfile { profile_type: 2, localhost_ref: "mine".into() };
            let security_context =
                Some(v1::LinuxContainerSecurityContext { apparmor: Some(profile), ..Default::default() });
            it.linux = Some(v1::LinuxContainerConfig { security_context, ..Default::default() });
        }),
    ];
    for (what, change) in table {
        let error = with(change).expect_err(what);
        assert_eq!(error.kind(), ErrorKind::Unimplemented, "{error}");
        assert!(error.to_string().contains(what), "{error}");
    }
}

#[test]
fn bad_values_are_refused_by_name() {
    type Change = fn(&mut v1::ContainerConfig);
    let table: [(&str, Change); 9] = [
        ("metadata", |it| it.metadata = None),
        ("name", |it| it.metadata = Some(v1::ContainerMetadata::default())),
        ("image", |it| it.image = None),
        ("image", |it| it.image = Some(v1::ImageSpec::default())),
        ("stop_signal", |it| it.stop_signal = 66),
        ("environment variable", |it| it.envs[0].value = vec![0xff]),
        ("container_path", |it| it.mounts[0].container_path = "data".into()),
        ("host_path", |it| it.mounts[0].host_path.clear()),
        ("recursive_read_only", |it| it.mounts[0].recursive_read_only = true),
    ];
    for (what, change) in table {
        let error = with(change).expect_err(what);
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
        assert!(error.to_string().contains(what), "{error}");
    }
}
