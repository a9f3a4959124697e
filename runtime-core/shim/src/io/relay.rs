//! Relay of one stream: from the pipe into the log, until the pipe ends or the container has.
//!
//! The buffer exists only while there is something to read.

use std::cell::RefCell;
use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::Duration;

use rustix::io::Errno;
use rustix::pipe::PipeFlags;
use tokio::net::unix::pipe::Receiver;
use tokio::sync::watch;

use super::cri_log::{CriLog, Stream};
use super::split::Splitter;
use crate::log;

/// Bytes of one read: what a pipe holds.
pub(crate) const BUFFER: usize = 64 * 1024;
/// Reads of one stream before others get a turn.
const READS_PER_TURN: usize = 8;
/// After the container's end its pipes end as well, unless a process that is not ours holds them.
const END_LIMIT: Duration = Duration::from_secs(1);

/// A pipe whose reading end is ours, non-blocking, and whose writing end is for a child.
pub(crate) fn pipe() -> io::Result<(PipeReader, OwnedFd)> {
    let (reader, writer) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
    Ok((PipeReader(Receiver::from_owned_fd(reader)?), writer))
}

/// Reading end of a pipe.
pub(crate) struct PipeReader(Receiver);

/// What one read gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Read {
    Bytes(usize),
    /// Nothing for now.
    Empty,
    /// Nobody holds the writing end any more.
    End,
}

impl PipeReader {
    /// Resolves when a read may give something. Cancel-safe.
    pub(crate) async fn readable(&self) -> io::Result<()> {
        self.0.readable().await
    }

    /// What is in the pipe at this moment, also when `readable` does not know of it yet. A writer that goes on
    /// cannot make it longer: for the last look at a pipe.
    pub(crate) fn rest(&self) -> io::Result<Vec<u8>> {
        let pending = usize::try_from(rustix::io::ioctl_fionread(&self.0)?).unwrap_or_default();
        let mut bytes = vec![0; pending];
        let mut filled = 0;
        while filled < pending {
            match rustix::io::read(&self.0, &mut bytes[filled..]) {
                Ok(0) | Err(Errno::AGAIN) => break,
                Ok(count) => filled += count,
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        bytes.truncate(filled);
        Ok(bytes)
    }

    /// Reads what is there since `readable` said so.
    pub(crate) fn read(&self, buffer: &mut [u8]) -> io::Result<Read> {
        loop {
            match self.0.try_read(buffer) {
                Ok(0) => return Ok(Read::End),
                Ok(count) => return Ok(Read::Bytes(count)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Read::Empty),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

/// Relays until the pipe's end. When `ended` turns true, what is there is still read, and the end waited for shortly.
pub(crate) async fn run(
    pipe: PipeReader,
    stream: Stream,
    target: Rc<RefCell<CriLog>>,
    mut ended: watch::Receiver<bool>,
) {
    let mut splitter = Splitter::default();
    let copied = async {
        loop {
            pipe.readable().await?;
            if copy(&pipe, stream, &target, &mut splitter).await? == Read::End {
                return io::Result::Ok(());
            }
        }
    };
    let cut = async {
        // An error means that the container is gone, which is the same.
        let _ = ended.wait_for(|ended| *ended).await;
        tokio::time::sleep(END_LIMIT).await;
    };
    let cut_off = tokio::select! {
        // Cancel-safe: between two awaits `copy` has written what it read.
        result = copied => {
            if let Err(error) = result {
                log::note(&format!("read {stream:?} of the container: {error}"));
            }
            false
        }
        // Cancel-safe: a watch and a timer.
        () = cut => true,
    };
    let mut log = target.borrow_mut();
    let mut batch = log.batch(stream);
    if cut_off {
        log::note(&format!("{stream:?} is still held by another process, its end was not waited for"));
        let rest = pipe.rest().unwrap_or_default();
        splitter.push(&rest, |tag, text| batch.line(tag, text));
    }
    splitter.finish(|tag, text| batch.line(tag, text));
}

async fn copy(
    pipe: &PipeReader,
    stream: Stream,
    target: &RefCell<CriLog>,
    splitter: &mut Splitter,
) -> io::Result<Read> {
    let mut buffer = vec![0; BUFFER];
    loop {
        for _ in 0..READS_PER_TURN {
            match pipe.read(&mut buffer)? {
                Read::Bytes(count) => {
                    let mut log = target.borrow_mut();
                    let mut batch = log.batch(stream);
                    splitter.push(&buffer[..count], |tag, text| batch.line(tag, text));
                }
                other => return Ok(other),
            }
        }
        tokio::task::yield_now().await;
    }
}
