//! Execs: a process in a container for as long as its caller stays. `one_shot` has those that are one call, `sessions`
//! the interactive ones.
//!
//! The process gets a cgroup of its own below the container's, so that its end by force takes everything with it that
//! it started, daemons included, and nothing else. Children that it leaves behind at a regular end live on, and do not
//! hold the caller.

pub(crate) mod one_shot;

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use runtime_shim::protocol::io::{ExecEnd, exec_end};
use runtime_shim::ttrpc::server::Status;
use runtime_sys::proc;
use rustix::process::Signal;
use tokio::sync::watch;

use crate::cgroup::Group;
use crate::container::{Container, Phase};
use crate::io::channel::{Channel, Read};
use crate::io::cri_log::Stream;
use crate::io::ends::{self, Ends, Plan};
use crate::io::input::Input;
use crate::job::Job;
use crate::oci_runtime::{ExecArgs, Refusal, RuntimeError};
use crate::reaper::{Reaper, Running};
use crate::tasks::Tasks;
use crate::{failure, log};

/// Bytes of output that go to the caller at once.
const CHUNK: usize = 32 * 1024;
/// How long a killed exec is waited for.
const REAP_LIMIT: Duration = Duration::from_secs(5);
/// How long a caller may take to accept what is left when the process has ended.
const LAST_LIMIT: Duration = Duration::from_secs(60);

/// What to run.
pub(crate) struct Wish {
    pub(crate) container: String,
    /// `process` of the OCI runtime specification, JSON.
    pub(crate) process: Vec<u8>,
    pub(crate) plan: Plan,
    /// How long it may run.
    pub(crate) limit: Option<Duration>,
    /// Bytes of each stream that the caller gets; what is over it is read and dropped.
    pub(crate) output_limit: u64,
}

/// Whom an exec is for.
pub(crate) trait Caller {
    /// The process runs.
    async fn started(&self);
    /// Brings at most [`CHUNK`] bytes to the caller; waits while it is slow.
    async fn output(&self, stream: Stream, bytes: &[u8]);
    /// Brings the caller's input to the process. Returns only when the caller is not to be served any more.
    async fn feed(&self, input: &Input);
    /// Resolves when the caller is gone. Cancel-safe.
    async fn gone(&self);
    /// That was it.
    async fn ended(&self, end: ExecEnd);
}

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
struct Exec<'a, C> {
    container: &'a Rc<Container>,
    reaper: &'a Rc<Reaper>,
    caller: &'a C,
    wish: &'a Wish,
    number: u64,
    job: Rc<Job>,
}

/// Runs an exec to its end. What goes wrong before its process runs is the answer.
pub(crate) async fn run<C: Caller>(tasks: &Tasks, wish: &Wish, caller: &C) -> Result<(), Status> {
    let container = tasks.get(&wish.container)?;
    if !matches!(container.phase(), Phase::Running { .. }) {
        return Err(failure::precondition(format!("container {} is not running", wish.container)));
    }
    let number = container.execs.get();
    container.execs.set(number + 1);
    let job = Job::new(tasks.reaper.clone());
    let exec = Exec { container: &container, reaper: &tasks.reaper, caller, wish, number, job };
    let group = exec.make_group();
    let result = exec.run_in(group.as_ref()).await;
    if let Some(group) = group
        && let Err(error) = group.dissolve()
    {
        // The container's own removal takes it along.
        log::note(&format!("remove the cgroup of exec {number} in {}: {error}", wish.container));
    }
    runtime_sys::memory::trim();
    result
}

impl<C: Caller> Exec<'_, C> {
    fn group_name(&self) -> String {
        format!("orlop-exec-{}", self.number)
    }

    fn make_group(&self) -> Option<Group> {
        let made = self.container.group()?.make_child(&self.group_name());
        made.inspect_err(|error| log::note(&format!("make a cgroup for an exec: {error}"))).ok()
    }

    async fn run_in(&self, group: Option<&Group>) -> Result<(), Status> {
        let mut cut = pin!(self.cut());
        let (mut running, ends) = {
            let mut starting = pin!(self.start(group));
            tokio::select! {
                // Cancel-safe: the start is polled on below when it loses.
                started = &mut starting => started?,
                // Cancel-safe: a timer and the caller's leaving.
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
        let input = Input::new(ends.input);
        let (end, ended) = watch::channel(false);
        let mut pumps = pin!(self.pump(ends.outputs, ended));
        let exit = tokio::select! {
            // Cancel-safe: waits on a oneshot.
            exit = running.ended() => exit,
            // Cancel-safe: it is polled on below. It only moves the output here: it ends when it is told to.
            never = drive(pumps.as_mut()) => match never {},
            // Cancel-safe: what is lost with it has no reader any more.
            () = self.caller.feed(&input) => {
                self.kill(&mut running, group).await;
                return self.finish_cut(Cut::CallerGone).await;
            }
            // Cancel-safe: a timer and the caller's leaving.
            cut = &mut cut => {
                self.kill(&mut running, group).await;
                return self.finish_cut(cut).await;
            }
        };
        end.send_replace(true);
        let last = async {
            let truncated = pumps.await;
            let outcome = Some(exec_end::Outcome::ExitCode(u32::from(exit.exit.shell_code())));
            self.caller.ended(ExecEnd { outcome, truncated }).await;
        };
        tokio::select! {
            // Cancel-safe: what is lost with it has no reader any more.
            () = last => {}
            // Cancel-safe: the caller's leaving.
            () = self.caller.gone() => {}
            // Cancel-safe: a timer.
            () = tokio::time::sleep(LAST_LIMIT) => {
                log::note(&format!("caller of exec {} in {} does not read", self.number, self.wish.container));
            }
        }
        Ok(())
    }

    /// Starts the process, without a cgroup of its own where the OCI runtime knows no such thing.
    async fn start(&self, group: Option<&Group>) -> Result<(Running, Ends), Status> {
        let name = self.group_name();
        match self.start_in(group.map(|group| group.exec_argument(&name))).await {
            Err(RuntimeError::Refused { refusal: Refusal::UnknownOption, .. }) if group.is_some() => {
                self.start_in(None).await
            }
            result => result,
        }
        .map_err(|error| failure::start_failed(&error))
    }

    async fn start_in(&self, cgroup: Option<String>) -> Result<(Running, Ends), RuntimeError> {
        let failed = |step| {
            let id = self.wish.container.clone();
            move |source| RuntimeError::File { step, verb: "exec", id, source }
        };
        let (streams, ends) = ends::make(self.wish.plan).map_err(failed("make pipes"))?;
        let args = ExecArgs { number: self.number, process: self.wish.process.clone(), cgroup, streams };
        let mut begun = self.container.runtime.exec(&self.container.target, args, self.job.clone()).await?;
        match ends.or_terminal(begun.terminal.take()) {
            Ok(ends) => Ok((begun.running, ends)),
            Err(source) => {
                self.kill(&mut begun.running, None).await;
                Err(failed("use the terminal")(source))
            }
        }
    }

    /// Resolves when the exec has to end early.
    fn cut(&self) -> impl Future<Output = Cut> + use<'_, C> {
        let deadline = self.wish.limit.map(|limit| tokio::time::Instant::now() + limit);
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
                // Cancel-safe: the caller's leaving.
                () = self.caller.gone() => Cut::CallerGone,
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
            log::note(&format!("kill exec {} in {}: {error}", self.number, self.wish.container));
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
            self.caller.ended(ExecEnd { outcome, truncated: false }).await;
        }
        Ok(())
    }

    /// Relays all output; tells whether something was cut off.
    async fn pump(&self, outputs: Vec<(Stream, Rc<Channel>)>, ended: watch::Receiver<bool>) -> bool {
        self.caller.started().await;
        let mut outputs = outputs.into_iter();
        let (first, second) = (outputs.next(), outputs.next());
        let (first, second) =
            tokio::join!(self.pump_one(first, ended.clone()), self.pump_one(second, ended.clone()));
        first || second
    }

    /// Relays one stream, until its end or an error and in any case until the end of the process.
    async fn pump_one(
        &self,
        output: Option<(Stream, Rc<Channel>)>,
        mut ended: watch::Receiver<bool>,
    ) -> bool {
        let mut truncated = false;
        if let Some((stream, channel)) = output {
            let mut sink = Sink { stream, left: self.wish.output_limit, truncated: false };
            if let Err(error) = self.pump_into(&mut sink, &channel, &mut ended).await {
                log::note(&format!("output of exec {} in {}: {error}", self.number, self.wish.container));
            }
            truncated = sink.truncated;
        }
        // The end of the process is another matter; a closed stream must not end the exec.
        let _ = ended.wait_for(|ended| *ended).await;
        truncated
    }

    async fn pump_into(
        &self,
        sink: &mut Sink,
        channel: &Channel,
        ended: &mut watch::Receiver<bool>,
    ) -> io::Result<()> {
        loop {
            tokio::select! {
                biased;
                // Cancel-safe: readiness only.
                ready = channel.readable() => ready?,
                // Cancel-safe: a watch. Background children may hold the stream: its end is not waited for.
                _ = ended.wait_for(|ended| *ended) => return self.push_rest(sink, channel).await,
            }
            // Only while there is something to read: a shell may be idle for hours.
            let mut buffer = vec![0; CHUNK];
            loop {
                match channel.read(&mut buffer)? {
                    Read::Bytes(count) => self.push(sink, &buffer[..count]).await,
                    Read::Empty => break,
                    Read::End if channel.is_over(ended).await => return Ok(()),
                    Read::End => break,
                }
                if *ended.borrow() {
                    return self.push_rest(sink, channel).await;
                }
            }
        }
    }

    async fn push_rest(&self, sink: &mut Sink, channel: &Channel) -> io::Result<()> {
        for chunk in channel.rest()?.chunks(CHUNK) {
            self.push(sink, chunk).await;
        }
        Ok(())
    }

    /// Sends what the limit lets through.
    async fn push(&self, sink: &mut Sink, bytes: &[u8]) {
        let sent = usize::try_from(sink.left).unwrap_or(usize::MAX).min(bytes.len());
        sink.truncated |= sent < bytes.len();
        sink.left -= u64::try_from(sent).unwrap_or_default();
        if sent > 0 {
            self.caller.output(sink.stream, &bytes[..sent]).await;
        }
        // Neither a caller who wants nothing nor a quick one makes this wait.
        tokio::task::yield_now().await;
    }
}

/// Polls a future that does not end in this while.
async fn drive(future: std::pin::Pin<&mut impl Future>) -> Infallible {
    let _ = future.await;
    std::future::pending().await
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
