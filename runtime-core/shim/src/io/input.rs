//! Standard input of a process: whoever writes to it, who closes it, and its terminal's size.
//!
//! A process that does not read holds up its writers and nobody else.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;

use rustix::io::Errno;

use super::channel::Channel;
use crate::log;

/// Input of one process. Without a channel it takes everything and drops it.
#[derive(Default)]
pub(crate) struct Input(RefCell<Option<Rc<Channel>>>);

impl Input {
    pub(crate) fn new(channel: Option<Rc<Channel>>) -> Self {
        Self(RefCell::new(channel))
    }

    /// Gives it a channel.
    pub(crate) fn open(&self, channel: Rc<Channel>) {
        self.0.replace(Some(channel));
    }

    fn channel(&self) -> Option<Rc<Channel>> {
        self.0.borrow().clone()
    }

    /// Writes; waits while the process does not read. What a process does not want any more is dropped.
    pub(crate) async fn write(&self, mut bytes: &[u8]) {
        // Looked up each time: another writer may close it.
        while !bytes.is_empty()
            && let Some(channel) = self.channel()
        {
            match write_some(&channel, bytes).await {
                Ok(count) => bytes = &bytes[count..],
                Err(error) => {
                    match Errno::from_io_error(&error) {
                        // It closed its input for good.
                        Some(Errno::PIPE) => self.release(),
                        // Nobody has the terminal open.
                        Some(Errno::IO) => {}
                        _ => log::note(&format!("write to a process: {error}")),
                    }
                    return;
                }
            }
        }
    }

    /// Ends a pipe, so that the process sees its end. A terminal has no such end.
    pub(crate) fn end(&self) {
        if self.channel().is_some_and(|channel| !channel.is_terminal()) {
            self.release();
        }
    }

    /// Gives the channel back; nobody reads from it any more.
    pub(crate) fn release(&self) {
        self.0.replace(None);
    }

    /// Tells the terminal its size, if there is one.
    pub(crate) fn resize(&self, width: u16, height: u16) {
        let Some(channel) = self.channel() else { return };
        if let Err(error) = channel.resize(width, height) {
            log::note(&format!("set the size of a terminal: {error}"));
        }
    }
}

async fn write_some(channel: &Channel, bytes: &[u8]) -> io::Result<usize> {
    loop {
        channel.writable().await?;
        match channel.write(bytes)? {
            Some(0) => return Err(io::ErrorKind::WriteZero.into()),
            Some(count) => return Ok(count),
            None => {}
        }
    }
}
