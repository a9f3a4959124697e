//! Standard streams of processes: pipes and terminals owned by the shim. A container's output is relayed into the log
//! that the kubelet reads, and to those who are attached.

pub(crate) mod audience;
pub(crate) mod channel;
pub(crate) mod cri_log;
pub(crate) mod ends;
pub(crate) mod input;
pub(crate) mod relay;
pub(crate) mod split;
