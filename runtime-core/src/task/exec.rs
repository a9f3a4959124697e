//! One command in a running container, its output kept and handed back.

use std::time::Duration;

use runtime_shim::protocol::io::exec_end::Outcome;
use runtime_shim::protocol::io::exec_frame::Event;
use runtime_shim::protocol::io::{ExecEnd, ExecRequest as WireRequest};

use super::{Shim, ShimError};

/// A command with its `process` object of the OCI runtime-spec as JSON.
#[derive(Debug)]
pub struct ExecRequest<'a> {
    pub container: &'a str,
    pub process: Vec<u8>,
    /// Kills the whole tree that the command started.
    pub timeout: Option<Duration>,
    /// Bytes of stdout and of stderr that are kept, each.
    pub output_limit: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExecOutput {
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
    /// `None` when the timeout killed it.
    pub exit_code: Option<i32>,
}

impl Shim {
    /// Runs a command to its end. Dropping the future kills what the command started.
    pub async fn exec(&self, request: ExecRequest<'_>) -> Result<ExecOutput, ShimError> {
        let timeout_nanos = request.timeout.map_or(0, |t| i64::try_from(t.as_nanos()).unwrap_or(i64::MAX));
        let wire = WireRequest {
            container: request.container.to_owned(),
            process: request.process,
            timeout_nanos,
            output_limit: request.output_limit,
        };
        let mut stream = self.client().exec(&wire).await.map_err(self.failed("run the command"))?;
        let mut output = ExecOutput::default();
        while let Some(frame) = stream.next().await.map_err(self.failed("run the command"))? {
            match frame.event {
                Some(Event::Stdout(bytes)) => output.stdout.extend(bytes),
                Some(Event::Stderr(bytes)) => output.stderr.extend(bytes),
                Some(Event::End(end)) => {
                    output.exit_code = exit_code(&end);
                    return Ok(output);
                }
                None => {}
            }
        }
        Err(ShimError::NoResult { id: self.id().to_owned() })
    }
}

fn exit_code(end: &ExecEnd) -> Option<i32> {
    match end.outcome {
        Some(Outcome::ExitCode(code)) => i32::try_from(code).ok(),
        Some(Outcome::TimedOut(_)) | None => None,
    }
}
