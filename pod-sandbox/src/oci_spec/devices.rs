//! Device nodes of a container: the ones it asks for, and all of the host's for a privileged one.
//!
//! Looking them up blocks; what comes of it is data. Bounds are there because `/dev` is what the host's programs
//! make of it.

use std::collections::BTreeMap;
use std::fs::{self, FileType, Metadata};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use oci_spec::runtime::{LinuxDevice, LinuxDeviceCgroup, LinuxDeviceType};

use super::{OciSpecError, empty};
use crate::spec::DeviceSpec;

const DEV: &str = "/dev";
const ALL_ACCESS: &str = "rwm";
/// More nodes than any host has that is in order.
const MAX_NODES: usize = 8192;
const MAX_DEPTH: usize = 16;
/// Folders below `/dev` that every container has of its own, or that are another program's (containerd's list).
const SKIPPED: [&str; 7] = ["pts", "shm", "fd", "mqueue", ".lxc", ".lxd-mounts", ".udev"];
/// The terminal of whoever started the daemon, if it is there at all.
const CONSOLE: &str = "console";

/// One node that the OCI runtime makes in the container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct DeviceNode {
    place: PathBuf,
    kind: LinuxDeviceType,
    major: i64,
    minor: i64,
    mode: u32,
    uid: u32,
    gid: u32,
    /// `None` leaves the cgroup's rules as they are: everything is allowed then.
    access: Option<String>,
}

impl DeviceNode {
    fn new(place: &Path, found: &Metadata, kind: LinuxDeviceType, access: Option<String>) -> Self {
        Self {
            place: place.to_owned(),
            kind,
            major: rustix::fs::major(found.rdev()).into(),
            minor: rustix::fs::minor(found.rdev()).into(),
            mode: found.mode() & 0o7777,
            uid: found.uid(),
            gid: found.gid(),
            access,
        }
    }

    pub(super) fn node(&self) -> LinuxDevice {
        let mut node: LinuxDevice = empty(r#"{"path":"","type":"c","major":0,"minor":0}"#);
        node.set_path(self.place.clone())
            .set_typ(self.kind)
            .set_major(self.major)
            .set_minor(self.minor)
            .set_file_mode(Some(self.mode))
            .set_uid(Some(self.uid))
            .set_gid(Some(self.gid));
        node
    }

    pub(super) fn rule(&self) -> Option<LinuxDeviceCgroup> {
        let access = self.access.clone()?;
        let mut rule: LinuxDeviceCgroup = empty(r#"{"allow":true}"#);
        rule.set_typ(Some(self.kind))
            .set_major(Some(self.major))
            .set_minor(Some(self.minor))
            .set_access(Some(access));
        Some(rule)
    }
}

/// The nodes of the devices asked for. One that is asked for by a symlink is what the link leads to.
pub(super) fn asked(devices: &[DeviceSpec]) -> Result<Vec<DeviceNode>, OciSpecError> {
    let mut nodes = Vec::new();
    for device in devices {
        let failed = |source| OciSpecError::Device { path: device.host_path.clone(), source };
        let path = device.host_path.canonicalize().map_err(failed)?;
        let found = path.metadata().map_err(failed)?;
        let access = || Some(device.permissions.clone());
        let before = nodes.len();
        match kind(found.file_type()) {
            Some(kind) => nodes.push(DeviceNode::new(&device.container_path, &found, kind, access())),
            None if found.is_dir() => {
                let mut walk = Walk { top: &path, place: &device.container_path, access: access(), nodes };
                walk.folder(Path::new(""), 0)?;
                nodes = walk.nodes;
            }
            None => {}
        }
        if nodes.len() == before {
            return Err(OciSpecError::NoDevice { path: device.host_path.clone() });
        }
    }
    Ok(last_of_each_place(nodes))
}

/// Every device node of the host; access to them is not held back.
pub(super) fn all() -> Result<Vec<DeviceNode>, OciSpecError> {
    let mut walk = Walk { top: Path::new(DEV), place: Path::new(DEV), access: None, nodes: Vec::new() };
    walk.folder(Path::new(""), 0)?;
    Ok(walk.nodes)
}

/// Those of `asked` take the places of those of `all`.
pub(super) fn merged(all: Vec<DeviceNode>, asked: Vec<DeviceNode>) -> Vec<DeviceNode> {
    last_of_each_place(all.into_iter().chain(asked).collect())
}

fn last_of_each_place(nodes: Vec<DeviceNode>) -> Vec<DeviceNode> {
    let by_place: BTreeMap<PathBuf, DeviceNode> =
        nodes.into_iter().map(|node| (node.place.clone(), node)).collect();
    by_place.into_values().collect()
}

/// A folder of the host that is gone through.
struct Walk<'a> {
    top: &'a Path,
    /// Where it is in the container.
    place: &'a Path,
    access: Option<String>,
    nodes: Vec<DeviceNode>,
}

impl Walk<'_> {
    /// Links are not followed: what they lead to is met where it is.
    fn folder(&mut self, below: &Path, depth: usize) -> Result<(), OciSpecError> {
        let folder = self.top.join(below);
        let failed = |source: io::Error| OciSpecError::Device { path: folder.clone(), source };
        if depth > MAX_DEPTH {
            return Err(OciSpecError::TooManyDevices { path: self.top.to_owned(), most: MAX_NODES });
        }
        for entry in fs::read_dir(&folder).map_err(failed)? {
            let name = entry.map_err(failed)?.file_name();
            let below = below.join(&name);
            let path = folder.join(&name);
            // Devices come and go.
            let Ok(found) = path.symlink_metadata() else { continue };
            if found.is_dir() && !SKIPPED.iter().any(|skipped| name == *skipped) {
                self.folder(&below, depth + 1)?;
            }
            let Some(kind) = kind(found.file_type()).filter(|_| name != CONSOLE) else { continue };
            if self.nodes.len() >= MAX_NODES {
                return Err(OciSpecError::TooManyDevices { path: self.top.to_owned(), most: MAX_NODES });
            }
            let place = self.place.join(&below);
            self.nodes.push(DeviceNode::new(&place, &found, kind, self.access.clone()));
        }
        Ok(())
    }
}

fn kind(file: FileType) -> Option<LinuxDeviceType> {
    if file.is_char_device() {
        Some(LinuxDeviceType::C)
    } else if file.is_block_device() {
        Some(LinuxDeviceType::B)
    } else {
        None
    }
}

/// Everything, for the first rule of a cgroup.
pub(super) fn everything(allow: bool) -> LinuxDeviceCgroup {
    let mut rule: LinuxDeviceCgroup = empty(r#"{"allow":false}"#);
    rule.set_allow(allow).set_access(Some(ALL_ACCESS.to_owned()));
    rule
}

#[cfg(test)]
mod tests {
    use super::*;
    use runtime_core::error::ErrorKind;

    fn device(host: impl Into<PathBuf>, container: &str, permissions: &str) -> DeviceSpec {
        DeviceSpec {
            container_path: container.into(),
            host_path: host.into(),
            permissions: permissions.into(),
        }
    }

    #[test]
    fn a_device_is_found_directly_and_through_a_link() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let link = folder.path().join("nothing");
        std::os::unix::fs::symlink("/dev/null", &link).expect("a link");
        for host in [PathBuf::from("/dev/null"), link] {
            let nodes = asked(&[device(host, "/dev/mine", "rw")]).expect("found");
            let node = serde_json::to_value(nodes[0].node()).expect("JSON");
            assert_eq!(node["path"], "/dev/mine");
            let numbers = (&node["type"], &node["major"], &node["minor"]);
            assert_eq!(numbers, (&"c".into(), &1.into(), &3.into()));
            let rule = serde_json::to_value(nodes[0].rule()).expect("JSON");
            assert_eq!((&rule["allow"], &rule["access"]), (&true.into(), &"rw".into()));
        }
    }

    #[test]
    fn of_one_place_the_last_counts() {
        let both = [device("/dev/null", "/dev/x", "r"), device("/dev/zero", "/dev/x", "w")];
        let nodes = asked(&both).expect("found");
        assert_eq!((nodes.len(), nodes[0].minor), (1, 5));
    }

    #[test]
    fn what_is_no_device_is_refused_by_name() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let file = folder.path().join("file");
        fs::File::create(&file).expect("a file");
        let missing = folder.path().join("missing");
        for path in [folder.path(), &file, &missing] {
            let error = asked(&[device(path, "/dev/x", "rwm")]).expect_err("no device");
            assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
            assert!(error.to_string().contains(&*path.to_string_lossy()), "{error}");
        }
    }

    #[test]
    fn the_hosts_devices_leave_out_what_containers_have_of_their_own() {
        let nodes = all().expect("/dev can be read");
        let places: Vec<_> = nodes.iter().map(|node| node.place.to_string_lossy()).collect();
        assert!(places.contains(&"/dev/null".into()), "{places:?}");
        let strange = places.iter().find(|it| it.starts_with("/dev/pts/") || *it == "/dev/console");
        assert_eq!(strange, None);
        assert!(nodes.iter().all(|node| node.rule().is_none()));
    }
}
