//! The HTTP request that opens a session: what it must say, and the answer. The token is taken last, so that a
//! request that cannot succeed does not use it up.

use std::sync::Arc;
use std::time::Duration;

use http::header::{ALLOW, CONNECTION, CONTENT_TYPE, HeaderName, UPGRADE};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::port_forward::PortForward;
use crate::protocol::{PORT_FORWARD, RemoteProtocol};
use crate::remote_command::{Command, RemoteCommand};
use crate::token::{self, Endpoint, Tokens};

const SPDY: &str = "SPDY/3.1";
const PROTOCOL_VERSION: HeaderName = HeaderName::from_static("x-stream-protocol-version");
const ACCEPTED_PROTOCOLS: HeaderName = HeaderName::from_static("x-accepted-stream-protocol-versions");

/// What a request has opened.
pub(crate) enum Session {
    RemoteCommand(RemoteCommand),
    PortForward(PortForward),
}

pub(crate) struct Accepted {
    pub(crate) session: Session,
    /// Counts the session for as long as it lasts.
    pub(crate) permit: OwnedSemaphorePermit,
    protocol: Protocol,
}

#[derive(Clone, Copy, Debug)]
enum Protocol {
    RemoteCommand(RemoteProtocol),
    PortForward,
}

/// What requests are checked against.
pub(crate) struct Door {
    pub(crate) tokens: Arc<Tokens>,
    pub(crate) sessions: Arc<Semaphore>,
    pub(crate) creation_timeout: Duration,
}

impl Door {
    pub(crate) fn examine<B>(&self, request: &Request<B>) -> Result<Accepted, Refusal> {
        if request.method() != Method::GET && request.method() != Method::POST {
            return Err(Refusal::Method);
        }
        let path = request.uri().path().strip_prefix('/').and_then(|path| path.split_once('/'));
        let (endpoint, token) = path.ok_or(Refusal::Unknown)?;
        let endpoint = Endpoint::from_path(endpoint).ok_or(Refusal::Unknown)?;
        let headers = request.headers();
        let upgrades =
            listed(headers, &CONNECTION).iter().any(|option| option.eq_ignore_ascii_case("upgrade"))
                && listed(headers, &UPGRADE).iter().any(|protocol| protocol.eq_ignore_ascii_case(SPDY));
        if !upgrades {
            return Err(Refusal::NoUpgrade);
        }
        let protocol = negotiate(endpoint, headers)?;
        let permit = Arc::clone(&self.sessions).try_acquire_owned().map_err(|_| Refusal::Busy)?;
        let request = self.tokens.redeem(endpoint, token).ok_or(Refusal::Unknown)?;
        let session = self.session(request, protocol).ok_or(Refusal::Unknown)?;
        Ok(Accepted { session, permit, protocol })
    }

    /// `None` for a protocol of another endpoint, which negotiation does not choose.
    fn session(&self, request: token::Request, protocol: Protocol) -> Option<Session> {
        let creation_timeout = self.creation_timeout;
        let remote = |command, protocol| {
            Some(Session::RemoteCommand(RemoteCommand { command, protocol, creation_timeout }))
        };
        match (request, protocol) {
            (token::Request::Exec(request), Protocol::RemoteCommand(protocol)) => {
                remote(Command::Exec(request), protocol)
            }
            (token::Request::Attach(request), Protocol::RemoteCommand(protocol)) => {
                remote(Command::Attach(request), protocol)
            }
            (token::Request::PortForward(request), Protocol::PortForward) => {
                Some(Session::PortForward(PortForward { sandbox: request.sandbox, creation_timeout }))
            }
            (token::Request::Exec(_) | token::Request::Attach(_), Protocol::PortForward)
            | (token::Request::PortForward(_), Protocol::RemoteCommand(_)) => None,
        }
    }
}

impl Accepted {
    /// 101 with the protocols that were chosen.
    pub(crate) fn response(&self) -> Response<String> {
        let name = match self.protocol {
            Protocol::RemoteCommand(protocol) => protocol.name(),
            Protocol::PortForward => PORT_FORWARD,
        };
        let mut response = Response::new(String::new());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = response.headers_mut();
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(UPGRADE, HeaderValue::from_static(SPDY));
        headers.insert(PROTOCOL_VERSION, HeaderValue::from_static(name));
        response
    }
}

fn negotiate(endpoint: Endpoint, headers: &HeaderMap) -> Result<Protocol, Refusal> {
    if !headers.contains_key(&PROTOCOL_VERSION) {
        return Err(Refusal::NoProtocol);
    }
    let offered = listed(headers, &PROTOCOL_VERSION);
    let chosen = match endpoint {
        Endpoint::Exec | Endpoint::Attach => RemoteProtocol::choose(&offered).map(Protocol::RemoteCommand),
        Endpoint::PortForward => offered.contains(&PORT_FORWARD).then_some(Protocol::PortForward),
    };
    chosen.ok_or(Refusal::NoCommonProtocol(endpoint))
}

/// The values of a header: clients send a comma list or the header several times.
fn listed<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Vec<&'a str> {
    let texts = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    texts.flat_map(|text| text.split(',')).map(str::trim).collect()
}

/// Why no session was opened.
#[derive(Clone, Copy, Debug, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("only GET and POST are served")]
    Method,
    #[error("no such streaming request: its URL is good once and for a short time")]
    Unknown,
    #[error("the request must upgrade to {SPDY}")]
    NoUpgrade,
    #[error("the request must name its protocols in {PROTOCOL_VERSION}")]
    NoProtocol,
    #[error("none of the protocols in {PROTOCOL_VERSION} is served here")]
    NoCommonProtocol(Endpoint),
    #[error("too many streaming sessions")]
    Busy,
}

impl Refusal {
    pub(crate) fn response(self) -> Response<String> {
        let mut response = Response::new(format!("{self}\n"));
        let plain = HeaderValue::from_static("text/plain; charset=utf-8");
        response.headers_mut().insert(CONTENT_TYPE, plain);
        *response.status_mut() = match self {
            Self::Method => {
                response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, POST"));
                StatusCode::METHOD_NOT_ALLOWED
            }
            Self::Unknown => StatusCode::NOT_FOUND,
            Self::NoUpgrade | Self::NoProtocol => StatusCode::BAD_REQUEST,
            Self::NoCommonProtocol(endpoint) => {
                let names = match endpoint {
                    Endpoint::Exec | Endpoint::Attach => RemoteProtocol::names(),
                    Endpoint::PortForward => vec![PORT_FORWARD],
                };
                for name in names {
                    response.headers_mut().append(ACCEPTED_PROTOCOLS, HeaderValue::from_static(name));
                }
                StatusCode::FORBIDDEN
            }
            Self::Busy => StatusCode::SERVICE_UNAVAILABLE,
        };
        response
    }
}
