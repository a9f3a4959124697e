//! Which namespaces a container makes, joins, or leaves as the host's.

use std::path::Path;

use oci_spec::runtime::{LinuxNamespace, LinuxNamespaceBuilder, LinuxNamespaceType};

use super::{OciSpecError, PidNamespace, SpecInputs};
use crate::spec::{IpcMode, NetworkMode};

/// What is not listed is the host's. UTS is the pod's always, so the hostname is not set here.
pub(super) fn namespaces(inputs: &SpecInputs<'_>) -> Result<Vec<LinuxNamespace>, OciSpecError> {
    let mut namespaces =
        vec![new(LinuxNamespaceType::Mount), join(LinuxNamespaceType::Uts, inputs.files.uts)];
    match inputs.pod.ipc {
        IpcMode::Pod => namespaces.push(join(LinuxNamespaceType::Ipc, inputs.files.ipc)),
        IpcMode::Host => {}
    }
    match inputs.pod.network {
        NetworkMode::Host => {}
        // Left out it would be the host's.
        NetworkMode::Pod => {
            let path = inputs.files.net.ok_or(OciSpecError::NoNetworkNamespace)?;
            namespaces.push(join(LinuxNamespaceType::Network, path));
        }
    }
    match inputs.pid {
        PidNamespace::Own => namespaces.push(new(LinuxNamespaceType::Pid)),
        PidNamespace::Host => {}
        PidNamespace::Join(path) => namespaces.push(join(LinuxNamespaceType::Pid, path)),
    }
    // The OCI runtimes know no cgroup namespace on v1 that helps; privileged ones see the host's tree.
    if inputs.host.cgroup2 && !inputs.container.security.privileged {
        namespaces.push(new(LinuxNamespaceType::Cgroup));
    }
    Ok(namespaces)
}

pub(super) fn new(kind: LinuxNamespaceType) -> LinuxNamespace {
    let mut namespace = LinuxNamespace::default();
    namespace.set_typ(kind).set_path(None);
    namespace
}

pub(super) fn join(kind: LinuxNamespaceType, path: &Path) -> LinuxNamespace {
    let namespace = LinuxNamespaceBuilder::default().typ(kind).path(path);
    namespace.build().expect("both fields are given")
}
