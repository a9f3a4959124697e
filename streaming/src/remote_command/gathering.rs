//! The streams of a remote command: the client opens them one by one, and the command waits for all of them.

use std::time::Duration;

use tokio::time::Instant;

use crate::channel::{Channel, Offer, Offers, Outbound};
use crate::protocol::RemoteProtocol;
use crate::remote_command::input::ClientInput;
use crate::request::Streams;

/// All streams that were asked for.
pub(crate) struct Gathered {
    pub(crate) error: Outbound,
    pub(crate) input: ClientInput,
    pub(crate) stdout: Option<Outbound>,
    pub(crate) stderr: Option<Outbound>,
}

/// Not all came in time, or the client is gone.
#[derive(Debug, thiserror::Error)]
#[error("timed out waiting for the client to open its streams: {names} missing")]
pub(crate) struct Missing {
    names: String,
    pub(crate) error: Option<Outbound>,
}

/// One expected stream.
struct Slot {
    name: &'static str,
    channel: Option<Channel>,
}

pub(crate) async fn gather(
    mut offers: Offers,
    streams: Streams,
    protocol: RemoteProtocol,
    limit: Duration,
) -> Result<Gathered, Missing> {
    let mut slots: Vec<Slot> = expected(streams, protocol).map(|name| Slot { name, channel: None }).collect();
    let deadline = Instant::now() + limit;
    while slots.iter().any(|slot| slot.channel.is_none()) {
        match tokio::time::timeout_at(deadline, offers.recv()).await {
            Ok(Some(offer)) => fill(&mut slots, offer),
            Ok(None) | Err(_) => break,
        }
    }
    let missing: Vec<&str> =
        slots.iter().filter(|slot| slot.channel.is_none()).map(|slot| slot.name).collect();
    let names = missing.join(", ");
    let complete = missing.is_empty();
    let mut take =
        |name| slots.iter_mut().find(|slot| slot.name == name).and_then(|slot| slot.channel.take());
    let error = take("error").map(|channel| channel.outbound);
    match error {
        Some(error) if complete => Ok(Gathered {
            error,
            input: ClientInput::new(take("stdin"), take("resize")),
            stdout: take("stdout").map(|channel| channel.outbound),
            stderr: take("stderr").map(|channel| channel.outbound),
        }),
        error => Err(Missing { names, error }),
    }
}

fn expected(streams: Streams, protocol: RemoteProtocol) -> impl Iterator<Item = &'static str> {
    let wanted = [
        ("error", true),
        ("stdin", streams.stdin),
        ("stdout", streams.stdout),
        ("stderr", streams.stderr),
        ("resize", streams.tty && protocol.resizes()),
    ];
    wanted.into_iter().filter(|(_, wanted)| *wanted).map(|(name, _)| name)
}

/// Accepts what is expected and not there yet; all else is refused.
fn fill(slots: &mut [Slot], offer: Offer) {
    let name = offer.headers.get("streamtype");
    match slots.iter_mut().find(|slot| Some(slot.name) == name && slot.channel.is_none()) {
        Some(slot) => slot.channel = Some(offer.accept()),
        None => {
            tracing::debug!(stream = offer.id, streamtype = ?name, "stream refused: not asked for, or twice")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_is_resized_by_the_protocols_that_can() {
        let names = |tty, stderr, protocol| {
            let streams = Streams { tty, stdin: true, stdout: true, stderr };
            expected(streams, protocol).collect::<Vec<_>>()
        };
        assert_eq!(names(true, false, RemoteProtocol::V4), ["error", "stdin", "stdout", "resize"]);
        assert_eq!(names(true, false, RemoteProtocol::V2), ["error", "stdin", "stdout"]);
        assert_eq!(names(false, true, RemoteProtocol::V4), ["error", "stdin", "stdout", "stderr"]);
    }
}
