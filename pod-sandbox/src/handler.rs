//! Runtime handlers: which shim and which OCI runtime a pod asked for by name (RuntimeClass).

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use runtime_core::task::RuntimeOptions;

use crate::oci_spec::PrivilegedDevices;

/// One entry of `containerd.runtimes`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Handler {
    pub name: String,
    /// containerd's runtime type, `io.containerd.runc.v2`.
    pub runtime_type: String,
    /// The shim binary.
    pub shim: PathBuf,
    /// The devices of its privileged containers.
    pub privileged_devices: PrivilegedDevices,
    /// Patterns of the names of annotations that are passed on to the OCI runtime, of pods and of containers.
    pub pod_annotations: Vec<String>,
    pub container_annotations: Vec<String>,
    pub options: RuntimeOptions,
}

impl Handler {
    /// The annotations that its patterns let through to the OCI runtime; a container's own win over its pod's.
    pub(crate) fn passed_on(
        &self,
        pod: &BTreeMap<String, String>,
        container: &BTreeMap<String, String>,
    ) -> BTreeMap<String, String> {
        let chosen = |all: &BTreeMap<String, String>, patterns: &[String]| {
            let wanted = |name: &str| patterns.iter().any(|pattern| matches(pattern, name));
            let pairs = all.iter().filter(|(name, _)| wanted(name));
            pairs.map(|(name, value)| (name.clone(), value.clone())).collect::<BTreeMap<_, _>>()
        };
        let mut passed = chosen(pod, &self.pod_annotations);
        passed.extend(chosen(container, &self.container_annotations));
        passed
    }
}

/// containerd's patterns: `*` is anything without a slash, `?` one character other than it.
fn matches(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
    // Which beginnings of the name the pattern so far stands for.
    let mut reached = vec![false; name.len() + 1];
    reached[0] = true;
    for part in pattern {
        let mut next = vec![false; name.len() + 1];
        for at in 0..=name.len() {
            let before = at.checked_sub(1).map(|before| (reached[before], next[before], name[before]));
            next[at] = match (part, before) {
                ('*', None) => reached[at],
                ('*', Some((_, longer, last))) => reached[at] || (longer && last != '/'),
                ('?', Some((shorter, _, last))) => shorter && last != '/',
                (_, Some((shorter, _, last))) => shorter && last == part,
                (_, None) => false,
            };
        }
        reached = next;
    }
    reached[name.len()]
}

#[derive(Debug, thiserror::Error)]
#[error("no runtime handler {name:?} is configured; known are {known}")]
pub struct UnknownHandler {
    name: String,
    known: String,
}

/// The configured table; the empty name is the default.
#[derive(Clone, Debug)]
pub struct Handlers {
    default: String,
    by_name: BTreeMap<String, Arc<Handler>>,
}

impl Handlers {
    pub fn new(default: String, handlers: impl IntoIterator<Item = Handler>) -> Self {
        let by_name = handlers.into_iter().map(|h| (h.name.clone(), Arc::new(h))).collect();
        Self { default, by_name }
    }

    pub fn resolve(&self, name: &str) -> Result<Arc<Handler>, UnknownHandler> {
        let wanted = if name.is_empty() { &self.default } else { name };
        self.by_name.get(wanted).cloned().ok_or_else(|| UnknownHandler {
            name: wanted.to_owned(),
            known: self.by_name.keys().cloned().collect::<Vec<_>>().join(", "),
        })
    }

    /// Every handler, for `Status`.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Handler>> {
        self.by_name.values()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_containerds() {
        let table = [
            ("io.kata.*", "io.kata.x.y", true),
            ("io.kata.*", "io.katax", false),
            ("*", "plain", true),
            ("*", "a/b", false),
            ("*/b", "a/b", true),
            ("a?c", "abc", true),
            ("a?c", "a/c", false),
            ("exact", "exact", true),
            ("exact", "exactly", false),
            ("**a*", "bab", true),
            ("", "x", false),
        ];
        for (pattern, name, expected) in table {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn annotations_pass_only_by_pattern() {
        let handler = Handler {
            name: "h".into(),
            runtime_type: String::new(),
            shim: PathBuf::new(),
            privileged_devices: PrivilegedDevices::Host,
            pod_annotations: vec!["p.*".into(), "both".into()],
            container_annotations: vec!["c.*".into(), "both".into()],
            options: RuntimeOptions::default(),
        };
        let map = |names: &[&str], value: &str| {
            names.iter().map(|name| ((*name).to_owned(), value.to_owned())).collect::<BTreeMap<_, _>>()
        };
        let names = ["p.x", "c.x", "both", "other"];
        let passed = handler.passed_on(&map(&names, "pod"), &map(&names, "container"));
        let expected = [("both", "container"), ("c.x", "container"), ("p.x", "pod")];
        assert_eq!(passed, expected.map(|(name, value)| (name.to_owned(), value.to_owned())).into());
    }
}
