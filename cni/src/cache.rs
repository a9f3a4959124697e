//! Results of ADD kept in files, where and as the reference implementation keeps them: other tools look there, and DEL
//! gets its `prevResult` from there when the caller has none.
//!
//! A file is written beside its place and renamed. What cannot be read is as good as absent.

use std::ffi::OsString;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::attachment::Attachment;
use crate::conf::{Capped, read_capped};
use crate::network::Network;

/// What the files say they are.
const KIND: &str = "cniCacheV1";
/// Largest file: a configuration in base64 and a result.
const MAX_FILE: u64 = 4 << 20;

/// The file of one attachment to one network.
#[derive(Clone, Debug)]
pub(crate) struct CacheFile {
    path: PathBuf,
}

impl CacheFile {
    /// Its place below the cache folder. The parts are checked by the attachment and the network.
    pub(crate) fn new(folder: &Path, network: &Network, at: &Attachment) -> Self {
        let name = format!("{}-{}-{}", network.name, at.container_id, at.if_name);
        Self { path: folder.join("results").join(name) }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) async fn save(&self, network: &Network, at: &Attachment, result: &Value) -> io::Result<()> {
        let content = content(network, at, result).to_string();
        let path = self.path.clone();
        let saved = tokio::task::spawn_blocking(move || replace(&path, content.as_bytes()));
        saved.await.map_err(io::Error::other)?
    }

    /// The result, when there is one that can be read.
    pub(crate) async fn result(&self) -> Option<Value> {
        let path = self.path.clone();
        let read = tokio::task::spawn_blocking(move || read_result(&path)).await;
        match read.map_err(io::Error::other).flatten() {
            Ok(result) => Some(result),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                tracing::warn!(path = %self.path.display(), %error, "a kept CNI result cannot be used");
                None
            }
        }
    }

    /// Removes the file, and what a writer that was killed left beside it. One that stays does no harm: the next ADD of
    /// this name replaces it.
    pub(crate) async fn remove(&self) {
        let path = self.path.clone();
        let removed = tokio::task::spawn_blocking(move || {
            // Mostly there is none.
            let _ = fs::remove_file(beside(&path));
            fs::remove_file(path)
        });
        let removed = removed.await;
        match removed.map_err(io::Error::other).flatten() {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(path = %self.path.display(), %error, "a CNI result that was kept cannot be removed");
            }
            _ => {}
        }
    }
}

fn content(network: &Network, at: &Attachment, result: &Value) -> Value {
    let mut content = json!({
        "kind": KIND,
        "containerId": at.container_id,
        "config": STANDARD.encode(network.json().to_string()),
        "ifName": at.if_name,
        "networkName": network.name,
        "cniArgs": at.args,
        "capabilityArgs": at.capabilities,
        "result": result,
    });
    if let Some(netns) = &at.netns {
        content["netns"] = netns.to_string_lossy().into();
    }
    content
}

/// Where a file is written before it has its name. A leading dot: no key begins so.
fn beside(path: &Path) -> PathBuf {
    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    path.with_file_name(name)
}

fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    // One writer per attachment, so the name is free but for what a crash left.
    let beside = beside(path);
    let mut file: File =
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
    let renamed = file.write_all(content).and_then(|()| fs::rename(&beside, path));
    if renamed.is_err() {
        let _ = fs::remove_file(&beside);
    }
    renamed
}

fn read_result(path: &Path) -> io::Result<Value> {
    let odd = |what| io::Error::new(io::ErrorKind::InvalidData, what);
    let bytes = match read_capped(path, MAX_FILE)? {
        Capped::All(bytes) => bytes,
        Capped::TooLarge => return Err(odd("too large")),
        Capped::NotAFile => return Err(odd("no regular file")),
    };
    let mut content: Value = serde_json::from_slice(&bytes)?;
    if content.get("kind").and_then(Value::as_str) != Some(KIND) {
        return Err(odd("not of kind cniCacheV1"));
    }
    match content.get_mut("result").map(Value::take) {
        Some(result @ Value::Object(_)) => Ok(result),
        _ => Err(odd("without a result")),
    }
}
