//! Syscalls behind safe functions, blocking and without a runtime; the only crate with unsafe code.
//!
//! File descriptors are owned or borrowed types, never numbers. What changes a thread (namespaces) happens in a thread
//! of its own that ends afterwards.

pub mod cgroup;
pub mod clock;
pub mod daemonize;
pub mod memory;
pub mod mount;
pub mod namespace;
pub mod pidfd;
pub mod proc;
pub mod reaper;
pub mod spawn;
