//! ttrpc: a call is one frame each way on a unix stream socket; many calls share a connection.
//!
//! A frame has a 10-byte header (length and stream id as big-endian u32, type, flags) and a payload of at most 4 MiB.
//! Specification: PROTOCOL.md of containerd/ttrpc.

pub mod connection;
pub mod frame;
pub mod server;
