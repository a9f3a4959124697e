//! The holder as a process: it reaps orphans and ends on TERM, also as process 1.

use std::path::Path;
use std::time::{Duration, Instant};

use runtime_sys::pidfd::{self, Exit};
use runtime_sys::proc;
use runtime_sys::spawn::{Child, Spawn};
use rustix::process::Signal;

const HOLDER: &str = env!("CARGO_BIN_EXE_orlop-pause");

fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < Duration::from_secs(30), "{what}: not in time");
        std::thread::yield_now();
    }
}

fn number(child: &Child) -> u32 {
    child.pid().as_raw_nonzero().get().unsigned_abs()
}

/// Waits in rt_sigtimedwait.
fn is_ready(pid: u32) -> bool {
    let call = if cfg!(target_arch = "aarch64") { "137 " } else { "128 " };
    std::fs::read_to_string(format!("/proc/{pid}/syscall")).is_ok_and(|text| text.starts_with(call))
}

#[test]
fn it_ends_on_term_and_int() {
    for signal in [Signal::TERM, Signal::INT] {
        let holder = Spawn::new(HOLDER).start().unwrap();
        wait_until("the holder is ready", || is_ready(number(&holder)));
        pidfd::send_signal(holder.pidfd(), signal).unwrap();
        assert_eq!(pidfd::wait(holder.pidfd()).unwrap(), Exit::Code(0));
    }
}

#[test]
fn needs_root_as_process_1_it_reaps_orphans_and_ends_on_term() {
    // The shell leaves two orphans and becomes the holder; one of them has ended by then, or ends at once.
    let script = format!("(sleep 1000 & true & ) ; exec {HOLDER}");
    let outer = Spawn::new("unshare")
        .inherit_env("PATH")
        .args(["--pid", "--fork", "--kill-child", "/bin/sh", "-c", &script])
        .start()
        .unwrap();
    let holder = || proc::children(number(&outer)).first().copied();
    wait_until("the holder is ready", || holder().is_some_and(is_ready));
    let holder = holder().unwrap();
    wait_until("only the sleeping orphan is left", || {
        let children = proc::children(holder);
        children.len() == 1 && proc::stat(children[0]).is_ok_and(|stat| !stat.is_zombie())
    });
    let orphan = proc::children(holder)[0];
    let descriptor = pidfd::open(rustix::process::Pid::from_raw(orphan.cast_signed()).unwrap()).unwrap();
    pidfd::send_signal(&descriptor, Signal::KILL).unwrap();
    wait_until("the orphan is reaped", || !Path::new(&format!("/proc/{orphan}")).exists());
    let holder = rustix::process::Pid::from_raw(holder.cast_signed()).unwrap();
    rustix::process::kill_process(holder, Signal::TERM).unwrap();
    assert_eq!(pidfd::wait(outer.pidfd()).unwrap(), Exit::Code(0));
}
