//! Execs that are one call: no input, output back as frames of the call, an end in time.

use std::time::Duration;

use prost::Message;
use runtime_shim::protocol::io::{ExecEnd, ExecFrame, ExecRequest, exec_frame};
use runtime_shim::ttrpc::server::{Outgoing, Status};

use super::{Caller, Wish};
use crate::io::cri_log::Stream;
use crate::io::ends::Plan;
use crate::io::input::Input;
use crate::tasks::Tasks;

/// Runs an exec to its end.
pub(crate) async fn run(tasks: &Tasks, request: ExecRequest, outgoing: Outgoing) -> Result<(), Status> {
    let limit = u64::try_from(request.timeout_nanos).ok().filter(|nanos| *nanos > 0);
    let wish = Wish {
        container: request.container,
        process: request.process,
        plan: Plan { terminal: false, stdin: false, stdout: true, stderr: true },
        limit: limit.map(Duration::from_nanos),
        output_limit: if request.output_limit == 0 { u64::MAX } else { request.output_limit },
    };
    super::run(tasks, &wish, &OneShot { outgoing }).await
}

struct OneShot {
    outgoing: Outgoing,
}

impl OneShot {
    async fn send(&self, event: exec_frame::Event) {
        // A caller that is gone is noticed through `cancelled`.
        let _ = self.outgoing.send(&ExecFrame { event: Some(event) }.encode_to_vec()).await;
    }
}

impl Caller for OneShot {
    async fn started(&self) {}

    async fn output(&self, stream: Stream, bytes: &[u8]) {
        self.send(match stream {
            Stream::Stdout => exec_frame::Event::Stdout(bytes.to_vec()),
            Stream::Stderr => exec_frame::Event::Stderr(bytes.to_vec()),
        })
        .await;
    }

    async fn feed(&self, _: &Input) {
        std::future::pending().await
    }

    async fn gone(&self) {
        self.outgoing.cancelled().await;
    }

    async fn ended(&self, end: ExecEnd) {
        self.send(exec_frame::Event::End(end)).await;
    }
}
