//! What a tree takes on disk.

use std::collections::HashSet;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use tokio_util::sync::CancellationToken;

use super::Usage;

/// `st_blocks` counts these, whatever the file system's block size (stat(2)).
const BLOCK: u64 = 512;

/// Counts every inode below and including `root` once. Entries that go away meanwhile are not counted. Cancelled, it
/// is an error.
pub(super) fn of_tree(root: &Path, cancel: &CancellationToken) -> io::Result<Usage> {
    let mut usage = Usage::default();
    let mut linked = HashSet::new();
    let mut folders = vec![root.to_owned()];
    count(&root.symlink_metadata()?, &mut linked, &mut usage);
    while let Some(folder) = folders.pop() {
        let entries = match std::fs::read_dir(&folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            entries => entries?,
        };
        for entry in entries {
            if cancel.is_cancelled() {
                return Err(io::ErrorKind::Interrupted.into());
            }
            let entry = entry?;
            let Ok(metadata) = entry.metadata() else { continue };
            count(&metadata, &mut linked, &mut usage);
            if metadata.is_dir() {
                folders.push(entry.path());
            }
        }
    }
    Ok(usage)
}

fn count(metadata: &std::fs::Metadata, linked: &mut HashSet<u64>, usage: &mut Usage) {
    if metadata.is_dir() || metadata.nlink() < 2 || linked.insert(metadata.ino()) {
        usage.bytes += metadata.blocks() * BLOCK;
        usage.inodes += 1;
    }
}
