//! Runtime handlers: which shim and which OCI runtime a pod asked for by name (RuntimeClass).

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use runtime_core::task::RuntimeOptions;

/// One entry of `containerd.runtimes`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Handler {
    pub name: String,
    /// containerd's runtime type, `io.containerd.runc.v2`.
    pub runtime_type: String,
    /// The shim binary.
    pub shim: PathBuf,
    pub options: RuntimeOptions,
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
