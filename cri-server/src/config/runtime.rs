//! `plugins."io.containerd.cri.v1.runtime"`: the runtime handlers and how containers are made.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};

use super::cni::CniConfig;
use super::schema::{Problem, Schema};

/// The handler that exists whatever the file says.
const DEFAULT_HANDLER: &str = "runc";
/// What every existing configuration says; our shim answers to it.
const RUNC_TYPE: &str = "io.containerd.runc.v2";
/// The same shim under its own name.
const OWN_TYPE: &str = "io.containerd.orlop.v1";
/// Found in PATH.
const RUNC_BINARY: &str = "runc";
/// The kubelet's own figure for a log line before it is tagged partial.
const LOG_LINE_BYTES: i64 = 16 * 1024;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RuntimeConfig {
    /// Raise an oom_score_adj below the daemon's own to it: lowering needs CAP_SYS_RESOURCE.
    pub restrict_oom_score_adj: bool,
    /// Bytes.
    pub max_container_log_line_size: i64,
    /// Pin network namespaces below the state folder instead of where agents of CNI plugins look.
    pub netns_mounts_under_state_dir: bool,
    /// Every port is open to every user of a pod with a network of its own.
    pub enable_unprivileged_ports: bool,
    /// `ping` works for every user of a pod with a network of its own.
    pub enable_unprivileged_icmp: bool,
    pub containerd: ContainerdConfig,
    pub cni: CniConfig,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ContainerdConfig {
    /// The handler of pods that name none.
    pub default_runtime_name: String,
    #[serde(deserialize_with = "with_default_handler")]
    pub runtimes: BTreeMap<String, HandlerConfig>,
}

/// One runtime handler, as a RuntimeClass names it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HandlerConfig {
    /// Names the shim.
    pub runtime_type: String,
    /// The shim's binary, absolute; empty leaves it to the type.
    pub runtime_path: String,
    /// Names of annotations that the OCI runtime gets to see, with `*` and `?`.
    pub pod_annotations: Vec<String>,
    pub container_annotations: Vec<String>,
    /// Privileged containers get no devices but the usual ones and those asked for.
    pub privileged_without_host_devices: bool,
    /// … but may make nodes of any and use them.
    pub privileged_without_host_devices_all_devices_allowed: bool,
    pub options: HandlerOptions,
}

/// Options of the runc shim, under their containerd names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct HandlerOptions {
    /// The OCI runtime: a name in PATH or an absolute path.
    pub binary_name: String,
    /// The OCI runtime's own state folder; empty is one below the daemon's.
    pub root: String,
    pub systemd_cgroup: bool,
}

impl Default for RuntimeConfig {
    fn default() -> Self {
        Self {
            restrict_oom_score_adj: false,
            max_container_log_line_size: LOG_LINE_BYTES,
            netns_mounts_under_state_dir: false,
            enable_unprivileged_ports: true,
            enable_unprivileged_icmp: true,
            containerd: ContainerdConfig::default(),
            cni: CniConfig::default(),
        }
    }
}

impl Default for ContainerdConfig {
    fn default() -> Self {
        Self {
            default_runtime_name: DEFAULT_HANDLER.to_owned(),
            runtimes: BTreeMap::from([(DEFAULT_HANDLER.to_owned(), HandlerConfig::default())]),
        }
    }
}

impl Default for HandlerConfig {
    fn default() -> Self {
        Self {
            runtime_type: RUNC_TYPE.to_owned(),
            runtime_path: String::new(),
            pod_annotations: Vec::new(),
            container_annotations: Vec::new(),
            privileged_without_host_devices: false,
            privileged_without_host_devices_all_devices_allowed: false,
            options: HandlerOptions::default(),
        }
    }
}

impl Default for HandlerOptions {
    fn default() -> Self {
        Self { binary_name: RUNC_BINARY.to_owned(), root: String::new(), systemd_cgroup: false }
    }
}

fn with_default_handler<'de, D>(deserializer: D) -> Result<BTreeMap<String, HandlerConfig>, D::Error>
where
    D: Deserializer<'de>,
{
    let mut runtimes = BTreeMap::deserialize(deserializer)?;
    runtimes.entry(DEFAULT_HANDLER.to_owned()).or_insert_with(HandlerConfig::default);
    Ok(runtimes)
}

impl Schema for RuntimeConfig {
    fn mistakes(&self) -> Vec<Problem> {
        let ContainerdConfig { default_runtime_name, runtimes } = &self.containerd;
        let mut mistakes = Vec::new();
        if !runtimes.contains_key(default_runtime_name) {
            let known = runtimes.keys().cloned().collect::<Vec<_>>().join(", ");
            let message = format!("{default_runtime_name:?} is not among the runtimes: {known}");
            mistakes.push(Problem::invalid(&["containerd", "default_runtime_name"], message));
        }
        if self.max_container_log_line_size != LOG_LINE_BYTES {
            let message = format!("only {LOG_LINE_BYTES} is supported: remove the key");
            mistakes.push(Problem::invalid(&["max_container_log_line_size"], message));
        }
        mistakes.extend(self.cni.mistakes());
        mistakes.extend(runtimes.iter().flat_map(|(name, handler)| handler.mistakes(name)));
        mistakes
    }
}

impl HandlerConfig {
    /// Whether our own shim serves it.
    pub fn is_ours(&self) -> bool {
        self.runtime_path.is_empty() && matches!(self.runtime_type.as_str(), RUNC_TYPE | OWN_TYPE)
    }

    fn mistakes(&self, name: &str) -> Vec<Problem> {
        let mut mistakes = Vec::new();
        let mut refuse = |key: &[&str], message: String| {
            let path: Vec<&str> =
                ["containerd", "runtimes", name].into_iter().chain(key.iter().copied()).collect();
            mistakes.push(Problem::invalid(&path, message));
        };
        let relative = |path: &str| !path.is_empty() && !path.starts_with('/');
        if relative(&self.runtime_path) {
            refuse(&["runtime_path"], format!("{:?} is not an absolute path of a shim", self.runtime_path));
        }
        if self.runtime_type.is_empty() {
            refuse(&["runtime_type"], format!("is empty; write {RUNC_TYPE:?}"));
        }
        for (key, patterns) in [
            ("pod_annotations", &self.pod_annotations),
            ("container_annotations", &self.container_annotations),
        ] {
            for pattern in patterns.iter().filter(|it| it.is_empty() || it.contains(['[', ']', '\\'])) {
                refuse(&[key], format!("{pattern:?} is no pattern: only * and ? stand for something"));
            }
        }
        let HandlerOptions { binary_name, root, systemd_cgroup } = &self.options;
        if binary_name.is_empty() || (binary_name.contains('/') && relative(binary_name)) {
            let message =
                format!("{binary_name:?} is neither a name in PATH, such as {RUNC_BINARY:?}, nor absolute");
            refuse(&["options", "BinaryName"], message);
        }
        if relative(root) {
            refuse(&["options", "Root"], format!("{root:?} is not an absolute path"));
        }
        if *systemd_cgroup {
            let message = "the systemd cgroup driver is not supported yet; write false";
            refuse(&["options", "SystemdCgroup"], message.to_owned());
        }
        mistakes
    }
}

#[cfg(test)]
mod tests {
    use super::super::schema::check;
    use super::*;

    fn checked(text: &str) -> (RuntimeConfig, Vec<String>) {
        let (config, problems) = check::<RuntimeConfig>(text.parse().expect("valid toml"));
        (config, problems.into_iter().map(|it| it.key.join(".")).collect())
    }

    #[test]
    fn runc_is_there_without_a_word_and_beside_others() {
        for text in ["", "[containerd.runtimes.crun.options]\nBinaryName = 'crun'"] {
            let (config, problems) = checked(text);
            assert!(problems.is_empty(), "{problems:?}");
            let runc = &config.containerd.runtimes["runc"];
            assert_eq!((runc.runtime_type.as_str(), runc.options.binary_name.as_str()), (RUNC_TYPE, "runc"));
            assert!(runc.is_ours());
        }
    }

    #[test]
    fn a_handler_keeps_what_it_is_given() {
        let text = "[containerd]\ndefault_runtime_name = 'slow'\n[containerd.runtimes.slow]\nruntime_type = 'io.containerd.runc.v2'\n[containerd.runtimes.slow.options]\nBinaryName = '/opt/bin/runc'\nRoot = '/run/slow'";
        let (config, problems) = checked(text);
        assert!(problems.is_empty(), "{problems:?}");
        let options = &config.containerd.runtimes["slow"].options;
        assert_eq!((options.binary_name.as_str(), options.root.as_str()), ("/opt/bin/runc", "/run/slow"));
    }

    #[test]
    fn every_bad_value_is_named() {
        let text = "max_container_log_line_size = 7\n[containerd]\ndefault_runtime_name = 'none'\n[containerd.runtimes.x]\nruntime_path = 'shim'\nruntime_type = ''\npod_annotations = ['[a]*']\n[containerd.runtimes.x.options]\nBinaryName = 'bin/runc'\nRoot = 'here'\nSystemdCgroup = true";
        let (_, mut problems) = checked(text);
        problems.sort();
        let x = "containerd.runtimes.x";
        let expected = [
            "containerd.default_runtime_name".to_owned(),
            format!("{x}.options.BinaryName"),
            format!("{x}.options.Root"),
            format!("{x}.options.SystemdCgroup"),
            format!("{x}.pod_annotations"),
            format!("{x}.runtime_path"),
            format!("{x}.runtime_type"),
            "max_container_log_line_size".to_owned(),
        ];
        assert_eq!(problems, expected);
    }
}
