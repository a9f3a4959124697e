//! The pod shim's library: what a daemon needs to start one and to talk to it.
//!
//! `protocol` are the messages, `ttrpc` carries them, `client` is the typed face, `launch` starts the process,
//! through a `spawner`; `stream` is the way to and from a process's standard streams; `sysctl` checks what a pod may set;
//! `layout`, `exit_file` and `identity` say what lies where on disk, `teardown` clears up after a dead shim. The process itself is the binary `containerd-shim-orlop-v1`,
//! whose modules are in `main.rs`. Nothing here knows CRI, images or the daemon's records.

pub mod client;
pub mod exit_file;
pub mod identity;
pub mod launch;
pub mod layout;
pub mod protocol;
pub mod spawner;
pub mod stream;
pub mod sysctl;
pub mod teardown;
pub mod ttrpc;
