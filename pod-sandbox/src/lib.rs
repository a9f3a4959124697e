//! Pods and containers: state, drivers, OCI specs, recovery. Knows no CRI types and no gRPC codes.
//!
//! | task | one a | fed by | writes |
//! |---|---|---|---|
//! | sandbox driver | pod | requests (mpsc), the end of the shim | the pod's facts, `SandboxView` (watch) |
//! | container driver | container | requests (mpsc), the container's exit, its own deadline | the container's facts, `ContainerView` (watch) |
//! | container exit | running container | the shim's Wait, the exit file | hands the exit to the container driver |
//! | attach shim | recovered pod | – | the pod's way to its shim (watch) |
//!
//! Readers look at views only. Facts go to the pod's journal before they show in a view.

mod cgroup;
mod container;
mod exec;
mod facts;
mod handler;
mod holder;
mod journal;
mod network;
pub mod oci_spec;
mod pod;
mod recover;
mod registry;
mod sandbox;
mod service;
mod services;
mod signal;
pub mod spec;
mod stats;
mod stream;
mod timing;
pub mod user;
mod view;

pub use container::{
    BundleFailed, ContainerError, ContainerState, CreateError, StartError, TargetError, UpdateError,
};
pub use exec::ExecError;
pub use facts::{ContainerExit, ExitReason, Stage};
pub use handler::{Handler, Handlers, UnknownHandler};
pub use holder::HolderError;
pub use network::{BandwidthError, IpPreference, NetworkError, NetworkView, Networks};
pub use recover::recover;
pub use registry::LookupError;
pub use runtime_core::task::ExecOutput;
pub use sandbox::{SandboxState, SetupError, TeardownError};
pub use service::{PodService, RunError};
pub use services::{NodeSettings, PodPaths, Services};
pub use stats::{ContainerStats, CpuStats, MemoryStats, SwapStats};
pub use stream::{ForwardError, Streams};
pub use timing::Timings;
pub use view::{ContainerView, SandboxView};
