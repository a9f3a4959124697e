//! A plain pod, container and image for tests to start from.

use std::collections::BTreeMap;

use super::*;

pub(crate) fn pod() -> PodSpec {
    PodSpec {
        metadata: PodMetadata {
            name: "web".into(),
            uid: "u1".into(),
            namespace: "default".into(),
            attempt: 0,
        },
        hostname: String::new(),
        log_directory: None,
        dns: None,
        labels: BTreeMap::new(),
        annotations: BTreeMap::from([("of-pod".into(), "stays out".into())]),
        cgroup_parent: "/kubepods/pod1".into(),
        network: NetworkMode::Host,
        ipc: IpcMode::Pod,
        pid: PidMode::Container,
        privileged: false,
        runtime_handler: String::new(),
        overhead: None,
        resources: None,
        port_mappings: Vec::new(),
        sysctls: BTreeMap::new(),
    }
}

pub(crate) fn container() -> ContainerSpec {
    ContainerSpec {
        metadata: ContainerMetadata { name: "main".into(), attempt: 0 },
        image: ImageReference {
            image: "sha256:1".into(),
            user_specified: "busybox:1".into(),
            annotations: BTreeMap::new(),
        },
        command: Vec::new(),
        args: Vec::new(),
        working_dir: String::new(),
        envs: Vec::new(),
        mounts: Vec::new(),
        devices: Vec::new(),
        labels: BTreeMap::new(),
        annotations: BTreeMap::from([("of-container".into(), "stays out".into())]),
        log_path: None,
        stdin: false,
        stdin_once: false,
        tty: false,
        stop_signal: None,
        resources: LinuxResources::default(),
        security: SecuritySpec {
            privileged: false,
            pid: PidMode::Container,
            user: None,
            group: None,
            supplemental_groups: Vec::new(),
            supplemental_groups_policy: Default::default(),
            capabilities: CapabilitySpec::default(),
            readonly_rootfs: false,
            no_new_privs: false,
            masked_paths: Vec::new(),
            readonly_paths: Vec::new(),
            seccomp: SeccompSpec::RuntimeDefault,
        },
    }
}

pub(crate) fn image() -> ImageInput {
    let digest = format!("sha256:{}", "a".repeat(64));
    ImageInput {
        id: runtime_core::ids::Digest::parse(digest.clone()).expect("valid"),
        name: "docker.io/library/busybox:1".into(),
        chain_id: runtime_core::ids::ChainId::parse(digest).expect("valid"),
        config: ImageConfig {
            entrypoint: vec!["/entry".into()],
            cmd: vec!["cmd".into()],
            ..ImageConfig::default()
        },
    }
}
