//! The listening socket: URLs for the RPCs, one task a connection, and how many of these there may be.
//!
//! Clients without a token are counted apart and must get their request out in time; when there are too many, the one
//! that has been silent for longest goes. So they can neither exhaust the server nor keep the others out.

use std::convert::Infallible;
use std::io::{self, Cursor};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use runtime_core::error::{ErrorKind, chain};
use runtime_core::tasks::TaskGroup;
use tokio::io::AsyncReadExt;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use crate::backend::Backend;
use crate::config::Config;
use crate::handshakes::{Handshake, Handshakes};
use crate::request::{AttachRequest, ExecRequest, PortForwardRequest};
use crate::spdy::connection::{Limits, Stall, serve};
use crate::token::{Request as Wanted, TokenError, Tokens};
use crate::upgrade::{Accepted, Door, Session};

/// How long a client may take from connecting to the end of our answer.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Clients that may be in their handshake at a time.
const MAX_HANDSHAKES: usize = 256;
const MAX_HEADER_BYTES: usize = 16 * 1024;
const MAX_HTTP_HEADERS: usize = 64;
/// After a failed accept, which is a lack of file descriptors more often than not.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Error, stdin, stdout, stderr, resize, and room for a client that opens one twice.
const REMOTE_COMMAND_STREAMS: usize = 8;
const PORT_FORWARD_STREAMS: usize = 1000;
/// How long a forwarded connection that takes no data may hold up the others of its client.
const PORT_FORWARD_PATIENCE: Duration = Duration::from_secs(10);

pub struct Server {
    address: SocketAddr,
    tokens: Arc<Tokens>,
}

impl Server {
    /// Listens, and serves until the group stops.
    pub async fn bind(
        config: Config,
        backend: Arc<dyn Backend>,
        tasks: TaskGroup,
    ) -> Result<Self, BindError> {
        let failed = |source| BindError { address: config.address, source };
        let listener = TcpListener::bind(config.address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let tokens = Arc::new(Tokens::new(config.token_lifetime, config.max_pending));
        let door = Door {
            tokens: Arc::clone(&tokens),
            sessions: Arc::new(Semaphore::new(config.max_connections)),
            creation_timeout: config.creation_timeout,
        };
        let serving = Arc::new(Serving { door, backend, idle_timeout: config.idle_timeout });
        tasks.spawn_endless("streaming accept", accept(listener, serving, tasks.clone()));
        tracing::info!(%address, "streaming server listens");
        Ok(Self { address, tokens })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// A URL that runs the command for whoever opens it first.
    pub fn exec(&self, request: ExecRequest) -> Result<String, TokenError> {
        self.url(Wanted::Exec(request))
    }

    /// A URL that joins the container for whoever opens it first.
    pub fn attach(&self, request: AttachRequest) -> Result<String, TokenError> {
        self.url(Wanted::Attach(request))
    }

    /// A URL that leads into the sandbox for whoever opens it first.
    pub fn port_forward(&self, request: PortForwardRequest) -> Result<String, TokenError> {
        self.url(Wanted::PortForward(request))
    }

    fn url(&self, request: Wanted) -> Result<String, TokenError> {
        let path = request.endpoint().path();
        let token = self.tokens.issue(request)?;
        Ok(format!("http://{}/{path}/{token}", self.address))
    }
}

/// What every connection needs.
struct Serving {
    door: Door,
    backend: Arc<dyn Backend>,
    idle_timeout: Duration,
}

async fn accept(listener: TcpListener, serving: Arc<Serving>, tasks: TaskGroup) {
    let handshakes = Handshakes::new(MAX_HANDSHAKES);
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let handshake = handshakes.enter();
                let serving = Arc::clone(&serving);
                tasks.spawn_endless("streaming connection", async move {
                    serving.client(stream, handshake).await
                });
            }
            Err(error) => {
                tracing::warn!(error = chain(&error), "streaming connection not accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

impl Serving {
    async fn client(&self, stream: TcpStream, handshake: Handshake) {
        let opened = tokio::time::timeout(HANDSHAKE_TIMEOUT, handshake.run(self.handshake(stream))).await;
        let opened =
            opened.map_or(Err(HandshakeError::Slow), |ended| ended.unwrap_or(Err(HandshakeError::Crowd)));
        match opened {
            Ok(Some(opened)) => self.session(opened).await,
            Ok(None) => {}
            Err(error) => tracing::debug!(error = chain(&error), "streaming handshake failed"),
        }
    }

    /// Answers one HTTP request; with a session if it is to be upgraded.
    async fn handshake(&self, stream: TcpStream) -> Result<Option<Opened>, HandshakeError> {
        // Keystrokes are not to wait for each other. A socket that is gone fails on its first use.
        let _ = stream.set_nodelay(true);
        let accepted = Mutex::new(None);
        let service = service_fn(|mut request: Request<Incoming>| {
            let response = match self.door.examine(&request) {
                Ok(session) => {
                    let response = session.response();
                    let upgrade = hyper::upgrade::on(&mut request);
                    *accepted.lock().unwrap_or_else(PoisonError::into_inner) = Some((session, upgrade));
                    response
                }
                Err(refusal) => {
                    tracing::debug!(%refusal, "streaming request refused");
                    refusal.response()
                }
            };
            std::future::ready(Ok::<Response<String>, Infallible>(response))
        });
        http1::Builder::new()
            .max_headers(MAX_HTTP_HEADERS)
            .max_buf_size(MAX_HEADER_BYTES)
            .serve_connection(TokioIo::new(stream), service)
            .with_upgrades()
            .await?;
        let accepted: Option<(Accepted, OnUpgrade)> =
            accepted.into_inner().unwrap_or_else(PoisonError::into_inner);
        let Some((accepted, upgrade)) = accepted else { return Ok(None) };
        Ok(Some(Opened { accepted, transport: Transport::from(upgrade.await?)? }))
    }

    async fn session(&self, opened: Opened) {
        let Opened {
            accepted: Accepted { session, permit, .. },
            transport: Transport { early, read, write },
        } = opened;
        let read = Cursor::new(early).chain(read);
        let backend = Arc::clone(&self.backend);
        let idle = self.idle_timeout;
        match session {
            Session::RemoteCommand(command) => {
                let limits = Limits { streams: REMOTE_COMMAND_STREAMS, stall: Stall::Wait, idle };
                serve(read, write, limits, |offers| command.run(offers, backend)).await;
            }
            Session::PortForward(forward) => {
                let stall = Stall::ResetAfter(PORT_FORWARD_PATIENCE);
                let limits = Limits { streams: PORT_FORWARD_STREAMS, stall, idle };
                serve(read, write, limits, |offers| forward.run(offers, backend)).await;
            }
        }
        drop(permit);
    }
}

/// A session whose client has got its 101.
struct Opened {
    accepted: Accepted,
    transport: Transport,
}

/// The client's socket after HTTP, with what the client sent right behind its request.
struct Transport {
    early: Bytes,
    read: OwnedReadHalf,
    write: OwnedWriteHalf,
}

impl Transport {
    fn from(upgraded: Upgraded) -> Result<Self, HandshakeError> {
        let parts = upgraded.downcast::<TokioIo<TcpStream>>().map_err(|_| HandshakeError::Socket)?;
        let (read, write) = parts.io.into_inner().into_split();
        Ok(Self { early: parts.read_buf, read, write })
    }
}

/// Why a connection never became a session.
#[derive(Debug, thiserror::Error)]
enum HandshakeError {
    #[error("HTTP failed")]
    Http(#[from] hyper::Error),
    #[error("the upgraded connection is not the socket that was accepted")]
    Socket,
    #[error("it took longer than {HANDSHAKE_TIMEOUT:?}")]
    Slow,
    #[error("there are too many, and it was the oldest")]
    Crowd,
}

#[derive(Debug, thiserror::Error)]
#[error("the streaming server cannot listen on {address}")]
pub struct BindError {
    address: SocketAddr,
    #[source]
    source: io::Error,
}

impl BindError {
    pub fn kind(&self) -> ErrorKind {
        match self.source.kind() {
            io::ErrorKind::AddrInUse => ErrorKind::AlreadyExists,
            io::ErrorKind::AddrNotAvailable => ErrorKind::InvalidArgument,
            io::ErrorKind::PermissionDenied => ErrorKind::PermissionDenied,
            _ => ErrorKind::Internal,
        }
    }
}
