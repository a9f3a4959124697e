//! One pull's talk with the hosts of one registry: who is asked next, with which token, and where redirects lead.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures_util::stream::{BoxStream, StreamExt};
use reqwest::header::{ACCEPT, AUTHORIZATION, HeaderMap, HeaderValue, LOCATION, RANGE};
use reqwest::{Client, Method, Response, StatusCode, Url};
use runtime_core::ids::Digest;
use sha2::{Digest as _, Sha256};

use super::attempt::{AttemptError, RegistryError};
use super::auth::{self, Auth, Credentials};
use super::client::{Clients, read_capped, status_error};
use super::endpoint::{Endpoint, host_of};
use crate::document::{MAX_DOCUMENT, media};
use crate::reference::{Reference, Version};

const MAX_REDIRECTS: usize = 5;
const DIGEST_HEADER: &str = "docker-content-digest";

pub(crate) struct Session {
    reference: Reference,
    endpoints: Vec<Endpoint>,
    clients: Arc<Clients>,
    auth: Option<Auth>,
    /// The `Authorization` value that an endpoint has accepted last, by the endpoint's place.
    authorization: Mutex<HashMap<usize, HeaderValue>>,
}

/// A blob's bytes from `offset` on.
pub(crate) struct Blob {
    pub(crate) offset: u64,
    pub(crate) chunks: BoxStream<'static, Result<Bytes, AttemptError>>,
}

struct Ask<'a> {
    method: Method,
    kind: &'a str,
    name: &'a str,
    offset: u64,
}

impl Session {
    pub(crate) fn new(
        reference: Reference,
        endpoints: Vec<Endpoint>,
        clients: Arc<Clients>,
        auth: Option<Auth>,
    ) -> Self {
        Self { reference, endpoints, clients, auth, authorization: Mutex::new(HashMap::new()) }
    }

    pub(crate) fn reference(&self) -> &Reference {
        &self.reference
    }

    /// Places of the hosts that blobs may come from.
    pub(crate) fn pull_hosts(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.endpoints.len()).filter(|at| self.endpoints[*at].may_pull)
    }

    pub(crate) fn host(&self, at: usize) -> &str {
        &self.endpoints[at].host
    }

    /// Asks the registry which manifest the reference names. Always goes to the network: the kubelet relies on
    /// credentials being checked (KEP-2535).
    pub(crate) async fn resolve(&self) -> Result<Digest, RegistryError> {
        let mut attempts = Vec::new();
        for at in (0..self.endpoints.len()).filter(|at| self.endpoints[*at].may_resolve) {
            match self.resolve_at(at).await {
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
        let response = self.ask(at, &ask).await?;
        let said = response.headers().get(DIGEST_HEADER).and_then(|value| value.to_str().ok());
        let digest = match said.map(Digest::parse) {
            Some(Ok(digest)) => digest,
            // The specification does not require the header: then the body says it.
            Some(Err(_)) | None => {
                let response = self.ask(at, &Ask { method: Method::GET, ..ask }).await?;
                let body = read_capped(response, MAX_DOCUMENT).await?;
                Digest::from_sha256(&Sha256::digest(&body))
            }
        };
        match self.reference.version() {
            Version::Digest(expected) if *expected != digest => {
                Err(AttemptError::WrongDigest { expected: expected.clone(), found: digest })
            }
            _ => Ok(digest),
        }
    }

    /// A manifest or index by its digest, checked.
    pub(crate) async fn manifest(&self, digest: &Digest) -> Result<Vec<u8>, RegistryError> {
        let mut attempts = Vec::new();
        for at in self.pull_hosts() {
            match self.manifest_at(at, digest).await {
                Ok(body) => return Ok(body),
                Err(error) => attempts.push((self.host(at).to_owned(), error)),
            }
        }
        Err(RegistryError { step: format!("fetch manifest {digest} of {}", self.reference), attempts })
    }

    async fn manifest_at(&self, at: usize, digest: &Digest) -> Result<Vec<u8>, AttemptError> {
        let ask = Ask { method: Method::GET, kind: "manifests", name: digest.as_str(), offset: 0 };
        let body = read_capped(self.ask(at, &ask).await?, MAX_DOCUMENT).await?;
        let found = Digest::from_sha256(&Sha256::digest(&body));
        if found == *digest {
            Ok(body)
        } else {
            Err(AttemptError::WrongDigest { expected: digest.clone(), found })
        }
    }

    /// A blob's bytes from `offset` if the host can, else from the start; unchecked.
    pub(crate) async fn blob(&self, at: usize, digest: &Digest, offset: u64) -> Result<Blob, AttemptError> {
        let ask = Ask { method: Method::GET, kind: "blobs", name: digest.as_str(), offset };
        let response = self.ask(at, &ask).await?;
        let resumed = response.status() == StatusCode::PARTIAL_CONTENT;
        Ok(Blob {
            offset: if resumed { offset } else { 0 },
            chunks: response.bytes_stream().map(|chunk| chunk.map_err(AttemptError::of_body)).boxed(),
        })
    }

    /// Sends the request, answers one challenge, and gives back a success or an error. Only the host itself is
    /// answered: what a redirect leads to may ask for our credentials, but they are not for it.
    async fn ask(&self, at: usize, ask: &Ask<'_>) -> Result<Response, AttemptError> {
        let endpoint = &self.endpoints[at];
        let client = self.clients.get(&endpoint.transport)?;
        let known = self.known(at);
        let (mut response, answered) = self.follow(&client, endpoint, ask, known).await?;
        if response.status() == StatusCode::UNAUTHORIZED {
            if answered.origin() != endpoint.base.origin() {
                return Err(AttemptError::ForeignChallenge { target: host_of(&answered) });
            }
            let challenges = auth::challenges(response.headers());
            if challenges.is_empty() {
                return Err(status_error(response).await);
            }
            let credentials = self.credentials(endpoint);
            let value =
                auth::answer(&self.clients, endpoint, &challenges, &credentials, self.reference.repository())
                    .await?;
            self.authorization.lock().unwrap_or_else(PoisonError::into_inner).insert(at, value.clone());
            (response, _) = self.follow(&client, endpoint, ask, Some(value)).await?;
        }
        let wrong_part = response.status() == StatusCode::PARTIAL_CONTENT && ask.offset == 0;
        if response.status().is_success() && !wrong_part {
            Ok(response)
        } else {
            Err(status_error(response).await)
        }
    }

    fn known(&self, at: usize) -> Option<HeaderValue> {
        self.authorization.lock().unwrap_or_else(PoisonError::into_inner).get(&at).cloned()
    }

    fn credentials(&self, endpoint: &Endpoint) -> Credentials {
        match &self.auth {
            Some(auth) => auth.for_endpoint(endpoint, self.reference.host()),
            None => Credentials::None,
        }
    }

    /// Follows redirects; tells which address has answered in the end. What we know of the host (token, configured headers, client certificate) does not
    /// go along to another one, and nothing goes from https to http.
    async fn follow(
        &self,
        client: &Client,
        endpoint: &Endpoint,
        ask: &Ask<'_>,
        authorization: Option<HeaderValue>,
    ) -> Result<(Response, Url), AttemptError> {
        let mut url = endpoint.url(self.reference.repository(), ask.kind, ask.name);
        let mut client = client.clone();
        let mut headers = endpoint.headers.clone();
        if let Some(value) = authorization {
            headers.insert(AUTHORIZATION, value);
        }
        for _ in 0..MAX_REDIRECTS {
            let mut request = client.request(ask.method.clone(), url.clone()).headers(headers.clone());
            if ask.kind == "manifests" {
                request = request.header(ACCEPT, media::ACCEPTED.join(", "));
            }
            if ask.offset > 0 {
                request = request.header(RANGE, format!("bytes={}-", ask.offset));
            }
            let response = request.send().await.map_err(AttemptError::of_send)?;
            let Some(next) = redirect(&url, &response)? else {
                return Ok((response, url));
            };
            if next.origin() != url.origin() {
                headers = HeaderMap::new();
                let mut transport = endpoint.transport.clone();
                transport.identities.clear();
                client = self.clients.get(&transport)?;
            }
            url = next;
        }
        Err(AttemptError::Redirect { target: url.host_str().unwrap_or_default().to_owned(), why: "too many" })
    }
}

fn redirect(from: &Url, response: &Response) -> Result<Option<Url>, AttemptError> {
    if !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
        return Ok(None);
    }
    let refused = |target: &str, why| AttemptError::Redirect { target: target.to_owned(), why };
    let location = response.headers().get(LOCATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let target = from.join(location).map_err(|_| refused("", "its address is not valid"))?;
    let host = target.host_str().unwrap_or_default();
    match (from.scheme(), target.scheme()) {
        (_, "https") | ("http", "http") => Ok(Some(target)),
        ("https", "http") => Err(refused(host, "it leads from https to http")),
        _ => Err(refused(host, "it leads to something other than http")),
    }
}
