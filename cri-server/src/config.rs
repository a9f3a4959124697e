//! The daemon's configuration: containerd's `config.toml`, version 2, 3 or 4.
//!
//! A file goes through three steps: [`file`] reads it and remembers where every key stands, [`migrate`] brings
//! it to version 3, [`schema`] takes the typed values out. Each step collects what is wrong; `load` reports all
//! of it at once, each with file, line and key. The environment is not read.

mod cni;
mod dump;
mod file;
mod finding;
mod images;
mod known;
mod load;
mod migrate;
mod resolve;
mod root;
mod runtime;
mod schema;
mod streams;

pub use cni::CniConfig;
pub use file::ConfigError;
pub use finding::{Finding, Severity};
pub use images::{ImagesConfig, Registry};
pub use load::{ConfigPath, Loaded, load};
pub use resolve::{Config, LogFormat, LogLevel, Overrides};
pub use runtime::{ContainerdConfig, HandlerConfig, HandlerOptions, RuntimeConfig};
pub use schema::{Problem, ProblemKind, Schema, Schemas, check};
pub use streams::StreamsConfig;

/// Where the configuration is when nobody says: absent is fine there, all values are defaults.
pub const DEFAULT_PATH: &str = "/etc/orlop/config.toml";

/// The pod network of a node that has none of its own: one bridge, addresses that are no others', ports of the node.
pub const DEFAULT_NETWORK: &str = include_str!("config/network.json");

/// The plugin whose table is [`ImagesConfig`].
pub const IMAGES_PLUGIN: &str = "io.containerd.cri.v1.images";

/// The plugin whose table is [`StreamsConfig`].
pub const CRI_PLUGIN: &str = "io.containerd.grpc.v1.cri";

/// The plugin whose table is [`RuntimeConfig`].
pub const RUNTIME_PLUGIN: &str = "io.containerd.cri.v1.runtime";
