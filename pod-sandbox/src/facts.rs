//! What has happened to a pod since the host booted: the facts that states are projected from.

use runtime_core::clock::Timestamp;
use runtime_core::ids::ContainerId;
use serde::{Deserialize, Serialize};

use crate::timing::Timings;

/// How far the set-up of a pod has come. Set-up climbs, teardown descends; each stage is recorded *before* it
/// is entered, so the last one recorded is the first that may need undoing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Stage {
    /// The name is taken and the durable record exists.
    Reserved,
    /// The pod's folder with hostname, hosts and resolv.conf.
    Files,
    /// A shim process.
    ShimUp,
    /// Pinned namespaces and the pod's `/dev/shm`.
    NamespacesMade,
    /// Attached to its CNI networks.
    NetworkUp,
}

/// Why a container is not running any more; the text is what the kubelet shows and tests for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ExitReason {
    Completed,
    Error,
    OomKilled,
    /// The OCI runtime could not start the command.
    StartError,
    /// The pod's shim died and took the container with it.
    ShimDied,
    /// The host restarted, or nothing is left to tell.
    Unknown,
}

impl ExitReason {
    pub fn as_str(self) -> &'static str {
        match self {
            ExitReason::Completed => "Completed",
            ExitReason::Error => "Error",
            ExitReason::OomKilled => "OOMKilled",
            ExitReason::StartError => "StartError",
            ExitReason::ShimDied => "ShimDied",
            ExitReason::Unknown => "Unknown",
        }
    }
}

/// The end of a container's only task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerExit {
    /// As a shell reports it: 128 + signal for a killed process.
    pub code: i32,
    pub reason: ExitReason,
    pub message: String,
    pub at: Timestamp,
}

/// One line of a pod's journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Fact {
    /// What was written down before could not be read.
    Unreadable {
        why: String,
    },
    /// About to enter a stage.
    Entering(Stage),
    Shim {
        pid: i32,
        start_time: u64,
    },
    Ready {
        at: Timestamp,
        /// How long the stages took.
        #[serde(default)]
        timings: Timings,
    },
    ShimDied {
        at: Timestamp,
    },
    /// Somebody asked; teardown goes on until it succeeds.
    Stopping,
    /// Every network has let go of the pod.
    NetworkDown,
    Stopped {
        at: Timestamp,
    },
    Removing,
    /// About to start the container's task.
    Starting {
        container: ContainerId,
    },
    /// The start was given up and undone.
    StartUndone {
        container: ContainerId,
    },
    Started {
        container: ContainerId,
        pid: i32,
        at: Timestamp,
    },
    Exited {
        container: ContainerId,
        exit: ContainerExit,
    },
    RemovingContainer {
        container: ContainerId,
    },
}
