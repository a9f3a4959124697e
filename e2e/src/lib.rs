//! Harness of the end-to-end tests: a node of real processes in private directories, and the tools to drive it.
//!
//! It links nothing of the product but the generated CRI types. Everything here panics with a message that names
//! the step, because its caller is always a test. Each node owns its directories and processes; nothing is shared
//! between tests but the images built once in a process.

pub mod cgroup;
pub mod client;
pub mod crictl;
pub mod critest;
pub mod ctr;
pub mod fault;
pub mod fixture;
pub mod http;
pub mod images;
pub mod layer;
pub mod leak;
pub mod liar;
pub mod network;
pub mod node;
pub mod pod;
pub mod process;
pub mod registry;
pub mod up;
pub mod wait;
pub mod web;
pub mod witness;
