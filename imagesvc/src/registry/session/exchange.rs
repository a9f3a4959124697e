//! One request and its answer: challenges are met, redirects followed.

use reqwest::header::{ACCEPT, AUTHORIZATION, HeaderMap, HeaderValue, LOCATION, RANGE};
use reqwest::{Method, Response, StatusCode, Url};

use super::Session;
use super::access::Renewed;
use crate::document::media;
use crate::registry::answer::status_error;
use crate::registry::attempt::AttemptError;
use crate::registry::auth::{self, Credentials};
use crate::registry::endpoint::{Endpoint, host_of};

const MAX_REDIRECTS: usize = 5;
/// A token that another request has got may be refused as well; hardly so often.
const MAX_CHALLENGES: usize = 4;

pub(super) struct Ask<'a> {
    pub(super) method: Method,
    pub(super) kind: &'a str,
    pub(super) name: &'a str,
    pub(super) offset: u64,
}

/// A success, and where it came from.
pub(super) struct Answer {
    pub(super) response: Response,
    /// The host that a redirect has led to.
    pub(super) behind: Option<String>,
}

impl Session {
    /// Sends the request, answers challenges, and gives back a success or an error. Only the host itself is
    /// answered: what a redirect leads to may ask for our credentials, but they are not for it.
    pub(super) async fn ask(&self, at: usize, ask: &Ask<'_>) -> Result<Answer, AttemptError> {
        let (endpoint, access) = (&self.endpoints[at], &self.access[at]);
        let (mut value, mut is_new) = (access.value(), false);
        for _ in 0..MAX_CHALLENGES {
            let (response, answered) = self.follow(endpoint, ask, value.clone()).await?;
            let behind = (answered.origin() != endpoint.base.origin()).then(|| host_of(&answered));
            if response.status() != StatusCode::UNAUTHORIZED {
                return self.success(ask, response, behind).await;
            }
            if let Some(target) = behind {
                return Err(AttemptError::ForeignChallenge { target });
            }
            let challenges = auth::challenges(response.headers());
            if challenges.is_empty() || is_new {
                return Err(status_error(response, self.clients.progress_timeout()).await);
            }
            let credentials = self.credentials(endpoint);
            let repository = self.reference.repository();
            let answer = auth::answer(&self.clients, endpoint, &challenges, &credentials, repository);
            value = Some(match access.renew(value.as_ref(), answer).await? {
                Renewed::Meanwhile(value) => value,
                Renewed::Now(value) => {
                    is_new = true;
                    value
                }
            });
        }
        Err(AttemptError::Challenge { challenge: "one after the other".to_owned() })
    }

    async fn success(
        &self,
        ask: &Ask<'_>,
        response: Response,
        behind: Option<String>,
    ) -> Result<Answer, AttemptError> {
        let wrong_part = response.status() == StatusCode::PARTIAL_CONTENT && ask.offset == 0;
        if response.status().is_success() && !wrong_part {
            return Ok(Answer { response, behind });
        }
        Err(at(behind.as_deref(), status_error(response, self.clients.progress_timeout()).await))
    }

    fn credentials(&self, endpoint: &Endpoint) -> Credentials {
        match &self.auth {
            Some(auth) => auth.for_endpoint(endpoint, self.reference.host()),
            None => Credentials::None,
        }
    }

    /// Follows redirects; tells which address has answered in the end. What we know of the host (token,
    /// configured headers, client certificate) does not go along to another one, nor does its leave to show a
    /// certificate that is not valid, and nothing goes from https to http.
    async fn follow(
        &self,
        endpoint: &Endpoint,
        ask: &Ask<'_>,
        authorization: Option<HeaderValue>,
    ) -> Result<(Response, Url), AttemptError> {
        let mut url = endpoint.url(self.reference.repository(), ask.kind, ask.name);
        let mut client = self.clients.get(&endpoint.transport)?;
        let mut headers = endpoint.headers.clone();
        if let Some(value) = authorization {
            headers.insert(AUTHORIZATION, value);
        }
        let mut behind = None;
        for _ in 0..MAX_REDIRECTS {
            let mut request = client.request(ask.method.clone(), url.clone()).headers(headers.clone());
            if ask.kind == "manifests" {
                request = request.header(ACCEPT, media::ACCEPTED.join(", "));
            }
            if ask.offset > 0 {
                request = request.header(RANGE, format!("bytes={}-", ask.offset));
            }
            let limit = self.clients.progress_timeout();
            let sent = request.send().await.map_err(|error| AttemptError::of_send(error, limit));
            let response = sent.map_err(|error| at(behind.as_deref(), error))?;
            let Some(next) = redirect(&url, &response)? else {
                return Ok((response, url));
            };
            if next.origin() != url.origin() {
                headers = HeaderMap::new();
                client = self.clients.get(&endpoint.transport_to(&next))?;
            }
            behind = (next.origin() != endpoint.base.origin()).then(|| host_of(&next));
            url = next;
        }
        Err(AttemptError::Redirect { target: url.host_str().unwrap_or_default().to_owned(), why: "too many" })
    }
}

/// The error of the host that was asked, or of the one that it redirects to.
pub(super) fn at(behind: Option<&str>, error: AttemptError) -> AttemptError {
    match behind {
        Some(target) => AttemptError::Behind { target: target.to_owned(), source: Box::new(error) },
        None => error,
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
