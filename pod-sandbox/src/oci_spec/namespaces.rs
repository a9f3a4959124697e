//! Which namespaces a container makes, joins, or leaves as the host's.

use std::path::Path;

use oci_spec::runtime::{LinuxNamespace, LinuxNamespaceBuilder, LinuxNamespaceType};

use super::{OciSpecError, SpecInputs};
use crate::spec::{IpcMode, NetworkMode, PidMode};

/// What is not listed is the host's. UTS is the pod's always, so the hostname is not set here.
pub(super) fn namespaces(inputs: &SpecInputs<'_>) -> Result<Vec<LinuxNamespace>, OciSpecError> {
    let refuse = |what: &str| Err(OciSpecError::Unimplemented { what: what.to_owned() });
    let mut namespaces =
        vec![new(LinuxNamespaceType::Mount), join(LinuxNamespaceType::Uts, inputs.files.uts)];
    match inputs.pod.ipc {
        IpcMode::Pod => namespaces.push(join(LinuxNamespaceType::Ipc, inputs.files.ipc)),
        IpcMode::Host => {}
    }
    match inputs.pod.network {
        NetworkMode::Host => {}
        NetworkMode::Pod => return refuse("a pod network"),
    }
    match &inputs.container.security.pid {
        PidMode::Container => namespaces.push(new(LinuxNamespaceType::Pid)),
        PidMode::Host => {}
        PidMode::Pod => return refuse("PID namespace mode POD"),
        PidMode::Target(_) => return refuse("PID namespace mode TARGET"),
    }
    // The OCI runtimes know no cgroup namespace on v1 that helps; privileged ones see the host's tree.
    if inputs.host.cgroup2 && !inputs.container.security.privileged {
        namespaces.push(new(LinuxNamespaceType::Cgroup));
    }
    Ok(namespaces)
}

fn new(kind: LinuxNamespaceType) -> LinuxNamespace {
    let mut namespace = LinuxNamespace::default();
    namespace.set_typ(kind).set_path(None);
    namespace
}

fn join(kind: LinuxNamespaceType, path: &Path) -> LinuxNamespace {
    let namespace = LinuxNamespaceBuilder::default().typ(kind).path(path);
    namespace.build().expect("both fields are given")
}
