//! Whether a place on the host can pass mounts on: what its mount is to its peers (mount_namespaces(7)).

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use super::OciSpecError;
use crate::spec::Propagation;

pub(super) const MOUNTINFO: &str = "/proc/self/mountinfo";

/// Refuses a volume whose mount cannot do what is asked: a container would run and miss the mounts it waits for.
pub(super) fn check(source: &Path, wanted: Propagation, mountinfo: &[u8]) -> Result<(), OciSpecError> {
    let refuse = |at: PathBuf, needed| {
        Err(OciSpecError::NotPropagated { path: source.to_owned(), mount_point: at, needed })
    };
    let Some(mount) = mount_of(source, mountinfo) else {
        return refuse(PathBuf::from("/"), "a known mount");
    };
    match wanted {
        Propagation::Private => Ok(()),
        Propagation::HostToContainer if mount.shared || mount.slave => Ok(()),
        Propagation::HostToContainer => refuse(mount.at, "a shared or slave mount"),
        Propagation::Bidirectional if mount.shared => Ok(()),
        Propagation::Bidirectional => refuse(mount.at, "a shared mount"),
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Mount {
    at: PathBuf,
    shared: bool,
    slave: bool,
}

/// The mount that a path without links is in: of those that lie above it the longest, of equals the topmost, which
/// is listed last.
fn mount_of(path: &Path, mountinfo: &[u8]) -> Option<Mount> {
    let mounts = mountinfo.split(|byte| *byte == b'\n').filter_map(parse);
    mounts.filter(|mount| path.starts_with(&mount.at)).max_by_key(|mount| mount.at.as_os_str().len())
}

/// A line of proc_pid_mountinfo(5): the mount point is the fifth field, from the seventh up to "-" are the tags.
fn parse(line: &[u8]) -> Option<Mount> {
    let mut fields = line.split(|byte| *byte == b' ');
    let at = unescape(fields.nth(4)?);
    let tags: Vec<&[u8]> = fields.skip(1).take_while(|field| *field != b"-").collect();
    let has = |name: &[u8]| tags.iter().any(|tag| tag.starts_with(name));
    Some(Mount { at, shared: has(b"shared:"), slave: has(b"master:") })
}

/// Space, tab, newline and backslash are written as three octal digits.
fn unescape(field: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let [first, after @ ..] = rest {
        let octal = |digits: &[u8]| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok();
        match (first, after.get(..3).and_then(octal)) {
            (b'\\', Some(byte)) => {
                bytes.push(byte);
                rest = after.get(3..).unwrap_or_default();
            }
            _ => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    PathBuf::from(OsString::from_vec(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &[u8] = b"\
22 1 8:1 / / rw,relatime - ext4 /dev/root rw
30 22 0:5 / /srv rw shared:7 - tmpfs none rw
31 22 0:6 / /srv/two\\040words rw master:7 propagate_from:2 - tmpfs none rw
32 22 0:7 / /over rw shared:8 - tmpfs none rw
33 32 0:8 / /over rw - tmpfs none rw
34 22 0:9 / /srvother rw shared:9 master:3 - tmpfs none rw
";

    #[test]
    fn the_mount_of_a_path_decides() {
        use Propagation::{Bidirectional, HostToContainer, Private};
        let table = [
            ("/etc", Private, true),
            ("/etc", HostToContainer, false),
            ("/etc", Bidirectional, false),
            ("/srv", Bidirectional, true),
            ("/srv/a/b", HostToContainer, true),
            ("/srv/two words/x", HostToContainer, true),
            ("/srv/two words/x", Bidirectional, false),
            ("/over", HostToContainer, false),
            ("/srvother/x", Bidirectional, true),
            ("/srvelse", HostToContainer, false),
        ];
        for (path, wanted, fine) in table {
            assert_eq!(check(Path::new(path), wanted, TABLE).is_ok(), fine, "{path} {wanted:?}");
        }
    }

    #[test]
    fn the_refusal_names_both_places() {
        let error =
            check(Path::new("/srv/two words/x"), Propagation::Bidirectional, TABLE).expect_err("slave");
        let expected =
            "path /srv/two words/x is mounted on /srv/two words, which is not a shared mount".to_owned();
        assert_eq!(error.to_string(), expected);
    }

    #[test]
    fn the_table_of_this_process_has_the_root() {
        let own = std::fs::read(MOUNTINFO).expect("procfs");
        assert_eq!(mount_of(Path::new("/"), &own).map(|mount| mount.at), Some(PathBuf::from("/")));
    }

    #[test]
    fn odd_lines_do_no_harm() {
        for line in [&b""[..], b"1 2", b"1 2 3 / \\", b"1 2 3 / \\09 rw - x"] {
            let _ = parse(line);
        }
        assert_eq!(unescape(b"a\\134040"), PathBuf::from("a\\040"));
    }
}
