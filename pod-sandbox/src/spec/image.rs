//! What a container needs to know of its image. Images and pods meet only in the CRI server.

use runtime_core::ids::{ChainId, Digest};
use serde::{Deserialize, Serialize};

/// The parts of an OCI image configuration that a container inherits (image-spec, "config").
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageConfig {
    pub user: String,
    /// `NAME=value`.
    pub env: Vec<String>,
    pub entrypoint: Vec<String>,
    pub cmd: Vec<String>,
    pub working_dir: String,
    /// `SIGTERM`, `TERM` or a number; empty when unset.
    pub stop_signal: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageInput {
    /// The id of the image everywhere in the CRI: its config digest.
    pub id: Digest,
    /// The name it is recorded under in the core (containerd's `Container.Image`).
    pub name: String,
    pub chain_id: ChainId,
    pub config: ImageConfig,
}
