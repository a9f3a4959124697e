//! One pull's talk with the hosts of one registry: which of them is asked for what, and when the next one is.

mod access;
mod exchange;

use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream::{BoxStream, StreamExt};
use reqwest::{Method, StatusCode};
use runtime_core::ids::Digest;
use sha2::{Digest as _, Sha256};

use super::answer::{Part, read_capped};
use super::attempt::{AttemptError, RegistryError};
use super::auth::Auth;
use super::client::Clients;
use super::endpoint::Endpoint;
use super::retry::{Patience, Place, Retry};
use crate::document::MAX_DOCUMENT;
use crate::reference::{Reference, Version};
use access::Access;
use exchange::{Answer, Ask, at};

const DIGEST_HEADER: &str = "docker-content-digest";

pub(crate) struct Session {
    reference: Reference,
    endpoints: Vec<Endpoint>,
    clients: Arc<Clients>,
    auth: Option<Auth>,
    retry: Retry,
    /// By the endpoint's place.
    access: Vec<Access>,
}

/// A blob's bytes from `offset` on.
pub(crate) struct Blob {
    pub(crate) offset: u64,
    /// Whether the host has said where they end and that nothing comes behind.
    pub(crate) is_the_rest: bool,
    pub(crate) chunks: BoxStream<'static, Result<Bytes, AttemptError>>,
}

impl Session {
    pub(crate) fn new(
        reference: Reference,
        endpoints: Vec<Endpoint>,
        clients: Arc<Clients>,
        auth: Option<Auth>,
        retry: Retry,
    ) -> Self {
        let access = endpoints.iter().map(|_| Access::new()).collect();
        Self { reference, endpoints, clients, auth, retry, access }
    }

    pub(crate) fn reference(&self) -> &Reference {
        &self.reference
    }

    /// Places of the hosts that blobs may come from.
    pub(crate) fn pull_hosts(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.endpoints.len()).filter(|at| self.endpoints[*at].may_pull)
    }

    fn resolve_hosts(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.endpoints.len()).filter(|at| self.endpoints[*at].may_resolve)
    }

    pub(crate) fn host(&self, at: usize) -> &str {
        &self.endpoints[at].host
    }

    /// For one blob from the host.
    pub(crate) fn patience(&self, at: usize) -> Patience {
        self.patience_among(at, self.pull_hosts())
    }

    fn patience_among(&self, at: usize, hosts: impl Iterator<Item = usize>) -> Patience {
        let place = if hosts.last() == Some(at) { Place::Last } else { Place::Followed };
        Patience::new(self.retry, place)
    }

    /// Asks the registry which manifest the reference names. Always goes to the network: the kubelet relies on
    /// credentials being checked (KEP-2535).
    pub(crate) async fn resolve(&self) -> Result<Digest, RegistryError> {
        let mut attempts = Vec::new();
        for at in self.resolve_hosts() {
            let patience = self.patience_among(at, self.resolve_hosts());
            match patiently(patience, || self.resolve_at(at)).await {
                Ok(digest) => return Ok(digest),
                Err(error) => attempts.push((self.host(at).to_owned(), error)),
            }
        }
        Err(RegistryError { step: format!("resolve image {}", self.reference), attempts })
    }

    async fn resolve_at(&self, at: usize) -> Result<Digest, AttemptError> {
        let name = match self.reference.version() {
            Version::Tag(tag) => tag.as_str(),
            Version::Digest(digest) => digest.as_str(),
        };
        let ask = Ask { method: Method::HEAD, kind: "manifests", name, offset: 0 };
        let said = match self.ask(at, &ask).await {
            Ok(answer) => answer.response.headers().get(DIGEST_HEADER).cloned(),
            // Some registries have no HEAD.
            Err(error) if error.status() == Some(405) => None,
            Err(error) => return Err(error),
        };
        let said = said.as_ref().and_then(|value| value.to_str().ok()).map(Digest::parse);
        let digest = match said {
            Some(Ok(digest)) => digest,
            // The specification does not require the header: then the body says it.
            Some(Err(_)) | None => {
                let body = self.document(at, &Ask { method: Method::GET, ..ask }).await?;
                Digest::from_sha256(&Sha256::digest(&body))
            }
        };
        match self.reference.version() {
            Version::Digest(expected) if *expected != digest => {
                Err(AttemptError::WrongDigest { expected: expected.clone(), found: digest })
            }
            Version::Digest(_) | Version::Tag(_) => Ok(digest),
        }
    }

    /// A manifest or index by its digest, checked.
    pub(crate) async fn manifest(&self, digest: &Digest) -> Result<Vec<u8>, RegistryError> {
        let mut attempts = Vec::new();
        for at in self.pull_hosts() {
            match patiently(self.patience(at), || self.manifest_at(at, digest)).await {
                Ok(body) => return Ok(body),
                Err(error) => attempts.push((self.host(at).to_owned(), error)),
            }
        }
        Err(RegistryError { step: format!("fetch manifest {digest} of {}", self.reference), attempts })
    }

    async fn manifest_at(&self, at: usize, digest: &Digest) -> Result<Vec<u8>, AttemptError> {
        let ask = Ask { method: Method::GET, kind: "manifests", name: digest.as_str(), offset: 0 };
        let body = self.document(at, &ask).await?;
        let found = Digest::from_sha256(&Sha256::digest(&body));
        if found == *digest {
            Ok(body)
        } else {
            Err(AttemptError::WrongDigest { expected: digest.clone(), found })
        }
    }

    async fn document(&self, host: usize, ask: &Ask<'_>) -> Result<Vec<u8>, AttemptError> {
        let Answer { response, behind } = self.ask(host, ask).await?;
        let body = read_capped(response, MAX_DOCUMENT, self.clients.progress_timeout()).await;
        body.map_err(|error| at(behind.as_deref(), error))
    }

    /// A blob's bytes from `offset` if the host can, else from the start; unchecked.
    pub(crate) async fn blob(&self, at: usize, digest: &Digest, offset: u64) -> Result<Blob, AttemptError> {
        let ask = Ask { method: Method::GET, kind: "blobs", name: digest.as_str(), offset };
        if offset == 0 {
            return self.ask(at, &ask).await.map(|answer| self.whole(answer));
        }
        match self.ask(at, &ask).await {
            Ok(answer) if answer.response.status() == StatusCode::PARTIAL_CONTENT => {
                if let Some(part) = Part::of(answer.response.headers()).filter(|part| part.start == offset) {
                    return Ok(self.chunks(answer, offset, part.is_the_rest));
                }
            }
            // It has no parts, and begins anew.
            Ok(answer) => return Ok(self.whole(answer)),
            // Its blob has no byte there.
            Err(error) if error.status() == Some(416) => {}
            Err(error) => return Err(error),
        }
        // Another part than was asked for says nothing of ours.
        self.ask(at, &Ask { offset: 0, ..ask }).await.map(|answer| self.whole(answer))
    }

    fn whole(&self, answer: Answer) -> Blob {
        let has_length = answer.response.content_length().is_some();
        self.chunks(answer, 0, has_length)
    }

    fn chunks(&self, answer: Answer, offset: u64, is_the_rest: bool) -> Blob {
        let (Answer { response, behind }, limit) = (answer, self.clients.progress_timeout());
        let failed = move |error| at(behind.as_deref(), AttemptError::of_body(error, limit));
        let chunks = response.bytes_stream().map(move |chunk| chunk.map_err(&failed)).boxed();
        Blob { offset, is_the_rest, chunks }
    }
}

/// Asks one host until it gives what is wanted or `patience` is at its end.
async fn patiently<T, F>(mut patience: Patience, ask: impl Fn() -> F) -> Result<T, AttemptError>
where
    F: Future<Output = Result<T, AttemptError>>,
{
    loop {
        match ask().await {
            Ok(wanted) => return Ok(wanted),
            Err(error) => patience.wait(error).await?,
        }
    }
}
