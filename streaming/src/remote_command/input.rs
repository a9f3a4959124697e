//! From the client to the process: stdin and terminal sizes.

use std::convert::Infallible;

use runtime_core::error::chain;

use crate::backend::Input;
use crate::channel::{Channel, Inbound};
use crate::pipe::Received;
use crate::remote_command::resize::SizeReader;

/// Both streams of the client, with their sending halves: these end with the session.
pub(crate) struct ClientInput {
    stdin: Option<Channel>,
    resize: Option<Channel>,
    sizes: SizeReader,
}

impl ClientInput {
    pub(crate) fn new(stdin: Option<Channel>, resize: Option<Channel>) -> Self {
        Self { stdin, resize, sizes: SizeReader::default() }
    }

    /// Copies for as long as it is polled: the end of the input is not the end of the process.
    pub(crate) async fn copy(&mut self, process: &mut dyn Input) -> Infallible {
        let (mut stdin, mut resize) = (Feed::of(&mut self.stdin), Feed::of(&mut self.resize));
        loop {
            tokio::select! {
                // Cancel-safe: bytes are taken whole or stay in the pipe.
                received = stdin.next() => {
                    if !pass_stdin(received, process).await {
                        stdin = Feed::over();
                    }
                }
                // Cancel-safe: bytes are taken whole or stay in the pipe.
                received = resize.next() => {
                    if !pass_size(&mut self.sizes, received, process).await {
                        resize = Feed::over();
                    }
                }
            }
        }
    }
}

/// An inbound half that falls silent once it is over.
struct Feed<'a>(Option<&'a mut Inbound>);

impl<'a> Feed<'a> {
    fn of(channel: &'a mut Option<Channel>) -> Self {
        Self(channel.as_mut().map(|channel| &mut channel.inbound))
    }

    fn over() -> Self {
        Self(None)
    }

    async fn next(&mut self) -> Received {
        match &mut self.0 {
            Some(inbound) => inbound.next().await,
            None => std::future::pending().await,
        }
    }
}

/// False once the process takes no more.
async fn pass_stdin(received: Received, process: &mut dyn Input) -> bool {
    let (result, open) = match received {
        Received::Data(bytes) => (process.stdin(bytes).await, true),
        Received::End | Received::Reset => (process.close_stdin().await, false),
    };
    if let Err(error) = &result {
        // As a broken pipe in a shell: the process does not want it, which is no failure of the command.
        tracing::debug!(error = chain(error), "the process takes no more input");
    }
    result.is_ok() && open
}

/// False once no more sizes come.
async fn pass_size(sizes: &mut SizeReader, received: Received, process: &mut dyn Input) -> bool {
    let Received::Data(bytes) = received else { return false };
    match sizes.read(&bytes) {
        Ok(None) => true,
        Ok(Some(size)) => {
            if let Err(error) = process.resize(size.width, size.height).await {
                tracing::debug!(error = chain(&error), "the terminal could not be resized");
            }
            true
        }
        Err(error) => {
            tracing::debug!(error = chain(&error), "resize stream given up");
            false
        }
    }
}
