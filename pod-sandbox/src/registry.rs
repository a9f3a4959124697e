//! All pods and containers by id and by name. One short lock over plain maps; never held across an await.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use runtime_core::error::ErrorKind;
use runtime_core::ids::{ContainerId, SandboxId};

use crate::container::ContainerHandle;
use crate::pod::Pod;
use crate::sandbox::SandboxState;
use crate::sandbox::driver::SandboxHandle;
use crate::spec::{ContainerMetadata, PodMetadata, PortMapping};
use crate::view::ContainerView;

/// The name of a container: its pod, its name, its attempt.
pub(crate) type ContainerKey = (SandboxId, ContainerMetadata);

/// What can be made only once at a time.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Name {
    Pod(PodMetadata),
    Container(ContainerKey),
    /// Ports of the node: who wants some takes them while nobody else does.
    HostPorts,
}

/// Held while something of one name is being made.
pub(crate) type Gate = tokio::sync::Mutex<()>;

/// Why an id or a shortened id names nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LookupError {
    #[error("{what} {id:?} does not exist")]
    NotFound { what: &'static str, id: String },
    #[error("{what} id {id:?} is the beginning of more than one")]
    Ambiguous { what: &'static str, id: String },
    #[error("{what} id is empty")]
    Empty { what: &'static str },
}

impl LookupError {
    /// Nothing to do for what does not exist; an id that names nothing in particular stays an error.
    pub(crate) fn unless_absent(self) -> Result<(), Self> {
        match self {
            Self::NotFound { .. } => Ok(()),
            Self::Ambiguous { .. } | Self::Empty { .. } => Err(self),
        }
    }

    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NotFound { .. } => ErrorKind::NotFound,
            Self::Ambiguous { .. } | Self::Empty { .. } => ErrorKind::InvalidArgument,
        }
    }
}

#[derive(Debug, Default)]
pub(crate) struct Registry {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    sandboxes: BTreeMap<SandboxId, SandboxHandle>,
    containers: BTreeMap<ContainerId, ContainerHandle>,
    sandbox_names: HashMap<PodMetadata, SandboxId>,
    container_names: HashMap<ContainerKey, ContainerId>,
    making: HashMap<Name, Arc<Gate>>,
}

impl Inner {
    fn is_ready(&self, pod: &SandboxId) -> bool {
        self.sandboxes.get(pod).is_some_and(SandboxHandle::is_ready)
    }

    fn insert_container(&mut self, handle: ContainerHandle) {
        let key = (handle.pod.id.clone(), handle.view.borrow().spec.metadata.clone());
        self.container_names.insert(key, handle.id.clone());
        self.containers.insert(handle.id.clone(), handle);
    }
}

impl Registry {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn sandbox_named(&self, name: &PodMetadata) -> Option<SandboxHandle> {
        let inner = self.lock();
        inner.sandbox_names.get(name).and_then(|id| inner.sandboxes.get(id)).cloned()
    }

    /// The gate that makings of one name pass one after the other. Gates nobody holds are dropped.
    pub(crate) fn gate(&self, name: Name) -> Arc<Gate> {
        let mut inner = self.lock();
        inner.making.retain(|_, gate| Arc::strong_count(gate) > 1);
        inner.making.entry(name).or_default().clone()
    }

    /// A pod that is about to be driven. Two records may claim one name after a restart: both are listed, and the one
    /// that comes last has the name.
    pub(crate) fn insert_sandbox(&self, handle: SandboxHandle) {
        let mut inner = self.lock();
        inner.sandbox_names.insert(handle.pod.spec.metadata.clone(), handle.pod.id.clone());
        inner.sandboxes.insert(handle.pod.id.clone(), handle);
    }

    /// The pod that has one of these ports of the node, and the port. A stopped pod has none.
    pub(crate) fn port_holder(&self, wished: &[PortMapping]) -> Option<(SandboxId, PortMapping)> {
        let inner = self.lock();
        let mut holders = inner.sandboxes.values();
        holders.find_map(|handle| {
            let stopped = handle.view.borrow().state == SandboxState::Stopped;
            let taken = |port: &&PortMapping| wished.iter().any(|wish| wish.overlaps(port));
            let port = handle.pod.spec.port_mappings.iter().find(taken).filter(|_| !stopped)?;
            Some((handle.pod.id.clone(), port.clone()))
        })
    }

    pub(crate) fn remove_sandbox(&self, pod: &Pod) {
        let mut inner = self.lock();
        inner.sandboxes.remove(&pod.id);
        if inner.sandbox_names.get(&pod.spec.metadata) == Some(&pod.id) {
            inner.sandbox_names.remove(&pod.spec.metadata);
        }
    }

    /// A container made just now. False when its pod has been stopped or removed meanwhile: it is not to be then.
    pub(crate) fn add_container(&self, handle: &ContainerHandle) -> bool {
        let mut inner = self.lock();
        if !inner.is_ready(&handle.pod.id) {
            return false;
        }
        inner.insert_container(handle.clone());
        true
    }

    pub(crate) fn has_sandbox(&self, id: &SandboxId) -> bool {
        self.lock().sandboxes.contains_key(id)
    }

    /// Whether containers of the pod may be started.
    pub(crate) fn is_ready(&self, pod: &SandboxId) -> bool {
        self.lock().is_ready(pod)
    }

    /// A container found after a restart.
    pub(crate) fn insert_container(&self, handle: ContainerHandle) {
        self.lock().insert_container(handle);
    }

    pub(crate) fn remove_container(&self, view: &ContainerView) {
        let mut inner = self.lock();
        inner.containers.remove(&view.id);
        let key = (view.sandbox.clone(), view.spec.metadata.clone());
        if inner.container_names.get(&key) == Some(&view.id) {
            inner.container_names.remove(&key);
        }
    }

    pub(crate) fn container_named(&self, key: &ContainerKey) -> Option<ContainerHandle> {
        let inner = self.lock();
        inner.container_names.get(key).and_then(|id| inner.containers.get(id)).cloned()
    }

    pub(crate) fn containers_of(&self, sandbox: &SandboxId) -> Vec<ContainerHandle> {
        self.lock().containers.values().filter(|handle| handle.pod.id == *sandbox).cloned().collect()
    }

    pub(crate) fn sandboxes(&self) -> Vec<SandboxHandle> {
        self.lock().sandboxes.values().cloned().collect()
    }

    pub(crate) fn containers(&self) -> Vec<ContainerHandle> {
        self.lock().containers.values().cloned().collect()
    }

    /// The pod whose id is `id` or begins with it.
    pub(crate) fn sandbox(&self, id: &str) -> Result<SandboxHandle, LookupError> {
        by_prefix("pod sandbox", &self.lock().sandboxes, id)
    }

    /// The container whose id is `id` or begins with it.
    pub(crate) fn container(&self, id: &str) -> Result<ContainerHandle, LookupError> {
        by_prefix("container", &self.lock().containers, id)
    }
}

fn by_prefix<K: AsRef<str> + Ord, H: Clone>(
    what: &'static str,
    map: &BTreeMap<K, H>,
    id: &str,
) -> Result<H, LookupError> {
    if id.is_empty() {
        return Err(LookupError::Empty { what });
    }
    let mut found = map.iter().filter(|(key, _)| key.as_ref().starts_with(id));
    let first = found.next().ok_or_else(|| LookupError::NotFound { what, id: id.to_owned() })?;
    match found.next() {
        Some(_) if first.0.as_ref() != id => Err(LookupError::Ambiguous { what, id: id.to_owned() }),
        Some(_) | None => Ok(first.1.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_may_be_shortened_while_they_are_unique() {
        let map = BTreeMap::from([("ab1".to_owned(), 1), ("ab2".to_owned(), 2), ("ab".to_owned(), 3)]);
        let find = |id| by_prefix("thing", &map, id);
        assert_eq!(find("ab1"), Ok(1));
        assert_eq!(find("ab"), Ok(3), "an exact id wins over those it begins");
        assert!(matches!(find("a"), Err(LookupError::Ambiguous { .. })));
        assert!(matches!(find("x"), Err(LookupError::NotFound { .. })));
        assert!(matches!(find(""), Err(LookupError::Empty { .. })));
    }
}
