//! What somebody at the other end of a stream does in a running container, or in its pod's network.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream as StdTcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use runtime_core::error::ErrorKind;
use runtime_core::netns;
use runtime_core::task::{AttachWish, ExecWish, Session};
use rustix::net::AddressFamily;
use tokio::net::{TcpSocket, TcpStream};

use crate::exec::ExecError;
use crate::pod::Pod;
use crate::registry::LookupError;
use crate::sandbox::SandboxState;
use crate::service::PodService;

/// How long a port of a pod may take to answer.
const DIAL_LIMIT: Duration = Duration::from_secs(10);

/// Which of a process's streams the client wants, and whether they are a terminal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Streams {
    pub stdin: bool,
    pub stdout: bool,
    pub stderr: bool,
    pub terminal: bool,
}

/// A port of a pod cannot be reached.
#[derive(Debug, thiserror::Error)]
pub enum ForwardError {
    #[error(transparent)]
    Pod(#[from] LookupError),
    #[error("pod sandbox {id} is not running")]
    NotRunning { id: String },
    #[error("network namespace {path} of pod sandbox {id} cannot be entered")]
    Namespace {
        id: String,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("failed to connect to localhost:{port} inside pod sandbox {id}")]
    Dial {
        id: String,
        port: u16,
        #[source]
        source: io::Error,
    },
}

impl ForwardError {
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Pod(source) => source.kind(),
            Self::NotRunning { .. } => ErrorKind::FailedPrecondition,
            Self::Namespace { .. } => ErrorKind::Internal,
            Self::Dial { .. } => ErrorKind::Unavailable,
        }
    }
}

impl PodService {
    /// Whether a connection can be had from a pod at this moment.
    pub fn check_ready(&self, id: &str) -> Result<(), ForwardError> {
        self.found_ready(id).map(drop)
    }

    fn found_ready(&self, id: &str) -> Result<Arc<Pod>, ForwardError> {
        let handle = self.sandbox_handle(id)?;
        match handle.view.borrow().state {
            SandboxState::Ready { .. } => Ok(handle.pod.clone()),
            _ => Err(ForwardError::NotRunning { id: handle.pod.id.to_string() }),
        }
    }

    /// Runs a command with its streams in the caller's hands. Dropping the session kills what the command started.
    pub async fn exec(&self, id: &str, command: &[String], streams: Streams) -> Result<Session, ExecError> {
        let (handle, shim) = self.running(id).await?;
        let id = || handle.id.to_string();
        let Some(program) = command.first() else {
            return Err(ExecError::NoCommand { id: id() });
        };
        let wish = ExecWish {
            container: handle.id.as_str(),
            process: self.process(&handle.id, command, streams.terminal)?,
            stdin: streams.stdin,
            stdout: streams.stdout,
            stderr: streams.stderr,
            terminal: streams.terminal,
        };
        let session = shim.exec_interactive(wish).await;
        session.map_err(|source| ExecError::Run { id: id(), command: program.clone(), source })
    }

    /// Joins the streams of a container's first process.
    pub async fn attach(&self, id: &str, streams: Streams) -> Result<Session, ExecError> {
        let (handle, shim) = self.running(id).await?;
        let wish = AttachWish {
            container: handle.id.as_str(),
            stdin: streams.stdin,
            stdout: streams.stdout,
            stderr: streams.stderr,
        };
        let session = shim.attach(&wish).await;
        session.map_err(|source| ExecError::Attach { id: handle.id.to_string(), source })
    }

    /// A connection to `localhost:port` as the pod's containers see it, over IPv4, else IPv6.
    pub async fn port_forward(&self, id: &str, port: u16) -> Result<TcpStream, ForwardError> {
        let pod = self.found_ready(id)?;
        let pin = pod.netns();
        let id = || pod.id.to_string();
        let mut failure = None;
        for ip in [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()] {
            let address = SocketAddr::new(ip, port);
            let socket = socket_in(pin, &address).await.map_err(|source| ForwardError::Namespace {
                id: id(),
                path: pin.unwrap_or(Path::new("")).to_owned(),
                source,
            })?;
            match tokio::time::timeout(DIAL_LIMIT, socket.connect(address)).await {
                Ok(Ok(stream)) => return Ok(stream),
                Ok(Err(error)) => failure.get_or_insert(error),
                Err(_) => failure.get_or_insert(io::ErrorKind::TimedOut.into()),
            };
        }
        let source = failure.unwrap_or_else(|| io::ErrorKind::NotConnected.into());
        Err(ForwardError::Dial { id: id(), port, source })
    }
}

async fn socket_in(pin: Option<&Path>, address: &SocketAddr) -> io::Result<TcpSocket> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let pin = pin.map(Path::to_owned);
    // Another namespace is entered by a thread that is waited for.
    let made = tokio::task::spawn_blocking(move || netns::tcp_socket(pin.as_deref(), family)).await;
    let socket = made.map_err(io::Error::other)??;
    Ok(TcpSocket::from_std_stream(StdTcpStream::from(socket)))
}
