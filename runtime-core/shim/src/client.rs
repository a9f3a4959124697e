//! Typed, asynchronous client of a shim: task, sandbox and io services over one connection.
//!
//! A client belongs to an address, not to a connection: when the connection was lost, the calls in flight fail with
//! [`CallError::Disconnected`] and the next call connects again.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use prost::Message;
use thiserror::Error;
use tokio::sync::Mutex;

use crate::protocol::io::{ExecFrame, ExecRequest, ReopenLogRequest, ReopenLogResponse, StartFailure};
use crate::protocol::{self, sandbox, task};
pub use crate::ttrpc::connection::CallError;
use crate::ttrpc::connection::{AnswerStream, Connection, Method};

/// How long connecting to a shim's socket may take.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);

/// The shim cannot be reached.
#[derive(Debug, Error)]
pub enum ConnectError {
    /// Not `unix://` and a path.
    #[error("shim address {address:?} is not of a kind that is understood")]
    Address { address: String },
    /// Nobody serves the socket: the shim is dead.
    #[error("no shim serves {path}")]
    Gone {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// Any other failure, also no answer in time.
    #[error("connect to the shim at {path}")]
    Failed {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exit {
    /// 0 to 255; 128 + signal number when a signal ended it.
    pub code: u32,
    /// Nanoseconds since the Unix epoch.
    pub at_unix_nanos: i64,
}

/// Whom a signal is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KillTarget {
    /// The container's first process.
    Init,
    /// Every process of the container.
    All,
}

impl CallError {
    /// The OCI runtime's refusal, when that is why a Create or Start failed.
    #[must_use]
    pub fn start_failure(&self) -> Option<StartFailure> {
        let Self::Status { details, .. } = self else {
            return None;
        };
        details.iter().find_map(|detail| protocol::from_any(detail).ok())
    }

    /// The status code, when the shim answered with one.
    #[must_use]
    pub fn code(&self) -> Option<protocol::Code> {
        match self {
            Self::Status { code, .. } => Some(*code),
            Self::DeadlineExceeded { .. } => Some(protocol::Code::DeadlineExceeded),
            Self::Disconnected { .. } | Self::Malformed { .. } | Self::TooLarge { .. } => None,
        }
    }
}

/// Client of one shim. Cheap to clone; clones share the connection.
#[derive(Clone)]
pub struct ShimClient {
    inner: Arc<Inner>,
    limit: Option<Duration>,
}

struct Inner {
    path: PathBuf,
    connection: Mutex<Option<Connection>>,
}

impl ShimClient {
    /// Connects to a shim (`unix://<path>` or a bare absolute path).
    ///
    /// # Errors
    /// See [`ConnectError`].
    pub async fn connect(address: &str) -> Result<Self, ConnectError> {
        let path = socket_path(address)?;
        let connection = dial(&path).await?;
        Ok(Self { inner: Arc::new(Inner { path, connection: Mutex::new(Some(connection)) }), limit: None })
    }

    /// A client that connects at its first call.
    ///
    /// # Errors
    /// When the address is not understood.
    pub fn lazy(address: &str) -> Result<Self, ConnectError> {
        let path = socket_path(address)?;
        Ok(Self { inner: Arc::new(Inner { path, connection: Mutex::new(None) }), limit: None })
    }

    /// The same client, with a bound on each call, waits included; exec streams have their own.
    #[must_use]
    pub fn with_limit(&self, limit: Duration) -> Self {
        Self { inner: self.inner.clone(), limit: Some(limit) }
    }

    /// The shim's socket.
    #[must_use]
    pub fn socket(&self) -> &Path {
        &self.inner.path
    }

    /// Resolves when the present connection is lost, at once when there is none.
    pub async fn closed(&self) {
        let connection = self.inner.connection.lock().await.clone();
        if let Some(connection) = connection {
            connection.closed().await;
        }
    }

    async fn connection(&self, method: Method) -> Result<Connection, CallError> {
        let mut slot = self.inner.connection.lock().await;
        if let Some(connection) = slot.as_ref().filter(|connection| !connection.is_closed()) {
            return Ok(connection.clone());
        }
        let connection =
            dial(&self.inner.path).await.map_err(|_| CallError::Disconnected { method: method.name })?;
        *slot = Some(connection.clone());
        Ok(connection)
    }

    async fn call<A: Message + Default>(
        &self,
        method: Method,
        request: &impl Message,
    ) -> Result<A, CallError> {
        let connection = self.connection(method).await?;
        let answer = connection.unary(method, request.encode_to_vec(), self.limit).await?;
        A::decode(answer.as_slice()).map_err(|source| CallError::Malformed { method: method.name, source })
    }
}

macro_rules! calls {
    ($service:expr; $($(#[$doc:meta])* $name:ident: $method:literal $request:ty => $answer:ty;)+) => {
        impl ShimClient {
            $($(#[$doc])*
            ///
            /// # Errors
            /// See [`CallError`].
            pub async fn $name(&self, request: &$request) -> Result<$answer, CallError> {
                self.call(Method { service: $service, name: $method }, request).await
            })+
        }
    };
}

calls! { protocol::TASK_V3;
    /// Makes a container: root filesystem, log, `runtime create`. `AlreadyExists` when there is one of that id.
    create: "Create" task::CreateTaskRequest => task::CreateTaskResponse;
    /// Starts a created container's process; a second time gives the same answer.
    start: "Start" task::StartRequest => task::StartResponse;
    /// What is known about a container; never waits for the OCI runtime.
    state: "State" task::StateRequest => task::StateResponse;
    /// Sends a signal. `NotFound` when the container is unknown or its process has exited.
    kill: "Kill" task::KillRequest => ();
    /// Takes a container that is not running apart. `NotFound` when it is unknown.
    delete: "Delete" task::DeleteRequest => task::DeleteResponse;
    /// Resolves with the exit of the container's first process.
    wait: "Wait" task::WaitRequest => task::WaitResponse;
    /// Changes a container's resources. `FailedPrecondition` when it has exited.
    update: "Update" task::UpdateTaskRequest => ();
    /// Processes of the container, as the shim's pid namespace numbers them.
    pids: "Pids" task::PidsRequest => task::PidsResponse;
    /// Pids of the shim and of the container's first process.
    connect_task: "Connect" task::ConnectRequest => task::ConnectResponse;
    /// Ends a shim that has neither tasks nor a sandbox; otherwise does nothing.
    shutdown: "Shutdown" task::ShutdownRequest => ();
}

calls! { protocol::SANDBOX;
    /// Makes and pins the pod's namespaces; a second time gives the same answer.
    create_sandbox: "CreateSandbox" sandbox::CreateSandboxRequest => sandbox::CreateSandboxResponse;
    /// The shim's pid and the time the sandbox was made.
    start_sandbox: "StartSandbox" sandbox::StartSandboxRequest => sandbox::StartSandboxResponse;
    /// Platform of the containers.
    platform: "Platform" sandbox::PlatformRequest => sandbox::PlatformResponse;
    /// Kills all containers and gives the namespaces back; success when that is already done.
    stop_sandbox: "StopSandbox" sandbox::StopSandboxRequest => sandbox::StopSandboxResponse;
    /// Resolves when the sandbox is stopped.
    wait_sandbox: "WaitSandbox" sandbox::WaitSandboxRequest => sandbox::WaitSandboxResponse;
    /// State `SANDBOX_READY` or `SANDBOX_NOTREADY`.
    sandbox_status: "SandboxStatus" sandbox::SandboxStatusRequest => sandbox::SandboxStatusResponse;
    /// Whether the shim answers.
    ping_sandbox: "PingSandbox" sandbox::PingRequest => sandbox::PingResponse;
    /// Stops the sandbox and ends the shim.
    shutdown_sandbox: "ShutdownSandbox" sandbox::ShutdownSandboxRequest => sandbox::ShutdownSandboxResponse;
}

calls! { protocol::IO;
    /// Makes the log's file anew, after a rotation renamed it. When it answers, the old file grows no more.
    reopen_log_of: "ReopenLog" ReopenLogRequest => ReopenLogResponse;
}

impl ShimClient {
    /// Signals a container; see [`ShimClient::kill`].
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn signal(&self, container: &str, signal: u32, target: KillTarget) -> Result<(), CallError> {
        let all = target == KillTarget::All;
        self.kill(&task::KillRequest { id: container.into(), exec_id: String::new(), signal, all }).await
    }

    /// Waits for a container's exit; see [`ShimClient::wait`].
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn wait_exit(&self, container: &str) -> Result<Exit, CallError> {
        let request = task::WaitRequest { id: container.into(), exec_id: String::new() };
        let answer = self.wait(&request).await?;
        Ok(Exit { code: answer.exit_status, at_unix_nanos: protocol::unix_nanos(answer.exited_at.as_ref()) })
    }

    /// Reopens a container's log; see [`ShimClient::reopen_log_of`].
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn reopen_log(&self, container: &str) -> Result<(), CallError> {
        self.reopen_log_of(&ReopenLogRequest { container: container.into() }).await.map(|_| ())
    }

    /// Runs a command in a container. Its output comes as frames, the last frame tells how it ended.
    ///
    /// # Errors
    /// See [`CallError`]; that the command cannot be started comes as the stream's first answer.
    pub async fn exec(&self, request: &ExecRequest) -> Result<ExecStream, CallError> {
        let method = Method { service: protocol::IO, name: "Exec" };
        let connection = self.connection(method).await?;
        let answers = connection.stream(method, request.encode_to_vec()).await?;
        Ok(ExecStream { answers })
    }
}

/// Output and end of an exec. Dropping it before the end kills everything the exec started.
pub struct ExecStream {
    answers: AnswerStream,
}

impl ExecStream {
    /// The next frame; `None` after the last. Cancel-safe.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn next(&mut self) -> Result<Option<ExecFrame>, CallError> {
        let Some(message) = self.answers.next().await? else {
            return Ok(None);
        };
        ExecFrame::decode(message.as_slice())
            .map(Some)
            .map_err(|source| CallError::Malformed { method: "Exec", source })
    }
}

fn socket_path(address: &str) -> Result<PathBuf, ConnectError> {
    let path = Path::new(address.strip_prefix("unix://").unwrap_or(address));
    if !path.is_absolute() {
        return Err(ConnectError::Address { address: address.into() });
    }
    Ok(path.to_path_buf())
}

async fn dial(path: &Path) -> Result<Connection, ConnectError> {
    let late = |_| Err(io::ErrorKind::TimedOut.into());
    let opened = tokio::time::timeout(CONNECT_LIMIT, Connection::open(path)).await.unwrap_or_else(late);
    opened.map_err(|source| match source.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
            ConnectError::Gone { path: path.into(), source }
        }
        _ => ConnectError::Failed { path: path.into(), source },
    })
}
