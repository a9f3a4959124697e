//! Plugins of this crate: the CRI's images, pods and services, and containerd's services over the same core.

pub(crate) mod api;
pub(crate) mod cri;
pub(crate) mod images;
pub(crate) mod runtime;
