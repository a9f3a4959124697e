//! Mounting and unmounting. Mounts take effect in the caller's mount namespace.

use std::ffi::CString;
use std::fs;
use std::io;
use std::path::Path;

use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MountPropagationFlags, MoveMountFlags,
    UnmountFlags,
};

/// Parts of an overlay.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overlay {
    /// Lower folders, uppermost first.
    pub lower: Vec<String>,
    /// Upper folder; without one the overlay is read-only.
    pub upper: Option<String>,
    /// Work folder, on the upper folder's file system.
    pub work: Option<String>,
    /// Other options, `key` or `key=value`.
    pub others: Vec<String>,
}

/// Whether a mount may be written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    ReadWrite,
    ReadOnly,
}

/// Mounts an overlay at `target`. Many lower folders are no problem where the kernel takes them one by one (6.8 and
/// newer); older ones get them in one string of at most a page.
///
/// # Errors
/// Those of the calls; EINVAL mostly means a missing folder or an unknown option, the kernel log has more.
pub fn overlay(overlay: &Overlay, target: &Path, access: Access) -> io::Result<()> {
    match overlay_by_parts(overlay, target, access) {
        Err(error) if by_parts_is_not_possible(&error) => overlay_by_string(overlay, target, access),
        result => result,
    }
}

fn overlay_by_parts(overlay: &Overlay, target: &Path, access: Access) -> io::Result<()> {
    let mount = detached_overlay(overlay, access)?;
    Ok(rustix::mount::move_mount(
        &mount,
        "",
        rustix::fs::CWD,
        target,
        MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH,
    )?)
}

/// An overlay that is mounted nowhere: it can be looked into through the descriptor and is gone with it.
///
/// # Errors
/// Those of the calls; ENOSYS or EINVAL where the kernel lacks `fsopen` or `lowerdir+`.
pub fn detached_overlay(overlay: &Overlay, access: Access) -> io::Result<std::os::fd::OwnedFd> {
    let context = rustix::mount::fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    for lower in &overlay.lower {
        rustix::mount::fsconfig_set_string(&context, "lowerdir+", lower.as_str())?;
    }
    if let Some(upper) = &overlay.upper {
        rustix::mount::fsconfig_set_string(&context, "upperdir", upper.as_str())?;
    }
    if let Some(work) = &overlay.work {
        rustix::mount::fsconfig_set_string(&context, "workdir", work.as_str())?;
    }
    for option in &overlay.others {
        match option.split_once('=') {
            Some((key, value)) => rustix::mount::fsconfig_set_string(&context, key, value)?,
            None => rustix::mount::fsconfig_set_flag(&context, option.as_str())?,
        }
    }
    rustix::mount::fsconfig_set_string(&context, "source", "overlay")?;
    rustix::mount::fsconfig_create(&context)?;
    let attributes = match access {
        Access::ReadOnly => MountAttrFlags::MOUNT_ATTR_RDONLY,
        Access::ReadWrite => MountAttrFlags::empty(),
    };
    Ok(rustix::mount::fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)?)
}

/// As [`detached_overlay`], on kernels that cannot: it is mounted at `scratch` for a moment.
///
/// # Errors
/// Those of the calls.
pub fn detached_overlay_at(
    overlay: &Overlay,
    access: Access,
    scratch: &Path,
) -> io::Result<std::os::fd::OwnedFd> {
    match detached_overlay(overlay, access) {
        Err(error) if by_parts_is_not_possible(&error) => {}
        result => return result,
    }
    overlay_by_string(overlay, scratch, access)?;
    let flags = rustix::fs::OFlags::PATH | rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::CLOEXEC;
    let opened = rustix::fs::open(scratch, flags, rustix::fs::Mode::empty());
    unmount_detached(scratch)?;
    Ok(opened?)
}

/// No fsopen (before 5.2, or a seccomp filter), or no `lowerdir+` (before 6.8).
fn by_parts_is_not_possible(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EINVAL | libc::EPERM))
}

fn overlay_by_string(overlay: &Overlay, target: &Path, access: Access) -> io::Result<()> {
    let escape = |path: &String| path.replace('\\', "\\\\").replace(':', "\\:");
    let lower: Vec<_> = overlay.lower.iter().map(escape).collect();
    let mut options = vec![format!("lowerdir={}", lower.join(":"))];
    options.extend(overlay.upper.iter().map(|upper| format!("upperdir={upper}")));
    options.extend(overlay.work.iter().map(|work| format!("workdir={work}")));
    options.extend(overlay.others.iter().cloned());
    let flags = match access {
        Access::ReadOnly => MountFlags::RDONLY,
        Access::ReadWrite => MountFlags::empty(),
    };
    filesystem("overlay", "overlay", target, flags, &options.join(","))
}

/// Mounts a file system by mount(2).
///
/// # Errors
/// Those of mount(2).
pub fn filesystem(kind: &str, source: &str, target: &Path, flags: MountFlags, data: &str) -> io::Result<()> {
    let data = CString::new(data).map_err(io::Error::other)?;
    Ok(rustix::mount::mount(source, target, kind, flags, data.as_c_str())?)
}

/// A tmpfs of at most `size` bytes.
///
/// # Errors
/// Those of mount(2).
pub fn tmpfs(target: &Path, size: u64, mode: u32) -> io::Result<()> {
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    filesystem("tmpfs", "shm", target, flags, &format!("mode={mode:o},size={size}"))
}

/// Shows a file or folder at a second place.
///
/// # Errors
/// Those of mount(2).
pub fn bind(source: &Path, target: &Path) -> io::Result<()> {
    Ok(rustix::mount::mount_bind(source, target)?)
}

/// [`bind`] with all mounts below.
///
/// # Errors
/// Those of mount(2).
pub fn bind_recursive(source: &Path, target: &Path) -> io::Result<()> {
    Ok(rustix::mount::mount_bind_recursive(source, target)?)
}

/// Makes a bind mount read-only.
///
/// # Errors
/// Those of mount(2).
pub fn make_read_only(target: &Path) -> io::Result<()> {
    Ok(rustix::mount::mount_remount(target, MountFlags::BIND | MountFlags::RDONLY, c"")?)
}

/// Sets the propagation of a mount.
///
/// # Errors
/// EINVAL when `target` is not a mount point.
pub fn set_propagation(target: &Path, propagation: MountPropagationFlags) -> io::Result<()> {
    Ok(rustix::mount::mount_change(target, propagation)?)
}

/// Makes `folder` a mount point of its own whose mounts propagate nowhere; nothing when it is one already.
///
/// # Errors
/// Those of mount(2).
pub fn make_private(folder: &Path) -> io::Result<()> {
    if !is_mount_point(folder)? {
        bind(folder, folder)?;
    }
    set_propagation(folder, MountPropagationFlags::PRIVATE)
}

/// Whether a mount has its root at `path`.
///
/// # Errors
/// Those of statx(2).
pub fn is_mount_point(path: &Path) -> io::Result<bool> {
    let flags = rustix::fs::AtFlags::SYMLINK_NOFOLLOW;
    let stat = rustix::fs::statx(rustix::fs::CWD, path, flags, rustix::fs::StatxFlags::empty())?;
    Ok(stat.stx_attributes.contains(rustix::fs::StatxAttributes::MOUNT_ROOT))
}

/// Unmounts what is at `target`, all layers of it; success when nothing is mounted there or it does not exist.
///
/// # Errors
/// Those of umount2(2).
pub fn unmount(target: &Path, flags: UnmountFlags) -> io::Result<()> {
    // More than anyone stacks; ends the loop should the kernel never say EINVAL.
    for _ in 0..64 {
        match rustix::mount::unmount(target, flags | UnmountFlags::NOFOLLOW) {
            Ok(()) => {}
            Err(Errno::INVAL | Errno::NOENT) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
    Err(io::Error::other("unmounting does not come to an end"))
}

/// [`unmount`], at once; what is still in use goes away with its last user.
///
/// # Errors
/// Those of umount2(2).
pub fn unmount_detached(target: &Path) -> io::Result<()> {
    unmount(target, UnmountFlags::DETACH)
}

/// Mount points at and below a folder, deepest first.
///
/// # Errors
/// When /proc is not mounted.
pub fn mounts_below(folder: &Path) -> io::Result<Vec<std::path::PathBuf>> {
    let table = fs::read_to_string("/proc/self/mountinfo")?;
    let points = table.lines().filter_map(|line| line.split(' ').nth(4)).map(unescape);
    let mut found: Vec<_> =
        points.map(std::path::PathBuf::from).filter(|path| path.starts_with(folder)).collect();
    found.reverse();
    Ok(found)
}

/// Undoes the octal escapes of /proc/self/mountinfo.
fn unescape(field: &str) -> String {
    ["\\040 ", "\\011\t", "\\012\n", "\\134\\"].iter().fold(field.to_owned(), |text, pair| {
        let (code, plain) = pair.split_at(4);
        text.replace(code, plain)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Mounted(std::path::PathBuf);

    impl Drop for Mounted {
        fn drop(&mut self) {
            unmount_detached(&self.0).unwrap();
        }
    }

    #[test]
    fn an_overlay_by_string_can_be_looked_into_without_staying_mounted() {
        let folder = tempfile::tempdir().unwrap();
        let make = |name: &str| {
            let path = folder.path().join(name);
            fs::create_dir(&path).unwrap();
            path.to_str().unwrap().to_owned()
        };
        let (upper, lower, scratch) = (make("upper"), make("lower"), make("scratch"));
        fs::File::create(format!("{lower}/below")).unwrap();
        let overlay = Overlay { lower: vec![upper, lower], ..Overlay::default() };
        overlay_by_string(&overlay, Path::new(&scratch), Access::ReadOnly).unwrap();
        unmount_detached(Path::new(&scratch)).unwrap();
        let look = detached_overlay_at(&overlay, Access::ReadOnly, Path::new(&scratch)).unwrap();
        rustix::fs::statat(&look, "below", rustix::fs::AtFlags::empty()).unwrap();
        assert!(!is_mount_point(Path::new(&scratch)).unwrap());
    }

    #[test]
    fn needs_root_overlays_of_many_lowers_by_both_ways() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        for name in ["upper", "work", "merged"] {
            fs::create_dir(path(name)).unwrap();
        }
        let lower: Vec<_> = (0..20).map(|number| path(&format!("lower{number}"))).collect();
        for (number, layer) in lower.iter().enumerate() {
            fs::create_dir(layer).unwrap();
            fs::File::create(layer.join(format!("file{number}"))).unwrap();
        }
        let text = |path: std::path::PathBuf| path.to_str().unwrap().to_owned();
        let parts = Overlay {
            lower: lower.into_iter().map(text).collect(),
            upper: Some(text(path("upper"))),
            work: Some(text(path("work"))),
            others: Vec::new(),
        };
        let mounted = Mounted(path("merged"));
        overlay_by_parts(&parts, &path("merged"), Access::ReadWrite).unwrap();
        assert!(is_mount_point(&path("merged")).unwrap());
        assert!(path("merged/file19").exists());
        fs::File::create(path("merged/new")).unwrap();
        assert!(path("upper/new").exists());
        assert_eq!(mounts_below(folder.path()).unwrap(), [path("merged")]);
        unmount_detached(&path("merged")).unwrap();
        assert!(!is_mount_point(&path("merged")).unwrap());

        overlay_by_string(&parts, &path("merged"), Access::ReadOnly).unwrap();
        assert!(path("merged/file0").exists());
        let refused = fs::File::create(path("merged/more")).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ReadOnlyFilesystem);
        drop(mounted);
        unmount_detached(&path("merged")).unwrap();
    }

    #[test]
    fn needs_root_private_folders_are_made_once() {
        let folder = tempfile::tempdir().unwrap();
        let mounted = Mounted(folder.path().into());
        make_private(folder.path()).unwrap();
        make_private(folder.path()).unwrap();
        assert_eq!(mounts_below(folder.path()).unwrap().len(), 1);
        drop(mounted);
    }

    #[test]
    fn escapes_are_undone() {
        assert_eq!(unescape("/a\\040b\\134c"), "/a b\\c");
    }
}
