//! `plugins."io.containerd.cri.v1.runtime".cni`: where the network plugins and their configuration are.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::schema::Problem;

const SECTION: &str = "cni";

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CniConfig {
    /// Searched in this order.
    pub bin_dirs: Vec<PathBuf>,
    pub conf_dir: PathBuf,
    /// Networks that each pod is attached to, the first ones of the folder by file name; 0 is all of them.
    pub max_conf_num: usize,
    /// Which of a pod's addresses comes first: `ipv4` (or empty), `ipv6`, or `cni` for the plugins' own order.
    pub ip_pref: String,
    /// orlop's own: where libcni and other runtimes keep what plugins answered.
    pub cache_dir: PathBuf,
    /// orlop's own: how long one plugin may take before it is killed with all that it started.
    pub plugin_timeout: String,
}

impl Default for CniConfig {
    fn default() -> Self {
        Self {
            bin_dirs: vec![PathBuf::from("/opt/cni/bin")],
            conf_dir: PathBuf::from("/etc/cni/net.d"),
            max_conf_num: 1,
            ip_pref: String::new(),
            cache_dir: PathBuf::from("/var/lib/cni"),
            plugin_timeout: "60s".to_owned(),
        }
    }
}

impl CniConfig {
    /// `None` when it is not a duration.
    pub fn timeout(&self) -> Option<Duration> {
        humantime::parse_duration(&self.plugin_timeout).ok().filter(|limit| !limit.is_zero())
    }

    pub(super) fn mistakes(&self) -> Vec<Problem> {
        let mut mistakes = Vec::new();
        let mut refuse =
            |key: &str, message: String| mistakes.push(Problem::invalid(&[SECTION, key], message));
        if let Some(path) = self.bin_dirs.iter().find(|path| path.is_relative()) {
            refuse("bin_dirs", format!("{path:?} is not an absolute path"));
        }
        for (key, path) in [("conf_dir", &self.conf_dir), ("cache_dir", &self.cache_dir)] {
            if path.is_relative() {
                refuse(key, format!("{path:?} is not an absolute path"));
            }
        }
        if !matches!(self.ip_pref.as_str(), "" | "ipv4" | "ipv6" | "cni") {
            refuse("ip_pref", format!("{:?} is none of \"ipv4\", \"ipv6\" and \"cni\"", self.ip_pref));
        }
        if self.timeout().is_none() {
            refuse("plugin_timeout", format!("{:?} is not a duration, such as \"60s\"", self.plugin_timeout));
        }
        mistakes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_containerds_and_every_bad_value_is_named() {
        assert!(CniConfig::default().mistakes().is_empty());
        let bad = CniConfig {
            bin_dirs: vec!["bin".into()],
            conf_dir: "net.d".into(),
            ip_pref: "ipv5".into(),
            plugin_timeout: "0s".into(),
            ..CniConfig::default()
        };
        let keys: Vec<_> = bad.mistakes().into_iter().map(|it| it.key.join(".")).collect();
        assert_eq!(keys, ["cni.bin_dirs", "cni.conf_dir", "cni.ip_pref", "cni.plugin_timeout"]);
    }
}
