//! Pinned network namespaces, seen from outside: whether one is there, and a socket inside.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use runtime_sys::namespace;
use rustix::net::{AddressFamily, SocketFlags, SocketType};

/// Whether a network namespace is pinned at `path`.
pub fn is_pinned(path: &Path) -> bool {
    namespace::is_pinned(path)
}

/// A TCP socket of the namespace pinned at `pin`, or of this process's; it stays where it was made. Non-blocking.
pub fn tcp_socket(pin: Option<&Path>, family: AddressFamily) -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let make =
        move || rustix::net::socket_with(family, SocketType::STREAM, flags, None).map_err(io::Error::from);
    match pin {
        Some(pin) => namespace::run_in(pin, make)?,
        None => make(),
    }
}
