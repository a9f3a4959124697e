//! What can be set about the streaming server, with the defaults that the kubelet's world expects.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

#[derive(Clone, Debug)]
pub struct Config {
    /// Where to listen; port 0 takes any free one.
    pub address: SocketAddr,
    /// How long a client may take to open the streams it asked for, and each half of a forwarded connection.
    pub creation_timeout: Duration,
    /// A connection without a single frame in either direction for so long is closed. PINGs count, as they do in
    /// containerd: a quiet command that runs all night under a living kubectl is not idle.
    pub idle_timeout: Duration,
    /// How long the URL of an RPC may be opened.
    pub token_lifetime: Duration,
    /// How many URLs may wait to be opened.
    pub max_pending: usize,
    /// How many sessions may run at a time. Clients that have not shown a token yet are counted apart.
    pub max_connections: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            creation_timeout: Duration::from_secs(30),
            idle_timeout: Duration::from_secs(4 * 60 * 60),
            token_lifetime: Duration::from_secs(60),
            max_pending: 1000,
            max_connections: 1024,
        }
    }
}
