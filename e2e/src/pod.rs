//! Pods and containers as the tests ask for them: on the node's network, each container its own PID namespace.

use std::net::Ipv4Addr;
use std::path::PathBuf;

use cri_proto::v1 as cri;
use cri_proto::v1::NamespaceMode;
use tonic::Status;

use crate::client::{Cri, image_spec};
use crate::node::{BUSYBOX, Node};
use crate::{fixture, process, wait};

/// A pod that was run, and what it was run with.
pub struct Pod {
    pub id: String,
    pub config: cri::PodSandboxConfig,
    cri: Cri,
}

impl Node {
    /// The configuration of a pod as a kubelet sends it, but on the node's network.
    pub fn pod_config(&self, name: &str) -> cri::PodSandboxConfig {
        cri::PodSandboxConfig {
            metadata: Some(cri::PodSandboxMetadata {
                name: name.to_owned(),
                uid: fixture::unique("uid"),
                namespace: "default".to_owned(),
                attempt: 0,
            }),
            log_directory: self.folder().join("logs").join(name).to_string_lossy().into_owned(),
            linux: Some(cri::LinuxPodSandboxConfig {
                cgroup_parent: self.cgroup_parent(),
                security_context: Some(cri::LinuxSandboxSecurityContext {
                    namespace_options: Some(namespaces()),
                    ..Default::default()
                }),
                ..Default::default()
            }),
            ..Default::default()
        }
    }

    /// The configuration of a pod with a network of its own.
    pub fn net_pod_config(&self, name: &str) -> cri::PodSandboxConfig {
        let mut config = self.pod_config(name);
        pod_namespaces(&mut config).network = NamespaceMode::Pod.into();
        config
    }

    /// Runs a pod with a network of its own.
    pub fn run_net_pod(&self, name: &str) -> Pod {
        self.run_pod_as(self.net_pod_config(name))
    }

    /// Runs a pod.
    pub fn run_pod(&self, name: &str) -> Pod {
        self.run_pod_as(self.pod_config(name))
    }

    /// Runs a pod with its own configuration.
    pub fn run_pod_as(&self, config: cri::PodSandboxConfig) -> Pod {
        let id = self.cri().run_pod(&config).unwrap_or_else(|status| panic!("run pod {config:?}: {status}"));
        Pod { id, config, cri: self.cri() }
    }
}

impl Pod {
    /// A pod that another call has run.
    pub fn known(node: &Node, id: String, config: cri::PodSandboxConfig) -> Self {
        Self { id, config, cri: node.cri() }
    }

    /// Creates a container.
    pub fn create(&self, config: &cri::ContainerConfig) -> Result<String, Status> {
        self.cri.create(&self.id, &self.config, config)
    }

    /// Creates and starts a container that has to start.
    pub fn start(&self, config: &cri::ContainerConfig) -> String {
        let id = self.create(config).unwrap_or_else(|status| panic!("create {config:?}: {status}"));
        self.cri.start(&id).unwrap_or_else(|status| panic!("start {config:?}: {status}"));
        id
    }

    /// Starts a container that runs a shell line.
    pub fn start_sh(&self, name: &str, line: &str) -> String {
        self.start(&container(name, &["sh", "-c", line]))
    }

    /// Runs a shell line in a container of its own to its end; gives the status it ends with.
    pub fn run_sh(&self, name: &str, line: &str) -> cri::ContainerStatus {
        let id = self.start_sh(name, line);
        wait_exited(&self.cri, &id)
    }

    /// The pod's address.
    pub fn address(&self) -> Ipv4Addr {
        let status =
            self.cri.pod(&self.id).unwrap_or_else(|status| panic!("status of {}: {status}", self.id));
        let network = status.network.unwrap_or_else(|| panic!("pod {} has no network", self.id));
        network.ip.parse().unwrap_or_else(|error| panic!("address {:?}: {error}", network.ip))
    }

    /// Path of the log of a container that was configured by [`container`].
    pub fn log_path(&self, name: &str) -> PathBuf {
        PathBuf::from(&self.config.log_directory).join(format!("{name}.log"))
    }

    /// The log of a container so far.
    pub fn log(&self, name: &str) -> String {
        fixture::read(&self.log_path(name))
    }
}

/// Node's network, a PID namespace for each container, IPC of the pod.
pub fn namespaces() -> cri::NamespaceOption {
    cri::NamespaceOption {
        network: NamespaceMode::Node.into(),
        pid: NamespaceMode::Container.into(),
        ipc: NamespaceMode::Pod.into(),
        ..Default::default()
    }
}

/// A container of [`BUSYBOX`] with a log.
pub fn container(name: &str, command: &[&str]) -> cri::ContainerConfig {
    cri::ContainerConfig {
        metadata: Some(cri::ContainerMetadata { name: name.to_owned(), attempt: 0 }),
        image: Some(image_spec(BUSYBOX)),
        command: command.iter().map(|&word| word.to_owned()).collect(),
        log_path: format!("{name}.log"),
        linux: Some(cri::LinuxContainerConfig {
            security_context: Some(cri::LinuxContainerSecurityContext {
                namespace_options: Some(namespaces()),
                ..Default::default()
            }),
            ..Default::default()
        }),
        ..Default::default()
    }
}

/// A container of a pod with a network of its own.
pub fn net_container(name: &str, command: &[&str]) -> cri::ContainerConfig {
    let mut config = container(name, command);
    container_namespaces(&mut config).network = NamespaceMode::Pod.into();
    config
}

/// The same container with a new folder of the node mounted at `/go`; gives the folder, too.
pub fn with_go(node: &Node, mut config: cri::ContainerConfig) -> (cri::ContainerConfig, PathBuf) {
    let folder = node.folder().join(fixture::unique("go"));
    fixture::folder(&folder);
    config.mounts.push(cri::Mount {
        container_path: "/go".to_owned(),
        host_path: folder.to_string_lossy().into_owned(),
        ..Default::default()
    });
    (config, folder)
}

/// The security context of a container config, to be changed.
pub fn security(config: &mut cri::ContainerConfig) -> &mut cri::LinuxContainerSecurityContext {
    let linux = config.linux.get_or_insert_with(Default::default);
    linux.security_context.get_or_insert_with(Default::default)
}

/// The namespace options of a container config, to be changed.
pub fn container_namespaces(config: &mut cri::ContainerConfig) -> &mut cri::NamespaceOption {
    security(config).namespace_options.get_or_insert_with(Default::default)
}

/// The resources of a container config, to be changed.
pub fn resources(config: &mut cri::ContainerConfig) -> &mut cri::LinuxContainerResources {
    let linux = config.linux.get_or_insert_with(Default::default);
    linux.resources.get_or_insert_with(Default::default)
}

/// A port of the node that leads to one of the pod.
pub fn port_mapping(container: u16, host: u16) -> cri::PortMapping {
    cri::PortMapping { container_port: container.into(), host_port: host.into(), ..Default::default() }
}

/// The namespace options of a pod config, to be changed.
pub fn pod_namespaces(config: &mut cri::PodSandboxConfig) -> &mut cri::NamespaceOption {
    let linux = config.linux.get_or_insert_with(Default::default);
    let security = linux.security_context.get_or_insert_with(Default::default);
    security.namespace_options.get_or_insert_with(Default::default)
}

/// Waits until a container has ended, and gives its status.
pub fn wait_exited(cri: &Cri, id: &str) -> cri::ContainerStatus {
    wait::for_some(&format!("container {id} is exited"), || {
        let status = cri.container(id).unwrap_or_else(|status| panic!("status of {id}: {status}"));
        (status.state() == cri::ContainerState::ContainerExited).then_some(status)
    })
}

/// The process of a running container, by the pid in its verbose status.
pub fn process_of(cri: &Cri, id: &str) -> process::Process {
    let info = cri.container_info(id).unwrap_or_else(|status| panic!("info of {id}: {status}"));
    let pid = info["pid"].as_u64().and_then(|pid| u32::try_from(pid).ok());
    let pid = pid.unwrap_or_else(|| panic!("no pid in the info of {id}: {info}"));
    process::look(pid).unwrap_or_else(|| panic!("process {pid} of {id} is not there"))
}

/// An environment variable.
pub fn key_value(key: &str, value: &str) -> cri::KeyValue {
    cri::KeyValue { key: key.to_owned(), value: value.as_bytes().to_vec() }
}

/// A user or group id.
pub fn id_value(value: i64) -> Option<cri::Int64Value> {
    Some(cri::Int64Value { value })
}

/// The text parts of the log lines, in order.
pub fn said(log: &str) -> Vec<&str> {
    log.lines().filter_map(|line| line.splitn(4, ' ').nth(3)).collect()
}
