//! One entry of a layer, parsed into what it asks for. Names that would leave the layer are refused here.

use std::ffi::{OsStr, OsString};
use std::io::Read;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use tar::EntryType;

use super::UnpackError;

/// Linux' limit of a link's target and of a path.
const MAX_PATH: usize = 4096;
/// Folders in a path. `PATH_MAX` would allow 2047, and each costs a walk and a descriptor; the deepest trees of real
/// images (nested `node_modules`, Java packages) have some dozens.
pub(super) const MAX_DEPTH: usize = 256;
pub(super) const TOO_DEEP: &str = "its path is deeper than the supported 256 folders";
/// Of a path in an error: what comes from strangers goes to `kubectl describe`, which has little room.
const MAX_SHOWN: usize = 200;
const XATTR_PREFIX: &str = "SCHILY.xattr.";
const SPARSE_PREFIX: &str = "GNU.sparse.";
/// Attributes of overlayfs itself: a layer that brings its own could redirect into other layers.
const OVERLAY_XATTRS: &str = "trusted.overlay.";

#[derive(Debug)]
pub(super) struct Entry {
    /// Components below the root, without `.` and `..`; empty is the root itself.
    pub(super) path: Vec<OsString>,
    pub(super) kind: Kind,
    /// Bytes of content, as the entry announces them.
    pub(super) size: u64,
    pub(super) attributes: Attributes,
}

#[derive(Debug)]
pub(super) enum Kind {
    File,
    Folder,
    Symlink(OsString),
    /// A second name of the file with this path.
    Hardlink(Vec<OsString>),
    Character {
        major: u32,
        minor: u32,
    },
    Block {
        major: u32,
        minor: u32,
    },
    Fifo,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Attributes {
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// Permission bits, set-id and sticky included.
    pub(super) mode: u32,
    pub(super) modified: (i64, u32),
    pub(super) xattrs: Vec<(String, Vec<u8>)>,
}

/// A path as errors show it.
pub(super) fn shown(path: &[OsString]) -> String {
    shown_bytes(&path.iter().map(|part| part.as_bytes()).collect::<Vec<_>>().join(&b'/'))
}

fn shown_bytes(path: &[u8]) -> String {
    match path.get(..MAX_SHOWN) {
        Some(beginning) if path.len() > MAX_SHOWN => format!("{}…", String::from_utf8_lossy(beginning)),
        _ => String::from_utf8_lossy(path).into_owned(),
    }
}

impl Entry {
    /// `None` for entries that carry no file, such as global headers.
    ///
    /// Sparse files are refused, GNU's old form like the one in PAX records: a few bytes of map stand for holes
    /// of any size, which the parser hands out as zeroes without reading anything.
    pub(super) fn parse<R: Read>(raw: &mut tar::Entry<'_, R>) -> Result<Option<Self>, UnpackError> {
        let name = raw.path_bytes().into_owned();
        let refused = |why| UnpackError::Refused { path: shown_bytes(&name), why };
        let path = components(&name).map_err(refused)?;
        let extended = Extended::read(raw).map_err(refused)?;
        let header = raw.header();
        let number = |value: std::io::Result<u64>, why| {
            value.ok().and_then(|value| u32::try_from(value).ok()).ok_or_else(|| refused(why))
        };
        let device = || {
            let part = |value: std::io::Result<Option<u32>>| {
                value.ok().flatten().ok_or_else(|| refused("its device number is not valid"))
            };
            Ok::<_, UnpackError>((part(header.device_major())?, part(header.device_minor())?))
        };
        let link = || raw.link_name_bytes().map(|link| link.into_owned()).unwrap_or_default();
        let kind = match header.entry_type() {
            EntryType::GNUSparse => return Err(refused("GNU sparse files are not supported")),
            EntryType::Regular | EntryType::Continuous if name.ends_with(b"/") => Kind::Folder,
            EntryType::Regular | EntryType::Continuous => Kind::File,
            EntryType::Directory => Kind::Folder,
            EntryType::Symlink => Kind::Symlink(symlink_target(link()).map_err(refused)?),
            EntryType::Link => {
                let target =
                    components(&link()).map_err(|_| refused("it is a hard link to outside of the layer"))?;
                Kind::Hardlink(target)
            }
            EntryType::Char => device().map(|(major, minor)| Kind::Character { major, minor })?,
            EntryType::Block => device().map(|(major, minor)| Kind::Block { major, minor })?,
            EntryType::Fifo => Kind::Fifo,
            EntryType::XGlobalHeader => return Ok(None),
            _ => return Err(refused("its type is not known")),
        };
        let uid =
            extended.uid.map_or_else(|| number(header.uid(), "its owner is not a 32-bit number"), Ok)?;
        let gid =
            extended.gid.map_or_else(|| number(header.gid(), "its group is not a 32-bit number"), Ok)?;
        let mode = header.mode().map_err(|_| refused("its mode is not valid"))? & 0o7777;
        let seconds = header.mtime().ok().and_then(|time| i64::try_from(time).ok()).unwrap_or_default();
        let modified = extended.modified.unwrap_or((seconds, 0));
        let attributes = Attributes { uid, gid, mode, modified, xattrs: extended.xattrs };
        Ok(Some(Self { path, kind, size: raw.size(), attributes }))
    }
}

fn components(name: &[u8]) -> Result<Vec<OsString>, &'static str> {
    if name.len() > MAX_PATH {
        return Err("its path is too long");
    }
    if name.contains(&0) {
        return Err("its path has a NUL");
    }
    let mut path = Vec::new();
    for part in name.split(|c| *c == b'/') {
        match part {
            b"" | b"." => {}
            b".." => return Err("its path leads upwards"),
            _ if path.len() >= MAX_DEPTH => return Err(TOO_DEEP),
            part => path.push(OsStr::from_bytes(part).to_owned()),
        }
    }
    Ok(path)
}

/// Any target is fine: it means something only within the container.
fn symlink_target(target: Vec<u8>) -> Result<OsString, &'static str> {
    match target {
        target if target.is_empty() => Err("it is a symbolic link to nothing"),
        target if target.len() >= MAX_PATH => Err("the target of its link is too long"),
        target if target.contains(&0) => Err("the target of its link has a NUL"),
        target => Ok(OsString::from_vec(target)),
    }
}

/// What PAX records say over and above the header.
#[derive(Default)]
struct Extended {
    uid: Option<u32>,
    gid: Option<u32>,
    modified: Option<(i64, u32)>,
    xattrs: Vec<(String, Vec<u8>)>,
}

impl Extended {
    fn read<R: Read>(raw: &mut tar::Entry<'_, R>) -> Result<Self, &'static str> {
        let mut extended = Self::default();
        let records = raw.pax_extensions().map_err(|_| "its extended header cannot be read")?;
        for record in records.into_iter().flatten() {
            let record = record.map_err(|_| "its extended header is not valid")?;
            let key = record.key().map_err(|_| "its extended header is not valid")?;
            let text = || record.value().map_err(|_| "its extended header is not valid");
            match key {
                "uid" => {
                    extended.uid = Some(text()?.parse().map_err(|_| "its owner is not a 32-bit number")?)
                }
                "gid" => {
                    extended.gid = Some(text()?.parse().map_err(|_| "its group is not a 32-bit number")?)
                }
                "mtime" => extended.modified = Some(timestamp(text()?).ok_or("its time is not valid")?),
                // The parser would hand out the map as content.
                key if key.starts_with(SPARSE_PREFIX) => return Err("PAX sparse files are not supported"),
                key => {
                    if let Some(name) = key.strip_prefix(XATTR_PREFIX) {
                        extended.xattr(name, record.value_bytes())?;
                    }
                }
            }
        }
        Ok(extended)
    }

    /// Keeps what a container can see; labels of the security module of another host mean nothing here.
    fn xattr(&mut self, name: &str, value: &[u8]) -> Result<(), &'static str> {
        if name.starts_with(OVERLAY_XATTRS) {
            return Err("it has attributes of overlayfs");
        }
        if name == "security.capability" || name.starts_with("user.") {
            self.xattrs.push((name.to_owned(), value.to_owned()));
        }
        Ok(())
    }
}

/// `seconds[.fraction]`, as PAX writes times; negative ones lie before 1970.
fn timestamp(text: &str) -> Option<(i64, u32)> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let seconds: i64 = whole.parse().ok()?;
    let digits: String = fraction.chars().chain("000000000".chars()).take(9).collect();
    let nanos: u32 = digits.parse().ok()?;
    if whole.starts_with('-') && nanos > 0 {
        return Some((seconds.checked_sub(1)?, 1_000_000_000 - nanos));
    }
    Some((seconds, nanos))
}
