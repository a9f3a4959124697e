//! The figures of one cgroup, of version 1 or 2. A file that is not there is a figure that nobody has.

use std::fs;
use std::path::{Path, PathBuf};

const ROOT: &str = "/sys/fs/cgroup";
/// From here on a limit of version 1 is none: the largest number of pages in bytes.
const NO_LIMIT: u64 = 1 << 62;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CpuStats {
    /// Of all cores together, since the container was started.
    pub nanoseconds: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryStats {
    pub usage: u64,
    /// What cannot be taken away at once: usage without the inactive page cache, as the kubelet's eviction counts.
    pub working_set: u64,
    /// Up to the limit; `None` without one.
    pub available: Option<u64>,
    pub rss: u64,
    pub page_faults: u64,
    pub major_page_faults: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SwapStats {
    pub usage: u64,
    /// Up to the limit; `None` without one.
    pub available: Option<u64>,
}

type All = (Option<CpuStats>, Option<MemoryStats>, Option<SwapStats>);

/// All figures of the cgroup with this path from the root of every hierarchy.
pub(super) fn read(path: &str) -> All {
    let below = |hierarchy: &str| Path::new(ROOT).join(hierarchy).join(path.trim_start_matches('/'));
    if Path::new(ROOT).join("cgroup.controllers").exists() {
        let folder = below("");
        return (cpu_v2(&folder), memory_v2(&folder), swap_v2(&folder));
    }
    let memory = below("memory");
    (cpu_v1(&["cpuacct", "cpu,cpuacct"].map(below)), memory_v1(&memory), swap_v1(&memory))
}

fn cpu_v1(folders: &[PathBuf]) -> Option<CpuStats> {
    let nanoseconds = folders.iter().find_map(|folder| number(&folder.join("cpuacct.usage")))?;
    Some(CpuStats { nanoseconds })
}

fn cpu_v2(folder: &Path) -> Option<CpuStats> {
    let microseconds = Table::read(&folder.join("cpu.stat"))?.get("usage_usec")?;
    Some(CpuStats { nanoseconds: microseconds.saturating_mul(1000) })
}

fn memory_v1(folder: &Path) -> Option<MemoryStats> {
    let names = Names {
        inactive: "total_inactive_file",
        rss: "total_rss",
        faults: ["total_pgfault", "total_pgmajfault"],
    };
    memory(folder, ["memory.usage_in_bytes", "memory.limit_in_bytes"], &names)
}

fn memory_v2(folder: &Path) -> Option<MemoryStats> {
    let names = Names { inactive: "inactive_file", rss: "anon", faults: ["pgfault", "pgmajfault"] };
    memory(folder, ["memory.current", "memory.max"], &names)
}

/// What lines of `memory.stat` are called.
struct Names {
    inactive: &'static str,
    rss: &'static str,
    faults: [&'static str; 2],
}

fn memory(folder: &Path, [usage, limit]: [&str; 2], names: &Names) -> Option<MemoryStats> {
    let usage = number(&folder.join(usage))?;
    let table = Table::read(&folder.join("memory.stat"))?;
    let of = |name| table.get(name).unwrap_or_default();
    let working_set = usage.saturating_sub(of(names.inactive));
    let available = limit_of(&folder.join(limit)).map(|limit| limit.saturating_sub(working_set));
    let [page_faults, major_page_faults] = names.faults.map(of);
    Some(MemoryStats { usage, working_set, available, rss: of(names.rss), page_faults, major_page_faults })
}

/// Version 1 counts memory and swap together.
fn swap_v1(folder: &Path) -> Option<SwapStats> {
    let both = number(&folder.join("memory.memsw.usage_in_bytes"))?;
    let memory = number(&folder.join("memory.usage_in_bytes"))?;
    let limit = limit_of(&folder.join("memory.memsw.limit_in_bytes"));
    let usage = both.saturating_sub(memory);
    let memory_limit = limit_of(&folder.join("memory.limit_in_bytes")).unwrap_or_default();
    let available = limit.map(|limit| limit.saturating_sub(memory_limit).saturating_sub(usage));
    Some(SwapStats { usage, available })
}

fn swap_v2(folder: &Path) -> Option<SwapStats> {
    let usage = number(&folder.join("memory.swap.current"))?;
    let available = limit_of(&folder.join("memory.swap.max")).map(|limit| limit.saturating_sub(usage));
    Some(SwapStats { usage, available })
}

fn number(file: &Path) -> Option<u64> {
    fs::read_to_string(file).ok()?.trim().parse().ok()
}

/// `None` for `max` and for what version 1 has instead.
fn limit_of(file: &Path) -> Option<u64> {
    number(file).filter(|limit| *limit < NO_LIMIT)
}

/// A file of names and numbers.
struct Table(String);

impl Table {
    fn read(file: &Path) -> Option<Self> {
        fs::read_to_string(file).ok().map(Self)
    }

    fn get(&self, name: &str) -> Option<u64> {
        let mut pairs = self.0.lines().filter_map(|line| line.split_once(' '));
        pairs.find(|(key, _)| *key == name)?.1.trim().parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        use std::io::Write;
        let folder = tempfile::tempdir().expect("a folder");
        for (name, text) in files {
            let mut file = fs::File::create(folder.path().join(name)).expect("a file");
            file.write_all(text.as_bytes()).expect("write");
        }
        folder
    }

    #[test]
    fn figures_of_version_1() {
        let folder = folder(&[
            ("memory.usage_in_bytes", "1000\n"),
            ("memory.limit_in_bytes", "1500\n"),
            (
                "memory.stat",
                "cache 1\ntotal_rss 600\ntotal_inactive_file 300\ntotal_pgfault 7\ntotal_pgmajfault 2\n",
            ),
            ("memory.memsw.usage_in_bytes", "1200\n"),
            ("memory.memsw.limit_in_bytes", "2000\n"),
            ("cpuacct.usage", "123456\n"),
        ]);
        let memory = MemoryStats {
            usage: 1000,
            working_set: 700,
            available: Some(800),
            rss: 600,
            page_faults: 7,
            major_page_faults: 2,
        };
        assert_eq!(memory_v1(folder.path()), Some(memory));
        assert_eq!(swap_v1(folder.path()), Some(SwapStats { usage: 200, available: Some(300) }));
        let cpu = cpu_v1(&["/no/such/folder".into(), folder.path().to_owned()]);
        assert_eq!(cpu, Some(CpuStats { nanoseconds: 123_456 }));
    }

    #[test]
    fn figures_of_version_2_and_none() {
        let folder = folder(&[
            ("memory.current", "1000\n"),
            ("memory.max", "max\n"),
            ("memory.stat", "anon 600\nfile 5\ninactive_file 300\npgfault 7\npgmajfault 2\n"),
            ("memory.swap.current", "40\n"),
            ("memory.swap.max", "100\n"),
            ("cpu.stat", "usage_usec 5\nuser_usec 3\n"),
        ]);
        let memory = memory_v2(folder.path()).expect("figures");
        assert_eq!((memory.working_set, memory.available, memory.rss), (700, None, 600));
        assert_eq!(swap_v2(folder.path()), Some(SwapStats { usage: 40, available: Some(60) }));
        assert_eq!(cpu_v2(folder.path()), Some(CpuStats { nanoseconds: 5000 }));
        assert_eq!(read("/no/such/cgroup"), (None, None, None));
        assert_eq!(swap_v1(folder.path()), None);
    }
}
