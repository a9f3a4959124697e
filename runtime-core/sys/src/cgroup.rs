//! A place among the node's cgroups where a thread, and with it every process it starts, can stay: v1, v2 and hybrid.
//!
//! On v1 a single thread can sit in a cgroup, and what it forks is born there. On v2 it cannot; there the folder is
//! given to `Spawn::into_cgroup`.

use std::fs;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use thiserror::Error;

/// A mounted hierarchy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hierarchy {
    pub version: Version,
    /// Where its root is mounted.
    pub point: PathBuf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    V1,
    V2,
}

/// A hierarchy does not take us.
#[derive(Debug, Error)]
#[error("{step} {path}")]
pub struct PlaceError {
    step: &'static str,
    path: PathBuf,
    #[source]
    source: io::Error,
}

fn failed(step: &'static str, path: &Path) -> impl FnOnce(io::Error) -> PlaceError {
    move |source| PlaceError { step, path: path.into(), source }
}

/// Every hierarchy whose root is mounted, each once.
///
/// # Errors
/// When /proc is not mounted.
pub fn hierarchies() -> io::Result<Vec<Hierarchy>> {
    Ok(parse(&fs::read_to_string("/proc/self/mountinfo")?))
}

fn parse(mounts: &str) -> Vec<Hierarchy> {
    let mut devices = Vec::new();
    let mut found = Vec::new();
    for line in mounts.lines() {
        let Some((mount, filesystem)) = line.split_once(" - ") else { continue };
        let version = match filesystem.split(' ').next() {
            Some("cgroup") => Version::V1,
            Some("cgroup2") => Version::V2,
            _ => continue,
        };
        let mut fields = mount.split(' ').skip(2);
        let (Some(device), Some("/"), Some(point)) = (fields.next(), fields.next(), fields.next()) else {
            continue;
        };
        if !devices.contains(&device) {
            devices.push(device);
            found.push(Hierarchy { version, point: point.into() });
        }
    }
    found
}

/// One cgroup, by the same path in every hierarchy.
#[derive(Debug)]
pub struct Place {
    path: PathBuf,
    hierarchies: Vec<Hierarchy>,
    /// Folders that were not there before.
    made: Vec<PathBuf>,
    /// This thread's membership after it has entered.
    entered: Option<String>,
}

impl Place {
    /// A place by its path from the roots, such as `/orlop/shims`. Nothing is made yet.
    ///
    /// # Errors
    /// When the path is not absolute, leads back, or is the root; when /proc is not mounted, or no hierarchy is.
    pub fn new(path: &str) -> io::Result<Self> {
        let below = Path::new(path).strip_prefix("/").map_err(io::Error::other)?;
        let plain = below.components().all(|part| matches!(part, Component::Normal(_)));
        if !plain || below.as_os_str().is_empty() || path.contains(['\0', '\n']) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let hierarchies = hierarchies()?;
        if hierarchies.is_empty() {
            return Err(io::Error::new(
                io::ErrorKind::NotFound,
                "no cgroup hierarchy is mounted from its root",
            ));
        }
        Ok(Self { path: below.into(), hierarchies, made: Vec::new(), entered: None })
    }

    /// Puts the calling thread into the v1 cgroups, unless it is there since the last time. That takes the kernel some
    /// milliseconds, so it is for threads that stay. One hierarchy's failure does not keep it out of the others.
    pub fn enter_thread(&mut self) -> Vec<PlaceError> {
        let membership = || fs::read_to_string("/proc/thread-self/cgroup").ok();
        if self.entered.is_some() && self.entered == membership() {
            return Vec::new();
        }
        let points: Vec<_> = self.points(Version::V1).collect();
        let enter = |point: PathBuf| {
            let folder = self.make(&point)?;
            let tasks = folder.join("tasks");
            write(&tasks, "0").map_err(failed("put a thread into", &tasks))
        };
        let failures = points.into_iter().map(enter).filter_map(Result::err).collect();
        self.entered = membership();
        failures
    }

    /// The v2 cgroup's folder; `None` on hosts without v2.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn unified(&mut self) -> Result<Option<OwnedFd>, PlaceError> {
        let Some(point) = self.points(Version::V2).next() else {
            return Ok(None);
        };
        let folder = self.make(&point)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened = rustix::fs::open(&folder, flags, Mode::empty());
        opened.map(Some).map_err(|error| failed("open", &folder)(error.into()))
    }

    /// Takes the calling thread out, to the roots, and removes what was made here and nobody uses any more.
    pub fn leave(&mut self) {
        if self.entered.take().is_some() {
            for point in self.points(Version::V1) {
                // A thread that cannot get out keeps the folder, until it ends.
                let _ = write(&point.join("tasks"), "0");
            }
        }
        self.remove();
    }

    /// Removes what was made here and nobody uses any more.
    pub fn remove(&self) {
        for folder in self.made.iter().rev() {
            // In use by shims that live on, or by others: then it stays.
            let _ = fs::remove_dir(folder);
        }
    }

    fn points(&self, version: Version) -> impl Iterator<Item = PathBuf> + use<> {
        let of_version = |hierarchy: &&Hierarchy| hierarchy.version == version;
        let points: Vec<_> =
            self.hierarchies.iter().filter(of_version).map(|found| found.point.clone()).collect();
        points.into_iter()
    }

    fn make(&mut self, point: &Path) -> Result<PathBuf, PlaceError> {
        let mut folder = point.to_path_buf();
        for part in self.path.clone().components() {
            let above = folder.clone();
            folder.push(part);
            match fs::create_dir(&folder) {
                Ok(()) => self.made.push(folder.clone()),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(failed("make cgroup", &folder)(error)),
            }
            inherit_cpuset(&above, &folder)?;
        }
        Ok(folder)
    }
}

/// A v1 cpuset begins with no processor and no memory, and takes nobody in.
fn inherit_cpuset(above: &Path, folder: &Path) -> Result<(), PlaceError> {
    for name in ["cpuset.cpus", "cpuset.mems"] {
        let (from, to) = (above.join(name), folder.join(name));
        let Ok(own) = fs::read_to_string(&to) else {
            return Ok(());
        };
        // v2 has files of these names, too, but not in the root, and empty means the same as above there.
        let Ok(theirs) = fs::read_to_string(&from) else {
            return Ok(());
        };
        if own.trim().is_empty() && !theirs.trim().is_empty() {
            write(&to, theirs.trim()).map_err(failed("set", &to))?;
        }
    }
    Ok(())
}

fn write(path: &Path, text: &str) -> io::Result<()> {
    fs::OpenOptions::new().write(true).open(path)?.write_all(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roots_are_found_once() {
        let mounts = "\
19 1 0:5 /part /mnt rw - cgroup cgroup rw,memory
20 1 0:5 / /sys/fs/cgroup/memory rw shared:7 - cgroup cgroup rw,memory
21 1 0:5 / /again rw - cgroup cgroup rw,memory
22 1 0:7 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
23 1 0:8 / /proc rw - proc proc rw
";
        let expected = [(Version::V1, "/sys/fs/cgroup/memory"), (Version::V2, "/sys/fs/cgroup/unified")];
        let expected = expected.map(|(version, point)| Hierarchy { version, point: point.into() });
        assert_eq!(parse(mounts), expected);
    }

    #[test]
    fn places_are_below_the_roots() {
        for path in ["", "/", "relative", "/a/../b", "/..", "/a\nb"] {
            assert!(Place::new(path).is_err(), "{path:?}");
        }
        Place::new("/orlop/shims").unwrap();
    }
}
