//! `plugins."io.containerd.cri.v1.images"`: how the CRI pulls and keeps images.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::schema::{Problem, Schema};

/// containerd's; the only snapshotter of this daemon so far.
const SNAPSHOTTER: &str = "overlayfs";
/// containerd's: more streams seldom help a registry and do starve running pods.
const CONCURRENT_DOWNLOADS: u32 = 3;
/// containerd's: long enough for a registry that first fetches the layer itself.
const PROGRESS_TIMEOUT: &str = "5m";
/// Searched in this order when `config_path` is empty, as containerd does.
const HOST_FOLDERS: [&str; 2] = ["/etc/containerd/certs.d", "/etc/docker/certs.d"];

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ImagesConfig {
    pub snapshotter: String,
    /// Layers of one image at a time; 0 sets no limit.
    pub max_concurrent_downloads: u32,
    /// A host that sends nothing for so long has failed; 0 waits for ever.
    pub image_pull_progress_timeout: String,
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
            image_pull_progress_timeout: PROGRESS_TIMEOUT.to_owned(),
            registry: Registry::default(),
        }
    }
}

impl ImagesConfig {
    /// `None` when it is not a duration, `Some(None)` when there is none.
    pub fn progress_timeout(&self) -> Option<Option<Duration>> {
        match self.image_pull_progress_timeout.trim() {
            "0" => Some(None),
            text => {
                let limit = humantime::parse_duration(text).ok()?;
                Some(Some(limit).filter(|limit| !limit.is_zero()))
            }
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
        if self.progress_timeout().is_none() {
            let value = &self.image_pull_progress_timeout;
            let message =
                format!("{value:?} is not a duration, such as {PROGRESS_TIMEOUT:?} (\"0\" for none)");
            mistakes.push(Problem::invalid(&["image_pull_progress_timeout"], message));
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
            image_pull_progress_timeout: "soon".into(),
            registry: Registry { config_path: "certs.d".into() },
            ..Default::default()
        };
        let keys: Vec<_> = config.mistakes().into_iter().map(|it| it.key.join(".")).collect();
        assert_eq!(keys, ["snapshotter", "image_pull_progress_timeout", "registry.config_path"]);
    }

    #[test]
    fn a_progress_timeout_of_nothing_is_none() {
        let timeout = |text: &str| {
            ImagesConfig { image_pull_progress_timeout: text.into(), ..Default::default() }.progress_timeout()
        };
        assert_eq!(ImagesConfig::default().progress_timeout(), Some(Some(Duration::from_secs(300))));
        assert_eq!(timeout("1m30s"), Some(Some(Duration::from_secs(90))));
        for none in ["0", "0s", "0m0s"] {
            assert_eq!(timeout(none), Some(None), "{none}");
        }
        for bad in ["", "5", "-1s", "never"] {
            assert_eq!(timeout(bad), None, "{bad}");
        }
    }
}
