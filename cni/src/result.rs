//! What plugins answer to ADD, in the shape of specification 1.1.0; the older ones differ in one field.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use thiserror::Error;

use crate::version::Version;

/// A result of ADD.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct CniResult {
    #[serde(deserialize_with = "or_default")]
    pub interfaces: Vec<Interface>,
    #[serde(deserialize_with = "or_default")]
    pub ips: Vec<IpConfig>,
    #[serde(deserialize_with = "or_default")]
    pub routes: Vec<Route>,
    #[serde(deserialize_with = "or_default")]
    pub dns: Dns,
}

/// A network device that a plugin made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Interface {
    pub name: String,
    #[serde(deserialize_with = "or_default")]
    pub mac: String,
    #[serde(deserialize_with = "or_default")]
    pub mtu: Option<u32>,
    /// The namespace that it is in; empty for the host's.
    #[serde(deserialize_with = "or_default")]
    pub sandbox: String,
}

/// An address that a plugin gave out.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct IpConfig {
    /// Index of its interface.
    #[serde(default)]
    pub interface: Option<usize>,
    pub address: IpPrefix,
    #[serde(default, deserialize_with = "no_address")]
    pub gateway: Option<IpAddr>,
}

/// A route in the namespace.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Route {
    pub dst: IpPrefix,
    #[serde(default, deserialize_with = "no_address")]
    pub gw: Option<IpAddr>,
    #[serde(default)]
    pub mtu: Option<u32>,
    #[serde(default)]
    pub priority: Option<u32>,
    #[serde(default)]
    pub table: Option<u32>,
}

/// Name servers of the network.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Dns {
    #[serde(deserialize_with = "or_default")]
    pub nameservers: Vec<String>,
    #[serde(deserialize_with = "or_default")]
    pub domain: String,
    #[serde(deserialize_with = "or_default")]
    pub search: Vec<String>,
    #[serde(deserialize_with = "or_default")]
    pub options: Vec<String>,
}

/// An address with the length of its network's prefix, as `10.0.0.7/24`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct IpPrefix {
    pub ip: IpAddr,
    pub prefix: u8,
}

/// This is no result.
#[derive(Debug, Error)]
pub enum ResultError {
    #[error("not JSON")]
    Json(#[source] serde_json::Error),
    #[error("not a JSON object")]
    NotAnObject,
    #[error("a field is not as the specification says")]
    Shape(#[source] serde_json::Error),
    #[error("address {address} is of interface {interface}, and there are {count}")]
    NoInterface { address: IpPrefix, interface: usize, count: usize },
    #[error("`cniVersion` {found} is not supported")]
    Version { found: String },
}

impl CniResult {
    /// Reads a result of any supported version.
    ///
    /// # Errors
    /// Names what is wrong with it.
    pub fn parse(raw: &Value) -> Result<Self, ResultError> {
        if !raw.is_object() {
            return Err(ResultError::NotAnObject);
        }
        let result = Self::deserialize(raw).map_err(ResultError::Shape)?;
        let count = result.interfaces.len();
        for ip in &result.ips {
            if let Some(interface) = ip.interface.filter(|interface| *interface >= count) {
                return Err(ResultError::NoInterface { address: ip.address, interface, count });
            }
        }
        Ok(result)
    }

    /// The addresses of the interface with this name in the pod, in the plugin's order: the first is the primary one.
    /// An address without an interface is the pod's too, plugins that report no interfaces mean that; and when no
    /// interface is said to be in a namespace, the name alone counts.
    #[must_use]
    pub fn pod_ips(&self, if_name: &str) -> Vec<IpAddr> {
        let located = self.interfaces.iter().any(|one| one.name == if_name && !one.sandbox.is_empty());
        let mut ips = Vec::new();
        for config in &self.ips {
            let interface = config.interface.and_then(|index| self.interfaces.get(index));
            let of_pod =
                interface.is_none_or(|one| one.name == if_name && !(located && one.sandbox.is_empty()));
            if of_pod && !ips.contains(&config.address.ip) {
                ips.push(config.address.ip);
            }
        }
        ips
    }
}

/// A raw result as another version has it. A plugin may answer in an older version than it is asked in, and the next
/// one of the chain must get it in the network's.
pub(crate) fn in_version(raw: &Value, version: Version) -> Result<Value, ResultError> {
    let mut raw = raw.as_object().ok_or(ResultError::NotAnObject)?.clone();
    match raw.get("cniVersion") {
        None | Some(Value::Null) => {}
        Some(Value::String(text)) if text.is_empty() || Version::parse(text).is_some() => {}
        Some(found) => {
            let found = found.to_string().chars().take(40).collect();
            return Err(ResultError::Version { found });
        }
    }
    raw.insert("cniVersion".to_owned(), version.as_str().into());
    let ips = raw.get_mut("ips").and_then(Value::as_array_mut).into_iter().flatten();
    for ip in ips.filter_map(Value::as_object_mut) {
        if version >= Version::V1_0_0 {
            ip.remove("version");
        } else {
            let six = ip.get("address").and_then(Value::as_str).is_some_and(|text| text.contains(':'));
            ip.insert("version".to_owned(), if six { "6" } else { "4" }.into());
        }
    }
    Ok(Value::Object(raw))
}

impl FromStr for IpPrefix {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parsed = text.split_once('/').and_then(|(ip, prefix)| {
            let ip: IpAddr = ip.parse().ok()?;
            let digits = !prefix.is_empty() && prefix.bytes().all(|byte| byte.is_ascii_digit());
            let prefix = prefix.parse().ok().filter(|_| digits)?;
            (prefix <= if ip.is_ipv4() { 32 } else { 128 }).then_some(Self { ip, prefix })
        });
        parsed.ok_or_else(|| {
            format!("{:?} is no address with a prefix length", text.chars().take(60).collect::<String>())
        })
    }
}

impl fmt::Display for IpPrefix {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.ip, self.prefix)
    }
}

impl<'de> Deserialize<'de> for IpPrefix {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

/// Go programs write null for what they leave empty.
fn or_default<'de, T: Default + Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// An address; empty text is none.
fn no_address<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<IpAddr>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?.filter(|text| !text.is_empty());
    text.map(|text| text.parse().map_err(|_| D::Error::custom("a gateway is no IP address"))).transpose()
}

#[cfg(test)]
mod tests;
