//! A wished pod.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{LinuxResources, PidMode};

/// Names of a pod; `uid` is opaque (static pods have 32 hex digits without dashes).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PodMetadata {
    pub name: String,
    pub uid: String,
    pub namespace: String,
    pub attempt: u32,
}

/// Whose network the pod's containers live in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum NetworkMode {
    Pod,
    Host,
}

/// Whose System V IPC and POSIX queues, and whose `/dev/shm`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum IpcMode {
    Pod,
    Host,
}

/// What goes into the pod's `resolv.conf`; `None` in [`PodSpec::dns`] copies the host's.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DnsSpec {
    pub servers: Vec<String>,
    pub searches: Vec<String>,
    pub options: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Protocol {
    Tcp,
    Udp,
    Sctp,
}

impl Protocol {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        }
    }
}

/// A port of the node that leads into the pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortMapping {
    pub protocol: Protocol,
    pub container_port: u16,
    /// Never 0: a mapping without a port of the node maps nothing.
    pub host_port: u16,
    /// `None` is every address of the node.
    pub host_ip: Option<IpAddr>,
}

impl PortMapping {
    /// Whether one packet could be meant for both.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        let same_ip = match (self.host_ip, other.host_ip) {
            (Some(mine), Some(theirs)) => mine == theirs,
            (None, _) | (_, None) => true,
        };
        same_ip && self.protocol == other.protocol && self.host_port == other.host_port
    }
}

impl fmt::Display for PortMapping {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.host_port, self.protocol.as_str())
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodSpec {
    pub metadata: PodMetadata,
    /// Empty when the CRI gave none: the pod then has the host's name.
    pub hostname: String,
    /// Absolute; the container log paths are relative to it.
    pub log_directory: Option<PathBuf>,
    pub dns: Option<DnsSpec>,
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
    /// As sent; empty means that we make `/orlop/<pod>`.
    pub cgroup_parent: String,
    pub network: NetworkMode,
    pub ipc: IpcMode,
    pub pid: PidMode,
    pub privileged: bool,
    /// As sent; empty is the default handler.
    pub runtime_handler: String,
    pub overhead: Option<LinuxResources>,
    pub resources: Option<LinuxResources>,
    /// Only with a network of the pod's own.
    #[serde(default)]
    pub port_mappings: Vec<PortMapping>,
    /// Checked names and values, written in the pod's namespaces.
    #[serde(default)]
    pub sysctls: BTreeMap<String, String>,
}
