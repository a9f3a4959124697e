//! What /proc tells about processes (proc(5)).

use std::fs;
use std::io;

/// Parts of `/proc/<pid>/stat`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    /// One letter, `Z` for a zombie.
    pub state: u8,
    pub parent: u32,
    /// Clock ticks between boot and start.
    pub start_time: u64,
}

impl Stat {
    /// Whether it is dead and waits for its parent.
    #[must_use]
    pub fn is_zombie(&self) -> bool {
        matches!(self.state, b'Z' | b'X')
    }
}

/// State, parent and start time of a process.
///
/// # Errors
/// `NotFound` when there is none.
pub fn stat(pid: u32) -> io::Result<Stat> {
    let text = fs::read(format!("/proc/{pid}/stat"))?;
    parse_stat(&text).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// Clock ticks between boot and the process's start; with pid and boot it names a process.
///
/// # Errors
/// `NotFound` when there is none.
pub fn start_time(pid: u32) -> io::Result<u64> {
    Ok(stat(pid)?.start_time)
}

/// Differs from boot to boot.
///
/// # Errors
/// When /proc is not mounted.
pub fn boot_id() -> io::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

/// Children of a process, of all its threads. Empty when it is gone.
#[must_use]
pub fn children(pid: u32) -> Vec<u32> {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else {
        return Vec::new();
    };
    let files = threads.flatten().map(|thread| thread.path().join("children"));
    let lists = files.filter_map(|file| fs::read_to_string(file).ok());
    lists
        .flat_map(|list| list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>())
        .collect()
}

/// All descendants of a process, parents before children.
#[must_use]
pub fn descendants(pid: u32) -> Vec<u32> {
    let mut found = children(pid);
    let mut next = 0;
    while let Some(pid) = found.get(next).copied() {
        next += 1;
        let fresh: Vec<_> = children(pid).into_iter().filter(|child| !found.contains(child)).collect();
        found.extend(fresh);
    }
    found
}

/// Threads of the calling process.
///
/// # Errors
/// When /proc is not mounted.
pub fn own_threads() -> io::Result<usize> {
    Ok(fs::read_dir("/proc/self/task")?.count())
}

fn parse_stat(text: &[u8]) -> Option<Stat> {
    // The name, in parentheses, may hold spaces and parentheses itself.
    let after_name = text.iter().rposition(|byte| *byte == b')')? + 1;
    let rest = std::str::from_utf8(&text[after_name..]).ok()?;
    let mut fields = rest.split_whitespace();
    let state = *fields.next()?.as_bytes().first()?;
    let parent = fields.next()?.parse().ok()?;
    // Field 22 of the whole line; the state is field 3.
    let start_time = fields.nth(17)?.parse().ok()?;
    Some(Stat { state, parent, start_time })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pidfd;
    use crate::spawn::Spawn;

    #[test]
    fn a_name_with_parentheses_does_not_confuse() {
        let line = b"7 (a) Z (b) S 1 7 7 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 4242 100 1\n";
        assert_eq!(parse_stat(line), Some(Stat { state: b'S', parent: 1, start_time: 4242 }));
        assert_eq!(parse_stat(b"7 (a"), None);
        assert_eq!(parse_stat(b"7 (a) S 1"), None);
    }

    #[test]
    fn children_are_found() {
        let child = Spawn::new("/bin/sleep").arg("1000").start().unwrap();
        let pid = u32::try_from(child.pid().as_raw_nonzero().get()).unwrap();
        assert!(children(std::process::id()).contains(&pid));
        assert!(descendants(std::process::id()).contains(&pid));
        assert_eq!(stat(pid).unwrap().parent, std::process::id());
        pidfd::send_signal(child.pidfd(), rustix::process::Signal::KILL).unwrap();
        pidfd::wait(child.pidfd()).unwrap();
        assert_eq!(stat(pid).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
