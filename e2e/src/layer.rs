//! Layers as deterministic tar files: a list of entries in order, the same bytes for the same list.

use std::io::Write;

use flate2::{Compression, GzBuilder};
use tar::Builder;
pub use tar::{EntryType, Header};

/// All files carry one time, 2024-01-01, so that equal layers have equal digests.
const MTIME: u64 = 1_704_067_200;

/// A layer under construction.
#[derive(Default)]
pub struct Layer {
    entries: Vec<(String, Kind, Owner)>,
}

enum Kind {
    Folder,
    File(Vec<u8>),
    Hardlink(String),
    Symlink(String),
    /// Written as it is: type, target of a link, device number.
    Raw(EntryType, String, (u32, u32)),
    /// A PAX record for the entry behind it.
    Record(Vec<u8>),
}

struct Owner {
    mode: u32,
    id: u64,
}

impl Layer {
    /// An empty layer.
    pub fn new() -> Self {
        Self::default()
    }

    /// A folder of root.
    pub fn folder(self, path: &str, mode: u32) -> Self {
        self.entry(path, Kind::Folder, mode, 0)
    }

    /// A file of root.
    pub fn file(self, path: &str, mode: u32, bytes: impl Into<Vec<u8>>) -> Self {
        self.entry(path, Kind::File(bytes.into()), mode, 0)
    }

    /// A file of another user and the group of the same number.
    pub fn file_of(self, id: u64, path: &str, mode: u32, bytes: impl Into<Vec<u8>>) -> Self {
        self.entry(path, Kind::File(bytes.into()), mode, id)
    }

    /// A second name of an earlier file.
    pub fn hardlink(self, path: &str, target: &str) -> Self {
        self.entry(path, Kind::Hardlink(target.to_owned()), 0o755, 0)
    }

    /// A symbolic link.
    pub fn symlink(self, path: &str, target: &str) -> Self {
        self.entry(path, Kind::Symlink(target.to_owned()), 0o777, 0)
    }

    /// The mark that removes a path of the layers below.
    pub fn whiteout(self, path: &str) -> Self {
        let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
        let separator = if folder.is_empty() { "" } else { "/" };
        self.file(&format!("{folder}{separator}.wh.{name}"), 0o644, "")
    }

    /// The mark that hides all that the layers below have in a folder.
    pub fn opaque(self, folder: &str) -> Self {
        self.folder(folder, 0o755).file(&format!("{folder}/.wh..wh..opq"), 0o644, "")
    }

    /// An entry without content that is put into the archive unchecked, as an attacker would.
    pub fn raw(self, kind: EntryType, path: &str, link: &str) -> Self {
        self.entry(path, Kind::Raw(kind, link.to_owned(), (0, 0)), 0o755, 0)
    }

    /// A device node that everybody may read.
    pub fn device(self, kind: EntryType, path: &str, number: (u32, u32)) -> Self {
        self.entry(path, Kind::Raw(kind, String::new(), number), 0o666, 0)
    }

    /// An extended record (PAX) for the next entry.
    pub fn record(self, key: &str, value: &[u8]) -> Self {
        self.entry(key, Kind::Record(value.to_owned()), 0, 0)
    }

    fn entry(mut self, path: &str, kind: Kind, mode: u32, id: u64) -> Self {
        self.entries.push((path.to_owned(), kind, Owner { mode, id }));
        self
    }

    /// The layer as an uncompressed tar file.
    pub fn tar(&self) -> Vec<u8> {
        let mut archive = Builder::new(Vec::new());
        for (path, kind, owner) in &self.entries {
            append(&mut archive, path, kind, owner);
        }
        archive.into_inner().expect("finish a tar file in memory")
    }
}

fn append(archive: &mut Builder<Vec<u8>>, path: &str, kind: &Kind, owner: &Owner) {
    let mut header = Header::new_gnu();
    header.set_mode(owner.mode);
    header.set_uid(owner.id);
    header.set_gid(owner.id);
    header.set_mtime(MTIME);
    header.set_size(0);
    let appended = match kind {
        Kind::Folder => {
            header.set_entry_type(EntryType::Directory);
            archive.append_data(&mut header, format!("{path}/"), std::io::empty())
        }
        Kind::File(bytes) => {
            header.set_entry_type(EntryType::Regular);
            header.set_size(bytes.len() as u64);
            archive.append_data(&mut header, path, bytes.as_slice())
        }
        Kind::Hardlink(target) => {
            header.set_entry_type(EntryType::Link);
            archive.append_link(&mut header, path, target)
        }
        Kind::Symlink(target) => {
            header.set_entry_type(EntryType::Symlink);
            archive.append_link(&mut header, path, target)
        }
        Kind::Raw(kind, link, (major, minor)) => {
            header.set_entry_type(*kind);
            let fields = header.as_gnu_mut().expect("the header is GNU's");
            fields.name[..path.len()].copy_from_slice(path.as_bytes());
            fields.linkname[..link.len()].copy_from_slice(link.as_bytes());
            fields.set_device_major(*major);
            fields.set_device_minor(*minor);
            header.set_cksum();
            archive.append(&header, std::io::empty())
        }
        Kind::Record(value) => archive.append_pax_extensions([(path, value.as_slice())]),
    };
    appended.unwrap_or_else(|error| panic!("append {path} to a tar file: {error}"));
}

/// Compresses with gzip, without a name or time in its header.
pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut writer = GzBuilder::new().mtime(0).write(Vec::new(), Compression::fast());
    writer.write_all(bytes).expect("compress in memory");
    writer.finish().expect("compress in memory")
}
