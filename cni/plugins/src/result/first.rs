//! The shape of results in 0.1.0 and 0.2.0: one address of each family, with its routes in it.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{CniResult, Dns, IpConfig, Route};
use crate::config::{from_text, or_default};
use crate::prefix::IpPrefix;
use crate::version::Version;

/// A result in this shape.
#[derive(Serialize, Deserialize)]
pub(super) struct FirstResult {
    #[serde(rename = "cniVersion", default)]
    version: Value,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ip4: Option<Address>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ip6: Option<Address>,
    #[serde(default, deserialize_with = "or_default")]
    dns: Dns,
}

#[derive(Serialize, Deserialize)]
struct Address {
    ip: IpPrefix,
    #[serde(default, deserialize_with = "from_text", skip_serializing_if = "Option::is_none")]
    gateway: Option<std::net::IpAddr>,
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    routes: Vec<Route>,
}

impl FirstResult {
    /// What can be said of a result in this shape: the first addresses, and of routes where they lead. None without
    /// addresses, as one is demanded.
    pub(super) fn of(result: &CniResult, version: Version) -> Option<Self> {
        let address = |six: bool| {
            let IpConfig { address, gateway, .. } =
                *result.ips.iter().find(|ip| ip.address.ip.is_ipv6() == six)?;
            let routes = result.routes.iter().filter(|route| route.dst.ip.is_ipv6() == six);
            Some(Address { ip: address, gateway, routes: routes.map(Route::plain).collect() })
        };
        let (ip4, ip6) = (address(false), address(true));
        let some = ip4.is_some() || ip6.is_some();
        some.then(|| Self { version: version.as_str().into(), ip4, ip6, dns: result.dns.clone() })
    }
}

impl From<FirstResult> for CniResult {
    fn from(first: FirstResult) -> Self {
        let mut result = Self { dns: first.dns, ..Self::default() };
        for Address { ip, gateway, routes } in first.ip4.into_iter().chain(first.ip6) {
            result.ips.push(IpConfig { interface: None, address: ip, gateway });
            result.routes.extend(routes);
        }
        result
    }
}
