//! What is set up inside fresh namespaces, by the thread that has just entered them.

use std::io::{self, Write};
use std::mem::size_of;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags, ResolveFlags};

/// Sets the loopback interface of the thread's network namespace up; the kernel gives it its addresses.
pub(super) fn loopback_up() -> io::Result<()> {
    // SAFETY: socket(2) takes three integers and touches no memory.
    let number = unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
    if number < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor was just made, and nobody else knows it.
    let socket = unsafe { OwnedFd::from_raw_fd(number) };
    // SAFETY: all-zero bytes are a valid ifreq.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = libc::c_char::from_ne_bytes([*from]);
    }
    interface_flags(&socket, libc::SIOCGIFFLAGS, &mut request)?;
    // SAFETY: the call above filled the flags in; any bytes are valid ones.
    let flags = unsafe { request.ifr_ifru.ifru_flags };
    request.ifr_ifru.ifru_flags = flags | libc::c_short::try_from(libc::IFF_UP).map_err(io::Error::other)?;
    interface_flags(&socket, libc::SIOCSIFFLAGS, &mut request)
}

fn interface_flags(socket: &OwnedFd, verb: libc::c_ulong, request: &mut libc::ifreq) -> io::Result<()> {
    const { assert!(size_of::<libc::ifreq>() >= 32) };
    // SAFETY: both verbs read and write one ifreq, which is live and exclusively borrowed.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), verb as _, std::ptr::from_mut(request)) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Writes a kernel parameter. Links and `..` lead nowhere: the path stays below /proc/sys.
pub(super) fn write_sysctl(path: &Path, value: &str) -> io::Result<()> {
    let folder = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let below = rustix::fs::open("/proc/sys", folder, Mode::empty())?;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let flags = OFlags::WRONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let file = rustix::fs::openat2(&below, path, flags, Mode::empty(), resolve)?;
    // A parameter is set by one write or not at all.
    let written = std::fs::File::from(file).write(value.as_bytes())?;
    if written == value.len() { Ok(()) } else { Err(io::ErrorKind::InvalidInput.into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn needs_root_paths_do_not_leave_the_folder_of_parameters() {
        for path in ["../version", "/etc/hostname", "kernel/../../self/comm", "kernel/no_such_parameter"] {
            assert!(write_sysctl(Path::new(path), "x").is_err(), "{path}");
        }
    }
}
