//! The file that says that a folder is a node of `make up`, and what of the machine that node has taken.
//!
//! It is the first thing written and the last one removed: a folder without it is not ours to touch.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

use super::{Settings, put};

const NAME: &str = "made-by-make-up.json";

fn file(folder: &Path) -> PathBuf {
    folder.join(NAME)
}

pub(super) fn is_there(folder: &Path) -> bool {
    file(folder).exists()
}

/// Refuses a folder that holds what somebody else put there.
pub(super) fn admit(folder: &Path) -> Result<()> {
    let empty = match fs::read_dir(folder) {
        Ok(mut entries) => entries.next().is_none(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => true,
        Err(error) => return Err(error).with_context(|| format!("look into {}", folder.display())),
    };
    if empty || is_there(folder) {
        return Ok(());
    }
    bail!(
        "{} was not made by `make up` and has files in it: name a folder of its own, make up UP_FOLDER=…",
        folder.display()
    )
}

pub(super) fn write(settings: &Settings) -> Result<()> {
    let text = json!({
        "daemon": settings.daemon(),
        "binaries": settings.binaries,
        "runc": settings.runc,
        "bridge": settings.bridge,
        "subnet": settings.subnet,
        "cgroup": settings.cgroup,
    });
    put(&file(&settings.folder), &format!("{text:#}\n"))
}

/// What the node in `folder` was made with.
pub(super) fn read(folder: &Path) -> Result<Settings> {
    let path = file(folder);
    let text = fs::read(&path).with_context(|| format!("read {}", path.display()))?;
    let kept: Value = serde_json::from_slice(&text).with_context(|| format!("read {}", path.display()))?;
    let word = |name: &str| {
        let found = kept[name].as_str().map(str::to_owned);
        found.with_context(|| format!("{} does not say the {name}", path.display()))
    };
    Ok(Settings {
        folder: folder.canonicalize().with_context(|| format!("find {}", folder.display()))?,
        binaries: word("binaries")?.into(),
        daemon: Some(word("daemon")?.into()),
        runc: word("runc")?.into(),
        image: None,
        bridge: word("bridge")?,
        subnet: word("subnet")?,
        cgroup: word("cgroup")?,
    })
}

/// Removes the folder, the mark last.
pub(super) fn remove_folder(folder: &Path) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("look into {}", folder.display()))? {
        let path = entry.with_context(|| format!("look into {}", folder.display()))?.path();
        if path == file(folder) {
            continue;
        }
        let removed = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        removed.with_context(|| format!("remove {}", path.display()))?;
    }
    fs::remove_dir_all(folder).with_context(|| format!("remove {}", folder.display()))
}
