//! HTTP clients, one for each way of connecting, shared by all pulls.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use reqwest::redirect::Policy;
use reqwest::{Certificate, Client, Identity};

use super::attempt::AttemptError;
use super::endpoint::Transport;

/// What containerd dials with when `dial_timeout` is not set.
const DIAL_TIMEOUT: Duration = Duration::from_secs(30);
const MAX_CERTIFICATE_FILE: u64 = 1 << 20;

pub(crate) struct Clients {
    /// `None` is no limit.
    progress_timeout: Option<Duration>,
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
    pub(crate) fn new(progress_timeout: Option<Duration>) -> Self {
        // Both errors mean the same: another part of the process has installed one before.
        drop(rustls::crypto::ring::default_provider().install_default());
        Self { progress_timeout, made: Mutex::new(HashMap::new()) }
    }

    pub(super) fn progress_timeout(&self) -> Option<Duration> {
        self.progress_timeout
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
            let builder = Client::builder()
                .user_agent(concat!("orlop/", env!("CARGO_PKG_VERSION")))
                .redirect(Policy::none())
                .connect_timeout(transport.dial_timeout.unwrap_or(DIAL_TIMEOUT));
            match self.progress_timeout {
                Some(limit) => builder.read_timeout(limit),
                None => builder,
            }
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
