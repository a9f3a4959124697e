//! `plugins."io.containerd.cri.v1.images"`: how the CRI pulls and keeps images.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::schema::{Problem, Schema};

/// containerd's; the only snapshotter of this daemon so far.
const SNAPSHOTTER: &str = "overlayfs";
/// containerd's: more streams seldom help a registry and do starve running pods.
const CONCURRENT_DOWNLOADS: u32 = 3;
/// Searched in this order when `config_path` is empty, as containerd does.
const HOST_FOLDERS: [&str; 2] = ["/etc/containerd/certs.d", "/etc/docker/certs.d"];

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ImagesConfig {
    pub snapshotter: String,
    /// Layers of one image at a time; 0 sets no limit.
    pub max_concurrent_downloads: u32,
    pub registry: Registry,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Registry {
    /// Folders with a `hosts.toml` per registry, with colons between them.
    pub config_path: String,
}

impl Default for ImagesConfig {
    fn default() -> Self {
        Self {
            snapshotter: SNAPSHOTTER.to_owned(),
            max_concurrent_downloads: CONCURRENT_DOWNLOADS,
            registry: Registry::default(),
        }
    }
}

impl Registry {
    /// The folders to look for `<registry>/hosts.toml` in, in order.
    pub fn folders(&self) -> Vec<PathBuf> {
        if self.config_path.is_empty() {
            return HOST_FOLDERS.map(PathBuf::from).to_vec();
        }
        self.config_path.split(':').filter(|part| !part.is_empty()).map(PathBuf::from).collect()
    }
}

impl Schema for ImagesConfig {
    fn mistakes(&self) -> Vec<Problem> {
        let mut mistakes = Vec::new();
        if self.snapshotter != SNAPSHOTTER {
            let message = format!("there is no snapshotter {:?}; write {SNAPSHOTTER:?}", self.snapshotter);
            mistakes.push(Problem::invalid(&["snapshotter"], message));
        }
        for folder in self.registry.folders().iter().filter(|folder| !folder.is_absolute()) {
            let message = format!("{folder:?} is not an absolute path, such as {:?}", HOST_FOLDERS[0]);
            mistakes.push(Problem::invalid(&["registry", "config_path"], message));
        }
        mistakes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn config_path_is_a_list_and_empty_means_the_usual_places() {
        let folders = |path: &str| Registry { config_path: path.to_owned() }.folders();
        assert_eq!(folders(""), HOST_FOLDERS.map(PathBuf::from));
        assert_eq!(folders("/a:/b:"), [PathBuf::from("/a"), PathBuf::from("/b")]);
    }

    #[test]
    fn bad_values_are_refused_by_name() {
        let config = ImagesConfig {
            snapshotter: "zfs".into(),
            registry: Registry { config_path: "certs.d".into() },
            ..Default::default()
        };
        let keys: Vec<_> = config.mistakes().into_iter().map(|it| it.key.join(".")).collect();
        assert_eq!(keys, ["snapshotter", "registry.config_path"]);
    }
}
