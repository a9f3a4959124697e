//! A container: its phase, its exit, and who may do what when.
//!
//! ```text
//! Creating ─→ Created ─→ Running ─→ Stopped ─→ (deleted)
//!     └─ failed: gone      └── Created ─→ Stopped as well, when it is killed before its start
//! ```
//!
//! Create, Start and Delete take turns (`turn`), as they wait for the OCI runtime. State, Kill, Wait and Pids only look
//! at the phase and never wait for anyone. The phase changes to Stopped in one place, [`Container::supervise`].

use std::cell::{Cell, OnceCell, RefCell};
use std::rc::Rc;

use runtime_shim::exit_file::{self, ExitRecord};
use runtime_shim::stream::Stdin;
use rustix::process::{Pid, Signal};
use tokio::sync::{Mutex, watch};
use tokio::task::{JoinHandle, spawn_local};

use crate::cgroup::{Cgroup, Group};
use crate::config::BundleConfig;
use crate::io::audience::Audience;
use crate::io::channel::Channel;
use crate::io::cri_log::{CriLog, Stream};
use crate::io::ends::Ends;
use crate::io::input::Input;
use crate::io::relay;
use crate::job::Job;
use crate::log;
use crate::oci_runtime::{OciRuntime, Target};
use crate::reaper::{Ended, Reaper, Running};

/// Where a container is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// The OCI runtime is making it.
    Creating,
    /// Its first process waits to be started.
    Created {
        pid: Pid,
    },
    Running {
        pid: Pid,
    },
    /// The exit file is written.
    Stopped {
        exit: ExitRecord,
    },
}

/// A container of this shim.
pub(crate) struct Container {
    pub(crate) target: Target,
    pub(crate) stdout: String,
    pub(crate) config: BundleConfig,
    pub(crate) runtime: Rc<dyn OciRuntime>,
    pub(crate) log: Option<Rc<RefCell<CriLog>>>,
    /// What becomes of its input.
    pub(crate) stdin: Stdin,
    /// Its input and terminal, as far as it has them, while it lives.
    pub(crate) input: Input,
    /// Who is attached.
    pub(crate) audience: Rc<Audience>,
    /// Held by Create, Start and Delete for as long as they take.
    pub(crate) turn: Mutex<()>,
    /// The OCI runtime's work in the container's turn.
    pub(crate) job: RefCell<Rc<Job>>,
    /// Counts execs.
    pub(crate) execs: Cell<u64>,
    pub(crate) started: Cell<Option<Pid>>,
    reaper: Rc<Reaper>,
    phase: Cell<Phase>,
    exited: watch::Sender<Option<ExitRecord>>,
    cgroup: OnceCell<Option<Cgroup>>,
}

/// What a container is made of.
pub(crate) struct Parts {
    pub(crate) target: Target,
    pub(crate) stdout: String,
    pub(crate) config: BundleConfig,
    pub(crate) runtime: Rc<dyn OciRuntime>,
    pub(crate) log: Option<Rc<RefCell<CriLog>>>,
    pub(crate) stdin: Stdin,
    pub(crate) reaper: Rc<Reaper>,
}

/// What became of a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Signalled {
    Sent,
    /// There is no process any more.
    Exited,
    /// It is still being made; only a kill has an effect then.
    TooEarly,
}

impl Container {
    pub(crate) fn new(parts: Parts) -> Rc<Self> {
        Rc::new(Self {
            target: parts.target,
            stdout: parts.stdout,
            config: parts.config,
            runtime: parts.runtime,
            log: parts.log,
            stdin: parts.stdin,
            input: Input::default(),
            audience: Rc::default(),
            turn: Mutex::new(()),
            job: RefCell::new(Job::new(parts.reaper.clone())),
            execs: Cell::new(0),
            started: Cell::new(None),
            reaper: parts.reaper,
            phase: Cell::new(Phase::Creating),
            exited: watch::channel(None).0,
            cgroup: OnceCell::new(),
        })
    }

    pub(crate) fn phase(&self) -> Phase {
        self.phase.get()
    }

    /// Pid of the first process, once there is or was one.
    pub(crate) fn pid(&self) -> Option<u32> {
        match self.phase.get() {
            Phase::Creating => None,
            Phase::Created { pid } | Phase::Running { pid } => {
                Some(pid.as_raw_nonzero().get().unsigned_abs())
            }
            Phase::Stopped { exit } => Some(exit.pid),
        }
    }

    /// Cgroup of its first process, as it was when the container was made.
    pub(crate) fn cgroup(&self) -> Option<&Cgroup> {
        self.cgroup.get()?.as_ref()
    }

    /// Resolves with the exit, at once when it was. Cancel-safe.
    pub(crate) async fn exit(&self) -> ExitRecord {
        let mut exited = self.exited.subscribe();
        loop {
            if let Some(exit) = *exited.borrow_and_update() {
                return exit;
            }
            // The sender is ours, so there is always another value to come.
            let _ = exited.changed().await;
        }
    }

    /// A job for the OCI runtime in this turn.
    pub(crate) fn new_job(&self) -> Rc<Job> {
        let job = Job::new(self.reaper.clone());
        self.job.replace(job.clone());
        job
    }

    /// The OCI runtime has made it: from now on its exit is watched and its output relayed.
    pub(crate) fn created(self: &Rc<Self>, init: Running, ends: Ends) {
        let pid = init.pid;
        let cgroup = Cgroup::of(pid).unwrap_or_else(|error| {
            log::note(&format!("find the cgroup of container {}: {error}", self.target.id));
            None
        });
        // Set once: a container is created once.
        let _ = self.cgroup.set(cgroup);
        self.phase.set(Phase::Created { pid });
        if let Some(input) = ends.input {
            self.input.open(input);
        }
        spawn_local(self.clone().supervise(init, ends.outputs));
    }

    /// The OCI runtime has started it. It may have exited since.
    pub(crate) fn running(&self) {
        if let Phase::Created { pid } = self.phase.get() {
            self.phase.set(Phase::Running { pid });
        }
    }

    /// Signals the first process, or all.
    pub(crate) fn signal(&self, number: i32, all: bool) -> std::io::Result<Signalled> {
        let kill = number == Signal::KILL.as_raw();
        let pid = match self.phase.get() {
            Phase::Creating if kill => {
                self.job.borrow().abort();
                return Ok(Signalled::Sent);
            }
            Phase::Creating => return Ok(Signalled::TooEarly),
            Phase::Stopped { .. } => return Ok(Signalled::Exited),
            Phase::Created { pid } | Phase::Running { pid } => pid,
        };
        let group = self.cgroup().and_then(Cgroup::group);
        if let (true, Some(group)) = (all, &group) {
            group.signal(number)?;
        }
        let sent = self.reaper.signal(pid, number)?;
        if let (true, Some(group)) = (kill, &group) {
            group.thaw();
        }
        Ok(if sent { Signalled::Sent } else { Signalled::Exited })
    }

    /// Waits for the first process and does what its end demands, in this order: kill what it left, ask for the verdict,
    /// complete the log, write the exit file, tell those who wait.
    async fn supervise(self: Rc<Self>, mut init: Running, outputs: Vec<(Stream, Rc<Channel>)>) {
        let (end_relays, ended) = watch::channel(false);
        let relays = self.relay(outputs, &ended);
        let end = init.ended().await;
        if !self.config.own_pid_namespace
            && let Some(group) = self.cgroup().and_then(Cgroup::group)
        {
            group.kill_all().await;
        }
        let oom_killed = self.cgroup().is_some_and(Cgroup::oom_killed);
        end_relays.send_replace(true);
        for relay in relays {
            // A relay does not panic; if it did, there is nothing more to wait for.
            let _ = relay.await;
        }
        self.input.release();
        let exit = record(init.pid, end, oom_killed);
        if let Err(error) = exit_file::write(&self.target.bundle.exit_file(), &exit) {
            log::note(&log::chain(&error));
        }
        self.phase.set(Phase::Stopped { exit });
        self.exited.send_replace(Some(exit));
        runtime_sys::memory::trim();
    }

    fn relay(
        &self,
        outputs: Vec<(Stream, Rc<Channel>)>,
        ended: &watch::Receiver<bool>,
    ) -> Vec<JoinHandle<()>> {
        let sink = relay::Sink { log: self.log.clone(), audience: self.audience.clone() };
        let start = |(stream, channel)| spawn_local(relay::run(channel, stream, sink.clone(), ended.clone()));
        outputs.into_iter().map(start).collect()
    }

    /// An attached client has ended its input, or left.
    pub(crate) fn input_ended(&self) {
        if self.stdin == Stdin::Once {
            self.input.end();
        }
    }

    /// Group for the processes of an exec, when there is a cgroup to put it in.
    pub(crate) fn group(&self) -> Option<Group> {
        self.cgroup().and_then(Cgroup::group)
    }
}

fn record(pid: Pid, end: Ended, oom_killed: bool) -> ExitRecord {
    ExitRecord {
        code: end.exit.shell_code(),
        at_unix_nanos: end.at_unix_nanos,
        oom_killed,
        pid: pid.as_raw_nonzero().get().unsigned_abs(),
    }
}
