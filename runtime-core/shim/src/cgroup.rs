//! The cgroups of a container: finding them, killing what is in them, the out-of-memory verdict. v1, v2 and hybrid.

use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use runtime_sys::pidfd;
use rustix::process::{Pid, Signal};

use crate::log;

/// How long killing may take; a process in uninterruptible sleep takes longer than anyone can wait.
const KILL_LIMIT: Duration = Duration::from_secs(10);

/// Folders of a container's cgroup in the hierarchies that the shim uses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cgroup {
    /// v1 freezer; holds every process as well.
    freezer: Option<PathBuf>,
    /// v1 memory.
    memory: Option<PathBuf>,
    /// v2; used where there is no v1 counterpart.
    unified: Option<PathBuf>,
}

/// One cgroup folder whose processes can be killed together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Group {
    /// v1 freezer hierarchy.
    Freezer(PathBuf),
    Unified(PathBuf),
}

impl Cgroup {
    /// The cgroup that a process is in. `None` when it is the shim's own or one above it: that must never be killed.
    pub(crate) fn of(pid: Pid) -> io::Result<Option<Self>> {
        let mounts = fs::read_to_string("/proc/self/mountinfo")?;
        let theirs = fs::read_to_string(format!("/proc/{}/cgroup", pid.as_raw_nonzero()))?;
        let own = Self::locate(&mounts, &fs::read_to_string("/proc/self/cgroup")?);
        let found = Self::locate(&mounts, &theirs);
        let around_us = |theirs: &Option<PathBuf>, own: &Option<PathBuf>| matches!((theirs, own), (Some(theirs), Some(own)) if own.starts_with(theirs));
        let unsafe_group = match &found.freezer {
            Some(_) => around_us(&found.freezer, &own.freezer),
            None => around_us(&found.unified, &own.unified),
        };
        Ok((!unsafe_group).then_some(found))
    }

    fn locate(mounts: &str, membership: &str) -> Self {
        let mut cgroup = Self::default();
        for line in membership.lines() {
            let mut fields = line.splitn(3, ':');
            let (Some(_), Some(controllers), Some(path)) = (fields.next(), fields.next(), fields.next())
            else {
                continue;
            };
            let mut controllers = controllers.split(',');
            if controllers.clone().any(|name| name == "freezer") {
                cgroup.freezer = folder(mounts, Some("freezer"), path);
            }
            if controllers.clone().any(|name| name == "memory") {
                cgroup.memory = folder(mounts, Some("memory"), path);
            }
            if controllers.all(str::is_empty) {
                cgroup.unified = folder(mounts, None, path);
            }
        }
        cgroup
    }

    /// The folder that holds every process.
    pub(crate) fn group(&self) -> Option<Group> {
        let freezer = self.freezer.clone().map(Group::Freezer);
        freezer.or_else(|| self.unified.clone().map(Group::Unified))
    }

    /// Whether the kernel killed one of its processes for want of memory. Has to be asked before it is removed.
    pub(crate) fn oom_killed(&self) -> bool {
        let killed =
            |file: PathBuf| fs::read_to_string(file).is_ok_and(|text| counter(&text, "oom_kill") > 0);
        match (&self.memory, &self.unified) {
            // v1 counts each group for itself.
            (Some(memory), _) => {
                with_those_below(memory).into_iter().any(|folder| killed(folder.join("memory.oom_control")))
            }
            (None, Some(unified)) => killed(unified.join("memory.events")),
            (None, None) => false,
        }
    }
}

/// Kills and removes what an OCI runtime that was killed itself left of a container's cgroup, in every hierarchy. Only
/// a path that ends in the container's id is believed to be the container's alone.
pub(crate) async fn remove_left_over(cgroups_path: &str, id: &str) -> io::Result<()> {
    let path = Path::new(cgroups_path);
    let plain = path.components().all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
    if !path.is_absolute() || !plain || path.file_name().is_none_or(|name| name != id) {
        return Ok(());
    }
    let mounts = fs::read_to_string("/proc/self/mountinfo")?;
    for (kind, point) in mounts.lines().filter_map(hierarchy) {
        let folder = Path::new(point).join(path.strip_prefix("/").unwrap_or(path));
        if !folder.is_dir() {
            continue;
        }
        let group = if kind == "cgroup2" { Group::Unified(folder) } else { Group::Freezer(folder) };
        group.kill_all().await;
        match fs::remove_dir(group.path()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// Kind and mount point of a line of mountinfo that is a cgroup hierarchy with its root.
fn hierarchy(line: &str) -> Option<(&str, &str)> {
    let (mount, filesystem) = line.split_once(" - ")?;
    let kind = filesystem.split(' ').next().filter(|kind| matches!(*kind, "cgroup" | "cgroup2"))?;
    let mut fields = mount.split(' ').skip(3);
    let root = fields.next()?;
    (root == "/").then_some((kind, fields.next()?))
}

impl Group {
    fn path(&self) -> &Path {
        match self {
            Self::Freezer(path) | Self::Unified(path) => path,
        }
    }

    /// Name and controller as `runc exec --cgroup` wants them.
    pub(crate) fn exec_argument(&self, name: &str) -> String {
        match self {
            Self::Freezer(_) => format!("freezer:{name}"),
            Self::Unified(_) => name.to_owned(),
        }
    }

    /// Makes a group inside this one.
    pub(crate) fn make_child(&self, name: &str) -> io::Result<Self> {
        let path = self.path().join(name);
        fs::create_dir(&path)?;
        Ok(match self {
            Self::Freezer(_) => Self::Freezer(path),
            Self::Unified(_) => Self::Unified(path),
        })
    }

    /// Gives a group back; processes that are still in it move to the one above.
    pub(crate) fn dissolve(&self) -> io::Result<()> {
        let above = self.path().parent().unwrap_or(self.path()).join("cgroup.procs");
        // New ones may be born meanwhile; two rounds are rarely needed, ten never.
        for _ in 0..10 {
            match fs::remove_dir(self.path()) {
                Err(error) if error.raw_os_error() == Some(rustix::io::Errno::BUSY.raw_os_error()) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
                result => return result,
            }
            for pid in processes_of(self.path()) {
                // It may have ended meanwhile.
                let _ = write(&above, &pid.to_string());
            }
        }
        fs::remove_dir(self.path())
    }

    /// Processes in the group and in those below it.
    pub(crate) fn processes(&self) -> Vec<u32> {
        with_those_below(self.path()).iter().flat_map(|folder| processes_of(folder)).collect()
    }

    /// Whether nobody is left.
    pub(crate) fn is_empty(&self) -> bool {
        self.processes().is_empty()
    }

    /// Lets a frozen v1 group run again: what is frozen there does not die.
    pub(crate) fn thaw(&self) {
        if let Self::Freezer(path) = self {
            // Writing to a group that is gone or not frozen changes nothing.
            let _ = write(&path.join("freezer.state"), "THAWED");
        }
    }

    /// Signals every process.
    pub(crate) fn signal(&self, signal: i32) -> io::Result<()> {
        for pid in self.processes() {
            signal_member(self, pid, signal)?;
        }
        Ok(())
    }

    /// Kills every process and waits until they are gone (or have only to be reaped). `false` when some would not die.
    pub(crate) async fn kill_all(&self) -> bool {
        let dying = async {
            let mut pause = Duration::from_millis(1);
            while !self.kill_round() {
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(Duration::from_millis(50));
            }
        };
        let died = tokio::time::timeout(KILL_LIMIT, dying).await.is_ok();
        if !died {
            log::note(&format!("processes in {} do not die", self.path().display()));
        }
        died
    }

    /// One attempt; `true` when nobody is left.
    fn kill_round(&self) -> bool {
        if self.is_empty() {
            return true;
        }
        match self {
            Self::Unified(path) => {
                if write(&path.join("cgroup.kill"), "1").is_err() {
                    // Before Linux 5.14.
                    self.kill_members();
                }
            }
            Self::Freezer(path) => {
                // Frozen, nobody can fork on; the signal takes effect with the thaw.
                let _ = write(&path.join("freezer.state"), "FROZEN");
                self.kill_members();
                self.thaw();
            }
        }
        false
    }

    fn kill_members(&self) {
        for pid in self.processes() {
            if let Err(error) = signal_member(self, pid, Signal::KILL.as_raw()) {
                log::note(&format!("kill process {pid}: {error}"));
            }
        }
    }
}

/// Signals a process unless its pid was used again by one outside the group.
fn signal_member(group: &Group, pid: u32, signal: i32) -> io::Result<()> {
    let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) else {
        return Ok(());
    };
    let Ok(descriptor) = pidfd::open(pid) else {
        return Ok(());
    };
    if !group.processes().contains(&pid.as_raw_nonzero().get().unsigned_abs()) {
        return Ok(());
    }
    match pidfd::send_signal_number(&descriptor, signal) {
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::SRCH.raw_os_error()) => Ok(()),
        result => result,
    }
}

/// A group's folder and those of all groups in it, deepest last.
fn with_those_below(group: &Path) -> Vec<PathBuf> {
    let mut folders = vec![group.to_path_buf()];
    let mut next = 0;
    while let Some(folder) = folders.get(next) {
        next += 1;
        let Ok(entries) = fs::read_dir(folder) else {
            continue;
        };
        let below = entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        folders.extend(below.map(|entry| entry.path()).collect::<Vec<_>>());
    }
    folders
}

fn processes_of(folder: &Path) -> Vec<u32> {
    let list = fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default();
    list.lines().filter_map(|line| line.parse().ok()).filter(|pid| *pid != 0).collect()
}

fn write(path: &Path, text: &str) -> io::Result<()> {
    use std::io::Write;
    fs::OpenOptions::new().write(true).open(path)?.write_all(text.as_bytes())
}

/// The folder of a cgroup path in a hierarchy: of a v1 controller, or of v2.
fn folder(mounts: &str, controller: Option<&str>, path: &str) -> Option<PathBuf> {
    for line in mounts.lines() {
        let Some((mount, filesystem)) = line.split_once(" - ") else { continue };
        let mut fields = filesystem.split(' ');
        let kind = fields.next().unwrap_or_default();
        let matches = match controller {
            Some(name) => {
                kind == "cgroup"
                    && fields.nth(1).is_some_and(|options| options.split(',').any(|option| option == name))
            }
            None => kind == "cgroup2",
        };
        if !matches {
            continue;
        }
        let mut fields = mount.split(' ').skip(3);
        let (Some(root), Some(point)) = (fields.next(), fields.next()) else { continue };
        // Part of a hierarchy may be mounted elsewhere, too, and not have this cgroup in it.
        if let Ok(below) = Path::new(path).strip_prefix(root) {
            return Some(Path::new(point).join(below));
        }
    }
    None
}

fn counter(text: &str, name: &str) -> u64 {
    let values = text.lines().filter_map(|line| line.split_once(' '));
    values.filter(|(key, _)| *key == name).find_map(|(_, value)| value.trim().parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "\
19 1 0:5 /elsewhere /mnt rw - cgroup cgroup rw,memory
20 1 0:5 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
21 1 0:6 /pod /sys/fs/cgroup/freezer rw shared:1 - cgroup cgroup rw,freezer
22 1 0:7 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
";

    #[test]
    fn folders_of_all_kinds_of_hierarchies() {
        let membership = "9:name=systemd:/\n6:freezer:/pod/a\n4:memory:/x/a\n0::/y:z\n";
        let cgroup = Cgroup::locate(MOUNTS, membership);
        assert_eq!(cgroup.memory.as_deref(), Some(Path::new("/sys/fs/cgroup/memory/x/a")));
        assert_eq!(cgroup.freezer.as_deref(), Some(Path::new("/sys/fs/cgroup/freezer/a")));
        assert_eq!(cgroup.unified.as_deref(), Some(Path::new("/sys/fs/cgroup/unified/y:z")));
        assert_eq!(Cgroup::locate("", membership), Cgroup::default());
    }

    #[test]
    fn the_own_cgroup_is_nobodys_to_kill() {
        let own = Pid::from_raw(i32::try_from(std::process::id()).unwrap()).unwrap();
        assert_eq!(Cgroup::of(own).unwrap(), None);
    }

    #[test]
    fn verdicts_of_both_versions() {
        assert_eq!(counter("oom_kill_disable 0\nunder_oom 0\noom_kill 2\n", "oom_kill"), 2);
        assert_eq!(counter("low 0\noom 5\noom_kill 0\noom_group_kill 1\n", "oom_kill"), 0);
        assert_eq!(counter("", "oom_kill"), 0);
    }
}
