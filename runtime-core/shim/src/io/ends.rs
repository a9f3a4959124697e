//! Both ends of a new process's standard streams: what the OCI runtime is given, and what the shim keeps.

use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;

use super::channel::{self, Channel};
use super::cri_log::Stream;
use crate::oci_runtime::Streams;

/// Which streams a process gets; with a terminal they are all the one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) terminal: bool,
    pub(crate) stdin: bool,
    pub(crate) stdout: bool,
    pub(crate) stderr: bool,
}

/// Our ends.
#[derive(Default)]
pub(crate) struct Ends {
    pub(crate) input: Option<Rc<Channel>>,
    pub(crate) outputs: Vec<(Stream, Rc<Channel>)>,
}

/// Makes pipes. A terminal is made by the OCI runtime and comes with the process.
pub(crate) fn make(plan: Plan) -> io::Result<(Streams, Ends)> {
    let mut ends = Ends::default();
    if plan.terminal {
        return Ok((Streams::Terminal, ends));
    }
    let mut output = |wanted: bool, stream| -> io::Result<Option<OwnedFd>> {
        if !wanted {
            return Ok(None);
        }
        let (ours, theirs) = channel::output_pipe()?;
        ends.outputs.push((stream, Rc::new(ours)));
        Ok(Some(theirs))
    };
    let (stdout, stderr) = (output(plan.stdout, Stream::Stdout)?, output(plan.stderr, Stream::Stderr)?);
    let mut stdin = None;
    if plan.stdin {
        let (ours, theirs) = channel::input_pipe()?;
        ends.input = Some(Rc::new(ours));
        stdin = Some(theirs);
    }
    Ok((Streams::Each { stdin, stdout, stderr }, ends))
}

impl Ends {
    /// These, or the terminal that came: all its output is stdout.
    pub(crate) fn or_terminal(self, master: Option<OwnedFd>) -> io::Result<Self> {
        let Some(master) = master else { return Ok(self) };
        let terminal = Rc::new(Channel::terminal(master)?);
        Ok(Self { input: Some(terminal.clone()), outputs: vec![(Stream::Stdout, terminal)] })
    }
}
