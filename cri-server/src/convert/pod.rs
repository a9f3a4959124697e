//! Pods: the wish, the status, the list entry.

use std::collections::BTreeMap;

use cri_proto::v1;
use pod_sandbox::spec::{DnsSpec, IpcMode, NetworkMode, PodMetadata, PodSpec};
use pod_sandbox::{SandboxState, SandboxView};
use runtime_core::task::sysctl::{self, Own};

use super::{ConvertError, absolute, invalid, name, network, one_line, required, resources, security};

/// HOST_NAME_MAX of Linux.
const MAX_HOSTNAME: usize = 64;

pub(crate) fn pod_spec(
    config: Option<v1::PodSandboxConfig>,
    runtime_handler: String,
) -> Result<PodSpec, ConvertError> {
    let config = required("the pod's config", config)?;
    let linux = config.linux.unwrap_or_default();
    let context = linux.security_context.unwrap_or_default();
    let modes = security::pod_modes(context.namespace_options)?;
    // With the node's network every port is the node's already.
    let port_mappings = match modes.network {
        NetworkMode::Pod => network::port_mappings(config.port_mappings)?,
        NetworkMode::Host => Vec::new(),
    };
    sysctls(&linux.sysctls, &modes)?;
    Ok(PodSpec {
        metadata: metadata(required("the pod's metadata", config.metadata)?)?,
        hostname: hostname(config.hostname)?,
        log_directory: match config.log_directory.as_str() {
            "" => None,
            path => Some(absolute("log_directory", path)?),
        },
        dns: dns(config.dns_config)?,
        labels: config.labels,
        annotations: config.annotations,
        cgroup_parent: match linux.cgroup_parent.as_str() {
            "" => String::new(),
            path => absolute("cgroup_parent", path)?.to_string_lossy().into_owned(),
        },
        network: modes.network,
        ipc: modes.ipc,
        pid: modes.pid,
        privileged: context.privileged,
        runtime_handler,
        overhead: linux.overhead.map(|it| resources::resources(Some(it))),
        resources: linux.resources.map(|it| resources::resources(Some(it))),
        port_mappings,
        sysctls: linux.sysctls,
    })
}

/// Only what the pod has of its own may be set: everything else is the node's.
fn sysctls(sysctls: &BTreeMap<String, String>, modes: &security::PodModes) -> Result<(), ConvertError> {
    let own = Own { ipc: modes.ipc == IpcMode::Pod, net: modes.network == NetworkMode::Pod, uts: true };
    for (name, value) in sysctls {
        sysctl::check(name, value, own).map_err(ConvertError::Sysctl)?;
    }
    Ok(())
}

fn metadata(metadata: v1::PodSandboxMetadata) -> Result<PodMetadata, ConvertError> {
    Ok(PodMetadata {
        name: name("the pod's name", metadata.name)?,
        uid: name("the pod's uid", metadata.uid)?,
        namespace: name("the pod's namespace", metadata.namespace)?,
        attempt: metadata.attempt,
    })
}

fn hostname(hostname: String) -> Result<String, ConvertError> {
    one_line("hostname", &hostname)?;
    if hostname.len() > MAX_HOSTNAME {
        return Err(invalid("hostname", hostname, "is longer than 64 bytes"));
    }
    Ok(hostname)
}

/// A configuration without any entry is none: the node's resolv.conf is used.
fn dns(config: Option<v1::DnsConfig>) -> Result<Option<DnsSpec>, ConvertError> {
    let Some(v1::DnsConfig { servers, searches, options }) = config else {
        return Ok(None);
    };
    for (what, values) in
        [("DNS server", &servers), ("DNS search domain", &searches), ("DNS option", &options)]
    {
        for value in values {
            one_line(what, value)?;
            if value.is_empty() || value.contains(char::is_whitespace) {
                return Err(invalid(what, value, "is not one word"));
            }
        }
    }
    let nothing = servers.is_empty() && searches.is_empty() && options.is_empty();
    Ok((!nothing).then_some(DnsSpec { servers, searches, options }))
}

/// Only a pod that can take containers is READY.
pub(super) fn state(state: &SandboxState) -> v1::PodSandboxState {
    match state {
        SandboxState::Ready { .. } => v1::PodSandboxState::SandboxReady,
        SandboxState::SettingUp { .. }
        | SandboxState::Died { .. }
        | SandboxState::TearingDown { .. }
        | SandboxState::Stopped
        | SandboxState::Unknown { .. } => v1::PodSandboxState::SandboxNotready,
    }
}

fn identity(spec: &PodSpec) -> v1::PodSandboxMetadata {
    let PodMetadata { name, uid, namespace, attempt } = spec.metadata.clone();
    v1::PodSandboxMetadata { name, uid, namespace, attempt }
}

/// A stopped pod has no address, nor has one on the node's network: there the kubelet takes the node's.
pub(crate) fn status(view: &SandboxView) -> v1::PodSandboxStatus {
    let options = Some(security::options(&view.spec));
    v1::PodSandboxStatus {
        id: view.id.to_string(),
        metadata: Some(identity(&view.spec)),
        state: state(&view.state).into(),
        created_at: view.created_at.nanos(),
        network: Some(network::status(view)),
        linux: Some(v1::LinuxPodSandboxStatus { namespaces: Some(v1::Namespace { options }) }),
        labels: view.spec.labels.clone(),
        annotations: view.spec.annotations.clone(),
        runtime_handler: view.spec.runtime_handler.clone(),
    }
}

pub(crate) fn summary(view: &SandboxView) -> v1::PodSandbox {
    v1::PodSandbox {
        id: view.id.to_string(),
        metadata: Some(identity(&view.spec)),
        state: state(&view.state).into(),
        created_at: view.created_at.nanos(),
        labels: view.spec.labels.clone(),
        annotations: view.spec.annotations.clone(),
        runtime_handler: view.spec.runtime_handler.clone(),
    }
}

#[cfg(test)]
#[path = "pod_tests.rs"]
pub(in crate::convert) mod tests;
