//! A call of the OCI runtime that may hang, and how to end it all the same.

use std::cell::Cell;
use std::rc::Rc;

use runtime_sys::{pidfd, proc};
use rustix::process::{Pid, Signal};

use crate::reaper::Reaper;

/// The OCI runtime's program that works on something, at most one at a time.
pub(crate) struct Job {
    reaper: Rc<Reaper>,
    program: Cell<Option<Pid>>,
    aborted: Cell<bool>,
}

impl Job {
    /// One that nothing has begun yet.
    pub(crate) fn new(reaper: Rc<Reaper>) -> Rc<Self> {
        Rc::new(Self { reaper, program: Cell::new(None), aborted: Cell::new(false) })
    }

    pub(crate) fn began(&self, program: Pid) {
        self.program.set(Some(program));
    }

    pub(crate) fn ended(&self) {
        self.program.set(None);
    }

    /// Whether an abort was asked for; nothing more is to be begun then.
    pub(crate) fn is_aborted(&self) -> bool {
        self.aborted.get()
    }

    /// Kills the program and all its descendants. They can leave its process group, so they are looked up.
    pub(crate) fn abort(&self) {
        self.aborted.set(true);
        let Some(program) = self.program.get() else { return };
        let descendants = proc::descendants(program.as_raw_nonzero().get().unsigned_abs());
        // Opened while the program lives, so that none has been reaped in between by anyone but its own parent.
        let descriptors: Vec<_> = descendants
            .into_iter()
            .filter_map(|pid| pidfd::open(Pid::from_raw(i32::try_from(pid).ok()?)?).ok())
            .collect();
        // Neither fails for a process that is alive; the others are what is wanted.
        let _ = self.reaper.signal(program, Signal::KILL.as_raw());
        for descriptor in descriptors {
            let _ = pidfd::send_signal(descriptor, Signal::KILL);
        }
    }
}
