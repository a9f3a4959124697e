//! From a validated wish to the OCI runtime configuration (runtime-spec, config.json): pure, apart from
//! [`HostFacts::probe`] and [`HostParts::look_up`].
//!
//! Everything starts empty: the `oci-spec` crate's `Default` values are another runtime's. Image labels and
//! annotations never get in here; the only annotations are the ones that name the pod and container, and those that the
//! node's configuration passes on. Seccomp
//! `RuntimeDefault` gives no filter yet, as there is no default profile yet; `Localhost` is refused.

mod annotations;
mod capabilities;
mod devices;
mod holder;
mod host;
mod host_paths;
mod mounts;
mod namespaces;
mod process;
mod propagation;
mod resources;
mod update;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use oci_spec::runtime::{Linux, LinuxDevice, RootBuilder, Spec};
use runtime_core::error::ErrorKind;
use runtime_core::ids::{ContainerId, SandboxId};
use serde::de::DeserializeOwned;

pub(crate) use holder::{HolderInputs, holder};
pub use host::HostFacts;
pub use host_paths::{HostParts, PrivilegedDevices};
pub(crate) use process::DEFAULT_TERM;
pub(crate) use update::{limits_json, oom_score_adj, with_limits};

use crate::spec::{ContainerSpec, ImageInput, PodSpec, SeccompSpec};
use crate::user::ResolvedUser;

/// Relative to the bundle; the shim mounts the root filesystem there.
const ROOTFS: &str = "rootfs";

/// Everything that a container's specification depends on.
#[derive(Clone, Copy, Debug)]
pub struct SpecInputs<'a> {
    pub pod: &'a PodSpec,
    pub container: &'a ContainerSpec,
    pub image: &'a ImageInput,
    pub sandbox_id: &'a SandboxId,
    pub container_id: &'a ContainerId,
    pub user: &'a ResolvedUser,
    pub files: &'a PodFiles<'a>,
    pub pid: &'a PidNamespace,
    pub parts: &'a HostParts,
    /// Of the pod's and the container's annotations those that the handler passes on.
    pub passed_annotations: &'a BTreeMap<String, String>,
    pub cgroups_path: &'a str,
    pub restrict_oom_score_adj: bool,
    pub host: &'a HostFacts,
}

/// Where the pod's parts are on the host.
#[derive(Clone, Copy, Debug)]
pub struct PodFiles<'a> {
    /// `hostname`, `hosts` and `resolv.conf`.
    pub folder: &'a Path,
    /// The pinned namespaces.
    pub ipc: &'a Path,
    pub uts: &'a Path,
    /// `None` with the host's network.
    pub net: Option<&'a Path>,
    /// The pod's `/dev/shm`.
    pub shm: &'a Path,
}

/// Whose processes the container sees, as far as the OCI runtime has to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PidNamespace {
    Own,
    Host,
    Join(PathBuf),
}

#[derive(Debug, thiserror::Error)]
pub enum OciSpecError {
    #[error("{what} is not supported yet")]
    Unimplemented { what: String },
    #[error("neither the container nor its image {image} has a command")]
    NoCommand { image: String },
    #[error("{what} {value:?} contains a NUL byte")]
    NulByte { what: &'static str, value: String },
    #[error("environment variable name {name:?} is empty or contains '='")]
    EnvName { name: String },
    #[error("environment variable {variable:?} of the image is not NAME=value")]
    ImageEnv { variable: String },
    #[error("there is no capability {name:?}")]
    UnknownCapability { name: String },
    #[error("{what} {value} is not between {least} and {most}")]
    OutOfRange { what: &'static str, value: i64, least: i64, most: i64 },
    #[error("{what} {} is not an absolute path", path.display())]
    RelativePath { what: &'static str, path: PathBuf },
    #[error("cannot make or find the host path {} of a mount", path.display())]
    HostPath {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("path {} is mounted on {}, which is not {needed}", path.display(), mount_point.display())]
    NotPropagated { path: PathBuf, mount_point: PathBuf, needed: &'static str },
    #[error("cannot look at the host's device {}", path.display())]
    Device {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{} is neither a device nor a folder with devices", path.display())]
    NoDevice { path: PathBuf },
    #[error("there are more than {most} devices below {}, or they are too deep", path.display())]
    TooManyDevices { path: PathBuf, most: usize },
    #[error("the pod has no network namespace")]
    NoNetworkNamespace,
    #[error("the OCI spec in the record cannot be changed")]
    Record(#[source] serde_json::Error),
}

impl OciSpecError {
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Unimplemented { .. } => ErrorKind::Unimplemented,
            Self::NoCommand { .. }
            | Self::NulByte { .. }
            | Self::EnvName { .. }
            | Self::ImageEnv { .. }
            | Self::UnknownCapability { .. }
            | Self::OutOfRange { .. }
            | Self::RelativePath { .. } => ErrorKind::InvalidArgument,
            Self::NotPropagated { .. } => ErrorKind::FailedPrecondition,
            Self::NoDevice { .. } | Self::TooManyDevices { .. } => ErrorKind::InvalidArgument,
            Self::Device { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                ErrorKind::InvalidArgument
            }
            Self::HostPath { .. } | Self::Device { .. } | Self::NoNetworkNamespace | Self::Record(_) => {
                ErrorKind::Internal
            }
        }
    }
}

/// The container's `config.json`.
pub fn build(inputs: &SpecInputs<'_>) -> Result<Spec, OciSpecError> {
    let security = &inputs.container.security;
    let root = RootBuilder::default().path(ROOTFS).readonly(security.readonly_rootfs);
    let mut spec: Spec = empty(r#"{"ociVersion":"1.2.0"}"#);
    spec.set_root(Some(root.build().expect("both fields are given")))
        .set_mounts(Some(mounts::mounts(inputs)?))
        .set_process(Some(process::process(inputs)?))
        .set_annotations(Some(annotations::annotations(inputs)))
        .set_linux(Some(linux(inputs)?));
    Ok(spec)
}

fn linux(inputs: &SpecInputs<'_>) -> Result<Linux, OciSpecError> {
    let security = &inputs.container.security;
    let mut linux: Linux = empty("{}");
    linux
        .set_namespaces(Some(namespaces::namespaces(inputs)?))
        .set_cgroups_path(Some(inputs.cgroups_path.into()))
        .set_resources(Some(resources::resources(inputs)?))
        .set_devices(device_nodes(inputs.parts))
        .set_rootfs_propagation(mounts::rootfs_propagation(&inputs.container.mounts));
    if !security.privileged {
        check_seccomp(&security.seccomp)?;
        linux
            .set_masked_paths(Some(security.masked_paths.clone()))
            .set_readonly_paths(Some(security.readonly_paths.clone()));
    }
    Ok(linux)
}

fn device_nodes(parts: &HostParts) -> Option<Vec<LinuxDevice>> {
    let nodes: Vec<LinuxDevice> = parts.devices.iter().map(|device| device.node()).collect();
    (!nodes.is_empty()).then_some(nodes)
}

/// A privileged container has no profile whatever was asked.
fn check_seccomp(seccomp: &SeccompSpec) -> Result<(), OciSpecError> {
    match seccomp {
        SeccompSpec::Unconfined | SeccompSpec::RuntimeDefault => Ok(()),
        SeccompSpec::Localhost(path) => {
            Err(OciSpecError::Unimplemented { what: format!("seccomp profile {}", path.display()) })
        }
    }
}

/// A value with nothing but what the text says; `Default` of these types is full of surprises.
fn empty<T: DeserializeOwned>(minimum: &str) -> T {
    serde_json::from_str(minimum).expect("the required fields are in the text, the others are optional")
}

#[cfg(test)]
mod tests;
