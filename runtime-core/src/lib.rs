//! The runtime core: everything a node runtime knows that is not CRI.
//!
//! | module | owns |
//! |---|---|
//! | `plugin` | registrations, their graph, typed configuration |
//! | `store` | durable metadata behind a trait, one writer thread |
//! | `record` | container and sandbox records, namespaced |
//! | `namespace`, `labels` | what keeps records of different users apart, and their labels |
//! | `filter` | containerd's filter language over everything that is listed |
//! | `events` | the exchange: who publishes, who listens |
//! | `content`, `snapshot`, `image`, `lease`, `gc` | image data and who keeps it alive |
//! | `task` | shims and the tasks in them |
//! | `tasks` | the named group every async task is spawned through |
//!
//! Nothing here knows gRPC codes or CRI types.

pub mod clock;
pub mod container;
pub mod content;
pub mod error;
pub mod events;
pub mod filter;
pub mod gc;
pub mod ids;
pub mod image;
pub mod labels;
pub mod lease;
pub mod namespace;
pub mod netns;
pub mod plugin;
pub mod record;
pub mod snapshot;
pub mod state;
pub mod store;
pub mod task;
pub mod tasks;
