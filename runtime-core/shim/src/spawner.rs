//! The thread that starts a daemon's shims, so that they are born in a cgroup of their own.
//!
//! A shim that stayed in the daemon's cgroup would be killed with it, one in a pod's by the kubelet. Moving a process
//! takes the kernel some 10 ms, and the place of a fork is that of the thread: so one thread sits in that cgroup of
//! every v1 hierarchy and forks on behalf of all others; v2 is told at the fork.

use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SendError, Sender, SyncSender, channel, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use runtime_sys::cgroup::{Place, PlaceError};
use runtime_sys::pidfd;
use runtime_sys::spawn::{Child, Spawn};
use rustix::process::Signal;

/// Stack of the thread.
const STACK: usize = 256 << 10;

struct Job {
    spawn: Spawn,
    answer: SyncSender<io::Result<Child>>,
}

/// Handle on the thread, which ends with it and then removes the cgroup, if that is empty and was made here.
#[derive(Debug)]
pub struct Spawner {
    /// Taken at the end.
    jobs: Option<Sender<Job>>,
    thread: Option<JoinHandle<()>>,
}

impl Spawner {
    /// Starts the thread and puts it into a cgroup, a path from the roots such as `/orlop/shims`. `report` is told, in
    /// the thread, what keeps it or a shim out; nothing else comes of that, and the same failure is told once.
    ///
    /// # Errors
    /// When the path is none, or the thread cannot be started.
    pub fn new(cgroup: &str, report: impl FnMut(PlaceError) + Send + 'static) -> io::Result<Self> {
        let place = Place::new(cgroup)?;
        let (sender, jobs) = channel();
        let work = move || run(place, &jobs, report);
        let thread = std::thread::Builder::new().name("shims".into()).stack_size(STACK).spawn(work)?;
        Ok(Self { jobs: Some(sender), thread: Some(thread) })
    }

    /// Starts a program in the cgroup. Blocks for as long as that takes, the jobs before it included.
    ///
    /// # Errors
    /// As [`Spawn::start`]; `TimedOut` when it is over the limit. Then there is no child, or it is killed at once.
    pub fn start(&self, spawn: Spawn, limit: Duration) -> io::Result<Child> {
        let gone = || io::Error::other("the thread that starts shims is gone");
        let (answer, result) = sync_channel(0);
        let jobs = self.jobs.as_ref().ok_or_else(gone)?;
        jobs.send(Job { spawn, answer }).map_err(|_| gone())?;
        result.recv_timeout(limit).map_err(|error| match error {
            RecvTimeoutError::Timeout => io::ErrorKind::TimedOut.into(),
            RecvTimeoutError::Disconnected => gone(),
        })?
    }
}

impl Drop for Spawner {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            // If it panicked, its message is out already.
            let _ = thread.join();
        }
    }
}

fn run(mut place: Place, jobs: &Receiver<Job>, mut report: impl FnMut(PlaceError)) {
    let mut told = Vec::new();
    let mut tell = |error: PlaceError| {
        let text = error.to_string();
        if !told.contains(&text) {
            told.push(text);
            report(error);
        }
    };
    // Before the first job, so that the first pod does not wait for it.
    place.enter_thread().into_iter().for_each(&mut tell);
    while let Ok(Job { mut spawn, answer }) = jobs.recv() {
        // Somebody may have moved the daemon with all its threads.
        place.enter_thread().into_iter().for_each(&mut tell);
        match place.unified() {
            Ok(Some(folder)) => spawn = spawn.into_cgroup(folder),
            Ok(None) => {}
            Err(error) => tell(error),
        }
        // Whoever asked may have given up.
        if let Err(SendError(Ok(unwanted))) = answer.send(spawn.start()) {
            end(&unwanted);
        }
    }
    place.leave();
}

/// Nobody else knows of this child.
fn end(child: &Child) {
    let _ = pidfd::send_signal(child.pidfd(), Signal::KILL);
    let _ = pidfd::wait(child.pidfd());
}
