//! `plugins."io.containerd.grpc.v1.cri"`: the server of exec, attach and port-forward streams.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::schema::{Problem, Schema};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct StreamsConfig {
    /// Only the kubelet of this node has to reach it.
    pub stream_server_address: String,
    /// 0 is any free one.
    pub stream_server_port: String,
    /// A stream without traffic is closed after it.
    pub stream_idle_timeout: String,
}

impl Default for StreamsConfig {
    fn default() -> Self {
        Self {
            stream_server_address: "127.0.0.1".to_owned(),
            stream_server_port: "0".to_owned(),
            stream_idle_timeout: "4h".to_owned(),
        }
    }
}

impl StreamsConfig {
    /// `None` when it is not one.
    pub fn address(&self) -> Option<SocketAddr> {
        let ip: IpAddr = self.stream_server_address.parse().ok()?;
        Some(SocketAddr::new(ip, self.stream_server_port.parse().ok()?))
    }

    /// `None` when it is not a duration.
    pub fn idle_timeout(&self) -> Option<Duration> {
        humantime::parse_duration(&self.stream_idle_timeout).ok().filter(|limit| !limit.is_zero())
    }
}

impl Schema for StreamsConfig {
    fn mistakes(&self) -> Vec<Problem> {
        let mut mistakes = Vec::new();
        let mut refuse = |key: &str, message: String| mistakes.push(Problem::invalid(&[key], message));
        if self.stream_server_address.parse::<IpAddr>().is_err() {
            let message = format!("{:?} is not an IP address", self.stream_server_address);
            refuse("stream_server_address", message);
        }
        if self.stream_server_port.parse::<u16>().is_err() {
            refuse("stream_server_port", format!("{:?} is not a port", self.stream_server_port));
        }
        if self.idle_timeout().is_none() {
            let message = format!("{:?} is not a duration, such as \"4h\"", self.stream_idle_timeout);
            refuse("stream_idle_timeout", message);
        }
        mistakes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_containerd_writes_them() {
        let config = StreamsConfig { stream_idle_timeout: "4h0m0s".to_owned(), ..StreamsConfig::default() };
        assert_eq!(config.idle_timeout(), Some(Duration::from_secs(4 * 3600)));
        assert_eq!(config.address(), Some(SocketAddr::from(([127, 0, 0, 1], 0))));
        assert!(config.mistakes().is_empty());
    }

    #[test]
    fn every_bad_value_is_named() {
        let bad = StreamsConfig {
            stream_server_address: "host".to_owned(),
            stream_server_port: "70000".to_owned(),
            stream_idle_timeout: "soon".to_owned(),
        };
        let keys: Vec<_> = bad.mistakes().into_iter().map(|it| it.key.join(".")).collect();
        assert_eq!(keys, ["stream_server_address", "stream_server_port", "stream_idle_timeout"]);
    }
}
