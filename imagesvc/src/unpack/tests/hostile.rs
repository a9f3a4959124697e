//! Layers that want out, or too much.

use super::*;

#[test]
fn nothing_is_written_outside() {
    let link_to_outside =
        |target: &Target| target.folder.parent().unwrap().join("outside").to_str().unwrap().to_owned();
    let (folder, target) = place();
    let outside = link_to_outside(&target);
    // A link to outside, then entries through it: the link means a place within the root.
    Tar::new().symlink("a", &outside).file("a/escaped", "x").apply(&target).unwrap();
    assert_empty(&folder.path().join("outside"));
    let (folder, target) = place();
    Tar::new().symlink("a", "../../outside").file("a/escaped", "x").apply(&target).unwrap();
    assert_empty(&folder.path().join("outside"));
    assert_eq!(read(&target, "outside/escaped"), "x");
    // A file over a link replaces the link.
    let (folder, target) = place();
    Tar::new().symlink("a", "../outside/f").file("a", "x").apply(&target).unwrap();
    assert_empty(&folder.path().join("outside"));
    assert_eq!(read(&target, "a"), "x");
    // Attributes of a folder over a link touch the folder.
    let (folder, target) = place();
    Tar::new().symlink("a", "../outside").folder("a", 0o700).apply(&target).unwrap();
    assert_eq!(std::fs::metadata(folder.path().join("outside")).unwrap().uid(), 0);
    assert!(target.folder.join("a").symlink_metadata().unwrap().is_dir());
}

#[test]
fn hostile_entries_are_refused() {
    let regular = tar::EntryType::Regular;
    let cases: Vec<(&str, Tar)> = vec![
        ("leads upwards", Tar::new().file("../outside/x", "x")),
        ("leads upwards", Tar::new().file("a/../../x", "x")),
        ("hard link to outside", Tar::new().hardlink("a", "../../../etc/passwd")),
        ("not in the layer", Tar::new().hardlink("a", "/etc/passwd")),
        ("not in the layer", Tar::new().symlink("l", "/etc").hardlink("a", "l/passwd")),
        ("hides nothing", Tar::new().file("a/.wh...", "")),
        ("hides nothing", Tar::new().file("a/.wh.", "")),
        ("not a folder", Tar::new().file("a", "x").file("a/b", "x")),
        ("root must be a folder", Tar::new().symlink("./", "/etc")),
        (
            "attributes of overlayfs",
            Tar::new().pax(&[("SCHILY.xattr.trusted.overlay.redirect", b"/etc")]).file("a", ""),
        ),
        ("PAX sparse", Tar::new().pax(&[("GNU.sparse.major", b"1")]).file("a", "")),
        ("32-bit", Tar::new().pax(&[("uid", b"4294967296")]).file("a", "")),
        ("type is not known", Tar::new().raw(tar::EntryType::new(b'Z'), "a", "", 0o644, b"")),
        ("symbolic link to nothing", Tar::new().symlink("a", "")),
        (
            "too many levels",
            Tar::new().symlink("a", "b").symlink("b", "a").raw(regular, "a/x", "", 0o644, b""),
        ),
    ];
    for (why, tar) in cases {
        let (folder, target) = place();
        let error = tar.apply(&target).unwrap_err();
        let mut message = error.to_string();
        if let Some(source) = std::error::Error::source(&error) {
            message += &format!(": {source}").to_lowercase();
        }
        assert!(message.contains(why), "wanted {why:?}, got {message}");
        assert_empty(&folder.path().join("outside"));
    }
}

#[test]
fn limits_and_digests_hold() {
    let (_keep, target) = place();
    let two = Tar::new().file("a", "x").file("b", "y").bytes();
    let one_entry = Limits { entries: 1, ..Limits::default() };
    assert!(matches!(apply_bytes(&two, &target, one_entry), Err(UnpackError::Limit { what: "entries", .. })));
    let (_keep, target) = place();
    let small = Limits { bytes: 1024, ..Limits::default() };
    assert!(matches!(apply_bytes(&two, &target, small), Err(UnpackError::Limit { what: "bytes", .. })));
    let (_keep, target) = place();
    let long = vec![b'v'; 2 << 20];
    let huge = Tar::new().pax(&[("comment", &long)]).file("a", "x").bytes();
    let error = apply_bytes(&huge, &target, Limits::default()).unwrap_err();
    assert!(
        matches!(error, UnpackError::Limit { what: "bytes in the headers of one entry", .. }),
        "{error:?}"
    );
    let (_keep, target) = place();
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&two).unwrap();
    file.rewind().unwrap();
    let other = Digest::from_sha256(&Sha256::digest(b"other"));
    let wrong = apply(file, &target, &other, Limits::default(), &CancellationToken::new());
    assert!(matches!(wrong, Err(UnpackError::WrongDiffId { .. })));
    let (_keep, target) = place();
    let cancel = CancellationToken::new();
    cancel.cancel();
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&two).unwrap();
    file.rewind().unwrap();
    let cancelled = apply(file, &target, &other, Limits::default(), &cancel);
    assert!(matches!(cancelled, Err(UnpackError::Cancelled)), "{cancelled:?}");
}

/// A file of one hole, in GNU's old form: 512 bytes of header stand for `size` bytes.
fn sparse_bomb(size: u64) -> Vec<u8> {
    let mut header = tar::Header::new_gnu();
    header.set_path("bomb").unwrap();
    header.set_entry_type(tar::EntryType::GNUSparse);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_size(0);
    let gnu = header.as_gnu_mut().unwrap();
    gnu.set_real_size(size);
    gnu.sparse[0].set_offset(size);
    gnu.sparse[0].set_length(0);
    header.set_cksum();
    let mut tar = Tar::new();
    tar.0.append(&header, &b""[..]).unwrap();
    tar.bytes()
}

#[test]
fn holes_are_refused_and_not_read() {
    let (_keep, target) = place();
    let error = apply_bytes(&sparse_bomb(u64::MAX >> 1), &target, Limits::default()).unwrap_err();
    assert!(error.to_string().contains("GNU sparse files are not supported"), "{error}");
    assert_empty(&target.folder);
}

#[test]
fn a_file_that_announces_too_much_is_not_begun() {
    let (_keep, target) = place();
    let mut header = tar::Header::from_byte_slice(&Tar::new().file("a", "x").bytes()[..512]).clone();
    header.set_size(1 << 30);
    header.set_cksum();
    let limits = Limits { bytes: 1 << 20, ..Limits::default() };
    let error = apply_bytes(header.as_bytes(), &target, limits).unwrap_err();
    assert!(matches!(error, UnpackError::Limit { what: "bytes in files", .. }), "{error:?}");
    assert_empty(&target.folder);
}

#[test]
fn a_folder_is_remembered_once_and_folders_are_limited() {
    let (_keep, target) = place();
    let limits = Limits { folder_paths: 8, ..Limits::default() };
    let again = (0..50).fold(Tar::new(), |tar, _| tar.folder("folder/", 0o755));
    let again = again.pax(&[("mtime", b"77")]).folder("folder/", 0o755).bytes();
    apply_bytes(&again, &target, limits).unwrap();
    assert_eq!(std::fs::metadata(target.folder.join("folder")).unwrap().mtime(), 77);
    let (_keep, target) = place();
    let many = (0..9).fold(Tar::new(), |tar, n| tar.folder(&format!("f{n}/"), 0o755)).bytes();
    let error = apply_bytes(&many, &target, limits).unwrap_err();
    assert!(
        matches!(error, UnpackError::Limit { what: "bytes in the paths of folders", limit: 8 }),
        "{error:?}"
    );
}

#[test]
fn a_truncated_layer_is_an_error() {
    let (_keep, target) = place();
    let mut whole = Tar::new().file("a", &"x".repeat(5000)).bytes();
    whole.truncate(2000);
    assert!(apply_bytes(&whole, &target, Limits::default()).is_err());
}

/// `depth` folders with a file in the last.
fn deep(depth: usize) -> String {
    "d/".repeat(depth) + "file"
}

#[test]
fn a_path_that_is_too_deep_is_refused_and_named_in_short() {
    let through_a_link = Tar::new().pax(&[("linkpath", "d/".repeat(200).as_bytes())]).symlink("l", "x");
    let through_a_link = through_a_link.pax(&[("path", format!("l/{}", deep(100)).as_bytes())]).file("x", "");
    let too_deep = Tar::new().pax(&[("path", deep(MAX_DEPTH).as_bytes())]).file("x", "");
    let longest = Tar::new().pax(&[("path", "d/".repeat(2047).as_bytes())]).folder("x", 0o755);
    let too_long = Tar::new().pax(&[("path", "d".repeat(9000).as_bytes())]).file("x", "");
    for (why, tar) in [
        ("deeper than the supported 256", through_a_link),
        ("deeper than the supported 256", too_deep),
        ("deeper than the supported 256", longest),
        ("too long", too_long),
    ] {
        let (_keep, target) = place();
        let message = tar.apply(&target).unwrap_err().to_string();
        assert!(message.contains(why) && message.len() < 512, "{message}");
    }
    let (_keep, target) = place();
    Tar::new().pax(&[("path", deep(MAX_DEPTH - 1).as_bytes())]).file("x", "deep").apply(&target).unwrap();
    assert_eq!(read(&target, &deep(MAX_DEPTH - 1)), "deep");
}

#[test]
fn folders_that_no_entry_names_are_counted() {
    let (_keep, target) = place();
    let limits = Limits { entries: 100, ..Limits::default() };
    let many = (0..9).fold(Tar::new(), |tar, n| tar.file(&format!("{n}/{}", deep(11)), "")).bytes();
    let error = apply_bytes(&many, &target, limits).unwrap_err();
    assert!(matches!(error, UnpackError::Limit { what: "entries", limit: 100 }), "{error:?}");
    let (_keep, target) = place();
    let few = (0..9).fold(Tar::new(), |tar, n| tar.file(&format!("{n}/{}", deep(5)), "")).bytes();
    apply_bytes(&few, &target, limits).unwrap();
}

#[test]
fn every_folder_on_the_way_is_looked_up_once() {
    let (folder, mut target) = place();
    for name in ["lower2", "lower3"] {
        std::fs::create_dir(folder.path().join(name)).unwrap();
        target.lower.push(folder.path().join(name));
    }
    for lower in &target.lower {
        std::fs::create_dir_all(lower.join("d/".repeat(100))).unwrap();
    }
    let path = deep(200);
    let one = Tar::new().pax(&[("path", path.as_bytes())]).file("x", "deep").bytes();
    // Each name is looked up here, and in the three layers below as far as they go.
    let limits = Limits { lookups: 200 + 101 * 3, ..Limits::default() };
    apply_bytes(&one, &target, limits).unwrap();
    assert_eq!(read(&target, &path), "deep");
    let (_keep, target) = place();
    let few = Limits { lookups: 100, ..Limits::default() };
    let error = apply_bytes(&one, &target, few).unwrap_err();
    assert!(matches!(error, UnpackError::Limit { what: "folders looked up", limit: 100 }), "{error:?}");
}
