//! Small things that tests put on disk, and names that no other test has.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

/// Writes a file and the folders above it.
pub fn write(path: &Path, bytes: impl AsRef<[u8]>) {
    create(path)
        .write_all(bytes.as_ref())
        .unwrap_or_else(|error| panic!("write {}: {error}", path.display()));
}

/// Creates an empty file and the folders above it.
pub fn create(path: &Path) -> File {
    folder(path.parent().expect("a file has a folder"));
    File::create(path).unwrap_or_else(|error| panic!("create {}: {error}", path.display()))
}

/// Creates a folder and the folders above it.
pub fn folder(path: &Path) {
    fs::create_dir_all(path).unwrap_or_else(|error| panic!("create folder {}: {error}", path.display()));
}

/// Reads a text file that has to be there.
pub fn read(path: &Path) -> String {
    let bytes = fs::read(path).unwrap_or_else(|error| panic!("read {}: {error}", path.display()));
    crate::process::text(&bytes)
}

/// A name that starts with `prefix` and is new in this process.
pub fn unique(prefix: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    format!("{prefix}-{}", NEXT.fetch_add(1, Ordering::Relaxed))
}
