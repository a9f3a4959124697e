//! The pod network: to which CNI networks a pod is attached, how, and the way back.
//!
//! What is to be done is recorded with the pod before the first ADD, with the configuration in it: DEL needs neither
//! the file in the folder nor a daemon that remembers. What ADD answered is recorded before the pod is ready.

mod bandwidth;
mod capabilities;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use cni::{Attachment, CniError, CniResult, ConfigFolder, Invoker, LoadError, Network, NetworkSet};
use runtime_core::error::ErrorKind;
use runtime_core::ids::SandboxId;
use runtime_core::netns;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::spec::{NetworkMode, PodSpec};

pub use bandwidth::BandwidthError;

/// How long a plugin may take to say whether it is ready.
const STATUS_LIMIT: Duration = Duration::from_secs(5);

/// Which of a pod's addresses is *the* address of the pod (containerd's `ip_pref`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IpPreference {
    #[default]
    Ipv4,
    Ipv6,
    /// The first that the plugins name.
    Cni,
}

/// How pods get to the network on this node.
#[derive(Debug)]
pub struct Networks {
    pub folder: ConfigFolder,
    pub invoker: Invoker,
    /// Where network namespaces are pinned, for the agents of CNI plugins to find.
    pub pins: PathBuf,
    pub prefer: IpPreference,
    /// Set in every network namespace, unless the pod says otherwise.
    pub sysctls: BTreeMap<String, String>,
}

/// What is to be attached to a pod, or is.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct NetworkIntent {
    /// The pinned network namespace.
    pub(crate) pin: PathBuf,
    pub(crate) attachments: Vec<NetworkAttachment>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct NetworkAttachment {
    network: Network,
    attachment: Attachment,
}

/// A pod's network as it is shown.
#[derive(Clone, Debug, PartialEq)]
pub struct NetworkView {
    /// The pod's address first, then the others.
    pub ips: Vec<IpAddr>,
    /// What the plugins of the first network answered.
    pub result: Value,
}

#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    #[error("there is no pod network")]
    NotReady(#[source] LoadError),
    #[error(transparent)]
    Bandwidth(#[from] BandwidthError),
    #[error("network {network} refused the pod")]
    Attach {
        network: String,
        #[source]
        source: CniError,
    },
    #[error("network {network} gave the pod no address on {interface}")]
    NoAddress { network: String, interface: String },
    #[error("network {network} did not let go of the pod")]
    Detach {
        network: String,
        #[source]
        source: CniError,
    },
}

impl NetworkError {
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NotReady(_) => ErrorKind::FailedPrecondition,
            Self::Bandwidth(_) => ErrorKind::InvalidArgument,
            Self::Attach { source, .. } | Self::Detach { source, .. }
                if source.kind() == cni::Kind::Timeout =>
            {
                ErrorKind::DeadlineExceeded
            }
            Self::Attach { .. } | Self::NoAddress { .. } | Self::Detach { .. } => ErrorKind::Internal,
        }
    }
}

impl Networks {
    /// The networks that a pod would be attached to now.
    pub fn current(&self) -> Result<NetworkSet, LoadError> {
        self.folder.load()
    }

    /// Why pods cannot get a network now; `Ok` when they can.
    pub async fn ready(&self) -> Result<NetworkSet, String> {
        let set = self.current().map_err(|error| runtime_core::error::chain(&error))?;
        for network in &set.networks {
            match tokio::time::timeout(STATUS_LIMIT, self.invoker.status(network)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => return Err(runtime_core::error::chain(&error)),
                Err(_) => {
                    let seconds = STATUS_LIMIT.as_secs();
                    return Err(format!("network {} did not answer STATUS in {seconds} s", network.name));
                }
            }
        }
        Ok(set)
    }

    /// What a new pod is to be attached to; nothing with the node's network.
    pub(crate) fn intend(
        &self,
        id: &SandboxId,
        spec: &PodSpec,
    ) -> Result<Option<NetworkIntent>, NetworkError> {
        if spec.network == NetworkMode::Host {
            return Ok(None);
        }
        let set = self.current().map_err(NetworkError::NotReady)?;
        let pin = self.pins.join(format!("cni-{id}"));
        let wish = capabilities::of(id, spec)?;
        let attach = |(index, network): (usize, Network)| NetworkAttachment {
            network,
            attachment: Attachment {
                container_id: id.to_string(),
                netns: Some(pin.clone()),
                if_name: format!("eth{index}"),
                args: arguments(id, spec),
                capabilities: wish.clone(),
            },
        };
        let attachments = set.networks.into_iter().enumerate().map(attach).collect();
        Ok(Some(NetworkIntent { pin, attachments }))
    }

    /// Attaches the pod to each network. After a failure the pod is to be detached.
    pub(crate) async fn attach(&self, intent: &NetworkIntent) -> Result<Vec<Value>, NetworkError> {
        let mut results = Vec::new();
        for NetworkAttachment { network, attachment } in &intent.attachments {
            let name = || network.name.clone();
            let added = self.invoker.add(network, attachment).await;
            let added = added.map_err(|source| NetworkError::Attach { network: name(), source })?;
            // The pod's address is of the first; the others may be links without addresses.
            if results.is_empty() && added.result.pod_ips(&attachment.if_name).is_empty() {
                return Err(NetworkError::NoAddress {
                    network: name(),
                    interface: attachment.if_name.clone(),
                });
            }
            results.push(added.raw);
        }
        Ok(results)
    }

    /// Takes the pod off its networks, last first. Success when that is done already; the namespace may be gone.
    pub(crate) async fn detach(
        &self,
        intent: &NetworkIntent,
        results: Option<&[Value]>,
    ) -> Result<(), NetworkError> {
        // A namespace that somebody took away is none: plugins give back what they hold outside of it.
        let pinned = netns::is_pinned(&intent.pin);
        for (index, NetworkAttachment { network, attachment }) in intent.attachments.iter().enumerate().rev()
        {
            let mut attachment = attachment.clone();
            attachment.netns = attachment.netns.filter(|_| pinned);
            let previous = results.and_then(|results| results.get(index));
            let deleted = self.invoker.del(network, &attachment, previous).await;
            deleted.map_err(|source| NetworkError::Detach { network: network.name.clone(), source })?;
        }
        Ok(())
    }

    /// What is shown of what the plugins answered.
    pub(crate) fn view(&self, intent: &NetworkIntent, results: &[Value]) -> Option<NetworkView> {
        let (first, result) = intent.attachments.first().zip(results.first())?;
        let parsed = CniResult::parse(result).ok()?;
        let mut ips = parsed.pod_ips(&first.attachment.if_name);
        match self.prefer {
            IpPreference::Cni => {}
            // Stable: beyond that the plugins' order stays.
            IpPreference::Ipv4 => ips.sort_by_key(IpAddr::is_ipv6),
            IpPreference::Ipv6 => ips.sort_by_key(IpAddr::is_ipv4),
        }
        Some(NetworkView { ips, result: result.clone() })
    }
}

/// What every plugin is told of the pod; the names are Kubernetes'.
fn arguments(id: &SandboxId, spec: &PodSpec) -> Vec<(String, String)> {
    let metadata = &spec.metadata;
    [
        ("IgnoreUnknown", "1"),
        ("K8S_POD_NAMESPACE", metadata.namespace.as_str()),
        ("K8S_POD_NAME", metadata.name.as_str()),
        ("K8S_POD_INFRA_CONTAINER_ID", id.as_str()),
        ("K8S_POD_UID", metadata.uid.as_str()),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .to_vec()
}
