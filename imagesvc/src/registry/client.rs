//! HTTP clients, one for each way of connecting, shared by all pulls; and what every answer goes through.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use reqwest::redirect::Policy;
use reqwest::{Certificate, Client, Identity, Response};

use super::attempt::AttemptError;
use super::endpoint::Transport;

/// What containerd dials with when `dial_timeout` is not set.
const DIAL_TIMEOUT: Duration = Duration::from_secs(30);
/// What of an error answer is shown.
const MAX_ERROR_TEXT: usize = 300;
const MAX_ERROR_BODY: u64 = 64 << 10;
const MAX_CERTIFICATE_FILE: u64 = 1 << 20;

pub(crate) struct Clients {
    progress_timeout: Duration,
    made: Mutex<HashMap<(Transport, Stamp), Client>>,
}

/// Modification times of the files of a transport: a renewed certificate gets a new client.
type Stamp = Vec<Option<std::time::SystemTime>>;

#[derive(Debug, thiserror::Error)]
#[error("failed to read the certificate file {path}")]
pub struct FileError {
    path: PathBuf,
    #[source]
    source: std::io::Error,
}

impl Clients {
    pub(crate) fn new(progress_timeout: Duration) -> Self {
        // Both errors mean the same: another part of the process has installed one before.
        drop(rustls::crypto::ring::default_provider().install_default());
        Self { progress_timeout, made: Mutex::new(HashMap::new()) }
    }

    /// The client for `transport`. Reads certificate files when it is not made yet.
    pub(crate) fn get(&self, transport: &Transport) -> Result<Client, AttemptError> {
        let key = (transport.clone(), stamp(transport));
        if let Some(client) = self.made.lock().unwrap_or_else(PoisonError::into_inner).get(&key) {
            return Ok(client.clone());
        }
        let client = self.make(transport)?;
        self.made.lock().unwrap_or_else(PoisonError::into_inner).insert(key, client.clone());
        Ok(client)
    }

    fn make(&self, transport: &Transport) -> Result<Client, AttemptError> {
        let plain = || {
            Client::builder()
                .user_agent(concat!("orlop/", env!("CARGO_PKG_VERSION")))
                .redirect(Policy::none())
                .connect_timeout(transport.dial_timeout.unwrap_or(DIAL_TIMEOUT))
                .read_timeout(self.progress_timeout)
        };
        let mut builder = plain().tls_danger_accept_invalid_certs(transport.skip_verify);
        for path in &transport.authorities {
            let certificates =
                Certificate::from_pem_bundle(&read_file(path)?).map_err(AttemptError::Client)?;
            for certificate in certificates {
                builder = builder.tls_certs_merge([certificate]);
            }
        }
        for (certificate, key) in &transport.identities {
            let mut pem = read_file(certificate)?;
            if key != certificate {
                pem.extend(read_file(key)?);
            }
            builder = builder.identity(Identity::from_pem(&pem).map_err(AttemptError::Client)?);
        }
        match builder.build() {
            // A node without any system certificate can still use registries over plain HTTP.
            Err(_) if *transport == Transport::default() => plain().tls_certs_only([]).build(),
            built => built,
        }
        .map_err(AttemptError::Client)
    }
}

fn stamp(transport: &Transport) -> Stamp {
    let files = transport.identities.iter().flat_map(|(certificate, key)| [certificate, key]);
    let files = files.chain(&transport.authorities);
    files.map(|path| std::fs::metadata(path).and_then(|file| file.modified()).ok()).collect()
}

fn read_file(path: &Path) -> Result<Vec<u8>, AttemptError> {
    use std::io::Read;
    let read = || {
        let mut bytes = Vec::new();
        std::fs::File::open(path)?.take(MAX_CERTIFICATE_FILE).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    read().map_err(|source| AttemptError::File(FileError { path: path.to_owned(), source }))
}

/// The whole body, or an error as soon as it is longer than `limit`.
pub(super) async fn read_capped(response: Response, limit: u64) -> Result<Vec<u8>, AttemptError> {
    if response.content_length().is_some_and(|length| length > limit) {
        return Err(AttemptError::TooLarge { limit });
    }
    let mut body = Vec::new();
    let mut chunks = response.bytes_stream();
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(AttemptError::of_body)?;
        if (body.len() + chunk.len()) as u64 > limit {
            return Err(AttemptError::TooLarge { limit });
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// An error answer with what the registry says about it, on one line.
pub(super) async fn status_error(response: Response) -> AttemptError {
    let status = response.status().as_u16();
    let body = read_capped(response, MAX_ERROR_BODY).await.unwrap_or_default();
    let said = serde_json::from_slice::<serde_json::Value>(&body).ok().and_then(|answer| {
        let first = answer.get("errors")?.get(0)?;
        let text = |key| first.get(key).and_then(|value| value.as_str()).unwrap_or_default();
        Some(format!("{} {}", text("code"), text("message")))
    });
    let shown: String =
        said.unwrap_or_default().chars().filter(|c| !c.is_control()).take(MAX_ERROR_TEXT).collect();
    let detail = if shown.trim().is_empty() { String::new() } else { format!(": {}", shown.trim()) };
    AttemptError::Status { status, detail }
}
