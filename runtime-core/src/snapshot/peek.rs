//! Looking into a snapshot's tree without mounting it anywhere: what CreateContainer needs to read `/etc/passwd`.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use runtime_sys::mount::{Access, Overlay, detached_overlay_at};
use rustix::fs::{Mode, OFlags};

use super::Mount;

#[derive(Debug, thiserror::Error)]
pub enum PeekError {
    #[error("cannot open layer {path}")]
    Layer {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot join {layers} layers without mounting them")]
    Join {
        layers: usize,
        #[source]
        source: io::Error,
    },
    #[error("mounts of kind {kind:?} cannot be looked into")]
    Kind { kind: String },
}

/// A folder that shows the snapshot read-only. What is written to the snapshot later may not show. Kernels before
/// 6.8 need the empty folder `scratch` for a moment.
pub fn peek(mounts: &[Mount], scratch: &Path) -> Result<OwnedFd, PeekError> {
    match mounts {
        [mount] if mount.kind == "overlay" => overlay(&layers(mount), scratch),
        [mount] if matches!(mount.kind.as_str(), "bind" | "rbind" | "none") => layer(&mount.source),
        other => Err(PeekError::Kind {
            kind: other.first().map_or_else(|| "none at all".to_owned(), |mount| mount.kind.clone()),
        }),
    }
}

/// The folders of an overlay mount, uppermost first.
fn layers(mount: &Mount) -> Vec<String> {
    let value = |key: &str| mount.options.iter().find_map(|option| option.strip_prefix(key));
    let lower = value("lowerdir=").into_iter().flat_map(|lower| lower.split(':'));
    value("upperdir=").into_iter().chain(lower).map(str::to_owned).collect()
}

fn overlay(layers: &[String], scratch: &Path) -> Result<OwnedFd, PeekError> {
    match layers {
        // The kernel makes no read-only overlay of fewer than two layers.
        [] => Err(PeekError::Kind { kind: "overlay without layers".to_owned() }),
        [only] => layer(only),
        _ => {
            let parts = Overlay { lower: layers.to_vec(), ..Overlay::default() };
            detached_overlay_at(&parts, Access::ReadOnly, scratch)
                .map_err(|source| PeekError::Join { layers: layers.len(), source })
        }
    }
}

fn layer(path: &str) -> Result<OwnedFd, PeekError> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(Path::new(path), flags, Mode::empty())
        .map_err(|errno| PeekError::Layer { path: path.into(), source: errno.into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_are_listed_from_the_top() {
        let mount = Mount {
            kind: "overlay".into(),
            source: "overlay".into(),
            target: String::new(),
            options: vec!["index=off".into(), "upperdir=/s/3/fs".into(), "lowerdir=/s/2/fs:/s/1/fs".into()],
        };
        assert_eq!(layers(&mount), ["/s/3/fs", "/s/2/fs", "/s/1/fs"]);
    }
}
