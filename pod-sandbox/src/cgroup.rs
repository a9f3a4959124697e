//! Which cgroup a container goes into, and taking away the ones that are ours.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use runtime_core::ids::{ContainerId, SandboxId};

use crate::spec::PodSpec;

/// The parent of pods that name none.
const OWN_PARENT: &str = "/orlop";
const CGROUP_ROOT: &str = "/sys/fs/cgroup";
/// The kernel lets go of a cgroup a moment after its last process is gone.
const BUSY_RETRIES: u32 = 50;
const BUSY_PAUSE: Duration = Duration::from_millis(10);

#[derive(Debug, thiserror::Error)]
#[error("cannot remove cgroup {path}")]
pub struct CgroupError {
    path: PathBuf,
    #[source]
    source: io::Error,
}

/// Nobody named a cgroup for the pod: it gets one of ours, and takes it along. The root is nobody's.
pub(crate) fn has_own_parent(spec: &PodSpec) -> bool {
    spec.cgroup_parent.trim_end_matches('/').is_empty()
}

/// The cgroup that everything of a pod is below.
pub(crate) fn parent_of(sandbox: &SandboxId, spec: &PodSpec) -> String {
    if has_own_parent(spec) {
        return format!("{OWN_PARENT}/{sandbox}");
    }
    spec.cgroup_parent.trim_end_matches('/').to_owned()
}

/// The cgroup of a container, as `linux.cgroupsPath` of the OCI runtime-spec.
pub(crate) fn container_path(sandbox: &SandboxId, spec: &PodSpec, container: &ContainerId) -> String {
    format!("{}/{container}", parent_of(sandbox, spec))
}

/// The cgroup of a pod's holder: a leaf beside its containers'.
pub(crate) fn holder_path(sandbox: &SandboxId, spec: &PodSpec) -> String {
    format!("{}/{sandbox}", parent_of(sandbox, spec))
}

/// Removes `/orlop/<pod>` from every hierarchy; gone already is fine.
pub(crate) async fn remove_own_parent(sandbox: &SandboxId) -> Result<(), CgroupError> {
    let relative = Path::new(OWN_PARENT.trim_start_matches('/')).join(sandbox.as_str());
    for hierarchy in hierarchies() {
        remove(&hierarchy.join(&relative)).await?;
    }
    Ok(())
}

/// The mount points of every hierarchy: each v1 controller and v2, whichever the host has.
fn hierarchies() -> Vec<PathBuf> {
    let root = Path::new(CGROUP_ROOT);
    if root.join("cgroup.controllers").exists() {
        return vec![root.to_owned()];
    }
    let entries = fs::read_dir(root).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).filter(|path| path.is_dir() && !path.is_symlink()).collect()
}

async fn remove(path: &Path) -> Result<(), CgroupError> {
    let mut tries = 0;
    loop {
        match fs::remove_dir(path) {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy && tries < BUSY_RETRIES => {
                tries += 1;
                tokio::time::sleep(BUSY_PAUSE).await;
            }
            Err(source) => {
                return Err(CgroupError { path: path.to_owned(), source });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_parent_becomes_ours() {
        let pod = SandboxId::parse("p").expect("valid");
        let container = ContainerId::parse("c").expect("valid");
        for (parent, ours) in [("", "/orlop/p"), ("/kubepods/pod1/", "/kubepods/pod1")] {
            let spec = PodSpec { cgroup_parent: parent.to_owned(), ..crate::spec::sample::pod() };
            assert_eq!(container_path(&pod, &spec, &container), format!("{ours}/c"));
            assert_eq!(holder_path(&pod, &spec), format!("{ours}/p"));
        }
    }
}
