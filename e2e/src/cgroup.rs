//! Reading cgroups of every hierarchy, v1 and v2, without asking the product.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

const MOUNT: &str = "/sys/fs/cgroup";

/// All cgroup folders, of all hierarchies, whose path satisfies `wanted`.
pub fn folders(wanted: impl Fn(&str) -> bool) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    let mut open = vec![PathBuf::from(MOUNT)];
    while let Some(folder) = open.pop() {
        // A folder may vanish while it is read.
        let entries = fs::read_dir(&folder).into_iter().flatten().flatten();
        let children = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        open.extend(children.map(|entry| entry.path()));
        if wanted(&folder.to_string_lossy()) {
            found.insert(folder);
        }
    }
    found
}

/// The lines of a process's `/proc/<pid>/cgroup`, as `(controllers, path)`.
pub fn of_process(pid: u32) -> Vec<(String, String)> {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    let split = |line: &str| {
        let (_, rest) = line.split_once(':')?;
        let (controllers, path) = rest.split_once(':')?;
        Some((controllers.to_owned(), path.to_owned()))
    };
    text.lines().filter_map(split).collect()
}

/// A file of a process's cgroup in a controller, or its v2 counterpart when the controller is not in v1.
pub fn file_of(pid: u32, controller: &str, v1: &str, v2: &str) -> String {
    let lines = of_process(pid);
    let v1_path = lines.iter().find(|(controllers, _)| controllers.split(',').any(|name| name == controller));
    let (path, file) = match v1_path {
        Some((_, path)) => (format!("{MOUNT}/{controller}{path}"), v1),
        None => {
            let unified = lines.iter().find(|(controllers, _)| controllers.is_empty());
            (format!("{MOUNT}{}", unified.map_or("/", |(_, path)| path)), v2)
        }
    };
    let file = Path::new(&path).join(file);
    crate::fixture::read(&file).trim().to_owned()
}

/// Removes cgroup folders, deepest first; those still in use stay.
pub fn remove(folders: &BTreeSet<PathBuf>) {
    for folder in folders.iter().rev() {
        let _ = fs::remove_dir(folder);
    }
}
