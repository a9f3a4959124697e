//! The OCI runtime behind one trait; nothing else knows that a program is run.

pub(crate) mod choice;
mod console;
mod runc;

use std::future::Future;
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::pin::Pin;
use std::rc::Rc;

use runtime_shim::layout::Bundle;
use rustix::process::Pid;
use thiserror::Error;

use crate::job::Job;
use crate::reaper::Running;

pub(crate) use runc::Runc;

/// A running call of the OCI runtime.
pub(crate) type RuntimeFuture<T> = Pin<Box<dyn Future<Output = Result<T, RuntimeError>>>>;

/// Container that a call is for.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) id: String,
    pub(crate) bundle: Bundle,
}

/// Standard streams of a new process.
#[derive(Debug)]
pub(crate) enum Streams {
    /// One by one; `None` is `/dev/null`.
    Each { stdin: Option<OwnedFd>, stdout: Option<OwnedFd>, stderr: Option<OwnedFd> },
    /// A terminal, which the runtime makes as the process's specification says.
    Terminal,
}

/// A process that a call has left to us.
pub(crate) struct Begun {
    pub(crate) running: Running,
    /// Our end of its terminal, when it was to have one.
    pub(crate) terminal: Option<OwnedFd>,
}

/// A process to run in a container.
#[derive(Debug)]
pub(crate) struct ExecArgs {
    /// Distinguishes execs of a container.
    pub(crate) number: u64,
    /// `process` of the OCI runtime specification, JSON.
    pub(crate) process: Vec<u8>,
    /// Group below the container's to put it in, as `Group::exec_argument` gives it.
    pub(crate) cgroup: Option<String>,
    pub(crate) streams: Streams,
}

/// What an OCI runtime can do. Calls may take for ever; their [`Job`] can be aborted. Everything that a call starts and
/// leaves behind becomes a child of the shim, as it is a subreaper.
pub(crate) trait OciRuntime {
    /// Makes a container whose first process waits to be started.
    fn create(&self, target: &Target, streams: Streams, job: Rc<Job>) -> RuntimeFuture<Begun>;
    /// Lets the first process run.
    fn start(&self, target: &Target, job: Rc<Job>) -> RuntimeFuture<()>;
    /// Takes a container apart and kills what is left of it; success when there is none.
    fn delete(&self, target: &Target, job: Rc<Job>) -> RuntimeFuture<()>;
    /// Changes the limits of a container, given as `resources` of the OCI runtime specification, JSON.
    fn update(&self, target: &Target, resources: &[u8], job: Rc<Job>) -> RuntimeFuture<()>;
    /// Starts a further process.
    fn exec(&self, target: &Target, args: ExecArgs, job: Rc<Job>) -> RuntimeFuture<Begun>;
}

/// Why an OCI runtime refused to start a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    CommandNotFound,
    CommandNotExecutable,
    /// An option that this version of the runtime does not have.
    UnknownOption,
    Other,
}

/// A call of an OCI runtime failed.
#[derive(Debug, Error)]
pub(crate) enum RuntimeError {
    /// The runtime itself cannot be run.
    #[error("run {binary} {verb}")]
    Spawn {
        binary: PathBuf,
        verb: &'static str,
        #[source]
        source: io::Error,
    },
    /// It said no.
    #[error("{verb} of container {id} failed: {message}")]
    Refused { verb: &'static str, id: String, refusal: Refusal, message: String },
    /// It was killed by request.
    #[error("{verb} of container {id} was aborted")]
    Aborted { verb: &'static str, id: String },
    /// A file that goes with the call.
    #[error("{step} for {verb} of container {id}")]
    File {
        step: &'static str,
        verb: &'static str,
        id: String,
        #[source]
        source: io::Error,
    },
    /// It said that a process was started, but there is none.
    #[error("{verb} of container {id} left process {pid} that is not ours", pid = pid.as_raw_nonzero())]
    Stray {
        verb: &'static str,
        id: String,
        pid: Pid,
        #[source]
        source: io::Error,
    },
}
