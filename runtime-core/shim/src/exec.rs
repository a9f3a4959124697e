//! One-shot execs: a process in a container whose output goes back on the call.
//!
//! The process gets a cgroup of its own below the container's, so that its end by timeout takes everything with it that
//! it started, daemons included, and nothing else. Children that it leaves behind at a regular end live on, and do not
//! hold the call.

use std::future::Future;
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use prost::Message;
use runtime_shim::protocol::io::{ExecEnd, ExecFrame, ExecRequest, exec_end, exec_frame};
use runtime_shim::ttrpc::server::{Outgoing, Status};
use runtime_sys::proc;
use rustix::process::Signal;
use tokio::sync::watch;

use crate::cgroup::Group;
use crate::container::{Container, Phase};
use crate::io::cri_log::Stream;
use crate::io::relay::{self, PipeReader, Read};
use crate::job::Job;
use crate::oci_runtime::{ExecArgs, Output, Refusal, RuntimeError};
use crate::reaper::{Reaper, Running};
use crate::tasks::Tasks;
use crate::{failure, log};

/// Bytes of output in one frame.
const CHUNK: usize = 32 * 1024;
/// How long a killed exec is waited for.
const REAP_LIMIT: Duration = Duration::from_secs(5);

/// Why an exec ends before its process does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cut {
    TimedOut,
    CallerGone,
}

/// Where one stream of an exec goes, and how much more of it may.
struct Sink {
    stream: Stream,
    left: u64,
    truncated: bool,
}

/// An exec under way.
struct Exec<'a> {
    container: &'a Rc<Container>,
    reaper: &'a Rc<Reaper>,
    outgoing: &'a Outgoing,
    request: &'a ExecRequest,
    number: u64,
    job: Rc<Job>,
}

/// Runs an exec to its end.
pub(crate) async fn run(tasks: &Tasks, request: ExecRequest, outgoing: Outgoing) -> Result<(), Status> {
    let container = tasks.get(&request.container)?;
    if !matches!(container.phase(), Phase::Running { .. }) {
        return Err(failure::precondition(format!("container {} is not running", request.container)));
    }
    let number = container.execs.get();
    container.execs.set(number + 1);
    let exec = Exec {
        container: &container,
        reaper: &tasks.reaper,
        outgoing: &outgoing,
        request: &request,
        number,
        job: Job::new(tasks.reaper.clone()),
    };
    let group = exec.make_group();
    let result = exec.run_in(group.as_ref()).await;
    if let Some(group) = group
        && let Err(error) = group.dissolve()
    {
        // The container's own removal takes it along.
        log::note(&format!("remove the cgroup of exec {number} in {}: {error}", request.container));
    }
    runtime_sys::memory::trim();
    result
}

impl Exec<'_> {
    fn group_name(&self) -> String {
        format!("orlop-exec-{}", self.number)
    }

    fn make_group(&self) -> Option<Group> {
        let made = self.container.group()?.make_child(&self.group_name());
        made.inspect_err(|error| log::note(&format!("make a cgroup for an exec: {error}"))).ok()
    }

    async fn run_in(&self, group: Option<&Group>) -> Result<(), Status> {
        let mut cut = pin!(self.cut());
        let (started, pipes) = {
            let mut starting = pin!(self.start(group));
            tokio::select! {
                // Cancel-safe: the start is polled on below when it loses.
                started = &mut starting => started?,
                // Cancel-safe: a timer and a watch.
                cut = &mut cut => {
                    self.job.abort();
                    match (starting.await, group) {
                        (Ok((mut running, _)), _) => self.kill(&mut running, group).await,
                        // The OCI runtime may have got as far as the process before it was killed.
                        (Err(_), Some(group)) => drop(group.kill_all().await),
                        (Err(_), None) => {}
                    }
                    return self.finish_cut(cut).await;
                }
            }
        };
        let mut running = started;
        let (end, ended) = watch::channel(false);
        let mut pumps = pin!(self.pump(pipes, ended));
        let exit = tokio::select! {
            // Cancel-safe: waits on a oneshot.
            exit = running.ended() => exit,
            // Never first: the pumps end only when they are told to, or the caller is gone, which `cut` sees.
            truncated = &mut pumps => { let _ = truncated; running.ended().await }
            // Cancel-safe: a timer and a watch.
            cut = &mut cut => {
                self.kill(&mut running, group).await;
                return self.finish_cut(cut).await;
            }
        };
        end.send_replace(true);
        let truncated = tokio::select! {
            // Cancel-safe: what is lost with it has no reader any more.
            truncated = pumps => truncated,
            // Cancel-safe: a watch.
            () = self.outgoing.cancelled() => return Ok(()),
        };
        let outcome = exec_end::Outcome::ExitCode(u32::from(exit.exit.shell_code()));
        self.send(exec_frame::Event::End(ExecEnd { outcome: Some(outcome), truncated })).await;
        Ok(())
    }

    /// Starts the process, without a cgroup of its own where the OCI runtime knows no such thing.
    async fn start(&self, group: Option<&Group>) -> Result<(Running, [(Stream, PipeReader); 2]), Status> {
        let name = self.group_name();
        match self.start_in(group.map(|group| group.exec_argument(&name))).await {
            Err(RuntimeError::Refused { refusal: Refusal::UnknownOption, .. }) if group.is_some() => {
                self.start_in(None).await
            }
            result => result,
        }
        .map_err(|error| failure::start_failed(&error))
    }

    async fn start_in(
        &self,
        cgroup: Option<String>,
    ) -> Result<(Running, [(Stream, PipeReader); 2]), RuntimeError> {
        let pipe = || {
            relay::pipe().map_err(|source| RuntimeError::File {
                step: "make pipes",
                verb: "exec",
                id: self.request.container.clone(),
                source,
            })
        };
        let ((out_reader, stdout), (err_reader, stderr)) = (pipe()?, pipe()?);
        let args = ExecArgs {
            number: self.number,
            process: self.request.process.clone(),
            cgroup,
            output: Output { stdout: Some(stdout), stderr: Some(stderr) },
        };
        let running = self.container.runtime.exec(&self.container.target, args, self.job.clone()).await?;
        Ok((running, [(Stream::Stdout, out_reader), (Stream::Stderr, err_reader)]))
    }

    /// Resolves when the exec has to end early.
    fn cut(&self) -> impl Future<Output = Cut> + use<'_> {
        let limit = u64::try_from(self.request.timeout_nanos).ok().filter(|nanos| *nanos > 0);
        let deadline = limit.map(|nanos| tokio::time::Instant::now() + Duration::from_nanos(nanos));
        async move {
            let timer = async {
                match deadline {
                    Some(deadline) => tokio::time::sleep_until(deadline).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                // Cancel-safe: a timer.
                () = timer => Cut::TimedOut,
                // Cancel-safe: a watch.
                () = self.outgoing.cancelled() => Cut::CallerGone,
            }
        }
    }

    /// Kills the process and everything it started, and reaps it.
    async fn kill(&self, running: &mut Running, group: Option<&Group>) {
        // Before it is dead its children are still its own: without a cgroup that is the only way to find them.
        let descendants = proc::descendants(running.pid.as_raw_nonzero().get().unsigned_abs());
        let in_group = match group {
            Some(group) => !group.is_empty(),
            None => false,
        };
        if let Err(error) = self.reaper.signal(running.pid, Signal::KILL.as_raw()) {
            log::note(&format!("kill exec {} in {}: {error}", self.number, self.request.container));
        }
        // Also with a group: a privileged process may have moved a child of its out of it.
        kill_each(descendants);
        if let Some(group) = group.filter(|_| in_group) {
            group.kill_all().await;
        }
        // One that hangs in the kernel is reaped whenever it ends; nobody waits for that.
        let _ = tokio::time::timeout(REAP_LIMIT, running.ended()).await;
    }

    async fn finish_cut(&self, cut: Cut) -> Result<(), Status> {
        if cut == Cut::TimedOut {
            let outcome = Some(exec_end::Outcome::TimedOut(true));
            self.send(exec_frame::Event::End(ExecEnd { outcome, truncated: false })).await;
        }
        Ok(())
    }

    /// Relays both streams; tells whether something was cut off.
    async fn pump(&self, pipes: [(Stream, PipeReader); 2], ended: watch::Receiver<bool>) -> bool {
        let [(out, out_pipe), (err, err_pipe)] = pipes;
        let (first, second) =
            tokio::join!(self.pump_one(out, out_pipe, ended.clone()), self.pump_one(err, err_pipe, ended));
        first || second
    }

    async fn pump_one(&self, stream: Stream, pipe: PipeReader, mut ended: watch::Receiver<bool>) -> bool {
        let limit = if self.request.output_limit == 0 { u64::MAX } else { self.request.output_limit };
        let mut sink = Sink { stream, left: limit, truncated: false };
        if let Err(error) = self.pump_into(&mut sink, &pipe, &mut ended).await {
            log::note(&format!("output of exec {} in {}: {error}", self.number, self.request.container));
        }
        sink.truncated
    }

    async fn pump_into(
        &self,
        sink: &mut Sink,
        pipe: &PipeReader,
        ended: &mut watch::Receiver<bool>,
    ) -> io::Result<()> {
        let mut buffer = vec![0; CHUNK];
        loop {
            tokio::select! {
                biased;
                // Cancel-safe: readiness only.
                ready = pipe.readable() => ready?,
                // Cancel-safe: a watch. Background children may hold the pipe: its end is not waited for.
                _ = ended.wait_for(|ended| *ended) => {
                    self.push(sink, &pipe.rest()?).await;
                    return Ok(());
                }
            }
            match pipe.read(&mut buffer)? {
                Read::Bytes(count) => self.push(sink, &buffer[..count]).await,
                Read::Empty => {}
                Read::End => {
                    // The end of the process is another matter; its closed stream must not end the call.
                    let _ = ended.wait_for(|ended| *ended).await;
                    return Ok(());
                }
            }
            if *ended.borrow() {
                self.push(sink, &pipe.rest()?).await;
                return Ok(());
            }
        }
    }

    /// Sends what the limit lets through, in frames.
    async fn push(&self, sink: &mut Sink, bytes: &[u8]) {
        let sent = usize::try_from(sink.left).unwrap_or(usize::MAX).min(bytes.len());
        sink.truncated |= sent < bytes.len();
        sink.left -= u64::try_from(sent).unwrap_or_default();
        for chunk in bytes[..sent].chunks(CHUNK) {
            let bytes = chunk.to_vec();
            self.send(match sink.stream {
                Stream::Stdout => exec_frame::Event::Stdout(bytes),
                Stream::Stderr => exec_frame::Event::Stderr(bytes),
            })
            .await;
        }
        if sent == 0 {
            tokio::task::yield_now().await;
        }
    }

    async fn send(&self, event: exec_frame::Event) {
        // A caller that is gone is noticed through `cancelled`.
        let _ = self.outgoing.send(&ExecFrame { event: Some(event) }.encode_to_vec()).await;
    }
}

fn kill_each(pids: Vec<u32>) {
    for pid in pids {
        let descriptor = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw);
        if let Some(Ok(descriptor)) = descriptor.map(runtime_sys::pidfd::open) {
            // It may be dead already.
            let _ = runtime_sys::pidfd::send_signal(descriptor, Signal::KILL);
        }
    }
}
