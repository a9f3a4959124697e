//! Credentials, challenges and tokens. A credential goes to the host it belongs to and to the token server which
//! that host names, and nowhere else.

mod challenge;

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use reqwest::Url;
use reqwest::header::HeaderValue;
use serde::Deserialize;

pub(super) use challenge::{Challenge, challenges};

use super::answer::{read_capped, status_error};
use super::attempt::AttemptError;
use super::client::Clients;
use super::endpoint::Endpoint;
use super::origin::same_registry;

const MAX_TOKEN_ANSWER: u64 = 1 << 20;
const CLIENT_ID: &str = "orlop";
/// What of a realm is shown in errors.
const MAX_REALM_TEXT: usize = 200;

/// What the kubelet sends along with a pull (CRI `AuthConfig`).
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct Auth {
    pub username: String,
    pub password: String,
    /// Base64 of `username:password`, used when those are empty.
    pub auth: String,
    /// The registry it is for; empty means the one of the reference.
    pub server_address: String,
    /// OAuth2 refresh token.
    pub identity_token: String,
    /// Bearer token, sent as it is.
    pub registry_token: String,
}

impl fmt::Debug for Auth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Auth").field("server_address", &self.server_address).finish_non_exhaustive()
    }
}

/// Credentials in the form that requests need.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Credentials {
    None,
    Password { username: String, password: String },
    Identity(String),
    Bearer(String),
}

impl Auth {
    /// What of it `endpoint` may see when images of `registry` are pulled.
    pub(super) fn for_endpoint(&self, endpoint: &Endpoint, registry: &str) -> Credentials {
        let owner = match self.server_address.as_str() {
            "" => registry,
            address => address,
        };
        if !same_registry(owner, &endpoint.base) {
            return Credentials::None;
        }
        if !self.registry_token.is_empty() {
            return Credentials::Bearer(self.registry_token.clone());
        }
        if !self.identity_token.is_empty() {
            return Credentials::Identity(self.identity_token.clone());
        }
        if !self.username.is_empty() {
            return Credentials::Password {
                username: self.username.clone(),
                password: self.password.clone(),
            };
        }
        let decoded = STANDARD.decode(self.auth.trim()).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        match decoded.as_deref().and_then(|pair| pair.split_once(':')) {
            Some((username, password)) => Credentials::Password {
                username: username.to_owned(),
                password: password.trim_end_matches('\0').to_owned(),
            },
            None => Credentials::None,
        }
    }
}

#[derive(Deserialize)]
struct TokenAnswer {
    #[serde(default)]
    token: String,
    #[serde(default)]
    access_token: String,
}

/// The `Authorization` value that answers one of `challenges`.
pub(super) async fn answer(
    clients: &Clients,
    endpoint: &Endpoint,
    challenges: &[Challenge],
    credentials: &Credentials,
    repository: &str,
) -> Result<HeaderValue, AttemptError> {
    let bearer = challenges.iter().find(|challenge| challenge.scheme == "bearer");
    let basic = challenges.iter().any(|challenge| challenge.scheme == "basic");
    let value = match (bearer, credentials) {
        (_, Credentials::Bearer(token)) => format!("Bearer {token}"),
        (Some(challenge), _) => {
            let token = token(clients, endpoint, challenge, credentials, repository).await?;
            format!("Bearer {token}")
        }
        (None, Credentials::Password { username, password }) if basic => {
            format!("Basic {}", STANDARD.encode(format!("{username}:{password}")))
        }
        (None, _) if basic => return Err(AttemptError::NoCredentials),
        (None, _) => {
            let challenge = challenges.iter().map(|c| c.scheme.as_str()).collect::<Vec<_>>().join(", ");
            return Err(AttemptError::Challenge { challenge });
        }
    };
    let mut value = HeaderValue::try_from(value)
        .map_err(|_| AttemptError::Challenge { challenge: "a token with control characters".to_owned() })?;
    value.set_sensitive(true);
    Ok(value)
}

/// Asks the realm for a token (distribution specification, "Token Authentication"; OAuth2 for refresh tokens).
async fn token(
    clients: &Clients,
    endpoint: &Endpoint,
    challenge: &Challenge,
    credentials: &Credentials,
    repository: &str,
) -> Result<String, AttemptError> {
    let realm = challenge.parameter("realm").unwrap_or_default();
    let shown: String = realm.chars().filter(|c| !c.is_control()).take(MAX_REALM_TEXT).collect();
    let failed = |why: String| AttemptError::Token { realm: shown.clone(), why };
    let mut url = Url::parse(realm).map_err(|error| failed(error.to_string()))?;
    let secure = url.scheme() == "https" || (url.scheme() == "http" && endpoint.base.scheme() == "http");
    if !secure {
        return Err(failed("a token server must be reached over https".to_owned()));
    }
    let client = clients.get(&endpoint.transport_to(&url))?;
    let service = challenge.parameter("service").unwrap_or_default();
    let own_scope = format!("repository:{repository}:pull");
    let scope = challenge.parameter("scope").unwrap_or(&own_scope);
    let request = match credentials {
        Credentials::Identity(refresh) => {
            let mut form = url::form(&[("grant_type", "refresh_token"), ("service", service)]);
            form.extend(url::form(&[("client_id", CLIENT_ID), ("scope", scope), ("refresh_token", refresh)]));
            client.post(url).header("content-type", "application/x-www-form-urlencoded").body(form.join("&"))
        }
        Credentials::None | Credentials::Bearer(_) | Credentials::Password { .. } => {
            if !service.is_empty() {
                url.query_pairs_mut().append_pair("service", service);
            }
            url.query_pairs_mut().append_pair("scope", scope);
            match credentials {
                Credentials::Password { username, password } => {
                    client.get(url).basic_auth(username, Some(password))
                }
                _ => client.get(url),
            }
        }
    };
    let limit = clients.progress_timeout();
    let server = |source| AttemptError::TokenServer { realm: shown.clone(), source: Box::new(source) };
    let response = request.send().await.map_err(|error| server(AttemptError::of_send(error, limit)))?;
    if !response.status().is_success() {
        return Err(server(status_error(response, limit).await));
    }
    let body = read_capped(response, MAX_TOKEN_ANSWER, limit).await.map_err(server)?;
    let answer: TokenAnswer = serde_json::from_slice(&body).map_err(|error| failed(error.to_string()))?;
    match (answer.token, answer.access_token) {
        (token, _) if !token.is_empty() => Ok(token),
        (_, token) if !token.is_empty() => Ok(token),
        _ => Err(failed("its answer has no token".to_owned())),
    }
}

/// Form bodies by the URL crate's own encoder.
mod url {
    use reqwest::Url;

    pub(super) fn form(pairs: &[(&str, &str)]) -> Vec<String> {
        let mut encoder = Url::parse("http://form.invalid").expect("a constant");
        encoder.query_pairs_mut().extend_pairs(pairs);
        encoder.query().map(str::to_owned).into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::hosts;

    fn endpoint(registry: &str) -> Endpoint {
        hosts::endpoints(&[], registry).unwrap().remove(0)
    }

    #[test]
    fn credentials_go_to_their_host_only() {
        let auth = |server: &str| Auth {
            username: "u".to_owned(),
            password: "p".to_owned(),
            server_address: server.to_owned(),
            ..Auth::default()
        };
        let cases = [
            ("", "quay.io", "quay.io", true),
            ("", "reg.example:443", "reg.example:443", true),
            ("reg.example:443", "reg.example", "reg.example", true),
            ("http://reg.example", "reg.example", "reg.example", false),
            ("", "docker.io", "docker.io", true),
            ("", "docker.io", "mirror.example", false),
            ("https://index.docker.io/v1/", "docker.io", "docker.io", true),
            ("mirror.example", "docker.io", "mirror.example", true),
            ("evil.example", "quay.io", "quay.io", false),
            ("quay.io.evil.example", "quay.io", "quay.io", false),
        ];
        for (server, registry, asked, given) in cases {
            let credentials = auth(server).for_endpoint(&endpoint(asked), registry);
            assert_eq!(credentials != Credentials::None, given, "{server} {registry} {asked}");
        }
    }

    #[test]
    fn encoded_credentials_are_understood() {
        let auth = Auth { auth: STANDARD.encode("user:pa:ss"), ..Auth::default() };
        let found = auth.for_endpoint(&endpoint("quay.io"), "quay.io");
        assert!(found == Credentials::Password { username: "user".to_owned(), password: "pa:ss".to_owned() });
        assert!(!format!("{auth:?}").contains(&auth.auth), "secrets are not printed");
    }
}
