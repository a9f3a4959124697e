//! Which streams belong together: a data and an error stream with the same request id, in any order.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::channel::{Channel, Offer, Outbound};

/// Clients count their requests; nothing longer makes sense.
const MAX_REQUEST_ID: usize = 64;

pub(crate) struct PairedStreams {
    pub(crate) port: u16,
    /// What a client sends on it is swallowed: nothing is to come.
    pub(crate) error: Outbound,
    pub(crate) data: Channel,
}

/// A stream that waits for the other one.
pub(crate) enum Half {
    Error(Outbound),
    Data(Channel, u16),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Error,
    Data,
}

/// What the headers of a stream say.
struct Announced {
    request: String,
    port: u16,
    kind: Kind,
}

pub(crate) struct Pairing {
    limit: Duration,
    waiting: HashMap<String, (Half, Instant)>,
}

impl Pairing {
    pub(crate) fn new(limit: Duration) -> Self {
        Self { limit, waiting: HashMap::new() }
    }

    /// Accepts the stream, or refuses one that cannot belong to a pair. Gives back a pair that is now complete.
    pub(crate) fn admit(&mut self, offer: Offer) -> Option<PairedStreams> {
        let Some(Announced { request, port, kind }) = announced(&offer) else {
            tracing::debug!(stream = offer.id, headers = ?offer.headers, "stream refused: its headers make no pair");
            return None;
        };
        match (self.waiting.remove(&request), kind) {
            (None, kind) => {
                let channel = offer.accept();
                let half = match kind {
                    Kind::Error => Half::Error(channel.outbound),
                    Kind::Data => Half::Data(channel, port),
                };
                self.waiting.insert(request, (half, Instant::now() + self.limit));
                None
            }
            (Some((Half::Error(error), _)), Kind::Data) => {
                Some(PairedStreams { port, error, data: offer.accept() })
            }
            (Some((Half::Data(data, port), _)), Kind::Error) => {
                Some(PairedStreams { port, error: offer.accept().outbound, data })
            }
            (Some(same @ ((Half::Error(_), _) | (Half::Data(..), _))), Kind::Error | Kind::Data) => {
                tracing::debug!(stream = offer.id, "stream refused: its pair has one like it");
                self.waiting.insert(request, same);
                None
            }
        }
    }

    /// When the first half has waited for too long.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.waiting.values().map(|(_, deadline)| *deadline).min()
    }

    /// Takes out all that have waited for too long.
    pub(crate) fn expire(&mut self) -> Vec<Half> {
        let now = Instant::now();
        let expired = self.waiting.extract_if(|_, (_, deadline)| *deadline <= now);
        expired.map(|(_, (half, _))| half).collect()
    }
}

fn announced(offer: &Offer) -> Option<Announced> {
    let kind = match offer.headers.get("streamtype")? {
        "error" => Kind::Error,
        "data" => Kind::Data,
        _ => return None,
    };
    let port = offer.headers.get("port")?.parse().ok().filter(|port| *port != 0)?;
    let request = match offer.headers.get("requestid") {
        Some(request) if request.len() > MAX_REQUEST_ID => return None,
        Some(request) if !request.is_empty() => request.to_owned(),
        // Old clients open the error stream and the data stream right after it. The mark keeps these ids apart from
        // those that clients choose.
        _ => match kind {
            Kind::Error => format!("stream {}", offer.id),
            Kind::Data => format!("stream {}", offer.id.checked_sub(2)?),
        },
    };
    Some(Announced { request, port, kind })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::channel::{Link, Queues, ResetReason, Signal};
    use crate::headers::Headers;

    fn offer(link: &Link, id: u32, headers: &[(&str, &str)]) -> Offer {
        let mut all = Headers::default();
        for (name, value) in headers {
            assert!(all.insert((*name).to_owned(), (*value).to_owned()));
        }
        link.open(id, all, false).unwrap()
    }

    fn refused(queues: &mut Queues, stream: u32) -> bool {
        std::iter::from_fn(|| queues.signals.try_recv().ok())
            .any(|signal| signal == Signal::Reset { stream, reason: ResetReason::Refused })
    }

    #[tokio::test]
    async fn pairs_are_made_by_request_in_any_order() {
        let (link, _queues) = Link::new(100);
        let mut pairing = Pairing::new(Duration::from_secs(30));
        let stream = |id, kind, request| {
            offer(&link, id, &[("streamtype", kind), ("port", "80"), ("requestid", request)])
        };
        assert!(pairing.admit(stream(1, "error", "a")).is_none());
        assert!(pairing.admit(stream(3, "data", "b")).is_none());
        assert_eq!(pairing.admit(stream(5, "error", "b")).map(|pair| pair.port), Some(80));
        assert!(pairing.admit(stream(7, "data", "a")).is_some());
        assert!(pairing.deadline().is_none());
    }

    #[tokio::test]
    async fn without_request_ids_the_stream_ids_make_pairs() {
        let (link, _queues) = Link::new(100);
        let mut pairing = Pairing::new(Duration::from_secs(30));
        let stream = |id, kind, port| offer(&link, id, &[("streamtype", kind), ("port", port)]);
        assert!(pairing.admit(stream(1, "error", "80")).is_none());
        assert!(pairing.admit(stream(5, "error", "81")).is_none());
        assert_eq!(pairing.admit(stream(3, "data", "80")).map(|pair| pair.port), Some(80));
        assert_eq!(pairing.admit(stream(7, "data", "81")).map(|pair| pair.port), Some(81));
    }

    #[tokio::test]
    async fn streams_that_make_no_pair_are_refused() {
        let (link, mut queues) = Link::new(100);
        let mut pairing = Pairing::new(Duration::from_secs(30));
        let long = "1".repeat(65);
        let cases: [&[(&str, &str)]; 6] = [
            &[("streamtype", "error"), ("requestid", "1")],
            &[("streamtype", "error"), ("port", "0"), ("requestid", "1")],
            &[("streamtype", "data"), ("port", "65536"), ("requestid", "1")],
            &[("streamtype", "stdin"), ("port", "80"), ("requestid", "1")],
            &[("port", "80"), ("requestid", "1")],
            &[("streamtype", "data"), ("port", "80"), ("requestid", &long)],
        ];
        for (id, headers) in (1..).step_by(2).zip(cases) {
            assert!(pairing.admit(offer(&link, id, headers)).is_none());
            assert!(refused(&mut queues, id), "{headers:?}");
        }
        let twice = [("streamtype", "data"), ("port", "80"), ("requestid", "1")];
        assert!(pairing.admit(offer(&link, 21, &twice)).is_none());
        assert!(pairing.admit(offer(&link, 23, &twice)).is_none());
        assert!(refused(&mut queues, 23));
        assert!(link.is_open(21), "the first stays");
    }

    #[tokio::test(start_paused = true)]
    async fn a_half_does_not_wait_for_ever() {
        let (link, _queues) = Link::new(100);
        let mut pairing = Pairing::new(Duration::from_secs(30));
        let error = [("streamtype", "error"), ("port", "80"), ("requestid", "1")];
        assert!(pairing.admit(offer(&link, 1, &error)).is_none());
        assert!(pairing.expire().is_empty());
        tokio::time::sleep_until(pairing.deadline().unwrap()).await;
        assert!(matches!(pairing.expire().as_slice(), [Half::Error(_)]));
    }
}
