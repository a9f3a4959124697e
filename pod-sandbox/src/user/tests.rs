//! Users of real trees in temporary folders, and the rules as tables.

use std::io::Write;
use std::os::fd::OwnedFd;
use std::path::Path;

use super::*;
use crate::spec::{CapabilitySpec, PidMode, SeccompSpec};

const PASSWD_TEXT: &str = "root:x:0:0::/:/bin/sh\nwww-data:x:33:34::/:\ndefault-user:x:1000:1000::/:\n";
const GROUP_TEXT: &str = "root:x:0:\nwww:x:33:\nextra:x:50000:default-user,www-data\n";

fn security(user: Option<UserSpec>, group: Option<u32>, supplemental: &[u32]) -> SecuritySpec {
    SecuritySpec {
        privileged: false,
        pid: PidMode::Container,
        user,
        group,
        supplemental_groups: supplemental.to_vec(),
        supplemental_groups_policy: SupplementalGroupsPolicy::Merge,
        capabilities: CapabilitySpec::default(),
        readonly_rootfs: false,
        no_new_privs: false,
        masked_paths: Vec::new(),
        readonly_paths: Vec::new(),
        seccomp: SeccompSpec::Unconfined,
    }
}

fn write(path: &Path, text: &str) {
    File::create(path).and_then(|mut file| file.write_all(text.as_bytes())).expect("a file in our folder");
}

fn image() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("temporary folder");
    std::fs::create_dir(folder.path().join("etc")).expect("a folder in our folder");
    write(&folder.path().join(PASSWD), PASSWD_TEXT);
    write(&folder.path().join(GROUP), GROUP_TEXT);
    folder
}

fn root(folder: &Path) -> OwnedFd {
    rustix::fs::open(folder, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .expect("our folder")
}

fn ids(user: &ResolvedUser) -> (u32, u32, Vec<u32>) {
    (user.uid, user.gid, user.additional_gids.clone())
}

#[test]
fn wishes_and_images_resolve_to_numbers() {
    let folder = image();
    let uid = |uid| Some(UserSpec::Uid(uid));
    let name = |name: &str| Some(UserSpec::Name(name.to_owned()));
    let table = [
        (security(None, None, &[]), "", (0, 0, vec![0])),
        (security(None, None, &[]), "1000", (1000, 1000, vec![1000, 50000])),
        (security(None, None, &[]), "www-data", (33, 34, vec![34, 50000])),
        (security(None, None, &[]), "www-data:1004", (33, 1004, vec![1004, 50000])),
        (security(None, None, &[]), "1003:www", (1003, 33, vec![33])),
        (security(None, None, &[]), "4711", (4711, 0, vec![0])),
        (security(uid(1001), None, &[]), "www-data", (1001, 0, vec![0])),
        (security(uid(1001), Some(1002), &[]), "", (1001, 1002, vec![1002])),
        (security(uid(1000), None, &[1234]), "", (1000, 1000, vec![1000, 1234, 50000])),
        (security(name("www-data"), Some(7), &[5678, 1234]), "", (33, 7, vec![7, 1234, 5678, 50000])),
        (security(name("33"), None, &[]), "", (33, 34, vec![34, 50000])),
        (security(None, None, &[5678, 5678]), "", (0, 0, vec![0, 5678])),
    ];
    for (security, image_user, expected) in table {
        let user = resolve(&root(folder.path()), &security, image_user).expect(image_user);
        assert_eq!(ids(&user), expected, "{:?} {image_user:?}", security.user);
    }
}

#[test]
fn strict_ignores_the_images_groups() {
    let folder = image();
    let mut security = security(None, None, &[1234]);
    security.supplemental_groups_policy = SupplementalGroupsPolicy::Strict;
    let user = resolve(&root(folder.path()), &security, "1000").expect("a known user");
    assert_eq!(ids(&user), (1000, 1000, vec![1000, 1234]));
}

#[test]
fn an_image_without_databases_has_numbers_only() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let resolve = |user| resolve(&root(folder.path()), &security(None, None, &[]), user);
    assert_eq!(ids(&resolve("65532:65533").expect("numbers")), (65532, 65533, vec![65533]));
    assert!(matches!(resolve("nobody"), Err(UserError::NoSuchUser { user }) if user == "nobody"));
}

#[test]
fn bad_users_are_refused_by_name() {
    let folder = image();
    let resolve = |user| resolve(&root(folder.path()), &security(None, None, &[]), user);
    assert!(matches!(resolve("www-data:none"), Err(UserError::NoSuchGroup { group }) if group == "none"));
    for user in [":", ":0", "root:", "4294967295", "99999999999"] {
        let error = resolve(user).expect_err(user);
        assert!(matches!(&error, UserError::Malformed { user: named } if named == user), "{error}");
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    }
}

#[test]
fn a_group_needs_a_user() {
    let folder = image();
    let result = resolve(&root(folder.path()), &security(None, Some(5), &[]), "1000");
    assert!(matches!(result, Err(UserError::GroupWithoutUser)), "{result:?}");
}

#[test]
fn links_stay_inside_the_image() {
    let folder = image();
    let outside = tempfile::tempdir().expect("temporary folder");
    write(&outside.path().join("passwd"), "outsider:x:5:5::/:\n");
    std::fs::remove_file(folder.path().join(PASSWD)).expect("it was there");
    let target = outside.path().join("passwd");
    std::os::unix::fs::symlink(&target, folder.path().join(PASSWD)).expect("a link in our folder");
    let result = resolve(&root(folder.path()), &security(None, None, &[]), "outsider");
    assert!(matches!(result, Err(UserError::NoSuchUser { .. })), "{result:?}");

    std::fs::remove_file(folder.path().join(PASSWD)).expect("it was there");
    write(&folder.path().join("etc/real"), PASSWD_TEXT);
    std::os::unix::fs::symlink("/etc/real", folder.path().join(PASSWD)).expect("a link in our folder");
    let user = resolve(&root(folder.path()), &security(None, None, &[]), "www-data").expect("inside");
    assert_eq!(user.uid, 33);
}

#[test]
fn a_fifo_a_folder_and_a_giant_are_no_databases() {
    let folder = image();
    let path = folder.path().join(PASSWD);
    let refused = || {
        let result = resolve(&root(folder.path()), &security(None, None, &[]), "root");
        assert!(matches!(result, Err(UserError::NotADatabase { file: PASSWD })), "{result:?}");
    };
    std::fs::remove_file(&path).expect("it was there");
    rustix::fs::mkfifoat(rustix::fs::CWD, &path, Mode::RUSR).expect("a FIFO in our folder");
    refused();
    std::fs::remove_file(&path).expect("it was there");
    std::fs::create_dir(&path).expect("a folder in our folder");
    refused();
    std::fs::remove_dir(&path).expect("it was there");
    File::create(&path).and_then(|file| file.set_len(MAX_DATABASE_BYTES + 1)).expect("a sparse file");
    refused();
}
