//! Starting the sorted plugins one after the other, and remembering how each went.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::{Exports, Facts, GraphError, InitContext, NodePaths, Registration, graph};
use crate::tasks::TaskGroup;

/// What the daemon's configuration says about plugins.
#[derive(Default)]
pub struct PluginSettings {
    /// Tables by `<type>.<id>`.
    pub tables: BTreeMap<String, toml::Table>,
    pub disabled: BTreeSet<String>,
    pub required: BTreeSet<String>,
}

#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("plugins cannot be ordered")]
    Graph(#[from] GraphError),
    #[error("required plugin {uri} did not start")]
    Required {
        uri: String,
        #[source]
        source: Arc<super::InitError>,
    },
    #[error("required plugin {uri} does not exist or is disabled")]
    Missing { uri: String },
}

/// How a plugin's start went.
#[derive(Clone)]
pub enum StatusState {
    Started,
    Failed(Arc<super::InitError>),
    Disabled,
}

/// One row of the plugin table.
#[derive(Clone)]
pub struct Status {
    pub kind: &'static str,
    pub id: &'static str,
    pub requires: &'static [&'static str],
    pub state: StatusState,
    pub facts: Facts,
}

/// Exports of everything started so far.
#[derive(Clone, Default)]
pub(super) struct Started {
    plugins: Vec<(&'static str, &'static str, Exports)>,
}

impl Started {
    pub(super) fn find<T: Clone + Send + Sync + 'static>(&self, kind: &str, id: Option<&str>) -> Option<T> {
        self.plugins
            .iter()
            .filter(|(k, i, _)| *k == kind && id.is_none_or(|id| *i == id))
            .find_map(|(_, _, exports)| exports.get::<T>())
    }
}

impl Started {
    fn facts(&self, kind: &str, id: &str) -> Facts {
        let started = self.plugins.iter().find(|(k, i, _)| *k == kind && *i == id);
        started.map(|(_, _, exports)| exports.facts().clone()).unwrap_or_default()
    }

    pub(super) fn find_all<T: Clone + Send + Sync + 'static>(&self, kind: &str) -> Vec<T> {
        let of_kind = self.plugins.iter().filter(|(k, _, _)| *k == kind);
        of_kind.filter_map(|(_, _, exports)| exports.get::<T>()).collect()
    }
}

/// The started daemon's plugins.
pub struct Plugins {
    pub statuses: Vec<Status>,
    started: Started,
}

impl Plugins {
    /// The handle `T` of any started plugin of type `kind`.
    pub fn find<T: Clone + Send + Sync + 'static>(&self, kind: &str) -> Option<T> {
        self.started.find(kind, None)
    }

    /// The handles `T` of every started plugin of type `kind`.
    pub fn find_all<T: Clone + Send + Sync + 'static>(&self, kind: &str) -> Vec<T> {
        self.started.find_all(kind)
    }
}

/// Starts every registration that is not disabled, in order.
pub async fn start(
    registrations: &[Registration],
    settings: &PluginSettings,
    node: &NodePaths,
    tasks: &TaskGroup,
) -> Result<Plugins, StartError> {
    let known: BTreeSet<String> = registrations.iter().map(Registration::uri).collect();
    if let Some(uri) =
        settings.required.iter().find(|r| !known.contains(*r) || settings.disabled.contains(*r))
    {
        return Err(StartError::Missing { uri: uri.clone() });
    }
    let mut plugins = Plugins { statuses: Vec::new(), started: Started::default() };
    for index in graph::order(registrations)? {
        let registration = &registrations[index];
        let uri = registration.uri();
        let state = if settings.disabled.contains(&uri) {
            StatusState::Disabled
        } else {
            init(registration, settings, node, tasks, &mut plugins.started).await
        };
        if let StatusState::Failed(source) = &state {
            if settings.required.contains(&uri) {
                return Err(StartError::Required { uri, source: source.clone() });
            }
            tracing::error!(plugin = uri, error = %crate::error::chain(&***source), "plugin did not start");
        }
        let facts = plugins.started.facts(registration.kind, registration.id);
        plugins.statuses.push(Status {
            facts,
            kind: registration.kind,
            id: registration.id,
            requires: registration.requires,
            state,
        });
    }
    Ok(plugins)
}

async fn init(
    registration: &Registration,
    settings: &PluginSettings,
    node: &NodePaths,
    tasks: &TaskGroup,
    started: &mut Started,
) -> StatusState {
    let uri = registration.uri();
    let context = InitContext {
        root: InitContext::folder(&node.root, &uri),
        state: InitContext::folder(&node.state, &uri),
        node: node.clone(),
        tasks: tasks.clone(),
        started: started.clone(),
    };
    let table = settings.tables.get(&uri).cloned().unwrap_or_default();
    match (registration.init)(context, table).await {
        Ok(exports) => {
            tracing::debug!(plugin = uri, "plugin started");
            started.plugins.push((registration.kind, registration.id, exports));
            StatusState::Started
        }
        Err(error) => StatusState::Failed(Arc::new(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Registration;
    use super::*;

    fn node() -> NodePaths {
        NodePaths { root: "/r".into(), state: "/s".into(), address: "/s/a.sock".into() }
    }

    fn number(value: u32) -> Registration {
        Registration::new("number", "n", &[], move |_, _: toml::Table| async move { Ok(Exports::of(value)) })
    }

    fn doubler() -> Registration {
        Registration::new("doubler", "d", &["number"], |context: InitContext, _: toml::Table| async move {
            Ok(Exports::of(context.require::<u32>("number")? * 2))
        })
    }

    #[tokio::test]
    async fn a_plugin_gets_what_it_requires() {
        let set = [doubler(), number(21)];
        let plugins =
            start(&set, &PluginSettings::default(), &node(), &TaskGroup::new()).await.expect("starts");
        assert_eq!(plugins.find::<u32>("doubler"), Some(42));
    }

    #[tokio::test]
    async fn a_failure_is_recorded_and_only_fatal_when_required() {
        let set = [doubler()];
        let mut settings = PluginSettings::default();
        let plugins = start(&set, &settings, &node(), &TaskGroup::new()).await.expect("goes on");
        assert!(matches!(plugins.statuses[0].state, StatusState::Failed(_)));
        settings.required.insert("doubler.d".into());
        assert!(matches!(
            start(&set, &settings, &node(), &TaskGroup::new()).await,
            Err(StartError::Required { .. })
        ));
    }

    #[tokio::test]
    async fn a_disabled_plugin_offers_nothing() {
        let mut settings = PluginSettings::default();
        settings.disabled.insert("number.n".into());
        let plugins = start(&[number(1)], &settings, &node(), &TaskGroup::new()).await.expect("starts");
        assert!(plugins.find::<u32>("number").is_none());
        assert!(matches!(plugins.statuses[0].state, StatusState::Disabled));
    }
}
