//! Container output: pipes owned by the shim, relayed into the log that the kubelet reads.

pub(crate) mod cri_log;
pub(crate) mod relay;
pub(crate) mod split;
