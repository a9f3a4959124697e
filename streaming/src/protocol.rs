//! Which subprotocol is spoken inside the streams: what clients offer in `X-Stream-Protocol-Version`, what we have.

/// Remote command protocols in the order of our liking. Version 5 exists for WebSocket only.
const REMOTE_COMMAND: [RemoteProtocol; 4] =
    [RemoteProtocol::V4, RemoteProtocol::V3, RemoteProtocol::V2, RemoteProtocol::V1];
pub(crate) const PORT_FORWARD: &str = "portforward.k8s.io";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RemoteProtocol {
    V1,
    V2,
    V3,
    V4,
}

impl RemoteProtocol {
    /// The best that the client offers as well.
    pub(crate) fn choose(offered: &[&str]) -> Option<Self> {
        REMOTE_COMMAND.into_iter().find(|protocol| offered.contains(&protocol.name()))
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::V1 => "channel.k8s.io",
            Self::V2 => "v2.channel.k8s.io",
            Self::V3 => "v3.channel.k8s.io",
            Self::V4 => "v4.channel.k8s.io",
        }
    }

    pub(crate) fn names() -> Vec<&'static str> {
        REMOTE_COMMAND.into_iter().map(Self::name).collect()
    }

    /// Whether a terminal has a stream that tells its size.
    pub(crate) fn resizes(self) -> bool {
        match self {
            Self::V1 | Self::V2 => false,
            Self::V3 | Self::V4 => true,
        }
    }

    /// Whether the result is a JSON status rather than text.
    pub(crate) fn has_status(self) -> bool {
        match self {
            Self::V1 | Self::V2 | Self::V3 => false,
            Self::V4 => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_common_protocol_is_chosen() {
        let all = ["v5.channel.k8s.io", "v4.channel.k8s.io", "v3.channel.k8s.io", "channel.k8s.io"];
        assert_eq!(RemoteProtocol::choose(&all), Some(RemoteProtocol::V4));
        assert_eq!(
            RemoteProtocol::choose(&["channel.k8s.io", "v2.channel.k8s.io"]),
            Some(RemoteProtocol::V2)
        );
        assert_eq!(RemoteProtocol::choose(&["v5.channel.k8s.io"]), None);
        for protocol in REMOTE_COMMAND {
            assert_eq!(RemoteProtocol::choose(&[protocol.name()]), Some(protocol));
        }
    }
}
