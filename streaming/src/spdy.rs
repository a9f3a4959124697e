//! SPDY/3.1 as Kubernetes uses it: streams opened by the client, typed by a header, half-closed by FIN.
//!
//! No flow control: the peers (moby/spdystream) neither send nor heed WINDOW_UPDATE, so a server that kept to send
//! windows would stall after 64 KiB. It is parsed and ignored, and never sent.

pub(crate) mod connection;
mod dictionary;
mod frame;
mod header_block;
mod reader;
mod writer;
