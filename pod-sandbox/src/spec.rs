//! What somebody wished for: validated, immutable, stored with the record. CRI types stop before this.

mod container;
mod image;
mod pod;
mod resources;
#[cfg(test)]
pub(crate) mod sample;
mod security;

pub use container::{ContainerMetadata, ContainerSpec, DeviceSpec, ImageReference, MountSpec, Propagation};
pub use image::{ImageConfig, ImageInput};
pub use pod::{DnsSpec, IpcMode, NetworkMode, PodMetadata, PodSpec, PortMapping, Protocol};
pub use resources::{HugepageLimit, LinuxResources};
pub use security::{CapabilitySpec, PidMode, SeccompSpec, SecuritySpec, SupplementalGroupsPolicy, UserSpec};
