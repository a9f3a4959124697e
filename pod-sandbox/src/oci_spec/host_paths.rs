//! Volumes from host paths that do not exist yet: a folder is made, as the kubelet counts on.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;

use super::OciSpecError;
use crate::spec::MountSpec;

const MODE: u32 = 0o755;

/// Makes the missing ones; blocks as long as the host's file systems do.
pub fn ensure_host_paths(mounts: &[MountSpec]) -> Result<(), OciSpecError> {
    for path in mounts.iter().map(|mount| &mount.host_path) {
        let missing = match path.metadata() {
            Ok(_) => false,
            Err(error) if error.kind() == io::ErrorKind::NotFound => true,
            Err(source) => {
                return Err(OciSpecError::HostPath { path: path.clone(), source });
            }
        };
        if missing {
            let made = DirBuilder::new().recursive(true).mode(MODE).create(path);
            made.map_err(|source| OciSpecError::HostPath { path: path.clone(), source })?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::Propagation;

    fn mount(path: std::path::PathBuf) -> MountSpec {
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
        ensure_host_paths(&mounts).expect("made");
        ensure_host_paths(&mounts).expect("there already");
        assert!(deep.is_dir());
    }

    #[test]
    fn what_cannot_be_made_is_named() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let file = folder.path().join("file");
        std::fs::File::create(&file).expect("a file in our folder");
        let path = file.join("below");
        let error = ensure_host_paths(&[mount(path.clone())]).expect_err("below a file");
        assert!(matches!(error, OciSpecError::HostPath { path: named, .. } if named == path));
    }
}
