//! `orlop-pause`: the first process of a pod's pid namespace. It reaps what is left to it and ends on TERM or INT.
//!
//! It is the only file of its container's root, so it is static and without a C library; one is started for a whole
//! pod's life, so it is a few kilobytes. `linux` has the four system calls that it makes.
#![cfg_attr(feature = "freestanding", no_std, no_main)]

#[cfg(all(feature = "freestanding", not(panic = "abort")))]
compile_error!("feature `freestanding` needs a profile with panic = \"abort\", such as `--profile shim`");

mod linux;

use linux::{SIGCHLD, SIGINT, SIGTERM};

/// Blocked signals wait for us even where we are process 1, which the kernel spares all that have no handler.
fn hold() -> ! {
    let signals = [SIGCHLD, SIGTERM, SIGINT];
    linux::block(&signals);
    // Those that ended before the signal was blocked.
    linux::reap_all();
    loop {
        match linux::wait_for(&signals) {
            Some(SIGTERM | SIGINT) => linux::exit(0),
            // Several ends may come as one signal.
            Some(_) | None => linux::reap_all(),
        }
    }
}

#[cfg(not(feature = "freestanding"))]
fn main() {
    hold()
}

#[cfg(feature = "freestanding")]
#[unsafe(no_mangle)]
extern "C" fn _start() -> ! {
    hold()
}

#[cfg(feature = "freestanding")]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    linux::exit(70)
}
