//! What the tests share: a SPDY client with framing of its own, and a backend whose processes the test plays.
#![allow(dead_code, reason = "each test file uses its part")]

pub(crate) mod backend;
pub(crate) mod client;
#[path = "../../src/spdy/dictionary.rs"]
mod dictionary;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use runtime_core::tasks::TaskGroup;
use streaming::{Backend, Config, ExecRequest, PortForwardRequest, Server};

/// No condition in these tests takes longer on any machine.
pub(crate) const LIMIT: Duration = Duration::from_secs(30);

pub(crate) async fn soon<F: Future>(what: &str, future: F) -> F::Output {
    tokio::time::timeout(LIMIT, future).await.unwrap_or_else(|_| panic!("{what} takes too long"))
}

pub(crate) async fn server(config: Config, backend: Arc<dyn Backend>) -> (Server, TaskGroup) {
    let tasks = TaskGroup::new();
    let server = Server::bind(config, backend, tasks.clone()).await.unwrap();
    (server, tasks)
}

pub(crate) fn exec() -> ExecRequest {
    let command = vec!["cat".to_owned()];
    ExecRequest { container: "box".into(), command, tty: false, stdin: true, stdout: true, stderr: true }
}

pub(crate) fn tty() -> ExecRequest {
    ExecRequest { tty: true, stderr: false, ..exec() }
}

pub(crate) fn forward() -> PortForwardRequest {
    PortForwardRequest { sandbox: "pod".into(), ports: Vec::new() }
}
