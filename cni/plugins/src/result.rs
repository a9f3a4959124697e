//! Results of ADD, written and read in every version that is spoken.

mod first;

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use thiserror::Error;

use self::first::FirstResult;
use crate::config::{from_text, or_default};
use crate::error::Code;
use crate::prefix::IpPrefix;
use crate::version::Version;

/// A result in the shape of 1.1.0.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct CniResult {
    #[serde(deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub(crate) interfaces: Vec<Interface>,
    #[serde(deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub(crate) ips: Vec<IpConfig>,
    #[serde(deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub(crate) routes: Vec<Route>,
    #[serde(deserialize_with = "or_default", skip_serializing_if = "Dns::is_empty")]
    pub(crate) dns: Dns,
}

/// A device that a plugin made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Interface {
    pub(crate) name: String,
    #[serde(deserialize_with = "or_default", skip_serializing_if = "String::is_empty")]
    pub(crate) mac: String,
    #[serde(deserialize_with = "or_default", skip_serializing_if = "is_zero")]
    pub(crate) mtu: u32,
    /// The namespace that it is in; empty for the host's.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "String::is_empty")]
    pub(crate) sandbox: String,
    #[serde(
        rename = "socketPath",
        deserialize_with = "or_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub(crate) socket_path: String,
    #[serde(rename = "pciID", deserialize_with = "or_default", skip_serializing_if = "String::is_empty")]
    pub(crate) pci_id: String,
}

/// An address that a plugin gave out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct IpConfig {
    /// Index of its interface.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) interface: Option<usize>,
    pub(crate) address: IpPrefix,
    #[serde(default, deserialize_with = "from_text", skip_serializing_if = "Option::is_none")]
    pub(crate) gateway: Option<IpAddr>,
}

/// A route in the namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Route {
    pub(crate) dst: IpPrefix,
    #[serde(default, deserialize_with = "from_text", skip_serializing_if = "Option::is_none")]
    pub(crate) gw: Option<IpAddr>,
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "is_zero")]
    pub(crate) mtu: u32,
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "is_zero")]
    pub(crate) advmss: u32,
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "is_zero")]
    pub(crate) priority: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) table: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) scope: Option<u8>,
}

/// Name servers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Dns {
    #[serde(deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub(crate) nameservers: Vec<String>,
    #[serde(deserialize_with = "or_default", skip_serializing_if = "String::is_empty")]
    pub(crate) domain: String,
    #[serde(deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub(crate) search: Vec<String>,
    #[serde(deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub(crate) options: Vec<String>,
}

/// This is no result.
#[derive(Debug, Error)]
pub(crate) enum ResultError {
    #[error("`prevResult` is missing: {why}")]
    Missing { why: &'static str },
    #[error("{what} is no JSON object")]
    NotAnObject { what: &'static str },
    #[error("{what} is not as the specification says")]
    Shape {
        what: &'static str,
        #[source]
        source: serde_json::Error,
    },
    #[error("{what} has `cniVersion` {found}, which is not supported")]
    Version { what: &'static str, found: String },
    #[error("a result of version {0} has to have an address")]
    NoAddress(&'static str),
}

impl ResultError {
    pub(crate) fn code(&self) -> Code {
        match self {
            Self::Missing { .. } | Self::NotAnObject { .. } | Self::Shape { .. } | Self::Version { .. } => {
                Code::Decoding
            }
            Self::NoAddress(_) => Code::Internal,
        }
    }
}

impl CniResult {
    /// The result of the plugins before, when there were any.
    pub(crate) fn previous(input: &Value) -> Result<Option<Self>, ResultError> {
        match input.get("prevResult") {
            None | Some(Value::Null) => Ok(None),
            Some(raw) => Self::parse("`prevResult`", raw).map(Some),
        }
    }

    /// Reads a result of any version; `what` names it in an error.
    pub(crate) fn parse(what: &'static str, raw: &Value) -> Result<Self, ResultError> {
        if !raw.is_object() {
            return Err(ResultError::NotAnObject { what });
        }
        let in_first_shape = match raw.get("cniVersion") {
            // Before 0.3.0 a result did not tell.
            None | Some(Value::Null) => raw.get("ip4").is_some() || raw.get("ip6").is_some(),
            Some(found) => match found.as_str().and_then(Version::parse) {
                Some(version) => version < Version::V0_3_0,
                None => {
                    let found = found.to_string().chars().take(40).collect();
                    return Err(ResultError::Version { what, found });
                }
            },
        };
        let parsed = if in_first_shape {
            FirstResult::deserialize(raw).map(Self::from)
        } else {
            Self::deserialize(raw)
        };
        parsed.map_err(|source| ResultError::Shape { what, source })
    }

    /// What is left of it in a version: as much as a plugin of its own could have told.
    pub(crate) fn told_in(self, version: Version) -> Result<Self, ResultError> {
        if version < Version::V0_3_0 { Ok(self.first(version)?.into()) } else { Ok(self) }
    }

    fn first(&self, version: Version) -> Result<FirstResult, ResultError> {
        FirstResult::of(self, version).ok_or(ResultError::NoAddress(version.as_str()))
    }

    /// As the runtime gets it.
    pub(crate) fn to_json(&self, version: Version) -> Result<Value, ResultError> {
        if version < Version::V0_3_0 {
            let first = self.first(version)?;
            return serde_json::to_value(first)
                .map_err(|source| ResultError::Shape { what: "the result", source });
        }
        let mut raw = match serde_json::to_value(self) {
            Ok(Value::Object(raw)) => raw,
            // Strings and numbers only: nothing that JSON could not say.
            Ok(_) | Err(_) => Map::new(),
        };
        raw.insert("cniVersion".to_owned(), version.as_str().into());
        if version < Version::V1_0_0 {
            in_old_shape(&mut raw);
        }
        Ok(Value::Object(raw))
    }

    /// The first address of each family of an interface in the container, as the reference chooses them.
    pub(crate) fn addresses_in_container(&self, ifname: &str) -> Vec<IpPrefix> {
        let mut found: Vec<IpPrefix> = Vec::new();
        for ip in &self.ips {
            let interface = ip.interface.and_then(|index| self.interfaces.get(index));
            let elsewhere = interface.is_some_and(|one| one.name != ifname || one.sandbox.is_empty());
            let known = found.iter().any(|one| one.ip.is_ipv4() == ip.address.ip.is_ipv4());
            if !elsewhere && !known {
                found.push(ip.address);
            }
        }
        found.sort_by_key(|one| one.ip.is_ipv6());
        found
    }
}

/// Before 1.0.0 an address told its family, an interface less of itself, and `dns` was always there.
fn in_old_shape(raw: &mut Map<String, Value>) {
    let objects = |list: Option<&mut Value>, change: &dyn Fn(&mut Map<String, Value>)| {
        for one in list.and_then(Value::as_array_mut).into_iter().flatten() {
            if let Some(one) = one.as_object_mut() {
                change(one);
            }
        }
    };
    objects(raw.get_mut("ips"), &|ip| {
        let six = ip.get("address").and_then(Value::as_str).is_some_and(|text| text.contains(':'));
        ip.insert("version".to_owned(), if six { "6" } else { "4" }.into());
    });
    objects(raw.get_mut("interfaces"), &|interface| {
        for newer in ["mtu", "socketPath", "pciID"] {
            interface.remove(newer);
        }
    });
    raw.entry("dns").or_insert_with(|| Value::Object(Map::new()));
}

impl Route {
    /// Without what only newer versions know.
    fn plain(&self) -> Self {
        let Self { dst, gw, .. } = *self;
        Self { dst, gw, mtu: 0, advmss: 0, priority: 0, table: None, scope: None }
    }
}

impl Dns {
    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn sample() -> Value {
        json!({
            "cniVersion": "1.0.0",
            "interfaces": [{"name": "cni0", "mac": "aa"}, {"name": "eth0", "sandbox": "/run/netns/a", "mtu": 1400}],
            "ips": [
                {"address": "192.168.0.1/24"},
                {"interface": 0, "address": "10.1.1.1/24"},
                {"interface": 1, "address": "fd00::2/64"},
                {"interface": 1, "address": "10.1.1.2/24", "gateway": "10.1.1.1"},
            ],
            "routes": [{"dst": "0.0.0.0/0", "gw": ""}],
            "dns": null,
        })
    }

    #[test]
    fn every_version_has_its_shape() {
        let result = CniResult::parse("it", &sample()).unwrap();
        let new = result.to_json(Version::V1_1_0).unwrap();
        assert_eq!(new["ips"][3], json!({"interface": 1, "address": "10.1.1.2/24", "gateway": "10.1.1.1"}));
        assert_eq!(new["routes"], json!([{"dst": "0.0.0.0/0"}]));
        assert_eq!((&new["interfaces"][1]["mtu"], new.get("dns")), (&json!(1400), None));
        let old = result.to_json(Version::V0_4_0).unwrap();
        assert_eq!((&old["ips"][2]["version"], &old["ips"][3]["version"]), (&json!("6"), &json!("4")));
        assert_eq!((old["interfaces"][1].get("mtu"), &old["dns"]), (None, &json!({})));
        assert_eq!(CniResult::parse("it", &old).unwrap().ips, result.ips);
        let mut first = result.to_json(Version::V0_2_0).unwrap();
        let expected = json!({
            "cniVersion": "0.2.0", "dns": {}, "ip6": {"ip": "fd00::2/64"},
            "ip4": {"ip": "192.168.0.1/24", "routes": [{"dst": "0.0.0.0/0"}]},
        });
        assert_eq!(first, expected);
        for version in [json!("0.1.0"), json!(null)] {
            first["cniVersion"] = version;
            let read = CniResult::parse("it", &first).unwrap();
            assert_eq!((read.ips.len(), &read.routes), (2, &result.routes));
        }
        assert!(CniResult::default().to_json(Version::V0_1_0).is_err());
    }

    #[test]
    fn the_containers_addresses_are_the_first_of_each_family() {
        let result = CniResult::parse("it", &sample()).unwrap();
        let addresses = result.addresses_in_container("eth0");
        assert_eq!(
            addresses.iter().map(ToString::to_string).collect::<Vec<_>>(),
            ["192.168.0.1/24", "fd00::2/64"]
        );
    }

    #[test]
    fn what_is_no_result() {
        for raw in [
            json!([]),
            json!({"cniVersion": "7.0.0"}),
            json!({"ips": [{}]}),
            json!({"ips": [{"address": "10.1.1.2/99"}]}),
            json!({"routes": [{"dst": "x"}]}),
            json!({"interfaces": [{"name": 7}]}),
            json!({"ip4": {"ip": "10.1.1.2"}}),
            json!({"cniVersion": "0.2.0", "ip6": {}}),
        ] {
            assert!(CniResult::parse("it", &raw).is_err(), "{raw}");
        }
    }
}
