//! One forwarded connection: dial, copy both ways, each half closed on its own, failures told on the error stream.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use runtime_core::error::chain;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::activity::Activity;
use crate::backend::Backend;
use crate::channel::{CHUNK_BYTES, Channel, Inbound, Outbound};
use crate::pipe::Received;
use crate::port_forward::pairing::PairedStreams;

/// How long the backend may take to connect; a packet filter may swallow every attempt.
const DIAL_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a client that sends nothing is waited for when the pod has closed. Older clients close only after us.
const LAST_WORDS: Duration = Duration::from_secs(3);

pub(crate) async fn forward(pair: PairedStreams, sandbox: Arc<str>, backend: Arc<dyn Backend>) {
    let PairedStreams { port, error, data } = pair;
    let dialled = tokio::time::timeout(DIAL_TIMEOUT, backend.port_forward(&sandbox, port)).await;
    let failure = match dialled {
        Ok(Ok(connection)) => {
            let (from_pod, to_pod) = tokio::io::split(connection);
            match relay(data, from_pod, to_pod).await {
                Ok(()) => {
                    // The client may have left already.
                    let _ = error.finish().await;
                    return;
                }
                Err(error) => chain(&error),
            }
        }
        Ok(Err(refusal)) => refusal.message,
        Err(_) => format!("no answer within {} s", DIAL_TIMEOUT.as_secs()),
    };
    tracing::debug!(%sandbox, port, failure, "port-forward failed");
    fail(error, &format!("error forwarding port {port} to sandbox {sandbox}: {failure}")).await;
}

/// Tells why on the error stream and ends it. The data stream was broken off when it was dropped.
pub(crate) async fn fail(mut error: Outbound, why: &str) {
    // The client may have left already.
    if error.send(why.to_owned().into()).await.is_ok() {
        let _ = error.finish().await;
    }
}

/// Copies until both halves are closed, the client breaks off, or the pod's side fails.
async fn relay<R, W>(data: Channel, from_pod: R, to_pod: W) -> Result<(), RelayError>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let Channel { inbound, outbound } = data;
    let activity = Activity::new();
    let (mut upload, mut download) =
        (std::pin::pin!(upload(inbound, to_pod, &activity)), std::pin::pin!(download(from_pod, outbound)));
    tokio::select! {
        // Cancel-safe: the other arm is polled on below, or the pair ends.
        end = &mut upload => match end {
            // The pod may have closed its reading side only: what it sends still counts.
            Upload::Finished => download.await,
            Upload::Reset => Ok(()),
        },
        // Cancel-safe: the other arm is polled on below, or the pair ends.
        result = &mut download => {
            result?;
            activity.touch();
            tokio::select! {
                // Cancel-safe: the pair ends. How the upload ends makes no difference any more.
                _ = upload => {}
                // Cancel-safe: a timer.
                () = activity.idle(LAST_WORDS) => {}
            }
            Ok(())
        }
    }
}

enum Upload {
    Finished,
    Reset,
}

async fn upload(mut inbound: Inbound, mut to_pod: impl AsyncWrite + Unpin, activity: &Activity) -> Upload {
    loop {
        match inbound.next().await {
            Received::Data(bytes) => {
                activity.touch();
                if let Err(error) = to_pod.write_all(&bytes).await {
                    tracing::debug!(error = chain(&error), "the pod takes no more");
                    return Upload::Finished;
                }
                activity.touch();
            }
            Received::End => {
                // A peer that has closed altogether shows in the other direction.
                let _ = to_pod.shutdown().await;
                return Upload::Finished;
            }
            Received::Reset => return Upload::Reset,
        }
    }
}

async fn download(mut from_pod: impl AsyncRead + Unpin, mut outbound: Outbound) -> Result<(), RelayError> {
    let mut buffer = BytesMut::new();
    loop {
        buffer.reserve(CHUNK_BYTES);
        let read = tokio::select! {
            // Cancel-safe: bytes are read or stay in the connection.
            read = from_pod.read_buf(&mut buffer) => read,
            // Cancel-safe: it only waits. The upload may be over and so not notice.
            () = outbound.broken_off() => return Ok(()),
        };
        let read = match read {
            Ok(read) => read,
            Err(error) => {
                // The client may be gone, and the failure is told anyway.
                let _ = outbound.break_off().await;
                return Err(RelayError(error));
            }
        };
        // A client that wants no more ends the pair, which is no failure of it.
        if read == 0 {
            let _ = outbound.finish().await;
            return Ok(());
        }
        if outbound.send(buffer.split().freeze()).await.is_err() {
            return Ok(());
        }
    }
}

#[derive(Debug, thiserror::Error)]
#[error("the connection to the port broke")]
struct RelayError(#[source] io::Error);
