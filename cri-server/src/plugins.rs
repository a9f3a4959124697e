//! The CRI's own plugins: images, pods and the services that show both to a kubelet.

pub(crate) mod cri;
pub(crate) mod images;
pub(crate) mod runtime;
