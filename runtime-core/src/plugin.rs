//! Plugins: the daemon is a set of registrations, sorted by what they require and started in that order.
//!
//! A registration stands next to the service it makes and names containerd's type and id, the types it
//! requires, its own typed configuration and an init function. Services are constructed in init functions and
//! nowhere else; what a plugin offers to others is an [`Exports`] of typed handles. A plugin that fails is
//! recorded and the rest goes on, unless it is listed as required.

mod config;
mod exports;
mod graph;
mod start;

use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::Pin;

pub use config::{ConfigProblem, PluginConfig};
pub use exports::{Exports, Facts};
pub use graph::GraphError;
pub use start::{PluginSettings, Plugins, StartError, Status, StatusState, start};

use crate::tasks::TaskGroup;

/// Plugin types of containerd that this daemon fills.
pub mod kinds {
    pub const METADATA: &str = "io.containerd.metadata.v1";
    pub const EVENT: &str = "io.containerd.event.v1";
    pub const CONTENT: &str = "io.containerd.content.v1";
    pub const SNAPSHOTTER: &str = "io.containerd.snapshotter.v1";
    pub const LEASE: &str = "io.containerd.lease.v1";
    pub const GC: &str = "io.containerd.gc.v1";
    pub const RUNTIME: &str = "io.containerd.runtime.v2";
    pub const TRANSFER: &str = "io.containerd.transfer.v1";
    pub const CRI: &str = "io.containerd.cri.v1";
    pub const GRPC: &str = "io.containerd.grpc.v1";
    pub const SERVER: &str = "io.containerd.server.v1";
}

/// Where the daemon keeps things and answers; the same for every plugin.
#[derive(Clone, Debug)]
pub struct NodePaths {
    pub root: PathBuf,
    pub state: PathBuf,
    pub address: PathBuf,
}

/// Why a plugin did not start.
pub type InitError = Box<dyn std::error::Error + Send + Sync>;
type InitFuture = Pin<Box<dyn Future<Output = Result<Exports, InitError>> + Send>>;
type InitFn = Box<dyn Fn(InitContext, toml::Table) -> InitFuture + Send + Sync>;
/// Effective table and problems of a user's table.
pub type CheckFn = fn(toml::Table) -> (toml::Table, Vec<ConfigProblem>);

/// One plugin, as registered.
pub struct Registration {
    kind: &'static str,
    id: &'static str,
    requires: &'static [&'static str],
    check: CheckFn,
    init: InitFn,
}

impl Registration {
    /// Registers plugin `id` of type `kind`, started after every plugin of the types in `requires`.
    pub fn new<C, F, Fut>(
        kind: &'static str,
        id: &'static str,
        requires: &'static [&'static str],
        init: F,
    ) -> Self
    where
        C: PluginConfig,
        F: Fn(InitContext, C) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Exports, InitError>> + Send + 'static,
    {
        let init: InitFn = Box::new(move |context, table| match config::parse::<C>(table) {
            Ok(parsed) => Box::pin(init(context, parsed)),
            Err(problem) => Box::pin(async move { Err(InitError::from(problem)) }),
        });
        Self { kind, id, requires, check: config::check::<C>, init }
    }

    /// `<type>.<id>`: the key of its configuration and the name of its folders.
    pub fn uri(&self) -> String {
        format!("{}.{}", self.kind, self.id)
    }

    /// What turns a user's table into the effective one and says what is wrong in it.
    pub fn checker(&self) -> CheckFn {
        self.check
    }
}

/// What an init function is handed.
pub struct InitContext {
    /// Own folder for what must survive a reboot, made on first use by the plugin.
    pub root: PathBuf,
    /// Own folder for what lives as long as the boot.
    pub state: PathBuf,
    pub node: NodePaths,
    pub tasks: TaskGroup,
    started: start::Started,
}

/// A required handle that no started plugin offers.
#[derive(Debug, thiserror::Error)]
#[error("no started plugin of type {kind} with id {id} offers {object}")]
pub struct MissingExport {
    kind: &'static str,
    id: String,
    object: &'static str,
}

impl InitContext {
    /// The handle `T` of the first started plugin of type `kind`.
    pub fn require<T: Clone + Send + Sync + 'static>(&self, kind: &'static str) -> Result<T, MissingExport> {
        self.started.find(kind, None).ok_or_else(|| MissingExport {
            kind,
            id: "any".to_owned(),
            object: std::any::type_name::<T>(),
        })
    }

    /// The handle `T` of the plugin `id` of type `kind`.
    pub fn require_id<T: Clone + Send + Sync + 'static>(
        &self,
        kind: &'static str,
        id: &str,
    ) -> Result<T, MissingExport> {
        self.started.find(kind, Some(id)).ok_or_else(|| MissingExport {
            kind,
            id: id.to_owned(),
            object: std::any::type_name::<T>(),
        })
    }

    /// The handles `T` of every started plugin of type `kind`.
    pub fn require_all<T: Clone + Send + Sync + 'static>(&self, kind: &str) -> Vec<T> {
        self.started.find_all(kind)
    }

    /// The folder `uri` of the plugin below `base`.
    fn folder(base: &Path, uri: &str) -> PathBuf {
        base.join(uri)
    }
}
