//! One host to ask, with everything that its connections need.

use std::path::PathBuf;
use std::time::Duration;

use reqwest::Url;
use reqwest::header::HeaderMap;

/// What makes two connections to a host different. The key of shared clients.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Transport {
    /// Certificates trusted beside the system's.
    pub(crate) authorities: Vec<PathBuf>,
    /// Certificate and key; one file may hold both.
    pub(crate) identities: Vec<(PathBuf, PathBuf)>,
    pub(crate) skip_verify: bool,
    pub(crate) dial_timeout: Option<Duration>,
}

#[derive(Clone, Debug)]
pub(crate) struct Endpoint {
    /// With the path up to and including `/v2`.
    pub(crate) base: Url,
    /// `host[:port]`, as people would write it.
    pub(crate) host: String,
    /// The registry that this mirror is asked about.
    pub(crate) namespace: Option<String>,
    pub(crate) may_resolve: bool,
    pub(crate) may_pull: bool,
    pub(crate) headers: HeaderMap,
    pub(crate) transport: Transport,
}

impl Endpoint {
    /// `<base>/<repository>/<kind>/<name>`, with `ns=` for mirrors.
    pub(crate) fn url(&self, repository: &str, kind: &str, name: &str) -> Url {
        let mut url = self.base.clone();
        let path = format!("{}/{repository}/{kind}/{name}", url.path().trim_end_matches('/'));
        url.set_path(&path);
        if let Some(namespace) = &self.namespace {
            url.query_pairs_mut().append_pair("ns", namespace);
        }
        url
    }

    /// How a server at `url` is connected to that the host sends us to: for a token, or by a redirect. Another one
    /// than the host itself is not shown the client certificate, and gets and gives nothing unless its own
    /// certificate is valid.
    pub(crate) fn transport_to(&self, url: &Url) -> Transport {
        let mut transport = self.transport.clone();
        if url.origin() != self.base.origin() {
            transport.identities.clear();
            transport.skip_verify = false;
        }
        transport
    }
}

/// `host[:port]` of an address.
pub(crate) fn host_of(url: &Url) -> String {
    match (url.host_str(), url.port()) {
        (Some(host), Some(port)) => format!("{host}:{port}"),
        (Some(host), None) => host.to_owned(),
        (None, _) => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_server_gets_neither_certificate_nor_leniency() {
        let mut endpoint = crate::registry::hosts::endpoints(&[], "reg.example").unwrap().remove(0);
        endpoint.transport.identities = vec![(PathBuf::from("c"), PathBuf::from("k"))];
        endpoint.transport.authorities = vec![PathBuf::from("ca")];
        endpoint.transport.skip_verify = true;
        let to = |url: &str| endpoint.transport_to(&Url::parse(url).unwrap());
        assert_eq!(to("https://reg.example:443/token"), endpoint.transport);
        for other in
            ["https://auth.example/token", "https://reg.example:8443/token", "http://reg.example/token"]
        {
            let found = to(other);
            assert!(found.identities.is_empty() && !found.skip_verify, "{other}");
            assert_eq!(found.authorities, endpoint.transport.authorities);
        }
    }
}
