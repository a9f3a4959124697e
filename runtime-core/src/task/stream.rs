//! Sessions with the processes of a container: attachments and interactive execs, over the shim's stream socket.
//!
//! A session owns its connection. Dropping it leaves the container alone, and kills what an exec started.

use std::time::Duration;

use runtime_shim::layout;
use runtime_shim::protocol::io::{StreamAttach, StreamExec, StreamOpen, stream_open::Wish};

pub use runtime_shim::stream::Stdin;
pub use runtime_shim::stream::session::{Session, SessionEvent, SessionInput, SessionOutput};

use super::{Shim, ShimError};

/// Bound on attaching, which only touches the shim's memory.
const ATTACH: Duration = Duration::from_secs(10);
/// Bound on an exec's start, which runs the OCI runtime.
const EXEC: Duration = Duration::from_secs(240);

/// Which streams of a running container to take part in.
#[derive(Clone, Copy, Debug)]
pub struct AttachWish<'a> {
    pub container: &'a str,
    pub stdin: bool,
    pub stdout: bool,
    pub stderr: bool,
}

/// A command to run in a container for as long as its session lasts.
#[derive(Debug)]
pub struct ExecWish<'a> {
    pub container: &'a str,
    /// The `process` object of the OCI runtime-spec as JSON; its `terminal` must be as the one here.
    pub process: Vec<u8>,
    /// All output of a terminal comes as stdout.
    pub terminal: bool,
    pub stdin: bool,
    pub stdout: bool,
    pub stderr: bool,
}

impl Shim {
    /// Output of a running container from now on, and a share in its input as its task was created with. Ends with the
    /// container's exit.
    pub async fn attach(&self, wish: &AttachWish<'_>) -> Result<Session, ShimError> {
        let attach = StreamAttach {
            container: wish.container.to_owned(),
            stdin: wish.stdin,
            stdout: wish.stdout,
            stderr: wish.stderr,
        };
        self.open("attach to the container", Wish::Attach(attach), ATTACH).await
    }

    /// Starts a command. It runs when this returns.
    pub async fn exec_interactive(&self, wish: ExecWish<'_>) -> Result<Session, ShimError> {
        let exec = StreamExec {
            container: wish.container.to_owned(),
            process: wish.process,
            terminal: wish.terminal,
            stdin: wish.stdin,
            stdout: wish.stdout,
            stderr: wish.stderr,
        };
        self.open("run the command", Wish::Exec(exec), EXEC).await
    }

    async fn open(&self, call: &'static str, wish: Wish, limit: Duration) -> Result<Session, ShimError> {
        let socket = layout::stream_socket(self.client().socket());
        let opened = Session::open(&socket, StreamOpen { wish: Some(wish) }, limit).await;
        opened.map_err(|source| ShimError::Session { id: self.id().to_owned(), call, source })
    }
}
