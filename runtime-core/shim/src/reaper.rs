//! The one place that reaps children, and therefore the one that may signal them by pid.
//!
//! A child is *known* once it was spawned or adopted here. While a [`Claim`] is held (an OCI runtime is about to leave a
//! process to us whose pid we do not know yet), unknown children stay zombies, so that their pid and exit code wait for
//! [`Reaper::adopt`]. Without a claim, unknown children (orphans of containers) are reaped at once.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;

use runtime_sys::clock;
use runtime_sys::pidfd::Exit;
use runtime_sys::reaper as sys;
use runtime_sys::spawn::Spawn;
use rustix::process::Pid;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::oneshot;

use crate::log;

/// When and how a child ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ended {
    pub(crate) exit: Exit,
    pub(crate) at_unix_nanos: i64,
}

/// A known child.
pub(crate) struct Running {
    pub(crate) pid: Pid,
    ended: oneshot::Receiver<Ended>,
}

impl Running {
    /// Resolves when the child was reaped. Cancel-safe.
    pub(crate) async fn ended(&mut self) -> Ended {
        match (&mut self.ended).await {
            Ok(ended) => ended,
            // The reaper lives as long as the process; without it nobody can tell.
            Err(_) => std::future::pending().await,
        }
    }
}

/// See the module's text.
#[derive(Default)]
pub(crate) struct Reaper {
    known: RefCell<HashMap<Pid, oneshot::Sender<Ended>>>,
    claims: Cell<usize>,
}

/// Keeps unknown children unreaped.
pub(crate) struct Claim {
    reaper: Rc<Reaper>,
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.reaper.claims.set(self.reaper.claims.get() - 1);
        self.reaper.sweep();
    }
}

impl Reaper {
    /// Starts a program as a known child.
    pub(crate) fn spawn(&self, spawn: Spawn) -> io::Result<Running> {
        // Nothing is reaped between the two lines: they run on the only thread that reaps.
        let child = spawn.start()?;
        Ok(self.register(child.pid()))
    }

    /// Begins a claim.
    pub(crate) fn claim(self: &Rc<Self>) -> Claim {
        self.claims.set(self.claims.get() + 1);
        Claim { reaper: self.clone() }
    }

    /// Makes a child known that came to us as an orphan since the claim began.
    pub(crate) fn adopt(&self, _claim: &Claim, pid: Pid) -> io::Result<Running> {
        let ended = sys::try_reap(pid)?;
        let running = self.register(pid);
        if let Some(exit) = ended {
            self.tell(pid, exit);
        }
        Ok(running)
    }

    /// Signals a known child; `false` when it has been reaped.
    pub(crate) fn signal(&self, pid: Pid, number: i32) -> io::Result<bool> {
        if !self.known.borrow().contains_key(&pid) {
            return Ok(false);
        }
        sys::signal_child(pid, number).map(|()| true)
    }

    /// Reaps whenever SIGCHLD comes.
    pub(crate) async fn run(self: Rc<Self>, sigchld: OwnedFd) -> io::Result<()> {
        #[expect(deprecated, reason = "the replacement is unsafe for types other than OwnedFd; this is one")]
        let sigchld = AsyncFd::with_interest(sigchld, Interest::READABLE)?;
        let mut buffer = [0_u8; 1024];
        loop {
            let mut ready = sigchld.readable().await?;
            // SIGCHLDs merge: the descriptor says that there is something, waitid says what.
            let drained = ready.try_io(|descriptor| Ok(rustix::io::read(descriptor, &mut buffer)?));
            if let Ok(Err(error)) = drained {
                return Err(error);
            }
            self.sweep();
        }
    }

    fn register(&self, pid: Pid) -> Running {
        let (sender, ended) = oneshot::channel();
        self.known.borrow_mut().insert(pid, sender);
        Running { pid, ended }
    }

    fn sweep(&self) {
        if self.claims.get() > 0 {
            let known: Vec<_> = self.known.borrow().keys().copied().collect();
            for pid in known {
                match sys::try_reap(pid) {
                    Ok(Some(exit)) => self.tell(pid, exit),
                    Ok(None) => {}
                    Err(error) => log::note(&format!("reap child {}: {error}", pid.as_raw_nonzero())),
                }
            }
            return;
        }
        loop {
            match sys::try_reap_any() {
                Ok(Some((pid, exit))) => self.tell(pid, exit),
                Ok(None) => return,
                Err(error) => return log::note(&format!("reap children: {error}")),
            }
        }
    }

    fn tell(&self, pid: Pid, exit: Exit) {
        if let Some(sender) = self.known.borrow_mut().remove(&pid) {
            // Nobody may be waiting any more; the child is reaped all the same.
            let _ = sender.send(Ended { exit, at_unix_nanos: clock::unix_nanos() });
        }
    }
}
