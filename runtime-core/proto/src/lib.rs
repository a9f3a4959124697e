//! Generated types, clients and servers of containerd's API, from our own proto files (`proto/`).
//!
//! Names and numbers are those of containerd 2.4.2 (its API 1.12); what they mean stands in the proto files.
//! Nothing here knows of orlop: the daemon serves these traits, clients call these clients. A message's
//! `full_name()` is the `type_url` of an `Any` that holds it; containerd puts no host in front.
//! Ttrpc is not here: the shim's protocol is the shim's.

#[cfg(test)]
mod contract;
mod redact;

mod generated {
    #![expect(
        clippy::too_many_lines,
        unreachable_pub,
        reason = "generated, and the tree has more levels than ours"
    )]
    include!(concat!(env!("OUT_DIR"), "/tree.rs"));
}

/// Package `containerd.services.<x>.v1` is `services::<x>::v1`: messages, `<x>_client`, `<x>_server`.
pub use generated::containerd::services;

/// Payloads of events, all in one place although the images' have the package of their service.
pub mod events {
    pub use crate::generated::containerd::events::*;
    pub use crate::services::images::v1::{ImageCreate, ImageDelete, ImageUpdate};
}

/// Package `containerd.types`, and what belongs to it under other names.
pub mod types {
    pub use crate::generated::containerd::types::*;
    /// Package `containerd.v1.types`.
    pub use crate::generated::containerd::v1::types as task;
    /// Package `google.rpc`: an error as a value.
    pub use crate::generated::google::rpc;
}

/// Options of runtimes: packages `containerd.runc.v1` and `runtimeoptions.v1`.
pub mod options {
    pub use crate::generated::containerd::runc;
    pub use crate::generated::runtimeoptions;
}

/// Package `grpc.health.v1`.
pub use generated::grpc::health;
