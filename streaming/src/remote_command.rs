//! Exec and attach, whatever transport carries them: gather the client's streams, ask the backend for the process,
//! copy both ways until the process ends, say how it ended.
//!
//! The session ends with its process even if the client leaves stdin or resize open. It is dropped, and the
//! [`Process`] with it, when the client is gone.

mod gathering;
mod input;
mod resize;
mod status;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use runtime_core::error::chain;

use crate::backend::{Backend, BackendError, Event, Output, Process};
use crate::channel::{Offers, Outbound, SendError};
use crate::protocol::RemoteProtocol;
use crate::remote_command::gathering::{Gathered, gather};
use crate::remote_command::status::Outcome;
use crate::request::{AttachRequest, ExecRequest, Streams};

#[derive(Clone, Debug)]
pub(crate) enum Command {
    Exec(ExecRequest),
    Attach(AttachRequest),
}

impl Command {
    fn streams(&self) -> Streams {
        match self {
            Self::Exec(request) => request.streams(),
            Self::Attach(request) => request.streams(),
        }
    }

    async fn start(&self, backend: &dyn Backend) -> Result<Process, BackendError> {
        match self {
            Self::Exec(request) => backend.exec(request).await,
            Self::Attach(request) => backend.attach(request).await,
        }
    }

    /// What an exit code means to the client: attach tells only that the process has ended.
    fn outcome(&self, code: i32) -> Outcome {
        match self {
            Self::Exec(_) if code != 0 => Outcome::ExitCode(code),
            Self::Exec(_) | Self::Attach(_) => Outcome::Success,
        }
    }
}

pub(crate) struct RemoteCommand {
    pub(crate) command: Command,
    pub(crate) protocol: RemoteProtocol,
    pub(crate) creation_timeout: Duration,
}

impl RemoteCommand {
    pub(crate) async fn run(self, offers: Offers, backend: Arc<dyn Backend>) {
        let gathered = gather(offers, self.command.streams(), self.protocol, self.creation_timeout).await;
        let (error, outcome) = match gathered {
            Ok(Gathered { error, input, stdout, stderr }) => {
                let outcome = match self.command.start(backend.as_ref()).await {
                    Ok(process) => self.copy(process, input, stdout, stderr).await,
                    Err(error) => {
                        tracing::debug!(%error, kind = ?error.kind, "the backend refused");
                        Outcome::Failed(error.message)
                    }
                };
                (error, outcome)
            }
            Err(missing) => {
                tracing::debug!(%missing, "streaming client took too long");
                let text = missing.to_string();
                let Some(error) = missing.error else { return };
                (error, Outcome::Failed(text))
            }
        };
        tell(error, outcome.encode(self.protocol)).await;
    }

    async fn copy(
        &self,
        process: Process,
        mut client: input::ClientInput,
        stdout: Option<Outbound>,
        stderr: Option<Outbound>,
    ) -> Outcome {
        let Process { mut input, mut output } = process;
        let mut writers = Writers { stdout, stderr };
        let outcome = tokio::select! {
            // Cancel-safe: the other arm never ends.
            outcome = self.copy_output(output.as_mut(), &mut writers) => outcome,
            // Cancel-safe: what the process has not taken by its end it never will.
            never = client.copy(input.as_mut()) => match never {},
        };
        // The process is over: the backend need not wait until a slow client has taken the rest.
        drop((input, output));
        writers.finish().await;
        outcome
    }

    async fn copy_output(&self, output: &mut dyn Output, writers: &mut Writers) -> Outcome {
        loop {
            match output.next().await {
                Ok(Some(Event::Stdout(bytes))) => Writers::write(&mut writers.stdout, bytes).await,
                Ok(Some(Event::Stderr(bytes))) => Writers::write(&mut writers.stderr, bytes).await,
                Ok(Some(Event::Exit(code))) => return self.command.outcome(code),
                Ok(None) => return Outcome::Failed("the connection to the process was lost".into()),
                Err(error) => {
                    return Outcome::Failed(format!(
                        "cannot read the output of the process: {}",
                        chain(&error)
                    ));
                }
            }
        }
    }
}

/// The output streams that the client has.
struct Writers {
    stdout: Option<Outbound>,
    stderr: Option<Outbound>,
}

impl Writers {
    /// What the client did not ask for, or does not want any more, is thrown away.
    async fn write(stream: &mut Option<Outbound>, bytes: Bytes) {
        let Some(open) = stream else { return };
        match open.send(bytes).await {
            Ok(()) => {}
            Err(SendError::Reset | SendError::Closed) => *stream = None,
        }
    }

    async fn finish(self) {
        for stream in [self.stdout, self.stderr].into_iter().flatten() {
            // A client that reset the stream knows its end.
            let _ = stream.finish().await;
        }
    }
}

/// Writes the result and ends the error stream. Nobody is left to hear that this failed.
async fn tell(mut error: Outbound, status: Bytes) {
    if error.send(status).await.is_ok() {
        let _ = error.finish().await;
    }
}
