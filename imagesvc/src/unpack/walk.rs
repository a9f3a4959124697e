//! Where an entry's folder really is, when this layer and those below are seen as one.
//!
//! Names come from strangers, so that a walk costs as much as its names: each folder is opened from the one it is
//! in, the layers below are walked alongside, and every look is counted (`Layer::spend`).

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;

use super::UnpackError;
use super::entry::{Attributes, MAX_DEPTH, TOO_DEEP, shown};
use super::inode::{set_attributes, set_opaque};
use super::layer::{Layer, Parent, write_error};
use super::lower::{self, Below, Found, Merged, look, open_folder};

/// The kernel's own limit of links in one path (ELOOP).
const MAX_LINKS: usize = 40;
const IMPLICIT_MODE: u32 = 0o755;

/// How far a walk has come.
struct Place {
    folder: OwnedFd,
    /// Without links.
    path: Vec<OsString>,
    /// How deep the first folder is that hides what lies below.
    opaque: Option<usize>,
    /// What lies below; nobody has needed to know while it is `None`.
    below: Option<Merged>,
}

impl Place {
    fn root(root: &OwnedFd) -> io::Result<Self> {
        let opaque = lower::is_opaque(root).then_some(0);
        Ok(Self { folder: open_folder(root, Path::new(""))?, path: Vec::new(), opaque, below: None })
    }

    fn enter(&mut self, part: OsString, folder: OwnedFd, below: Option<Merged>) {
        self.path.push(part);
        if self.opaque.is_none() && lower::is_opaque(&folder) {
            self.opaque = Some(self.path.len());
        }
        self.folder = folder;
        self.below = below;
    }

    /// To the folder that this one is in. Nobody moves folders meanwhile, and the root is never left.
    fn leave(&mut self) -> io::Result<()> {
        if self.path.pop().is_some() {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            self.folder = rustix::fs::openat(&self.folder, "..", flags, Mode::empty())?;
            self.opaque = self.opaque.filter(|depth| *depth <= self.path.len());
            self.below = None;
        }
        Ok(())
    }
}

impl Layer {
    /// Where `named` really is, as the merged view of all layers resolves it; every folder on the way exists in
    /// this layer afterwards.
    pub(super) fn walk(&mut self, named: &[OsString], entry: &[OsString]) -> Result<Parent, UnpackError> {
        let failed = |e: io::Error| write_error("resolve the folder of", entry, e);
        let refused = |why| UnpackError::Refused { path: shown(entry), why };
        let mut pending: VecDeque<OsString> = named.iter().cloned().collect();
        let mut place = Place::root(&self.root).map_err(failed)?;
        let mut links = 0;
        while let Some(part) = pending.pop_front() {
            self.spend(1)?;
            if part == ".." {
                place.leave().map_err(failed)?;
                continue;
            }
            if place.path.len() >= MAX_DEPTH {
                return Err(refused(TOO_DEEP));
            }
            let link = match look(&place.folder, &part).map_err(failed)? {
                Found::Folder => {
                    let folder = open_folder(&place.folder, Path::new(&part)).map_err(failed)?;
                    place.enter(part, folder, None);
                    None
                }
                Found::Symlink(target) => Some(target),
                Found::Other => return Err(refused("the folder it is in is not a folder")),
                Found::Whiteout => {
                    self.count_entry()?;
                    let folder = uncover(&place.folder, &part).map_err(failed)?;
                    place.enter(part, folder, None);
                    None
                }
                Found::Nothing => self.take_from_below(&mut place, part, &failed)?,
            };
            if let Some(target) = link {
                links += 1;
                if links > MAX_LINKS {
                    return Err(failed(Errno::LOOP.into()));
                }
                if target.as_bytes().starts_with(b"/") {
                    place = Place::root(&self.root).map_err(failed)?;
                }
                let parts = target.as_bytes().split(|c| *c == b'/');
                let parts = parts.filter(|part| !matches!(*part, b"" | b"."));
                for part in parts.rev() {
                    pending.push_front(OsStr::from_bytes(part).to_owned());
                }
            }
        }
        Ok(Parent { folder: place.folder, path: place.path })
    }

    /// Goes into `part`, made like the layers below have it. A symbolic link there is given back instead.
    fn take_from_below(
        &mut self,
        place: &mut Place,
        part: OsString,
        failed: &impl Fn(io::Error) -> UnpackError,
    ) -> Result<Option<OsString>, UnpackError> {
        let below = match place.below.take() {
            Some(below) => below,
            None => self.below(place, failed)?,
        };
        self.spend(below.cost())?;
        let inner = match below.step(&part).map_err(failed)? {
            Below::Symlink(target) => {
                place.below = Some(below);
                return Ok(Some(target));
            }
            Below::Folder(inner) => inner,
            Below::Nothing => Merged::default(),
        };
        self.count_entry()?;
        let mut attributes = Attributes { mode: IMPLICIT_MODE, ..Attributes::default() };
        if let Some(like) = inner.uppermost() {
            attributes = attributes_of(like).map_err(failed)?;
            let path: PathBuf = place.path.iter().chain([&part]).collect();
            self.set_time_at_the_end(path, attributes.modified);
        }
        let folder = implicit(&place.folder, &part, &attributes).map_err(failed)?;
        place.enter(part, folder, Some(inner));
        Ok(None)
    }

    /// What the layers below have where the walk has come to.
    fn below(
        &mut self,
        place: &Place,
        failed: &impl Fn(io::Error) -> UnpackError,
    ) -> Result<Merged, UnpackError> {
        if place.opaque.is_some() {
            return Ok(Merged::default());
        }
        let mut merged = self.lower.clone();
        for part in &place.path {
            if merged.is_empty() {
                break;
            }
            self.spend(merged.cost())?;
            merged = match merged.step(part).map_err(failed)? {
                Below::Folder(inner) => inner,
                Below::Symlink(_) | Below::Nothing => Merged::default(),
            };
        }
        Ok(merged)
    }
}

/// A folder in the place of a whiteout: what lies below stays hidden.
fn uncover(folder: &OwnedFd, part: &OsStr) -> io::Result<OwnedFd> {
    rustix::fs::unlinkat(folder, part, AtFlags::empty())?;
    let made = implicit(folder, part, &Attributes { mode: IMPLICIT_MODE, ..Attributes::default() })?;
    set_opaque(&made)?;
    Ok(made)
}

/// A folder that no entry names.
fn implicit(folder: &OwnedFd, part: &OsStr, attributes: &Attributes) -> io::Result<OwnedFd> {
    rustix::fs::mkdirat(folder, part, Mode::RWXU)?;
    let made = open_folder(folder, Path::new(part))?;
    set_attributes(&made, attributes)?;
    Ok(made)
}

/// Those of a folder below, which the new one will be merged with.
fn attributes_of(folder: &OwnedFd) -> io::Result<Attributes> {
    let stat = rustix::fs::fstat(folder)?;
    Ok(Attributes {
        uid: stat.st_uid,
        gid: stat.st_gid,
        mode: stat.st_mode & 0o7777,
        modified: (stat.st_mtime, u32::try_from(stat.st_mtime_nsec).unwrap_or_default()),
        ..Attributes::default()
    })
}
