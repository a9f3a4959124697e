//! Images: references, registries, pull, unpack.
//!
//! [`ImageService`] is what the CRI calls. It runs one task a pull (`pull::jobs`), which all callers of the same
//! reference with the same credentials share; blobs and layers that several pulls need are fetched once. State is
//! the records of `runtime_core`; here is only a cache of parsed documents, which never change.

mod document;
mod image;
mod pull;
pub mod reference;
pub mod registry;
mod service;
mod unpack;

pub use document::{DocumentError, ImageConfig};
pub use image::{Image, ImageError, ImageId, ResolvedImage};
pub use pull::{PullError, PulledImage};
pub use registry::{Auth, Retry};
pub use service::{Config, FsInfo, ImageService, Parts, PullRequest};
pub use unpack::UnpackError;
