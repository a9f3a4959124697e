//! What was asked for, under the names of the CRI's fields, as containerd shows it: what is zero or empty is left out,
//! enums are numbers.

use std::collections::BTreeMap;
use std::path::Path;

use cri_proto::v1;
use pod_sandbox::ContainerView;
use pod_sandbox::spec::{
    CapabilitySpec, ContainerSpec, DeviceSpec, ImageReference, LinuxResources, MountSpec, PodSpec,
    PortMapping, SeccompSpec, SecuritySpec, UserSpec,
};
use serde_json::{Map, Value, json};

use super::super::container::mount_message;
use super::super::network;
use super::super::security;
use super::super::signal;

/// A message under construction.
#[derive(Default)]
struct Message(Map<String, Value>);

impl Message {
    /// A field; left out when it has its type's empty value.
    fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        let value = value.into();
        let empty = match &value {
            Value::Null => true,
            Value::Bool(value) => !value,
            Value::Number(number) => number.as_i64() == Some(0),
            Value::String(text) => text.is_empty(),
            Value::Array(list) => list.is_empty(),
            Value::Object(fields) => fields.is_empty(),
        };
        if !empty {
            self.0.insert(name.to_owned(), value);
        }
        self
    }

    /// A message that was sent, empty or not.
    fn with_message(mut self, name: &str, message: Self) -> Self {
        self.0.insert(name.to_owned(), Value::Object(message.0));
        self
    }

    fn with_text(self, name: &str, path: &Path) -> Self {
        self.with(name, path.to_string_lossy().into_owned())
    }
}

impl From<Message> for Value {
    fn from(message: Message) -> Self {
        Value::Object(message.0)
    }
}

fn list<T>(items: &[T], message: impl Fn(&T) -> Message) -> Vec<Value> {
    items.iter().map(|item| message(item).into()).collect()
}

fn wrapped(value: u32) -> Value {
    json!({ "value": value })
}

fn map(pairs: &BTreeMap<String, String>) -> Value {
    json!(pairs)
}

pub(super) fn container(view: &ContainerView, pod: Option<&PodSpec>) -> Value {
    let ContainerSpec { metadata, image, security, .. } = view.spec.as_ref();
    let spec = view.spec.as_ref();
    let envs = |(key, value): &(String, String)| {
        Message::default().with("key", key.as_str()).with("value", value.as_str())
    };
    let folder = pod.and_then(|pod| pod.log_directory.as_deref());
    let log = spec.log_path.as_deref().unwrap_or(Path::new(""));
    let log = folder.and_then(|folder| log.strip_prefix(folder).ok()).unwrap_or(log);
    let linux = Message::default()
        .with_message("resources", resources(&view.resources))
        .with_message("security_context", container_security(security, pod));
    Message::default()
        .with_message(
            "metadata",
            Message::default().with("name", metadata.name.as_str()).with("attempt", metadata.attempt),
        )
        .with_message("image", image_spec(image))
        .with("command", spec.command.clone())
        .with("args", spec.args.clone())
        .with("working_dir", spec.working_dir.as_str())
        .with("envs", list(&spec.envs, envs))
        .with("mounts", list(&spec.mounts, mount))
        .with("devices", list(&spec.devices, device))
        .with("labels", map(&spec.labels))
        .with("annotations", map(&spec.annotations))
        .with_text("log_path", log)
        .with("stdin", spec.stdin)
        .with("stdin_once", spec.stdin_once)
        .with("tty", spec.tty)
        .with_message("linux", linux)
        .with("stop_signal", spec.stop_signal.and_then(signal::from_number).map_or(0, Into::<i32>::into))
        .into()
}

pub(super) fn pod(spec: &PodSpec) -> Value {
    let metadata = Message::default()
        .with("name", spec.metadata.name.as_str())
        .with("uid", spec.metadata.uid.as_str())
        .with("namespace", spec.metadata.namespace.as_str())
        .with("attempt", spec.metadata.attempt);
    let context = Message::default()
        .with_message("namespace_options", namespace_options(&security::options(spec)))
        .with("privileged", spec.privileged);
    let mut linux = Message::default()
        .with("cgroup_parent", spec.cgroup_parent.as_str())
        .with("sysctls", map(&spec.sysctls))
        .with_message("security_context", context);
    for (name, limits) in [("overhead", &spec.overhead), ("resources", &spec.resources)] {
        if let Some(limits) = limits {
            linux = linux.with_message(name, resources(limits));
        }
    }
    let mut config = Message::default()
        .with_message("metadata", metadata)
        .with("hostname", spec.hostname.as_str())
        .with_text("log_directory", spec.log_directory.as_deref().unwrap_or(Path::new("")))
        .with("port_mappings", list(&spec.port_mappings, port_mapping))
        .with("labels", map(&spec.labels))
        .with("annotations", map(&spec.annotations))
        .with_message("linux", linux);
    if let Some(dns) = &spec.dns {
        let dns = Message::default()
            .with("servers", dns.servers.clone())
            .with("searches", dns.searches.clone())
            .with("options", dns.options.clone());
        config = config.with_message("dns_config", dns);
    }
    config.into()
}

fn port_mapping(mapping: &PortMapping) -> Message {
    Message::default()
        .with("protocol", network::protocol_message(mapping.protocol) as i32)
        .with("container_port", mapping.container_port)
        .with("host_port", mapping.host_port)
        .with("host_ip", mapping.host_ip.map_or_else(String::new, |ip| ip.to_string()))
}

fn image_spec(image: &ImageReference) -> Message {
    Message::default()
        .with("image", image.image.as_str())
        .with("annotations", map(&image.annotations))
        .with("user_specified_image", image.user_specified.as_str())
}

fn mount(mount: &MountSpec) -> Message {
    let sent = mount_message(mount);
    Message::default()
        .with("container_path", sent.container_path)
        .with("host_path", sent.host_path)
        .with("readonly", sent.readonly)
        .with("selinux_relabel", sent.selinux_relabel)
        .with("propagation", sent.propagation)
}

fn device(device: &DeviceSpec) -> Message {
    Message::default()
        .with_text("container_path", &device.container_path)
        .with_text("host_path", &device.host_path)
        .with("permissions", device.permissions.as_str())
}

fn resources(limits: &LinuxResources) -> Message {
    let hugepages = list(&limits.hugepage_limits, |it| {
        Message::default().with("page_size", it.page_size.as_str()).with("limit", it.limit_bytes)
    });
    Message::default()
        .with("cpu_period", limits.cpu_period)
        .with("cpu_quota", limits.cpu_quota)
        .with("cpu_shares", limits.cpu_shares)
        .with("memory_limit_in_bytes", limits.memory_limit_bytes)
        .with("oom_score_adj", limits.oom_score_adj)
        .with("cpuset_cpus", limits.cpuset_cpus.as_str())
        .with("cpuset_mems", limits.cpuset_mems.as_str())
        .with("hugepage_limits", hugepages)
        .with("unified", map(&limits.unified))
        .with("memory_swap_limit_in_bytes", limits.memory_swap_limit_bytes)
}

fn namespace_options(options: &v1::NamespaceOption) -> Message {
    Message::default()
        .with("network", options.network)
        .with("pid", options.pid)
        .with("ipc", options.ipc)
        .with("target_id", options.target_id.as_str())
}

/// Network and IPC are the pod's for each of its containers.
fn container_security(security: &SecuritySpec, pod: Option<&PodSpec>) -> Message {
    let mut options = pod.map(security::options).unwrap_or_default();
    (options.pid, options.target_id) = security::pid_option(&security.pid);
    let (profile, path) = match &security.seccomp {
        SeccompSpec::RuntimeDefault => (0, Path::new("")),
        SeccompSpec::Unconfined => (1, Path::new("")),
        SeccompSpec::Localhost(path) => (2, path.as_path()),
    };
    let seccomp = Message::default().with("profile_type", profile).with_text("localhost_ref", path);
    let CapabilitySpec { add, drop, add_ambient } = &security.capabilities;
    let capabilities = Message::default()
        .with("add_capabilities", add.clone())
        .with("drop_capabilities", drop.clone())
        .with("add_ambient_capabilities", add_ambient.clone());
    let (uid, name) = match &security.user {
        Some(UserSpec::Uid(uid)) => (Some(wrapped(*uid)), ""),
        Some(UserSpec::Name(name)) => (None, name.as_str()),
        None => (None, ""),
    };
    Message::default()
        .with("capabilities", capabilities)
        .with("privileged", security.privileged)
        .with_message("namespace_options", namespace_options(&options))
        .with("run_as_user", uid)
        .with("run_as_username", name)
        .with("run_as_group", security.group.map(wrapped))
        .with("readonly_rootfs", security.readonly_rootfs)
        .with("supplemental_groups", security.supplemental_groups.clone())
        .with("supplemental_groups_policy", security.supplemental_groups_policy as i32)
        .with("no_new_privs", security.no_new_privs)
        .with("masked_paths", security.masked_paths.clone())
        .with("readonly_paths", security.readonly_paths.clone())
        .with_message("seccomp", seccomp)
}
