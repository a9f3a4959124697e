//! Layers good and hostile, applied to real folders. Needs root: owners, devices and overlay attributes.

mod compressed;
mod hostile;

use std::io::{Seek, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use sha2::{Digest as _, Sha256};

use super::entry::MAX_DEPTH;
use super::*;

/// A layer under construction.
struct Tar(tar::Builder<Vec<u8>>);

impl Tar {
    fn new() -> Self {
        assert!(rustix::process::geteuid().is_root(), "this test needs root");
        Self(tar::Builder::new(Vec::new()))
    }

    /// Names go into the header as they are: `tar` itself would refuse hostile ones.
    #[expect(clippy::too_many_arguments, reason = "one field of the header each")]
    fn raw(mut self, kind: tar::EntryType, name: &str, link: &str, mode: u32, content: &[u8]) -> Self {
        let mut header = tar::Header::new_ustar();
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.as_old_mut().linkname[..link.len()].copy_from_slice(link.as_bytes());
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(7);
        header.set_gid(8);
        header.set_mtime(1_600_000_000);
        header.set_size(content.len() as u64);
        header.set_device_major(1).unwrap();
        header.set_device_minor(3).unwrap();
        header.set_cksum();
        self.0.append(&header, content).unwrap();
        self
    }

    fn file(self, name: &str, content: &str) -> Self {
        self.raw(tar::EntryType::Regular, name, "", 0o644, content.as_bytes())
    }

    fn folder(self, name: &str, mode: u32) -> Self {
        self.raw(tar::EntryType::Directory, name, "", mode, b"")
    }

    fn symlink(self, name: &str, target: &str) -> Self {
        self.raw(tar::EntryType::Symlink, name, target, 0o777, b"")
    }

    fn hardlink(self, name: &str, target: &str) -> Self {
        self.raw(tar::EntryType::Link, name, target, 0o644, b"")
    }

    fn pax(mut self, records: &[(&str, &[u8])]) -> Self {
        self.0.append_pax_extensions(records.iter().copied()).unwrap();
        self
    }

    fn bytes(self) -> Vec<u8> {
        self.0.into_inner().unwrap()
    }

    fn apply(self, target: &Target) -> Result<(), UnpackError> {
        apply_bytes(&self.bytes(), target, Limits::default())
    }
}

fn apply_bytes(bytes: &[u8], target: &Target, limits: Limits) -> Result<(), UnpackError> {
    let diff_id = Digest::from_sha256(&Sha256::digest(bytes));
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file.rewind().unwrap();
    apply(file, target, &diff_id, limits, &CancellationToken::new())
}

/// A folder `outside` that must stay empty, and a layer beside it.
fn place() -> (tempfile::TempDir, Target) {
    let folder = tempfile::tempdir().unwrap();
    for name in ["outside", "layer", "lower"] {
        std::fs::create_dir(folder.path().join(name)).unwrap();
    }
    let target = Target { folder: folder.path().join("layer"), lower: vec![folder.path().join("lower")] };
    (folder, target)
}

fn assert_empty(folder: &Path) {
    let entries: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(entries.is_empty(), "{entries:?}");
}

fn read(target: &Target, name: &str) -> String {
    std::fs::read_to_string(target.folder.join(name)).unwrap()
}

#[test]
fn every_kind_of_entry_keeps_its_attributes() {
    let (_keep, target) = place();
    Tar::new()
        .folder("./", 0o750)
        .folder("bin/", 0o1777)
        .raw(tar::EntryType::Regular, "bin/su", "", 0o4755, b"su")
        .hardlink("bin/sudo", "./bin/su")
        .symlink("bin/sh", "/bin/su")
        .raw(tar::EntryType::Char, "null", "", 0o666, b"")
        .raw(tar::EntryType::Block, "disk", "", 0o660, b"")
        .raw(tar::EntryType::Fifo, "pipe", "", 0o600, b"")
        .apply(&target)
        .unwrap();
    let stat = |name: &str| std::fs::symlink_metadata(target.folder.join(name)).unwrap();
    assert_eq!(stat("").mode() & 0o7777, 0o750);
    assert_eq!((stat("bin").mode() & 0o7777, stat("bin").mtime()), (0o1777, 1_600_000_000));
    let su = stat("bin/su");
    assert_eq!((su.mode() & 0o7777, su.uid(), su.gid(), su.mtime()), (0o4755, 7, 8, 1_600_000_000));
    assert_eq!((su.nlink(), stat("bin/sudo").ino()), (2, su.ino()));
    assert_eq!(std::fs::read_link(target.folder.join("bin/sh")).unwrap(), Path::new("/bin/su"));
    assert_eq!(stat("bin/sh").uid(), 7);
    assert!(stat("null").file_type().is_char_device() && stat("null").rdev() == rustix::fs::makedev(1, 3));
    assert!(stat("disk").file_type().is_block_device() && stat("disk").mode() & 0o7777 == 0o660);
    assert!(stat("pipe").file_type().is_fifo());
}

#[test]
fn whiteouts_become_those_of_overlayfs() {
    let (_keep, target) = place();
    Tar::new()
        .file("gone/.wh.file", "")
        .file("cleared/.wh..wh..opq", "")
        .file("cleared/new", "n")
        .file(".wh.both", "")
        .folder("both/", 0o755)
        .file("stays", "s")
        .file(".wh.stays", "")
        .file(".wh..wh.plnk", "")
        .apply(&target)
        .unwrap();
    let whiteout = std::fs::symlink_metadata(target.folder.join("gone/file")).unwrap();
    assert!(whiteout.file_type().is_char_device() && whiteout.rdev() == 0);
    for opaque in ["cleared", "both"] {
        let folder = std::fs::File::open(target.folder.join(opaque)).unwrap();
        assert!(lower::is_opaque(&folder), "{opaque}");
    }
    assert_eq!(read(&target, "cleared/new"), "n");
    assert_eq!(read(&target, "stays"), "s");
    assert!(!target.folder.join(".wh..wh.plnk").exists());
}

#[test]
fn parents_that_are_not_named_are_those_of_the_layers_below() {
    let (_keep, target) = place();
    let lower = Target { folder: target.lower[0].clone(), lower: Vec::new() };
    Tar::new()
        .folder("usr/", 0o755)
        .folder("usr/bin/", 0o700)
        .symlink("bin", "usr/bin")
        .apply(&lower)
        .unwrap();
    Tar::new().file("bin/tool", "t").file("usr/new/x", "x").apply(&target).unwrap();
    assert_eq!(read(&target, "usr/bin/tool"), "t");
    assert!(!target.folder.join("bin").exists(), "the link below is followed, not hidden");
    let stat = std::fs::metadata(target.folder.join("usr/bin")).unwrap();
    assert_eq!((stat.mode() & 0o7777, stat.uid(), stat.mtime()), (0o700, 7, 1_600_000_000));
    let stat = std::fs::metadata(target.folder.join("usr/new")).unwrap();
    assert_eq!((stat.mode() & 0o7777, stat.uid()), (0o755, 0));
}

#[test]
fn extended_attributes_and_times_are_kept() {
    let (_keep, target) = place();
    let capability: &[u8] = &[1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    Tar::new()
        .pax(&[
            ("SCHILY.xattr.security.capability", capability),
            ("SCHILY.xattr.user.note", b"hi"),
            ("mtime", b"1234.5"),
            ("uid", b"70000000"),
        ])
        .file("a", "x")
        .apply(&target)
        .unwrap();
    let path = target.folder.join("a");
    let mut value = [0_u8; 64];
    let count = rustix::fs::getxattr(&path, "security.capability", &mut value).unwrap();
    assert_eq!(&value[..count], capability);
    assert_eq!(rustix::fs::getxattr(&path, "user.note", &mut value).unwrap(), 2);
    let stat = std::fs::metadata(&path).unwrap();
    assert_eq!((stat.mtime(), stat.mtime_nsec(), stat.uid()), (1234, 500_000_000, 70_000_000));
}

/// Layers that all have `a/b` with a mode of their own, one upon the other; the uppermost comes first.
#[test]
fn folders_are_taken_from_the_uppermost_layer_that_is_not_hidden() {
    let layer = || Tar::new();
    let with = |mode| layer().folder("a/", 0o755).folder("a/b/", mode);
    let hidden = 0o755;
    let file = |tar: Tar| tar.file("a/b/x", "x");
    let table = [
        ("both have it", file(layer()), vec![with(0o701), with(0o702)], 0o701),
        ("the lower has it", file(layer()), vec![layer().folder("a/", 0o755), with(0o702)], 0o702),
        ("opaque here", file(layer().file("a/.wh..wh..opq", "")), vec![with(0o701)], hidden),
        ("opaque at the root", file(layer().file(".wh..wh..opq", "")), vec![with(0o701)], hidden),
        ("whited out here", file(layer().file(".wh.a", "")), vec![with(0o701)], hidden),
        ("opaque below", file(layer()), vec![layer().file("a/.wh..wh..opq", ""), with(0o702)], hidden),
        ("whited out below", file(layer()), vec![layer().file("a/.wh.b", ""), with(0o702)], hidden),
        ("a file below", file(layer()), vec![layer().file("a", ""), with(0o702)], hidden),
        (
            "above an opaque one",
            file(layer()),
            vec![with(0o701).file("a/.wh..wh..opq", ""), with(0o702)],
            0o701,
        ),
        (
            "a link below, up and down again",
            layer().file("l/x", "x"),
            vec![layer().symlink("l", "a/../c/../../a/b").folder("c/", 0o755), with(0o702)],
            0o702,
        ),
        ("an absolute link here", layer().symlink("l", "/a/b").file("l/x", "x"), vec![with(0o701)], 0o701),
        (
            "up out of an opaque folder",
            layer().file("o/.wh..wh..opq", "").symlink("o/l", "../a/b").file("o/l/x", "x"),
            vec![with(0o701)],
            0o701,
        ),
    ];
    for (name, tar, below, mode) in table {
        let folder = tempfile::tempdir().unwrap();
        let at = |number: usize| folder.path().join(number.to_string());
        let count = below.len();
        for (number, tar) in (1..).zip(below) {
            std::fs::create_dir(at(number)).unwrap();
            tar.apply(&Target { folder: at(number), lower: Vec::new() }).unwrap();
        }
        let target = Target { folder: at(0), lower: (1..=count).map(at).collect() };
        std::fs::create_dir(at(0)).unwrap();
        tar.apply(&target).unwrap();
        assert_eq!(read(&target, "a/b/x"), "x", "{name}");
        let found = std::fs::metadata(target.folder.join("a/b")).unwrap().mode() & 0o7777;
        assert_eq!(found, mode, "{name}: {found:o}");
    }
}
