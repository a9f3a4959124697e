//! Our end of a process's standard stream: of a pipe, or of its terminal. Non-blocking, on the shim's one thread.

//!
//! The reactor never forgets that the other end was closed. That of a terminal may be opened again, and then readiness
//! says nothing any more: the kernel is asked, and where it has nothing, asked again after a while.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::pipe::PipeFlags;
use rustix::termios::Winsize;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::watch;

/// Most that is taken in a last look at a terminal, in bytes; the kernel keeps less.
const MAX_REST: usize = 256 * 1024;

/// How soon a channel is looked at again that was closed once.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// What is behind a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Pipe,
    /// The master of a pseudo terminal.
    Terminal,
}

/// See the module's text.
pub(crate) struct Channel {
    descriptor: AsyncFd<OwnedFd>,
    kind: Kind,
}

/// What one read gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Read {
    Bytes(usize),
    /// Nothing for now.
    Empty,
    /// Nobody holds the other end now. See [`Channel::is_over`].
    End,
}

/// A pipe whose reading end is ours, and whose writing end is for a child.
pub(crate) fn output_pipe() -> io::Result<(Channel, OwnedFd)> {
    let (reader, writer) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
    Ok((Channel::new(reader, Kind::Pipe, Interest::READABLE)?, writer))
}

/// A pipe whose writing end is ours, and whose reading end is for a child.
pub(crate) fn input_pipe() -> io::Result<(Channel, OwnedFd)> {
    let (reader, writer) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
    Ok((Channel::new(writer, Kind::Pipe, Interest::WRITABLE)?, reader))
}

impl Channel {
    /// Our end of a pseudo terminal.
    pub(crate) fn terminal(master: OwnedFd) -> io::Result<Self> {
        Self::new(master, Kind::Terminal, Interest::READABLE | Interest::WRITABLE)
    }

    fn new(descriptor: OwnedFd, kind: Kind, interest: Interest) -> io::Result<Self> {
        rustix::fs::fcntl_setfl(&descriptor, OFlags::NONBLOCK)?;
        #[expect(deprecated, reason = "the replacement is unsafe for types other than OwnedFd; this is one")]
        let descriptor = AsyncFd::with_interest(descriptor, interest)?;
        Ok(Self { descriptor, kind })
    }

    /// Whether it is a terminal: one descriptor for both directions, whose input has no end of its own.
    pub(crate) fn is_terminal(&self) -> bool {
        self.kind == Kind::Terminal
    }

    /// Resolves when a read may give something. Cancel-safe.
    pub(crate) async fn readable(&self) -> io::Result<()> {
        let closed = self.descriptor.readable().await?.ready().is_read_closed();
        if closed && self.poll(PollFlags::IN)?.is_empty() {
            tokio::time::sleep(LOOK_AGAIN).await;
        }
        Ok(())
    }

    /// Resolves when a write may be taken. Cancel-safe.
    ///
    /// # Errors
    /// `EIO` for a terminal that is full and that nobody has open.
    pub(crate) async fn writable(&self) -> io::Result<()> {
        if self.descriptor.writable().await?.ready().is_write_closed() {
            let ready = self.poll(PollFlags::OUT)?;
            if self.is_terminal() && ready.contains(PollFlags::HUP) && !ready.contains(PollFlags::OUT) {
                return Err(Errno::IO.into());
            }
            if ready.is_empty() {
                tokio::time::sleep(LOOK_AGAIN).await;
            }
        }
        Ok(())
    }

    /// Whether an [`End`](Read::End) was the last: a terminal may be opened again as long as its process lives. Waits a
    /// while with a no. Cancel-safe.
    pub(crate) async fn is_over(&self, ended: &mut watch::Receiver<bool>) -> bool {
        if !self.is_terminal() || *ended.borrow() {
            return true;
        }
        // An error means that whoever knew of the process is gone.
        matches!(tokio::time::timeout(LOOK_AGAIN, ended.wait_for(|ended| *ended)).await, Ok(Err(_)))
    }

    /// Reads what is there since `readable` said so.
    pub(crate) fn read(&self, buffer: &mut [u8]) -> io::Result<Read> {
        let mut once = || self.descriptor.try_io(Interest::READABLE, |inner| self.read_raw(inner, buffer));
        loop {
            match once() {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Read::Empty),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => return result,
            }
        }
    }

    fn read_raw(&self, descriptor: impl AsFd, buffer: &mut [u8]) -> io::Result<Read> {
        match rustix::io::read(descriptor, buffer) {
            Ok(0) => Ok(Read::End),
            Ok(count) => Ok(Read::Bytes(count)),
            // How a terminal says that its last process has closed it.
            Err(Errno::IO) if self.is_terminal() => Ok(Read::End),
            Err(error) => Err(error.into()),
        }
    }

    /// Writes as much as there is room for; `None` when there is none for now.
    pub(crate) fn write(&self, bytes: &[u8]) -> io::Result<Option<usize>> {
        let once =
            || self.descriptor.try_io(Interest::WRITABLE, |inner| Ok(rustix::io::write(inner, bytes)?));
        loop {
            match once() {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => return result.map(Some),
            }
        }
    }

    /// What is there at this moment, also when `readable` does not know of it yet. A writer that goes on cannot make it
    /// longer: for the last look.
    pub(crate) fn rest(&self) -> io::Result<Vec<u8>> {
        let limit = match self.kind {
            Kind::Pipe => usize::try_from(rustix::io::ioctl_fionread(&self.descriptor)?).unwrap_or_default(),
            Kind::Terminal => MAX_REST,
        };
        let mut bytes = Vec::new();
        // What was written to a terminal is on its way to us until someone polls: a read alone may miss it.
        while bytes.len() < limit && !self.poll(PollFlags::IN)?.is_empty() {
            let filled = bytes.len();
            bytes.resize(limit.min(filled + (64 << 10)), 0);
            let read = self.read_raw(&self.descriptor, &mut bytes[filled..]);
            let count = if let Ok(Read::Bytes(count)) = read { count } else { 0 };
            bytes.truncate(filled + count);
            match read {
                Ok(Read::Bytes(_)) => {}
                Ok(Read::Empty | Read::End) => break,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(bytes)
    }

    /// Asks the kernel for these events; closed ends and errors are among the answer always.
    fn poll(&self, events: PollFlags) -> io::Result<PollFlags> {
        let mut polled = [PollFd::new(&self.descriptor, events)];
        loop {
            match rustix::event::poll(&mut polled, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })) {
                Ok(_) => return Ok(polled[0].revents()),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Tells a terminal its size; the kernel tells the processes. Nothing for a pipe.
    pub(crate) fn resize(&self, width: u16, height: u16) -> io::Result<()> {
        if !self.is_terminal() {
            return Ok(());
        }
        let size = Winsize { ws_col: width, ws_row: height, ws_xpixel: 0, ws_ypixel: 0 };
        Ok(rustix::termios::tcsetwinsize(&self.descriptor, size)?)
    }
}
