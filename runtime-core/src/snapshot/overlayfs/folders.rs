//! The folders of overlayfs snapshots on disk.

use std::collections::HashSet;
use std::fs::{DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::Path;

use crate::snapshot::Kind;

/// A new upper layer gets the owner and mode of the layer below: its root is the root of the merged view.
pub(super) fn make_folder(folder: &Path, kind: Kind, parent: Option<&Path>) -> io::Result<()> {
    DirBuilder::new().mode(0o700).create(folder)?;
    let layer = folder.join("fs");
    DirBuilder::new().mode(0o755).create(&layer)?;
    let mut mode = 0o755;
    if let Some(parent) = parent {
        let metadata = std::fs::metadata(parent)?;
        std::os::unix::fs::chown(&layer, Some(metadata.uid()), Some(metadata.gid()))?;
        mode = metadata.mode() & 0o7777;
    }
    std::fs::set_permissions(&layer, Permissions::from_mode(mode))?;
    if kind == Kind::Active {
        DirBuilder::new().mode(0o711).create(folder.join("work"))?;
    }
    Ok(())
}

pub(super) fn ids_in(folders: &Path) -> io::Result<HashSet<u64>> {
    let mut ids = HashSet::new();
    for entry in std::fs::read_dir(folders)? {
        ids.extend(entry?.file_name().to_str().and_then(|name| name.parse::<u64>().ok()));
    }
    Ok(ids)
}
