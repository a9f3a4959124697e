//! Writes entries into a layer's folder. Every step is relative to an open folder and follows no link.
//!
//! Nobody else writes below the folder meanwhile: it is a snapshot that was just made. Parents that the layer
//! does not name are taken as the layers below have them, so that they keep their owner and mode; a symbolic
//! link down there is followed within the root, as the container itself would.

use std::collections::{HashMap, VecDeque};
use std::ffi::{OsStr, OsString};
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;

use super::entry::{Attributes, Entry, Kind, shown};
use super::lower::{self, Found, OPAQUE, look, open_folder};
use super::{Limits, Target, UnpackError};

const WHITEOUT: &[u8] = b".wh.";
const OPAQUE_WHITEOUT: &[u8] = b".wh..wh..opq";
const AUFS_INTERNAL: &[u8] = b".wh..wh.";
/// The kernel's own limit of links in one path (ELOOP).
const MAX_LINKS: usize = 40;
/// Open parents that are kept: entries of a folder mostly follow each other.
const KEPT_FOLDERS: usize = 64;
const IMPLICIT_MODE: u32 = 0o755;
const COPY_BUFFER: usize = 256 << 10;

pub(super) struct Layer {
    root: OwnedFd,
    lower: Vec<(PathBuf, OwnedFd)>,
    /// Parents by the path that entries call them.
    parents: HashMap<Vec<OsString>, Rc<Parent>>,
    /// Set last: whatever is written into a folder changes its time.
    folder_times: Vec<(PathBuf, (i64, u32))>,
    left: u64,
    limits: Limits,
    buffer: Vec<u8>,
}

struct Parent {
    folder: OwnedFd,
    /// Where it really is.
    path: Vec<OsString>,
}

fn write_error(step: &'static str, path: &[OsString], source: impl Into<io::Error>) -> UnpackError {
    UnpackError::Write {
        step,
        path: shown(path),
        source: source.into(),
    }
}

impl Layer {
    pub(super) fn open(target: &Target, limits: Limits) -> Result<Self, UnpackError> {
        let open = |path: &Path| {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            rustix::fs::open(path, flags, Mode::empty()).map_err(|errno| UnpackError::Write {
                step: "open the layer",
                path: path.display().to_string(),
                source: errno.into(),
            })
        };
        let lower = target.lower.iter().map(|path| Ok((path.clone(), open(path)?)));
        Ok(Self {
            root: open(&target.folder)?,
            lower: lower.collect::<Result<_, UnpackError>>()?,
            parents: HashMap::new(),
            folder_times: Vec::new(),
            left: limits.bytes,
            limits,
            buffer: vec![0; COPY_BUFFER],
        })
    }

    pub(super) fn apply(&mut self, entry: &Entry, content: &mut impl Read) -> Result<(), UnpackError> {
        let Some((name, folder)) = entry.path.split_last() else {
            return self.apply_to_root(entry);
        };
        let parent = self.parent(folder, &entry.path)?;
        let bytes = name.as_bytes();
        if bytes == OPAQUE_WHITEOUT {
            return set_opaque(&parent.folder).map_err(|e| write_error("mark as opaque", folder, e));
        }
        if bytes.starts_with(AUFS_INTERNAL) {
            return Ok(());
        }
        if let Some(hidden) = bytes.strip_prefix(WHITEOUT) {
            return whiteout(&parent, OsStr::from_bytes(hidden), entry);
        }
        self.make(&parent, name, entry, content)
    }

    fn apply_to_root(&mut self, entry: &Entry) -> Result<(), UnpackError> {
        if !matches!(entry.kind, Kind::Folder) {
            return Err(UnpackError::Refused {
                path: "/".to_owned(),
                why: "the root must be a folder",
            });
        }
        set_attributes(&self.root, &entry.attributes)
            .map_err(|e| write_error("set the attributes of", &[OsString::from("/")], e))?;
        self.folder_times
            .push((PathBuf::new(), entry.attributes.modified));
        Ok(())
    }

    fn make(
        &mut self,
        parent: &Parent,
        name: &OsStr,
        entry: &Entry,
        content: &mut impl Read,
    ) -> Result<(), UnpackError> {
        let path = &entry.path;
        let failed = |step| move |source: io::Error| write_error(step, path, source);
        let existing = look(&parent.folder, name).map_err(failed("look at"))?;
        let hidden_below = matches!(existing, Found::Whiteout);
        let keep = matches!((&existing, &entry.kind), (Found::Folder, Kind::Folder));
        if !matches!(existing, Found::Nothing) && !keep {
            self.parents.clear();
            remove(&parent.folder, name).map_err(failed("replace"))?;
        }
        match &entry.kind {
            Kind::Folder => {
                if !keep {
                    rustix::fs::mkdirat(&parent.folder, name, Mode::RWXU)
                        .map_err(|e| write_error("make folder", path, e))?;
                }
                let folder = open_folder(&parent.folder, Path::new(name)).map_err(failed("open folder"))?;
                if hidden_below {
                    set_opaque(&folder).map_err(failed("mark as opaque"))?;
                }
                set_attributes(&folder, &entry.attributes).map_err(failed("set the attributes of"))?;
                let place: PathBuf = parent
                    .path
                    .iter()
                    .map(OsString::as_os_str)
                    .chain([name])
                    .collect();
                self.folder_times.push((place, entry.attributes.modified));
                Ok(())
            }
            Kind::File => self.file(parent, name, entry, content),
            Kind::Hardlink(target) => self.hardlink(parent, name, target, path),
            Kind::Symlink(target) => {
                let made = rustix::fs::symlinkat(target.as_os_str(), &parent.folder, name);
                made.map_err(|e| write_error("make symbolic link", path, e))?;
                finish_special(parent, name, &entry.attributes, None).map_err(failed("set the attributes of"))
            }
            Kind::Character { major, minor } => {
                node(parent, name, FileType::CharacterDevice, (*major, *minor), entry)
            }
            Kind::Block { major, minor } => {
                node(parent, name, FileType::BlockDevice, (*major, *minor), entry)
            }
            Kind::Fifo => node(parent, name, FileType::Fifo, (0, 0), entry),
        }
    }

    fn file(
        &mut self,
        parent: &Parent,
        name: &OsStr,
        entry: &Entry,
        content: &mut impl Read,
    ) -> Result<(), UnpackError> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&parent.folder, name, flags, Mode::RUSR | Mode::WUSR)
            .map_err(|e| write_error("make file", &entry.path, e))?;
        let mut file = std::fs::File::from(file);
        loop {
            let count = content.read(&mut self.buffer).map_err(super::source::error_of)?;
            if count == 0 {
                break;
            }
            // Sparse entries can be larger than the layer itself.
            self.left = self.left.checked_sub(count as u64).ok_or(UnpackError::Limit {
                what: "bytes in files",
                limit: self.limits.bytes,
            })?;
            io::Write::write_all(&mut file, &self.buffer[..count])
                .map_err(|e| write_error("write file", &entry.path, e))?;
        }
        set_attributes(&file, &entry.attributes)
            .and_then(|()| Ok(rustix::fs::futimens(&file, &times(entry.attributes.modified))?))
            .map_err(|e| write_error("set the attributes of", &entry.path, e))
    }

    /// The target must be in this layer: a file of a layer below cannot get a second name up here.
    fn hardlink(
        &mut self,
        parent: &Parent,
        name: &OsStr,
        target: &[OsString],
        path: &[OsString],
    ) -> Result<(), UnpackError> {
        let missing = || UnpackError::Refused {
            path: shown(path),
            why: "it is a hard link to a file that is not in the layer",
        };
        let (target_name, target_folder) = target.split_last().ok_or_else(missing)?;
        let folder = self.parent(target_folder, path)?;
        match rustix::fs::linkat(
            &folder.folder,
            target_name.as_os_str(),
            &parent.folder,
            name,
            AtFlags::empty(),
        ) {
            Err(Errno::NOENT) => Err(missing()),
            linked => linked.map_err(|e| write_error("make hard link", path, e)),
        }
    }

    /// The open folder that entries call `named`, made when the layer has not named it before.
    fn parent(&mut self, named: &[OsString], entry: &[OsString]) -> Result<Rc<Parent>, UnpackError> {
        if let Some(parent) = self.parents.get(named) {
            return Ok(Rc::clone(parent));
        }
        let path = self.walk(named, entry)?;
        let place: PathBuf = path.iter().collect();
        let folder =
            open_folder(&self.root, &place).map_err(|e| write_error("open the folder of", entry, e))?;
        let parent = Rc::new(Parent { folder, path });
        if self.parents.len() >= KEPT_FOLDERS {
            self.parents.clear();
        }
        self.parents.insert(named.to_vec(), Rc::clone(&parent));
        Ok(parent)
    }

    /// Where `named` really is, as the merged view of all layers resolves it; every folder on the way exists in
    /// this layer afterwards.
    fn walk(&mut self, named: &[OsString], entry: &[OsString]) -> Result<Vec<OsString>, UnpackError> {
        let failed = |e: io::Error| write_error("resolve the folder of", entry, e);
        let mut pending: VecDeque<OsString> = named.iter().cloned().collect();
        let mut path: Vec<OsString> = Vec::new();
        let mut links = 0;
        while let Some(part) = pending.pop_front() {
            if part == ".." {
                path.pop();
                continue;
            }
            let place: PathBuf = path.iter().collect();
            let folder = open_folder(&self.root, &place).map_err(failed)?;
            let here = look(&folder, &part).map_err(failed)?;
            let link = match here {
                Found::Folder => None,
                Found::Symlink(target) => Some(target),
                Found::Other => {
                    return Err(UnpackError::Refused {
                        path: shown(entry),
                        why: "the folder it is in is not a folder",
                    });
                }
                Found::Whiteout => {
                    rustix::fs::unlinkat(&folder, part.as_os_str(), AtFlags::empty())
                        .map_err(|e| failed(e.into()))?;
                    self.implicit(&folder, &path, &part, None).map_err(failed)?;
                    open_folder(&folder, Path::new(&part))
                        .and_then(set_opaque)
                        .map_err(failed)?;
                    None
                }
                Found::Nothing => self.take_from_below(&folder, &path, &part).map_err(failed)?,
            };
            match link {
                None => path.push(part),
                Some(target) => {
                    links += 1;
                    if links > MAX_LINKS {
                        return Err(failed(Errno::LOOP.into()));
                    }
                    if target.as_bytes().starts_with(b"/") {
                        path.clear();
                    }
                    let parts = target.as_bytes().split(|c| *c == b'/');
                    let parts = parts.filter(|part| !matches!(*part, b"" | b"."));
                    for part in parts.rev() {
                        pending.push_front(OsStr::from_bytes(part).to_owned());
                    }
                }
            }
        }
        Ok(path)
    }

    /// Makes `part` like the layers below have it. A symbolic link there is given back instead.
    fn take_from_below(
        &mut self,
        folder: &OwnedFd,
        path: &[OsString],
        part: &OsStr,
    ) -> io::Result<Option<OsString>> {
        let (found, place) = if self.hides_below(path)? {
            (Found::Nothing, None)
        } else {
            lower::find(&self.lower, path, part)?
        };
        match (found, place) {
            (Found::Symlink(target), _) => Ok(Some(target)),
            (Found::Folder, Some(place)) => self.implicit(folder, path, part, Some(&place)).map(|()| None),
            _ => self.implicit(folder, path, part, None).map(|()| None),
        }
    }

    /// Whether a folder of this layer on the way to `path` is opaque.
    fn hides_below(&self, path: &[OsString]) -> io::Result<bool> {
        if self.lower.is_empty() {
            return Ok(true);
        }
        for depth in 0..=path.len() {
            let place: PathBuf = path[..depth].iter().collect();
            if lower::is_opaque(open_folder(&self.root, &place)?) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// A folder that no entry names, with the attributes of the one it will be merged with.
    fn implicit(
        &mut self,
        folder: &OwnedFd,
        path: &[OsString],
        part: &OsStr,
        like: Option<&Path>,
    ) -> io::Result<()> {
        rustix::fs::mkdirat(folder, part, Mode::RWXU)?;
        let made = open_folder(folder, Path::new(part))?;
        let mut attributes = Attributes {
            mode: IMPLICIT_MODE,
            ..Attributes::default()
        };
        if let Some(like) = like {
            use std::os::unix::fs::MetadataExt;
            let below = std::fs::symlink_metadata(like)?;
            attributes.uid = below.uid();
            attributes.gid = below.gid();
            attributes.mode = below.mode() & 0o7777;
            attributes.modified = (
                below.mtime(),
                u32::try_from(below.mtime_nsec()).unwrap_or_default(),
            );
            let place: PathBuf = path.iter().map(OsString::as_os_str).chain([part]).collect();
            self.folder_times.push((place, attributes.modified));
        }
        set_attributes(made, &attributes)
    }

    pub(super) fn finish(self) -> Result<(), UnpackError> {
        for (place, modified) in self.folder_times.iter().rev() {
            // A folder may have been replaced by a later entry.
            if let Ok(folder) = open_folder(&self.root, place) {
                rustix::fs::futimens(&folder, &times(*modified))
                    .map_err(|e| write_error("set the time of", &[place.clone().into_os_string()], e))?;
            }
        }
        Ok(())
    }
}

fn times((seconds, nanos): (i64, u32)) -> Timestamps {
    let time = Timespec {
        tv_sec: seconds,
        tv_nsec: nanos.into(),
    };
    Timestamps {
        last_access: time,
        last_modification: time,
    }
}

/// Owner before mode: chown drops the set-id bits. Attributes last: chown drops capabilities too.
fn set_attributes(file: impl AsFd, attributes: &Attributes) -> io::Result<()> {
    let (uid, gid) = (Uid::from_raw(attributes.uid), Gid::from_raw(attributes.gid));
    rustix::fs::fchown(&file, Some(uid), Some(gid))?;
    rustix::fs::fchmod(&file, Mode::from_raw_mode(attributes.mode))?;
    for (name, value) in &attributes.xattrs {
        match rustix::fs::fsetxattr(&file, name.as_str(), value, XattrFlags::empty()) {
            // The file system has none of this kind; containerd goes on as well.
            Err(Errno::OPNOTSUPP) => {}
            set => set?,
        }
    }
    Ok(())
}

fn set_opaque(folder: impl AsFd) -> io::Result<()> {
    Ok(rustix::fs::fsetxattr(folder, OPAQUE, b"y", XattrFlags::empty())?)
}

/// Hides `hidden` of the layers below. A file of that name in this layer stays, whichever came first.
fn whiteout(parent: &Parent, hidden: &OsStr, entry: &Entry) -> Result<(), UnpackError> {
    if matches!(hidden.as_bytes(), b"" | b"." | b"..") {
        return Err(UnpackError::Refused {
            path: shown(&entry.path),
            why: "it hides nothing that has a name",
        });
    }
    match rustix::fs::mknodat(
        &parent.folder,
        hidden,
        FileType::CharacterDevice,
        Mode::empty(),
        0,
    ) {
        Err(Errno::EXIST) => Ok(()),
        made => made.map_err(|e| write_error("make the whiteout", &entry.path, e)),
    }
}

fn node(
    parent: &Parent,
    name: &OsStr,
    kind: FileType,
    (major, minor): (u32, u32),
    entry: &Entry,
) -> Result<(), UnpackError> {
    let device = rustix::fs::makedev(major, minor);
    rustix::fs::mknodat(&parent.folder, name, kind, Mode::empty(), device)
        .map_err(|e| write_error("make node", &entry.path, e))?;
    finish_special(parent, name, &entry.attributes, Some(entry.attributes.mode))
        .map_err(|e| write_error("set the attributes of", &entry.path, e))
}

/// Attributes of what must not be opened. The name was just made by us, so that chmod meets no link.
fn finish_special(
    parent: &Parent,
    name: &OsStr,
    attributes: &Attributes,
    mode: Option<u32>,
) -> io::Result<()> {
    let (uid, gid) = (Uid::from_raw(attributes.uid), Gid::from_raw(attributes.gid));
    rustix::fs::chownat(
        &parent.folder,
        name,
        Some(uid),
        Some(gid),
        AtFlags::SYMLINK_NOFOLLOW,
    )?;
    if let Some(mode) = mode {
        rustix::fs::chmodat(&parent.folder, name, Mode::from_raw_mode(mode), AtFlags::empty())?;
    }
    let times = times(attributes.modified);
    Ok(rustix::fs::utimensat(
        &parent.folder,
        name,
        &times,
        AtFlags::SYMLINK_NOFOLLOW,
    )?)
}

/// Removes a file or a whole tree by open folders.
fn remove(folder: impl AsFd, name: &OsStr) -> io::Result<()> {
    match rustix::fs::unlinkat(&folder, name, AtFlags::empty()) {
        Err(Errno::ISDIR) => {}
        removed => return Ok(removed?),
    }
    let inner = open_folder(&folder, Path::new(name))?;
    let names: Vec<OsString> = rustix::fs::Dir::read_from(&inner)?
        .map(|entry| Ok(OsStr::from_bytes(entry?.file_name().to_bytes()).to_owned()))
        .collect::<Result<_, Errno>>()?;
    for child in names
        .iter()
        .filter(|child| !matches!(child.as_bytes(), b"." | b".."))
    {
        remove(&inner, child)?;
    }
    Ok(rustix::fs::unlinkat(&folder, name, AtFlags::REMOVEDIR)?)
}
