//! The container's mounts: the ones every container has, the pod's files, then its volumes.

use std::path::{Path, PathBuf};

use oci_spec::runtime::{Mount, MountBuilder};

use super::{HostParts, OciSpecError, PodFiles, SpecInputs, process};
use crate::spec::{IpcMode, MountSpec, Propagation};

const DEV: &str = "/dev";
const SHM: &str = "/dev/shm";

/// Where, kind and options of what every container has (runtime-spec, "Default Filesystems").
const DEFAULTS: [(&str, &str, &[&str]); 6] = [
    ("/proc", "proc", &["nosuid", "noexec", "nodev"]),
    (DEV, "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
    ("/dev/pts", "devpts", &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]),
    ("/dev/mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
    ("/sys", "sysfs", &["nosuid", "noexec", "nodev"]),
    ("/sys/fs/cgroup", "cgroup", &["nosuid", "noexec", "nodev", "relatime"]),
];

/// A volume takes the place of a default mount; one on `/dev` of everything below it as well, else the
/// defaults would cover what the volume brings. Outer volumes come before inner ones.
pub(super) fn mounts(inputs: &SpecInputs<'_>) -> Result<Vec<Mount>, OciSpecError> {
    let mut volumes: Vec<&MountSpec> = inputs.container.mounts.iter().collect();
    volumes.iter().try_for_each(|volume| check(volume))?;
    volumes.sort_by_key(|volume| depth(&volume.container_path));

    let volume_at = |place: &Path| volumes.iter().any(|volume| tidy(&volume.container_path) == place);
    let dev_is_a_volume = volume_at(Path::new(DEV));
    let covered = |place: &Path| volume_at(place) || (dev_is_a_volume && place.starts_with(DEV));
    let defaults = DEFAULTS.iter().map(|entry| default(entry, inputs.container.security.privileged));
    let mut mounts: Vec<Mount> = defaults.chain(pod_mounts(inputs)).collect();
    mounts.retain(|mount| !covered(mount.destination()));
    mounts.extend(volumes.iter().map(|it| volume(it, inputs.parts)));
    Ok(mounts)
}

/// What the root must let through for the volumes' propagation to work; `None` is the runtime's choice.
pub(super) fn rootfs_propagation(volumes: &[MountSpec]) -> Option<String> {
    let has = |propagation| volumes.iter().any(|volume| volume.propagation == propagation);
    if has(Propagation::Bidirectional) {
        Some("rshared".to_owned())
    } else if has(Propagation::HostToContainer) {
        Some("rslave".to_owned())
    } else {
        None
    }
}

fn check(volume: &MountSpec) -> Result<(), OciSpecError> {
    for (what, path) in [("mount source", &volume.host_path), ("mount destination", &volume.container_path)] {
        if !path.is_absolute() {
            return Err(OciSpecError::RelativePath { what, path: path.clone() });
        }
        process::no_nul(what, &path.to_string_lossy())?;
    }
    Ok(())
}

fn default((destination, kind, options): &(&str, &str, &[&str]), privileged: bool) -> Mount {
    let mut options: Vec<String> = options.iter().map(|option| (*option).to_owned()).collect();
    if matches!(*kind, "sysfs" | "cgroup") {
        options.push(access(!privileged));
    }
    mount(Path::new(destination), kind, Path::new(kind), options)
}

/// `/dev/shm` and the files that the pod shares. With a read-only root they are read-only too.
fn pod_mounts(inputs: &SpecInputs<'_>) -> Vec<Mount> {
    let PodFiles { folder, shm, .. } = inputs.files;
    let readonly = inputs.container.security.readonly_rootfs;
    let file = |name: &str| {
        let options = vec!["rbind".to_owned(), "rprivate".to_owned(), access(readonly)];
        mount(&Path::new("/etc").join(name), "bind", &folder.join(name), options)
    };
    let shm = match inputs.pod.ipc {
        IpcMode::Pod => *shm,
        IpcMode::Host => Path::new(SHM),
    };
    let options = ["rbind", "rprivate", "nosuid", "nodev", "noexec", "rw"].map(str::to_owned).to_vec();
    let shm = mount(Path::new(SHM), "bind", shm, options);
    vec![shm, file("hostname"), file("hosts"), file("resolv.conf")]
}

fn volume(volume: &MountSpec, parts: &HostParts) -> Mount {
    let propagation = match volume.propagation {
        Propagation::Private => "rprivate",
        Propagation::HostToContainer => "rslave",
        Propagation::Bidirectional => "rshared",
    };
    let options = vec!["rbind".to_owned(), propagation.to_owned(), access(volume.readonly)];
    mount(&tidy(&volume.container_path), "bind", parts.source(&volume.host_path), options)
}

pub(super) fn mount(destination: &Path, kind: &str, source: &Path, options: Vec<String>) -> Mount {
    let mount = MountBuilder::default().destination(destination).typ(kind).source(source).options(options);
    mount.build().expect("all the fields that are ever used are given")
}

fn access(readonly: bool) -> String {
    if readonly { "ro" } else { "rw" }.to_owned()
}

fn depth(path: &Path) -> usize {
    path.components().count()
}

/// Without doubled and trailing slashes or dots, so that equal places look equal.
fn tidy(path: &Path) -> PathBuf {
    path.components().collect()
}
