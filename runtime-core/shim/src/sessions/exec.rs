//! An interactive exec: the process lives as long as the session.

use runtime_shim::protocol::io::{ExecEnd, StreamExec, exec_end};
use runtime_shim::stream::frame::ShimFrame;
use runtime_shim::ttrpc::server::Status;
use serde::Deserialize;

use super::Peer;
use crate::exec::{self, Caller, Wish};
use crate::failure;
use crate::io::cri_log::Stream;
use crate::io::ends::Plan;
use crate::io::input::Input;
use crate::tasks::Tasks;

struct Interactive<'a> {
    peer: &'a Peer,
    plan: Plan,
}

#[derive(Deserialize)]
struct Process {
    #[serde(default)]
    terminal: bool,
}

pub(super) async fn run(tasks: &Tasks, wish: StreamExec, peer: &Peer) -> Result<(), Status> {
    let process: Process = serde_json::from_slice(&wish.process)
        .map_err(|error| failure::invalid(format!("the process to run is damaged: {error}")))?;
    if process.terminal != wish.terminal {
        return Err(failure::invalid("the process to run and the session differ about the terminal"));
    }
    let plan = Plan { terminal: wish.terminal, stdin: wish.stdin, stdout: wish.stdout, stderr: wish.stderr };
    let wish =
        Wish { container: wish.container, process: wish.process, plan, limit: None, output_limit: u64::MAX };
    exec::run(tasks, &wish, &Interactive { peer, plan }).await
}

impl Caller for Interactive<'_> {
    async fn started(&self) {
        // That it is gone is noticed by `gone`, here and below.
        let _ = self.peer.send(&ShimFrame::Opened).await;
    }

    async fn output(&self, stream: Stream, bytes: &[u8]) {
        // A terminal is read also for one who does not want to see it: the process must not hang.
        if self.plan.stdout || stream == Stream::Stderr {
            let _ = self.peer.send_output(stream, bytes).await;
        }
    }

    async fn feed(&self, input: &Input) {
        let end = || input.end();
        let on_end: &dyn Fn() = &end;
        self.peer.feed(input, self.plan.stdin.then_some(on_end)).await;
    }

    async fn gone(&self) {
        self.peer.gone().await;
    }

    async fn ended(&self, end: ExecEnd) {
        if let Some(exec_end::Outcome::ExitCode(code)) = end.outcome {
            let _ = self.peer.send(&ShimFrame::Exit(i32::try_from(code).unwrap_or(i32::MAX))).await;
        }
    }
}
