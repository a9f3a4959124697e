//! What registries may do and real ones seldom do, played by a server of ours on loopback. Needs root.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod credentials;
mod hostile;
mod image;
mod mirrors;
#[path = "../support/node.rs"]
mod node;
mod resume;
mod retry;
mod scripted;
mod shapes;
mod stall;
mod tls;
mod tokens;

use std::sync::Arc;
use std::time::Duration;

use imagesvc::{Config, PullError, Retry};

/// Far above what a pull over loopback needs.
const DEADLINE: Duration = Duration::from_secs(20);

/// Repeats as the default does, without its pauses.
fn quick() -> Config {
    let retry = Retry { times: 3, first_pause: Duration::from_millis(1), ..Retry::default() };
    Config { retry, ..Config::default() }
}

/// The error with its causes, as a person reads it.
fn text(error: &Arc<PullError>) -> String {
    runtime_core::error::chain(&**error)
}

/// A folder for `Config::config_path` with the `hosts.toml` of one registry.
fn hosts(folder: &std::path::Path, registry: &str, text: &str) -> Vec<std::path::PathBuf> {
    let path = folder.join("certs.d").join(registry);
    std::fs::create_dir_all(&path).unwrap();
    std::io::Write::write_all(&mut std::fs::File::create(path.join("hosts.toml")).unwrap(), text.as_bytes())
        .unwrap();
    vec![folder.join("certs.d")]
}
