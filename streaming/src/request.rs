//! What the three RPCs ask for, and which requests can never work.

use runtime_core::error::ErrorKind;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExecRequest {
    pub container: String,
    pub command: Vec<String>,
    pub tty: bool,
    pub stdin: bool,
    pub stdout: bool,
    pub stderr: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttachRequest {
    pub container: String,
    pub tty: bool,
    pub stdin: bool,
    pub stdout: bool,
    pub stderr: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortForwardRequest {
    pub sandbox: String,
    /// What the RPC names; SPDY clients name the port in each stream instead and leave this empty.
    pub ports: Vec<i32>,
}

impl ExecRequest {
    pub fn validate(&self) -> Result<(), RequestError> {
        named(&self.container, "container")?;
        if self.command.is_empty() {
            return Err(RequestError::NoCommand);
        }
        self.streams().validate()
    }

    pub(crate) fn streams(&self) -> Streams {
        Streams { tty: self.tty, stdin: self.stdin, stdout: self.stdout, stderr: self.stderr }
    }
}

impl AttachRequest {
    pub fn validate(&self) -> Result<(), RequestError> {
        named(&self.container, "container")?;
        self.streams().validate()
    }

    pub(crate) fn streams(&self) -> Streams {
        Streams { tty: self.tty, stdin: self.stdin, stdout: self.stdout, stderr: self.stderr }
    }
}

impl PortForwardRequest {
    pub fn validate(&self) -> Result<(), RequestError> {
        named(&self.sandbox, "sandbox")?;
        match self.ports.iter().find(|port| !(1..=65535).contains(*port)) {
            Some(port) => Err(RequestError::Port(*port)),
            None => Ok(()),
        }
    }
}

/// Which streams a client of exec or attach is to open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Streams {
    pub(crate) tty: bool,
    pub(crate) stdin: bool,
    pub(crate) stdout: bool,
    pub(crate) stderr: bool,
}

impl Streams {
    fn validate(self) -> Result<(), RequestError> {
        if self.tty && self.stderr {
            return Err(RequestError::TtyWithStderr);
        }
        if !(self.stdin || self.stdout || self.stderr) {
            return Err(RequestError::NoStream);
        }
        Ok(())
    }
}

fn named(id: &str, what: &'static str) -> Result<(), RequestError> {
    if id.is_empty() { Err(RequestError::NoId(what)) } else { Ok(()) }
}

/// A request that can never work as it stands.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    #[error("the {0} id is missing")]
    NoId(&'static str),
    #[error("the command is empty")]
    NoCommand,
    #[error("tty and stderr cannot both be asked for: a terminal has one output")]
    TtyWithStderr,
    #[error("one of stdin, stdout and stderr must be asked for")]
    NoStream,
    #[error("{0} is not a port: 1 to 65535 are")]
    Port(i32),
}

impl RequestError {
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NoId(_) | Self::NoCommand | Self::TtyWithStderr | Self::NoStream | Self::Port(_) => {
                ErrorKind::InvalidArgument
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_that_can_never_work_are_refused() {
        let streams = |tty, stdin, stdout, stderr| Streams { tty, stdin, stdout, stderr }.validate();
        assert_eq!(streams(true, true, true, true), Err(RequestError::TtyWithStderr));
        assert_eq!(streams(true, false, false, false), Err(RequestError::NoStream));
        assert_eq!(streams(true, true, true, false), Ok(()));
        assert_eq!(streams(false, false, false, true), Ok(()));
        let forward =
            |ports: &[i32]| PortForwardRequest { sandbox: "pod".into(), ports: ports.to_vec() }.validate();
        assert_eq!(forward(&[]), Ok(()));
        assert_eq!(forward(&[80, 65535]), Ok(()));
        assert_eq!(forward(&[80, 65536]), Err(RequestError::Port(65536)));
        assert_eq!(forward(&[-1]), Err(RequestError::Port(-1)));
    }
}
