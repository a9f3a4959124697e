//! Relay of one stream: from the process into the log and to those who are attached, until it ends or the container has.
//!
//! The buffer exists only while there is something to read.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::watch;

use super::audience::Audience;
use super::channel::{Channel, Read};
use super::cri_log::{CriLog, Stream};
use super::split::Splitter;
use crate::log;

/// Bytes of one read: what a pipe holds.
const BUFFER: usize = 64 * 1024;
/// Reads of one stream before others get a turn.
const READS_PER_TURN: usize = 8;
/// After the container's end its pipes end as well, unless a process that is not ours holds them.
const END_LIMIT: Duration = Duration::from_secs(1);

/// Where a container's output goes.
#[derive(Clone)]
pub(crate) struct Sink {
    pub(crate) log: Option<Rc<RefCell<CriLog>>>,
    pub(crate) audience: Rc<Audience>,
}

/// One stream on its way, with the line that it has begun.
struct Relay {
    stream: Stream,
    sink: Sink,
    splitter: Splitter,
}

impl Relay {
    fn push(&mut self, bytes: &[u8]) {
        if let Some(log) = &self.sink.log {
            let mut log = log.borrow_mut();
            let mut batch = log.batch(self.stream);
            self.splitter.push(bytes, |tag, text| batch.line(tag, text));
        }
        self.sink.audience.publish(self.stream, bytes);
    }

    fn finish(&mut self) {
        if let Some(log) = &self.sink.log {
            let mut log = log.borrow_mut();
            let mut batch = log.batch(self.stream);
            self.splitter.finish(|tag, text| batch.line(tag, text));
        }
    }

    /// Reads what is there.
    async fn copy(&mut self, channel: &Channel) -> io::Result<Read> {
        let mut buffer = vec![0; BUFFER];
        loop {
            for _ in 0..READS_PER_TURN {
                match channel.read(&mut buffer)? {
                    Read::Bytes(count) => self.push(&buffer[..count]),
                    other => return Ok(other),
                }
            }
            tokio::task::yield_now().await;
        }
    }
}

/// Relays until the stream's end. When `ended` turns true, what is there is still read, and the end waited for shortly.
pub(crate) async fn run(channel: Rc<Channel>, stream: Stream, sink: Sink, mut ended: watch::Receiver<bool>) {
    let mut relay = Relay { stream, sink, splitter: Splitter::default() };
    let mut gone = ended.clone();
    let copied = async {
        loop {
            channel.readable().await?;
            if relay.copy(&channel).await? == Read::End && channel.is_over(&mut gone).await {
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
    if cut_off {
        log::note(&format!("{stream:?} is still held by another process, its end was not waited for"));
        relay.push(&channel.rest().unwrap_or_default());
    }
    relay.finish();
}
