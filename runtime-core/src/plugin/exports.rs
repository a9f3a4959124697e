//! What a plugin offers to the plugins that require it: handles, found by their type.

use std::any::{Any, TypeId};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// What clients are told of a plugin beside its name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// Whether it does something for the host's platform, as snapshotters do.
    pub of_host_platform: bool,
    /// Values by name, such as `root`.
    pub exports: BTreeMap<String, String>,
    pub capabilities: Vec<String>,
}

/// Typed handles; trait objects go in as `Arc<dyn Trait>`.
#[derive(Clone, Default)]
pub struct Exports {
    handles: HashMap<TypeId, Arc<dyn Any + Send + Sync>>,
    facts: Facts,
}

impl Exports {
    /// A plugin that others only wait for.
    pub fn none() -> Self {
        Self::default()
    }

    pub fn of<T: Clone + Send + Sync + 'static>(handle: T) -> Self {
        Self::none().with(handle)
    }

    #[must_use]
    pub fn with<T: Clone + Send + Sync + 'static>(mut self, handle: T) -> Self {
        self.handles.insert(TypeId::of::<T>(), Arc::new(handle));
        self
    }

    /// Tells clients `name=value`.
    #[must_use]
    pub fn telling(mut self, name: &str, value: impl Into<String>) -> Self {
        self.facts.exports.insert(name.to_owned(), value.into());
        self
    }

    #[must_use]
    pub fn of_host_platform(mut self) -> Self {
        self.facts.of_host_platform = true;
        self
    }

    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    pub fn get<T: Clone + Send + Sync + 'static>(&self) -> Option<T> {
        self.handles.get(&TypeId::of::<T>())?.downcast_ref::<T>().cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trait_object_is_found_by_its_trait() {
        let exports = Exports::of::<Arc<dyn Fn() -> u8 + Send + Sync>>(Arc::new(|| 7)).with("name");
        let call = exports.get::<Arc<dyn Fn() -> u8 + Send + Sync>>().expect("it was put in");
        assert_eq!(call(), 7);
        assert_eq!(exports.get::<&str>(), Some("name"));
        assert!(exports.get::<u32>().is_none());
    }
}
