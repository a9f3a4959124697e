//! One pod, as its drivers share it: identity, journal and the way to its shim.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use runtime_core::clock::Timestamp;
use runtime_core::ids::SandboxId;
use runtime_core::task::Shim;
use serde_json::Value;
use tokio::sync::watch;

use crate::journal::{Journal, JournalError};
use crate::network::NetworkIntent;
use crate::spec::PodSpec;

/// How long a call that must change a pod waits for a shim that is being attached after a daemon restart.
const ATTACH_DEADLINE: Duration = Duration::from_secs(30);

/// Where the pod's shim is.
#[derive(Clone, Debug)]
pub(crate) enum ShimSlot {
    /// Not started yet, or found after a restart and not attached yet.
    Pending,
    Up(Shim),
    Gone,
}

#[derive(Debug, thiserror::Error)]
pub enum NoShim {
    #[error("the shim of pod {id} is gone")]
    Gone { id: SandboxId },
    #[error("the shim of pod {id} could not be reached within {}s", ATTACH_DEADLINE.as_secs())]
    NotAttached { id: SandboxId },
}

#[derive(Debug)]
pub(crate) struct Pod {
    pub(crate) id: SandboxId,
    pub(crate) spec: Arc<PodSpec>,
    pub(crate) created_at: Timestamp,
    pub(crate) journal: Journal,
    /// hostname, hosts and resolv.conf.
    pub(crate) files: PathBuf,
    pub(crate) handler: Arc<crate::handler::Handler>,
    pub(crate) shim: ShimCell,
    /// Absent with the node's network.
    pub(crate) network: Option<PodNetwork>,
    /// Held while the pod's holder is brought.
    pub(crate) holder: tokio::sync::Mutex<()>,
}

/// What the pod is attached to.
#[derive(Debug)]
pub(crate) struct PodNetwork {
    pub(crate) intent: NetworkIntent,
    /// What the plugins answered, network by network; once it is recorded.
    pub(crate) results: OnceLock<Vec<Value>>,
}

impl PodNetwork {
    pub(crate) fn intended(intent: NetworkIntent) -> Self {
        Self { intent, results: OnceLock::new() }
    }
}

/// Where the pod's shim is, watched by everyone who waits for it.
#[derive(Debug)]
pub(crate) struct ShimCell(watch::Sender<ShimSlot>);

impl Default for ShimCell {
    fn default() -> Self {
        Self(watch::Sender::new(ShimSlot::Pending))
    }
}

impl Pod {
    pub(crate) fn record(&self, fact: &crate::facts::Fact) -> Result<(), JournalError> {
        self.journal.append(fact)
    }

    /// The pin of the pod's network namespace; `None` with the host's network.
    pub(crate) fn netns(&self) -> Option<&Path> {
        self.network.as_ref().map(|network| network.intent.pin.as_path())
    }

    pub(crate) fn set_shim(&self, slot: ShimSlot) {
        self.shim.0.send_replace(slot);
    }

    /// A shim found after a restart; one that was killed meanwhile does not come back.
    pub(crate) fn attached(&self, shim: Shim) {
        self.shim.0.send_if_modified(|slot| {
            let pending = matches!(slot, ShimSlot::Pending);
            if pending {
                *slot = ShimSlot::Up(shim);
            }
            pending
        });
    }

    /// The shim, if it is up right now.
    pub(crate) fn shim_now(&self) -> Option<Shim> {
        match &*self.shim.0.borrow() {
            ShimSlot::Up(shim) => Some(shim.clone()),
            ShimSlot::Pending | ShimSlot::Gone => None,
        }
    }

    /// Resolves when the shim's process has ended, also when it turns out to have ended before.
    pub(crate) async fn shim_ended(&self) {
        let mut slot = self.shim.0.subscribe();
        let settled = match slot.wait_for(|slot| !matches!(slot, ShimSlot::Pending)).await {
            Ok(slot) => slot.clone(),
            Err(_) => ShimSlot::Gone,
        };
        match settled {
            ShimSlot::Up(shim) => shim.ended().await,
            ShimSlot::Pending | ShimSlot::Gone => {}
        }
    }

    /// The shim, waited for while it is being attached.
    pub(crate) async fn shim(&self) -> Result<Shim, NoShim> {
        let mut slot = self.shim.0.subscribe();
        let settled = slot.wait_for(|slot| !matches!(slot, ShimSlot::Pending));
        match tokio::time::timeout(ATTACH_DEADLINE, settled).await {
            Ok(Ok(slot)) => match &*slot {
                ShimSlot::Up(shim) => Ok(shim.clone()),
                ShimSlot::Pending | ShimSlot::Gone => Err(NoShim::Gone { id: self.id.clone() }),
            },
            Ok(Err(_)) => Err(NoShim::Gone { id: self.id.clone() }),
            Err(_) => Err(NoShim::NotAttached { id: self.id.clone() }),
        }
    }
}
