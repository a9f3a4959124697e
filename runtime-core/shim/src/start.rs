//! `start`: sockets, fork, answer. What the parent does before the fork is all that the shim inherits.
//!
//! A second `start` for the same id finds the socket served and gives the same answer. Starts take turns by a lock on
//! the sockets' folder, so that two of them never make two shims.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use prost::Message;
use runtime_shim::identity::{IdentityError, ProcessIdentity};
use runtime_shim::layout::{self, Bundle};
use runtime_shim::protocol::bootstrap::BootstrapParams;
use runtime_sys::daemonize::{self, Side};
use rustix::fs::FlockOperation;
use serde::Serialize;
use thiserror::Error;

use crate::arguments::Arguments;

/// Most that is read of the parameters on stdin, in bytes.
const MAX_PARAMETERS: u64 = 1 << 20;

/// What `start` has come to.
pub(crate) enum Started {
    /// This is the parent; the answer is printed.
    Answered,
    /// This is the shim.
    Shim(Serving),
}

/// What the shim's process begins with.
pub(crate) struct Serving {
    pub(crate) listener: UnixListener,
    /// Of `layout::stream_socket`.
    pub(crate) streams: UnixListener,
    pub(crate) socket: PathBuf,
    pub(crate) namespace: String,
}

/// A shim cannot be started.
#[derive(Debug, Error)]
pub(crate) enum StartError {
    #[error("{step} {path}")]
    File {
        step: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{step}")]
    Process {
        step: &'static str,
        #[source]
        source: io::Error,
    },
    #[error("tell which process the shim is")]
    Identity {
        #[source]
        source: IdentityError,
    },
}

fn file(step: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StartError {
    move |source| StartError::File { step, path: path.into(), source }
}

fn process(step: &'static str) -> impl FnOnce(io::Error) -> StartError {
    move |source| StartError::Process { step, source }
}

/// Starts the shim of the bundle that is the working directory.
pub(crate) fn start(arguments: &Arguments) -> Result<Started, StartError> {
    let folder = std::env::current_dir().map_err(process("find the bundle"))?;
    let bundle = Bundle::at(&folder);
    let socket_folder = parameters(&arguments.id).and_then(|parameters| parameters.socket_dir);
    let socket_folder = match socket_folder.filter(|folder| Path::new(folder).is_absolute()) {
        Some(folder) => PathBuf::from(folder),
        None => layout::socket_folder(bundle.state().unwrap_or(Path::new("/run/orlop"))),
    };
    make_folder(&socket_folder)?;
    let socket = layout::socket(&socket_folder, &arguments.namespace, &arguments.id);
    let lock = File::open(&socket_folder).map_err(file("open", &socket_folder))?;
    rustix::fs::flock(&lock, FlockOperation::LockExclusive)
        .map_err(|error| file("lock", &socket_folder)(error.into()))?;
    if UnixStream::connect(&socket).is_ok() {
        answer(&socket)?;
        return Ok(Started::Answered);
    }
    let listeners = Listeners::bind(&socket)?;
    drop(lock);
    let stay = stay(&bundle, &socket, listeners, arguments);
    if stay.is_err() {
        for socket in [&socket, &layout::stream_socket(&socket)] {
            let _ = fs::remove_file(socket);
        }
    }
    stay
}

/// Both bound sockets.
struct Listeners {
    calls: UnixListener,
    streams: UnixListener,
}

impl Listeners {
    /// The streams' first: whoever can call can have streams.
    fn bind(socket: &Path) -> Result<Self, StartError> {
        let path = layout::stream_socket(socket);
        let streams = bind(&path)?;
        let calls = bind(socket).inspect_err(|_| drop(fs::remove_file(&path)))?;
        Ok(Self { calls, streams })
    }
}

/// Leaves the shim behind. A bundle that was removed meanwhile fails it: whoever removed a bundle looks for a socket
/// afterwards, so that either this or that finds out.
fn stay(
    bundle: &Bundle,
    socket: &Path,
    listeners: Listeners,
    arguments: &Arguments,
) -> Result<Started, StartError> {
    let log_path = bundle.shim_log();
    let log = OpenOptions::new().append(true).create(true).mode(0o600).open(&log_path);
    let log = log.map_err(file("open", &log_path))?;
    match daemonize::fork_session().map_err(process("fork the shim"))? {
        Side::Parent { child } => {
            let pid = child.as_raw_nonzero().get().unsigned_abs();
            let identity = ProcessIdentity::of(pid).map_err(process("look at the shim"))?;
            if let Err(source) = identity.write(&bundle.shim_pid()) {
                // Our own child, not reaped yet: the pid is its.
                let _ = rustix::process::kill_process(child, rustix::process::Signal::KILL);
                return Err(StartError::Identity { source });
            }
            // A daemon that died meanwhile finds the shim by its pid file.
            let _ = answer(socket);
            Ok(Started::Answered)
        }
        Side::Child => {
            daemonize::replace_standard_streams(&log).map_err(process("leave the caller's streams"))?;
            // The bundle may be removed while the shim lives.
            rustix::process::chdir("/").map_err(|error| process("leave the bundle")(error.into()))?;
            Ok(Started::Shim(Serving {
                listener: listeners.calls,
                streams: listeners.streams,
                socket: socket.to_owned(),
                namespace: arguments.namespace.clone(),
            }))
        }
    }
}

/// The parameters on stdin. Older daemons write runtime options there, or nothing: their id tells them apart.
fn parameters(id: &str) -> Option<BootstrapParams> {
    let mut bytes = Vec::new();
    io::stdin().lock().take(MAX_PARAMETERS).read_to_end(&mut bytes).ok()?;
    BootstrapParams::decode(bytes.as_slice()).ok().filter(|parameters| parameters.instance_id == id)
}

fn make_folder(folder: &Path) -> Result<(), StartError> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(file("make", folder))?;
    fs::set_permissions(folder, fs::Permissions::from_mode(0o700)).map_err(file("protect", folder))
}

/// Binds the socket in place of one that nobody serves. The folder keeps others out until its mode is set.
fn bind(socket: &Path) -> Result<UnixListener, StartError> {
    match fs::remove_file(socket) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(file("remove the stale", socket)(error));
        }
        _ => {}
    }
    let listener = UnixListener::bind(socket).map_err(file("bind", socket))?;
    fs::set_permissions(socket, fs::Permissions::from_mode(0o600)).map_err(file("protect", socket))?;
    listener.set_nonblocking(true).map_err(file("set up", socket))?;
    Ok(listener)
}

#[derive(Serialize)]
struct Answer {
    version: u32,
    address: String,
    protocol: &'static str,
}

/// In the JSON dialect, which every daemon that ever spoke to a v2 shim with versions understands.
fn answer(socket: &Path) -> Result<(), StartError> {
    let answer = Answer { version: 3, address: layout::address(socket), protocol: "ttrpc" };
    let text = serde_json::to_string(&answer).map_err(|error| process("write the answer")(error.into()))?;
    io::stdout().write_all(text.as_bytes()).map_err(process("print the answer"))
}
