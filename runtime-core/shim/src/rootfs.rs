//! Mounting a container's root filesystem as the daemon's snapshotter says. Blocking: runs in a thread of its own.

use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

use runtime_shim::protocol::types::Mount;
use runtime_sys::mount::{self, Access, Overlay};
use rustix::mount::MountFlags;
use thiserror::Error;

/// A root filesystem cannot be mounted.
#[derive(Debug, Error)]
pub(crate) enum RootfsError {
    #[error("make the mount point {path}")]
    Folder {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("mount target {target:?} leaves the root filesystem")]
    Target { target: String },
    #[error("mount {kind} {source_path:?} at {path}")]
    Mount {
        kind: String,
        source_path: String,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

/// Mounts all of them, in order; on failure none is left.
pub(crate) fn mount_all(mounts: &[Mount], rootfs: &Path) -> Result<(), RootfsError> {
    if let Err(source) = fs::create_dir(rootfs)
        && source.kind() != io::ErrorKind::AlreadyExists
    {
        return Err(RootfsError::Folder { path: rootfs.into(), source });
    }
    let result = mounts.iter().try_for_each(|mount| mount_one(mount, rootfs));
    if result.is_err() {
        // The failure that is told is the first one.
        let _ = mount::unmount_detached(rootfs);
    }
    result
}

fn mount_one(mount: &Mount, rootfs: &Path) -> Result<(), RootfsError> {
    let target = Path::new(&mount.target);
    let inside =
        |part: Component<'_>| matches!(part, Component::Normal(_) | Component::RootDir | Component::CurDir);
    if !target.components().all(inside) {
        return Err(RootfsError::Target { target: mount.target.clone() });
    }
    let path = rootfs.join(target.strip_prefix("/").unwrap_or(target));
    let options = Options::parse(&mount.options);
    options.mount(mount, &path).map_err(|source| RootfsError::Mount {
        kind: mount.r#type.clone(),
        source_path: mount.source.clone(),
        path,
        source,
    })
}

#[derive(Debug, PartialEq, Eq)]
struct Options {
    flags: MountFlags,
    bind: bool,
    recursive: bool,
    data: Vec<String>,
}

impl Options {
    fn parse(options: &[String]) -> Self {
        let mut parsed = Self { flags: MountFlags::empty(), bind: false, recursive: false, data: Vec::new() };
        for option in options {
            match option.as_str() {
                "ro" => parsed.flags |= MountFlags::RDONLY,
                "rw" | "defaults" => {}
                "bind" => parsed.bind = true,
                "rbind" => (parsed.bind, parsed.recursive) = (true, true),
                "nosuid" => parsed.flags |= MountFlags::NOSUID,
                "nodev" => parsed.flags |= MountFlags::NODEV,
                "noexec" => parsed.flags |= MountFlags::NOEXEC,
                "noatime" => parsed.flags |= MountFlags::NOATIME,
                "nodiratime" => parsed.flags |= MountFlags::NODIRATIME,
                "relatime" => parsed.flags |= MountFlags::RELATIME,
                "sync" => parsed.flags |= MountFlags::SYNCHRONOUS,
                other => parsed.data.push(other.to_owned()),
            }
        }
        parsed
    }

    fn mount(&self, mount: &Mount, path: &Path) -> io::Result<()> {
        if self.bind || mount.r#type == "bind" {
            let source = Path::new(&mount.source);
            if self.recursive { mount::bind_recursive(source, path) } else { mount::bind(source, path) }?;
            return if self.flags.contains(MountFlags::RDONLY) {
                mount::make_read_only(path)
            } else {
                Ok(())
            };
        }
        if mount.r#type == "overlay" && self.flags.difference(MountFlags::RDONLY).is_empty() {
            let read_only = self.flags.contains(MountFlags::RDONLY);
            let access = if read_only { Access::ReadOnly } else { Access::ReadWrite };
            return mount::overlay(&self.overlay(), path, access);
        }
        mount::filesystem(&mount.r#type, &mount.source, path, self.flags, &self.data.join(","))
    }

    fn overlay(&self) -> Overlay {
        let mut overlay = Overlay::default();
        for option in &self.data {
            match option.split_once('=') {
                Some(("lowerdir", paths)) => overlay.lower = split_lower(paths),
                Some(("upperdir", path)) => overlay.upper = Some(path.to_owned()),
                Some(("workdir", path)) => overlay.work = Some(path.to_owned()),
                _ => overlay.others.push(option.clone()),
            }
        }
        overlay
    }
}

/// `a:b\:c` are the folders `a` and `b:c`.
fn split_lower(paths: &str) -> Vec<String> {
    let mut folders = vec![String::new()];
    let mut letters = paths.chars();
    while let Some(letter) = letters.next() {
        match letter {
            ':' => folders.push(String::new()),
            '\\' => folders.last_mut().expect("never empty").extend(letters.next()),
            other => folders.last_mut().expect("never empty").push(other),
        }
    }
    folders
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overlay_options_become_parts() {
        let options = ["ro", "lowerdir=/a:/b\\:c", "upperdir=/u", "workdir=/w", "index=off", "volatile"];
        let parsed = Options::parse(&options.map(str::to_owned));
        assert_eq!(parsed.flags, MountFlags::RDONLY);
        let overlay = parsed.overlay();
        assert_eq!(overlay.lower, ["/a", "/b:c"]);
        assert_eq!((overlay.upper.as_deref(), overlay.work.as_deref()), (Some("/u"), Some("/w")));
        assert_eq!(overlay.others, ["index=off", "volatile"]);
    }

    #[test]
    fn targets_stay_inside() {
        let mount = Mount { target: "../../etc".into(), ..Default::default() };
        assert!(matches!(mount_one(&mount, Path::new("/nonexistent")), Err(RootfsError::Target { .. })));
    }
}
