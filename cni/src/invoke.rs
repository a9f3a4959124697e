//! The verbs of the specification on a whole network: which plugins are called, in what order, with which result.
//!
//! A verb stops at the first plugin that fails. Nothing is undone here: after a failed ADD the caller runs DEL, and runs
//! it again until it succeeds.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;

use crate::attachment::{Attachment, AttachmentError, check_ids};
use crate::cache::CacheFile;
use crate::error::{CniError, Command};
use crate::leftovers;
use crate::network::{Network, NetworkError};
use crate::plugin::{Addition, Call, Plugins};
use crate::result::in_version;
use crate::version::Version;

/// The specification's "container unknown": "the runtime does not need to perform any cleanup".
const UNKNOWN_CONTAINER: u64 = 3;

/// Runs plugins.
#[derive(Clone, Debug)]
pub struct Invoker {
    bin_dirs: Vec<PathBuf>,
    cache: PathBuf,
    timeout: Duration,
}

impl Invoker {
    /// Plugins are looked up in `bin_dirs` in this order; results are kept below `cache` (others use `/var/lib/cni`).
    /// Each call of a plugin may take `timeout`.
    #[must_use]
    pub fn new(bin_dirs: Vec<PathBuf>, cache: PathBuf, timeout: Duration) -> Self {
        Self { bin_dirs, cache, timeout }
    }

    /// Attaches: every plugin in order, each with the result of the one before it.
    ///
    /// # Errors
    /// When a plugin fails, or the result cannot be kept. Parts may be set up by then: run [`Invoker::del`].
    pub async fn add(&self, network: &Network, at: &Attachment) -> Result<Addition, CniError> {
        check(network, at, Command::Add)?;
        let mut last: Option<Addition> = None;
        for plugin in &network.plugins {
            let previous = last.as_ref().map(|addition| &addition.raw);
            let call = Call { previous, attachment: Some(at), ..call(Command::Add, network, plugin) };
            last = self.plugins().call(&call).await?;
        }
        let addition = last.ok_or_else(|| CniError::Network {
            network: network.name.clone(),
            source: NetworkError::NoPlugins,
        })?;
        let file = CacheFile::new(&self.cache, network, at);
        file.save(network, at, &addition.raw).await.map_err(|source| CniError::Cache {
            network: network.name.clone(),
            path: file.path().to_owned(),
            source,
        })?;
        Ok(addition)
    }

    /// Detaches: every plugin in reverse order with the result of ADD, which is `previous` or else the kept one. Without
    /// any, plugins have to do with what they know themselves.
    ///
    /// # Errors
    /// When a plugin fails; those after it are not called, so that the caller calls all of them again.
    pub async fn del(
        &self,
        network: &Network,
        at: &Attachment,
        previous: Option<&Value>,
    ) -> Result<(), CniError> {
        check(network, at, Command::Del)?;
        let previous = self.previous(network, at, previous).await;
        for plugin in network.plugins.iter().rev() {
            let call = Call {
                previous: previous.as_ref(),
                attachment: Some(at),
                ..call(Command::Del, network, plugin)
            };
            match self.plugins().call(&call).await {
                Err(error) if error.code() == Some(UNKNOWN_CONTAINER) => {
                    tracing::debug!(container = at.container_id, %error, "nothing to detach");
                }
                answered => drop(answered?),
            }
        }
        CacheFile::new(&self.cache, network, at).remove().await;
        Ok(())
    }

    /// Asks every plugin whether the attachment is still as ADD made it. Networks below 0.4.0 and those with
    /// `disableCheck` cannot be asked: they are taken to be well.
    ///
    /// # Errors
    /// When a plugin finds it is not, or fails.
    pub async fn check(
        &self,
        network: &Network,
        at: &Attachment,
        previous: Option<&Value>,
    ) -> Result<(), CniError> {
        check(network, at, Command::Check)?;
        if network.version < Version::V0_4_0 || network.check_disabled {
            return Ok(());
        }
        let previous = self.previous(network, at, previous).await;
        for plugin in &network.plugins {
            let call = call(Command::Check, network, plugin);
            let call = Call { previous: previous.as_ref(), attachment: Some(at), ..call };
            self.plugins().call(&call).await?;
        }
        Ok(())
    }

    /// Asks every plugin whether it could ADD now. Networks below 1.1.0 cannot be asked: they are taken to be ready.
    ///
    /// # Errors
    /// When a plugin is not ready, is not installed, or fails.
    pub async fn status(&self, network: &Network) -> Result<(), CniError> {
        if network.version < Version::V1_1_0 {
            return Ok(());
        }
        for plugin in &network.plugins {
            self.plugins().call(&call(Command::Status, network, plugin)).await?;
        }
        Ok(())
    }

    /// Tells every plugin which pairs of container id and interface are attached, so that it gives back what belongs to
    /// others. Does nothing for networks below 1.1.0 and those with `disableGC`.
    ///
    /// # Errors
    /// The first failure; all plugins are called nevertheless.
    pub async fn gc(&self, network: &Network, valid: &[(String, String)]) -> Result<(), CniError> {
        if network.version < Version::V1_1_0 || network.gc_disabled {
            return Ok(());
        }
        for (container_id, if_name) in valid {
            check_ids(container_id, if_name).map_err(|source| attachment_error(network, source))?;
        }
        let mut outcome = Ok(());
        for plugin in &network.plugins {
            let called = self.plugins().call(&Call { valid, ..call(Command::Gc, network, plugin) }).await;
            outcome = outcome.and(called.map(drop));
        }
        outcome
    }

    /// Ends plugins that a former daemon started for this container and that still run. For recovery, before DEL: no call
    /// for the container may be under way. Gives their number.
    ///
    /// # Errors
    /// When processes cannot be listed, or a killed one does not end.
    pub async fn end_leftovers(&self, container_id: &str) -> io::Result<usize> {
        let (id, bin_dirs) = (container_id.to_owned(), self.bin_dirs.clone());
        let ended = tokio::task::spawn_blocking(move || leftovers::end(&id, &bin_dirs)).await;
        ended.map_err(io::Error::other)?
    }

    fn plugins(&self) -> Plugins<'_> {
        Plugins { bin_dirs: &self.bin_dirs, limit: self.timeout }
    }

    /// The result of ADD in the network's version; before 0.4.0 only ADD knows of one. One that cannot be used must not
    /// keep DEL from running for ever.
    async fn previous(&self, network: &Network, at: &Attachment, given: Option<&Value>) -> Option<Value> {
        if network.version < Version::V0_4_0 {
            return None;
        }
        let result = match given {
            Some(given) => given.clone(),
            None => CacheFile::new(&self.cache, network, at).result().await?,
        };
        match in_version(&result, network.version) {
            Ok(result) => Some(result),
            Err(error) => {
                tracing::warn!(network = network.name, %error, "a kept CNI result cannot be used");
                None
            }
        }
    }
}

fn call<'a>(command: Command, network: &'a Network, plugin: &'a Value) -> Call<'a> {
    Call { command, network, plugin, attachment: None, previous: None, valid: &[] }
}

fn check(network: &Network, at: &Attachment, command: Command) -> Result<(), CniError> {
    let missing = command != Command::Del && at.netns.is_none();
    let checked = if missing { Err(AttachmentError::NoNamespace) } else { at.check() };
    checked.map_err(|source| attachment_error(network, source))
}

fn attachment_error(network: &Network, source: AttachmentError) -> CniError {
    CniError::Attachment { network: network.name.clone(), source }
}
