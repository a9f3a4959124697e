//! System calls by hand, for x86_64 and aarch64.

use core::arch::asm;

pub(crate) const SIGINT: u32 = 2;
pub(crate) const SIGTERM: u32 = 15;
pub(crate) const SIGCHLD: u32 = 17;

/// Bytes of the kernel's signal sets.
const SET: usize = size_of::<u64>();
const SIG_BLOCK: usize = 0;
const WNOHANG: usize = 1;
const ANY_CHILD: usize = usize::MAX;

#[cfg(target_arch = "x86_64")]
mod number {
    pub(super) const RT_SIGPROCMASK: usize = 14;
    pub(super) const RT_SIGTIMEDWAIT: usize = 128;
    pub(super) const WAIT4: usize = 61;
    pub(super) const EXIT_GROUP: usize = 231;
}

#[cfg(target_arch = "aarch64")]
mod number {
    pub(super) const RT_SIGPROCMASK: usize = 135;
    pub(super) const RT_SIGTIMEDWAIT: usize = 137;
    pub(super) const WAIT4: usize = 260;
    pub(super) const EXIT_GROUP: usize = 94;
}

/// Keeps signals pending until they are waited for.
pub(crate) fn block(signals: &[u32]) {
    let set = set_of(signals);
    // SAFETY: the kernel reads one set, which lives on this stack, and writes nothing as no old one is asked for.
    unsafe { call(number::RT_SIGPROCMASK, [SIG_BLOCK, (&raw const set) as usize, 0, SET]) };
}

/// Waits for one of the signals; `None` when interrupted.
pub(crate) fn wait_for(signals: &[u32]) -> Option<u32> {
    let set = set_of(signals);
    // SAFETY: the kernel reads one set, which lives on this stack; neither information nor a limit is given.
    let signal = unsafe { call(number::RT_SIGTIMEDWAIT, [(&raw const set) as usize, 0, 0, SET]) };
    u32::try_from(signal).ok()
}

/// Reaps every child that has ended.
pub(crate) fn reap_all() {
    // SAFETY: neither a status nor resource usage is asked for, so that no memory is touched.
    while unsafe { call(number::WAIT4, [ANY_CHILD, 0, WNOHANG, 0]) } > 0 {}
}

pub(crate) fn exit(code: usize) -> ! {
    loop {
        // SAFETY: takes an integer and touches no memory; it does not come back.
        unsafe { call(number::EXIT_GROUP, [code, 0, 0, 0]) };
    }
}

fn set_of(signals: &[u32]) -> u64 {
    signals.iter().fold(0, |set, signal| set | 1 << (signal - 1))
}

/// # Safety
/// Arguments that are addresses must be valid for what the call does with them.
#[cfg(target_arch = "x86_64")]
unsafe fn call(number: usize, [first, second, third, fourth]: [usize; 4]) -> isize {
    let result: isize;
    // SAFETY: the kernel's convention for x86_64: it changes rax, rcx and r11 only. Memory is the caller's promise.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") number.cast_signed() => result,
            in("rdi") first,
            in("rsi") second,
            in("rdx") third,
            in("r10") fourth,
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack),
        );
    }
    result
}

/// # Safety
/// Arguments that are addresses must be valid for what the call does with them.
#[cfg(target_arch = "aarch64")]
unsafe fn call(number: usize, [first, second, third, fourth]: [usize; 4]) -> isize {
    let result: isize;
    // SAFETY: the kernel's convention for aarch64: it changes x0 only. Memory is the caller's promise.
    unsafe {
        asm!(
            "svc 0",
            in("x8") number,
            inlateout("x0") first.cast_signed() => result,
            in("x1") second,
            in("x2") third,
            in("x3") fourth,
            options(nostack),
        );
    }
    result
}
