//! The console socket: over it an OCI runtime sends the master of a process's pseudo terminal.

use std::fs::{self, File};
use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags};
use tokio::io::Interest;
use tokio::net::{UnixListener, UnixStream};

/// How long the terminal may be on its way after the runtime said that it is done.
const RECEIVE_LIMIT: Duration = Duration::from_secs(5);

/// A bound console socket; it goes when this is dropped.
pub(super) struct Console {
    listener: UnixListener,
    path: PathBuf,
}

impl Console {
    /// Binds a socket of that name in a folder. The runtime is told the name alone, relative to the folder that it is
    /// started in, as the whole path may be longer than an address can be.
    pub(super) fn bind(folder: &Path, name: &str) -> io::Result<Self> {
        let path = folder.join(name);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let folder = File::open(folder)?;
        let short = format!("/proc/self/fd/{}/{name}", folder.as_raw_fd());
        let listener = std::os::unix::net::UnixListener::bind(short)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
        listener.set_nonblocking(true)?;
        Ok(Self { listener: UnixListener::from_std(listener)?, path })
    }

    /// The terminal that the runtime has sent.
    pub(super) async fn receive(&self) -> io::Result<OwnedFd> {
        let late = |_| Err(io::ErrorKind::TimedOut.into());
        let received = async {
            let (socket, _) = self.listener.accept().await?;
            loop {
                socket.readable().await?;
                match socket.try_io(Interest::READABLE, || receive_descriptor(&socket)) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    result => return result,
                }
            }
        };
        let terminal = tokio::time::timeout(RECEIVE_LIMIT, received).await.unwrap_or_else(late)?;
        if !rustix::termios::isatty(&terminal) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "what came is no terminal"));
        }
        Ok(terminal)
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        // The bundle's removal takes it along.
        let _ = fs::remove_file(&self.path);
    }
}

fn receive_descriptor(socket: &UnixStream) -> io::Result<OwnedFd> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    // The message itself is the terminal's name, which is of no use outside of the container.
    let mut name = [0; 256];
    let flags = RecvFlags::CMSG_CLOEXEC;
    rustix::net::recvmsg(socket, &mut [IoSliceMut::new(&mut name)], &mut control, flags)?;
    let descriptors = control.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
        _ => None,
    });
    let first = descriptors.flatten().next();
    first.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "no descriptor came"))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[tokio::test]
    async fn what_is_no_terminal_is_refused_and_long_paths_are_fine() {
        let above = tempfile::tempdir().unwrap();
        let folder = above.path().join("x".repeat(120));
        fs::create_dir(&folder).unwrap();
        let console = Console::bind(&folder, "a.sock").unwrap();
        let again = Console::bind(&folder, "a.sock").unwrap();
        let opened = File::open(&folder).unwrap();
        let short = format!("/proc/self/fd/{}/a.sock", opened.as_raw_fd());
        let mut sender = std::os::unix::net::UnixStream::connect(short).unwrap();
        sender.write_all(b"name").unwrap();
        assert_eq!(again.receive().await.unwrap_err().kind(), io::ErrorKind::InvalidData);
        drop((console, again));
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 0);
    }
}
