//! clone3(2) with a stack for the child, which the C library does not offer: the child cannot return on it.

use std::arch::asm;
use std::io;

/// What the child runs. It must not return.
pub(super) type Entry = extern "C" fn(*const libc::c_void) -> !;

/// Forks; the child runs `entry(argument)`. Returns the child's pid.
///
/// # Safety
/// `args` names a stack with 16-byte aligned ends that nobody else uses as long as the child does, and everything
/// else in it is valid; with shared memory, `entry` does only what is allowed between vfork and exec.
pub(super) unsafe fn clone(
    args: &mut libc::clone_args,
    entry: Entry,
    argument: *const libc::c_void,
) -> io::Result<i32> {
    let result: isize;
    #[cfg(target_arch = "x86_64")]
    // SAFETY: the kernel's convention for x86_64: it changes rax, rcx and r11 only. The child comes back with zero and
    // on its own stack, touches no other register of ours, and does not get past the call.
    unsafe {
        asm!(
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "xor ebp, ebp",
            "mov rdi, r12",
            "call r13",
            "ud2",
            "2:",
            inlateout("rax") libc::SYS_clone3 => result,
            in("rdi") std::ptr::from_mut(args),
            in("rsi") size_of::<libc::clone_args>(),
            in("r12") argument,
            in("r13") entry,
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack),
        );
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: the kernel's convention for aarch64: it changes x0 only. The child comes back with zero and on its own
    // stack, and does not get past the call.
    unsafe {
        asm!(
            "svc 0",
            "cbnz x0, 2f",
            "mov x29, xzr",
            "mov x0, x20",
            "blr x21",
            "brk 1",
            "2:",
            in("x8") libc::SYS_clone3,
            inlateout("x0") std::ptr::from_mut(args) => result,
            in("x1") size_of::<libc::clone_args>(),
            in("x20") argument,
            in("x21") entry,
            options(nostack),
        );
    }
    if result < 0 {
        let number = i32::try_from(-result).unwrap_or(libc::EINVAL);
        return Err(io::Error::from_raw_os_error(number));
    }
    i32::try_from(result).map_err(io::Error::other)
}
