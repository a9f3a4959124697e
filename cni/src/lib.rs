//! Invocation of CNI plugins, as the CNI specification 1.1.0 asks of a runtime: any plugin, versions 0.3.0 to 1.1.0.
//!
//! [`ConfigFolder`] reads networks from a folder, [`Invoker`] runs the plugins of a [`Network`] for an [`Attachment`],
//! [`CniResult`] is what they answered. There is no task and no lock here: nothing runs but what a caller awaits, and a
//! dropped future takes its plugin (the whole process group) with it. Which pod gets which network, in what order and
//! with how many retries is the caller's. Configuration files, plugins' output and cache files are taken as hostile.

mod attachment;
mod cache;
mod conf;
mod error;
mod invoke;
mod leftovers;
mod network;
mod plugin;
mod result;
mod version;

pub use attachment::{Attachment, AttachmentError};
pub use conf::{ConfigFolder, LoadError, NetworkSet};
pub use error::{CniError, Command, Kind, Stream};
pub use invoke::Invoker;
pub use network::{Network, NetworkError};
pub use plugin::Addition;
pub use result::{CniResult, Dns, Interface, IpConfig, IpPrefix, ResultError, Route};
pub use version::Version;
