//! What the host has at the paths that a container's configuration names, looked up once, at its creation.
//!
//! A volume's folder that is not there yet is made, as the kubelet counts on; links are followed here and not by the
//! OCI runtime, so that what is checked is what is mounted.

use std::collections::BTreeMap;
use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use super::devices::{self, DeviceNode};
use super::{OciSpecError, propagation};
use crate::spec::{ContainerSpec, MountSpec, Propagation};

const MODE: u32 = 0o755;

/// Which devices a privileged container gets unasked (containerd's `privileged_without_host_devices` and
/// `…_all_devices_allowed`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PrivilegedDevices {
    /// All of the host's, and nothing is forbidden.
    #[default]
    Host,
    /// None, but nothing is forbidden to one that makes nodes itself.
    NoneButAllowed,
    /// As a container that is not privileged.
    None,
}

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostParts {
    /// Where volumes are without links, by the path as sent.
    sources: BTreeMap<PathBuf, PathBuf>,
    pub(super) devices: Vec<DeviceNode>,
    /// Nothing is forbidden by the cgroup's device rules.
    pub(super) every_device_allowed: bool,
}

impl HostParts {
    /// Blocks as long as the host's file systems do.
    pub fn look_up(container: &ContainerSpec, privileged: PrivilegedDevices) -> Result<Self, OciSpecError> {
        let asked = devices::asked(&container.devices)?;
        let privileged = if container.security.privileged { privileged } else { PrivilegedDevices::None };
        let devices = match privileged {
            PrivilegedDevices::Host => devices::merged(devices::all()?, asked),
            PrivilegedDevices::NoneButAllowed | PrivilegedDevices::None => asked,
        };
        Ok(Self {
            sources: sources(&container.mounts)?,
            devices,
            every_device_allowed: privileged != PrivilegedDevices::None,
        })
    }

    /// What is mounted for a volume's host path.
    pub(super) fn source<'a>(&'a self, sent: &'a Path) -> &'a Path {
        self.sources.get(sent).map_or(sent, PathBuf::as_path)
    }
}

fn sources(mounts: &[MountSpec]) -> Result<BTreeMap<PathBuf, PathBuf>, OciSpecError> {
    let mut sources = BTreeMap::new();
    for mount in mounts {
        ensure(&mount.host_path)?;
        let failed = |source| OciSpecError::HostPath { path: mount.host_path.clone(), source };
        let source = mount.host_path.canonicalize().map_err(failed)?;
        if mount.propagation != Propagation::Private {
            let table = std::fs::read(propagation::MOUNTINFO).map_err(failed)?;
            propagation::check(&source, mount.propagation, &table)?;
        }
        sources.insert(mount.host_path.clone(), source);
    }
    Ok(sources)
}

fn ensure(path: &Path) -> Result<(), OciSpecError> {
    let failed = |source| OciSpecError::HostPath { path: path.to_owned(), source };
    match path.metadata() {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            DirBuilder::new().recursive(true).mode(MODE).create(path).map_err(failed)
        }
        Err(source) => Err(failed(source)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::sample::container;

    fn mount(path: PathBuf) -> MountSpec {
        MountSpec {
            container_path: "/data".into(),
            host_path: path,
            readonly: false,
            propagation: Propagation::Private,
            selinux_relabel: false,
        }
    }

    #[test]
    fn missing_folders_are_made_and_present_ones_left() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let deep = folder.path().join("a/b");
        let mounts = [mount(deep.clone()), mount(folder.path().to_owned())];
        sources(&mounts).expect("made");
        sources(&mounts).expect("there already");
        assert!(deep.is_dir());
    }

    #[test]
    fn what_cannot_be_made_is_named() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let file = folder.path().join("file");
        std::fs::File::create(&file).expect("a file in our folder");
        let path = file.join("below");
        let error = sources(&[mount(path.clone())]).expect_err("below a file");
        assert!(matches!(error, OciSpecError::HostPath { path: named, .. } if named == path));
    }

    #[test]
    fn links_are_followed_and_other_paths_stay() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let real = folder.path().canonicalize().expect("it exists").join("real");
        let link = folder.path().join("link");
        std::fs::create_dir(&real).expect("a folder");
        std::os::unix::fs::symlink("real", &link).expect("a link");
        let mut wish = container();
        wish.mounts = vec![mount(link.clone())];
        let parts = HostParts::look_up(&wish, PrivilegedDevices::Host).expect("found");
        assert_eq!(parts.source(&link), real);
        assert_eq!(parts.source(Path::new("/other")), Path::new("/other"));
        assert!(parts.devices.is_empty() && !parts.every_device_allowed);
    }

    #[test]
    fn a_privileged_container_has_the_devices_that_its_handler_says() {
        let mut wish = container();
        wish.security.privileged = true;
        for (setting, nodes, allowed) in [
            (PrivilegedDevices::Host, true, true),
            (PrivilegedDevices::NoneButAllowed, false, true),
            (PrivilegedDevices::None, false, false),
        ] {
            let parts = HostParts::look_up(&wish, setting).expect("found");
            assert_eq!(
                (!parts.devices.is_empty(), parts.every_device_allowed),
                (nodes, allowed),
                "{setting:?}"
            );
        }
    }
}
