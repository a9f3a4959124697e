//! Writes entries into a layer's folder. Every step is relative to an open folder and follows no link.
//!
//! Nobody else writes below the folder meanwhile: it is a snapshot that was just made. Parents that the layer
//! does not name are taken as the layers below have them, so that they keep their owner and mode; a symbolic
//! link down there is followed within the root, as the container itself would.

use std::collections::{BTreeMap, HashMap};
use std::ffi::{OsStr, OsString};
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;
use tokio_util::sync::CancellationToken;

use super::entry::{Entry, Kind, shown};
use super::inode::{finish_special, node, remove, set_attributes, set_opaque, times, whiteout};
use super::lower::{Found, Merged, look, open_folder};
use super::{Limits, Target, UnpackError};

const WHITEOUT: &[u8] = b".wh.";
const OPAQUE_WHITEOUT: &[u8] = b".wh..wh..opq";
const AUFS_INTERNAL: &[u8] = b".wh..wh.";
/// Open parents that are kept: entries of a folder mostly follow each other.
const KEPT_FOLDERS: usize = 64;
const COPY_BUFFER: usize = 256 << 10;

pub(super) struct Layer {
    pub(super) root: OwnedFd,
    /// The root of what lies below.
    pub(super) lower: Merged,
    /// Parents by the path that entries call them.
    parents: HashMap<Vec<OsString>, Rc<Parent>>,
    /// Set last: whatever is written into a folder changes its time.
    folder_times: BTreeMap<PathBuf, (i64, u32)>,
    folder_paths: u64,
    entries: u64,
    lookups: u64,
    left: u64,
    limits: Limits,
    buffer: Vec<u8>,
    cancel: CancellationToken,
}

pub(super) struct Parent {
    pub(super) folder: OwnedFd,
    /// Where it really is.
    pub(super) path: Vec<OsString>,
}

pub(super) fn write_error(
    step: &'static str,
    path: &[OsString],
    source: impl Into<io::Error>,
) -> UnpackError {
    UnpackError::Write { step, path: shown(path), source: source.into() }
}

impl Layer {
    pub(super) fn open(
        target: &Target,
        limits: Limits,
        cancel: CancellationToken,
    ) -> Result<Self, UnpackError> {
        let open = |path: &Path| {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            rustix::fs::open(path, flags, Mode::empty()).map_err(|errno| UnpackError::Write {
                step: "open the layer",
                path: path.display().to_string(),
                source: errno.into(),
            })
        };
        let lower = target.lower.iter().map(|path| open(path)).collect::<Result<_, UnpackError>>()?;
        Ok(Self {
            root: open(&target.folder)?,
            lower: Merged::root(lower),
            parents: HashMap::new(),
            folder_times: BTreeMap::new(),
            folder_paths: 0,
            entries: 0,
            lookups: 0,
            left: limits.bytes,
            limits,
            buffer: vec![0; COPY_BUFFER],
            cancel,
        })
    }

    /// Counts an entry, or a folder that none names: both become files.
    pub(super) fn count_entry(&mut self) -> Result<(), UnpackError> {
        self.entries += 1;
        if self.entries > self.limits.entries {
            return Err(UnpackError::Limit { what: "entries", limit: self.limits.entries });
        }
        Ok(())
    }

    /// Before names are looked up: whether it is worth going on.
    pub(super) fn spend(&mut self, lookups: u64) -> Result<(), UnpackError> {
        if self.cancel.is_cancelled() {
            return Err(UnpackError::Cancelled);
        }
        self.lookups += lookups;
        if self.lookups > self.limits.lookups {
            return Err(UnpackError::Limit { what: "folders looked up", limit: self.limits.lookups });
        }
        Ok(())
    }

    pub(super) fn apply(&mut self, entry: &Entry, content: &mut impl Read) -> Result<(), UnpackError> {
        if self.folder_paths > self.limits.folder_paths {
            let limit = self.limits.folder_paths;
            return Err(UnpackError::Limit { what: "bytes in the paths of folders", limit });
        }
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

    /// A folder that is named again gets the time that was named last.
    pub(super) fn set_time_at_the_end(&mut self, place: PathBuf, modified: (i64, u32)) {
        let length = place.as_os_str().len() as u64;
        if self.folder_times.insert(place, modified).is_none() {
            self.folder_paths += length;
        }
    }

    fn apply_to_root(&mut self, entry: &Entry) -> Result<(), UnpackError> {
        if !matches!(entry.kind, Kind::Folder) {
            return Err(UnpackError::Refused { path: "/".to_owned(), why: "the root must be a folder" });
        }
        set_attributes(&self.root, &entry.attributes)
            .map_err(|e| write_error("set the attributes of", &[OsString::from("/")], e))?;
        self.set_time_at_the_end(PathBuf::new(), entry.attributes.modified);
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
                let place: PathBuf = parent.path.iter().map(OsString::as_os_str).chain([name]).collect();
                self.set_time_at_the_end(place, entry.attributes.modified);
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
        let too_much = || UnpackError::Limit { what: "bytes in files", limit: self.limits.bytes };
        let left = self.left.checked_sub(entry.size).ok_or_else(too_much)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&parent.folder, name, flags, Mode::RUSR | Mode::WUSR)
            .map_err(|e| write_error("make file", &entry.path, e))?;
        let mut file = std::fs::File::from(file);
        // Whatever the parser hands out, it is not more than what was announced.
        let mut content = content.take(entry.size);
        loop {
            if self.cancel.is_cancelled() {
                return Err(UnpackError::Cancelled);
            }
            let count = content.read(&mut self.buffer).map_err(super::source::error_of)?;
            if count == 0 {
                break;
            }
            io::Write::write_all(&mut file, &self.buffer[..count])
                .map_err(|e| write_error("write file", &entry.path, e))?;
        }
        self.left = left;
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
        let parent = Rc::new(self.walk(named, entry)?);
        if self.parents.len() >= KEPT_FOLDERS {
            self.parents.clear();
        }
        self.parents.insert(named.to_vec(), Rc::clone(&parent));
        Ok(parent)
    }

    pub(super) fn finish(self) -> Result<(), UnpackError> {
        for (place, modified) in self.folder_times.iter().rev() {
            if self.cancel.is_cancelled() {
                return Err(UnpackError::Cancelled);
            }
            // A folder may have been replaced by a later entry.
            if let Ok(folder) = open_folder(&self.root, place) {
                rustix::fs::futimens(&folder, &times(*modified))
                    .map_err(|e| write_error("set the time of", &[place.clone().into_os_string()], e))?;
            }
        }
        Ok(())
    }
}
