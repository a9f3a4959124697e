//! What `portmap` is told: the runtime's mappings, and how they are written.

use std::net::IpAddr;

use serde::Deserialize;

use crate::call::Call;
use crate::config::{self, ConfigError, from_text, or_default};
use crate::error::PluginError;
use crate::firewall::{Backend, Family};

/// Kubernetes uses 14 and 15, Calico 20 to 31.
const MARK_BIT: u32 = 13;
/// Most mappings of a container: a rule each, in a list that the kernel goes through for every connection.
const MOST: usize = 4096;
/// Longest name of a chain of iptables.
const LONGEST_CHAIN: usize = 28;

/// The configuration.
#[derive(Clone, Debug)]
pub(super) struct PortConfig {
    pub(super) backend: Backend,
    /// Whether the container and the host reach the ports too.
    pub(super) snat: bool,
    /// Whether everything that comes in by a port carries the host's address.
    pub(super) masquerade_all: bool,
    pub(super) mark_bit: u32,
    pub(super) external_mark_chain: Option<String>,
    conditions: [Vec<String>; 2],
    pub(super) mappings: Vec<Mapping>,
}

/// A port of the host and where it leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mapping {
    pub(super) host_port: u16,
    pub(super) container_port: u16,
    pub(super) protocol: Protocol,
    pub(super) host_ip: Option<IpAddr>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Protocol {
    Sctp,
    Tcp,
    Udp,
}

impl Protocol {
    /// In the order in which the reference sorts them.
    pub(super) const ALL: [Self; 3] = [Self::Sctp, Self::Tcp, Self::Udp];

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        }
    }

    pub(super) fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
            Self::Sctp => 132,
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Raw {
    backend: Option<String>,
    snat: Option<bool>,
    #[serde(default, deserialize_with = "or_default")]
    masq_all: bool,
    mark_masq_bit: Option<i64>,
    external_set_mark_chain: Option<String>,
    #[serde(rename = "conditionsV4", default, deserialize_with = "or_default")]
    conditions_v4: Vec<String>,
    #[serde(rename = "conditionsV6", default, deserialize_with = "or_default")]
    conditions_v6: Vec<String>,
    #[serde(default, deserialize_with = "or_default")]
    runtime_config: RawRuntime,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct RawRuntime {
    #[serde(deserialize_with = "or_default")]
    port_mappings: Vec<RawMapping>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawMapping {
    #[serde(default)]
    host_port: i64,
    #[serde(default)]
    container_port: i64,
    #[serde(default, deserialize_with = "or_default")]
    protocol: String,
    #[serde(default, rename = "hostIP", deserialize_with = "from_text")]
    host_ip: Option<IpAddr>,
}

impl PortConfig {
    pub(super) fn parse(call: &Call) -> Result<Self, PluginError> {
        let raw: Raw = config::parse(&call.input)?;
        let backend = match raw.backend.as_deref() {
            Some(name) => Backend::named("backend", name)?,
            None => Backend::available(),
        };
        let conditions = [raw.conditions_v4, raw.conditions_v6];
        check_backend(backend, &conditions, raw.external_set_mark_chain.is_some())?;
        if raw.mark_masq_bit.is_some() && raw.external_set_mark_chain.is_some() {
            let why = "cannot be together with externalSetMarkChain";
            return Err(ConfigError::field("markMasqBit", why).into());
        }
        let bit = raw.mark_masq_bit.unwrap_or(MARK_BIT.into());
        let bit = u32::try_from(bit).ok().filter(|bit| *bit < 32);
        let mark_bit = bit.ok_or_else(|| ConfigError::field("markMasqBit", "it is not between 0 and 31"))?;
        Ok(Self {
            backend,
            snat: raw.snat.unwrap_or(true),
            masquerade_all: raw.masq_all,
            mark_bit,
            external_mark_chain: raw.external_set_mark_chain.map(chain_name).transpose()?,
            conditions,
            mappings: mappings(raw.runtime_config.port_mappings)?,
        })
    }

    /// DEL needs nothing of it: rules are found by the container.
    pub(super) fn for_del(call: &Call) -> Result<Self, PluginError> {
        if !call.input.is_object() {
            return Self::parse(call);
        }
        Ok(Self {
            backend: Backend::Iptables,
            snat: false,
            masquerade_all: false,
            mark_bit: MARK_BIT,
            external_mark_chain: None,
            conditions: Default::default(),
            mappings: Vec::new(),
        })
    }

    pub(super) fn conditions(&self, family: Family) -> &[String] {
        let [four, six] = &self.conditions;
        match family {
            Family::V4 => four,
            Family::V6 => six,
        }
    }

    /// The mappings that are for a family: those of an address of the host are for its family alone.
    pub(super) fn mappings(&self, family: Family) -> impl Iterator<Item = &Mapping> {
        self.mappings.iter().filter(move |one| one.host_ip.is_none_or(|ip| Family::of(ip) == family))
    }

    pub(super) fn udp_ports(&self) -> Vec<u16> {
        let udp = self.mappings.iter().filter(|one| one.protocol == Protocol::Udp);
        udp.map(|one| one.host_port).collect()
    }
}

impl Mapping {
    /// The address of the host that packets have to be for, if it is not any.
    pub(super) fn destination(&self) -> Option<IpAddr> {
        self.host_ip.filter(|ip| !ip.is_unspecified())
    }
}

fn mappings(raw: Vec<RawMapping>) -> Result<Vec<Mapping>, ConfigError> {
    let field = |index: usize, name: &str| format!("runtimeConfig.portMappings[{index}].{name}");
    if raw.len() > MOST {
        return Err(ConfigError::field("runtimeConfig.portMappings", format!("there are more than {MOST}")));
    }
    let port = |index, name, number: i64| {
        let port = u16::try_from(number).ok().filter(|port| *port > 0);
        port.ok_or_else(|| ConfigError::field(field(index, name), format!("invalid port number {number}")))
    };
    let mapping = |(index, one): (usize, RawMapping)| {
        let text = one.protocol.to_ascii_lowercase();
        let protocol = Protocol::ALL.into_iter().find(|protocol| protocol.as_str() == text);
        Ok(Mapping {
            container_port: port(index, "containerPort", one.container_port)?,
            host_port: port(index, "hostPort", one.host_port)?,
            protocol: protocol.ok_or_else(|| {
                ConfigError::field(field(index, "protocol"), "it is none of tcp, udp and sctp")
            })?,
            host_ip: one.host_ip.map(|ip| ip.to_canonical()),
        })
    };
    raw.into_iter().enumerate().map(mapping).collect()
}

/// Conditions are words of iptables or of nftables: a first character tells.
fn check_backend(
    backend: Backend,
    conditions: &[Vec<String>; 2],
    external_chain: bool,
) -> Result<(), ConfigError> {
    let other = |field| ConfigError::field(field, format!("it is not for the backend {backend:?}"));
    for (field, words) in ["conditionsV4", "conditionsV6"].into_iter().zip(conditions) {
        if words.iter().any(|word| word.chars().any(|one| one.is_control() || one == ';')) {
            return Err(ConfigError::field(field, "control characters and semicolons are not allowed"));
        }
        let first = words.first().and_then(|word| word.chars().next());
        let of_iptables = first.map(|first| first == '-' || first == '!');
        if of_iptables.is_some_and(|of_iptables| of_iptables != (backend == Backend::Iptables)) {
            return Err(other(field));
        }
    }
    if external_chain && backend != Backend::Iptables { Err(other("externalSetMarkChain")) } else { Ok(()) }
}

fn chain_name(name: String) -> Result<String, ConfigError> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    let good =
        !name.is_empty() && name.len() <= LONGEST_CHAIN && name.bytes().all(plain) && !name.starts_with('-');
    if good { Ok(name) } else { Err(ConfigError::field("externalSetMarkChain", "it is no name of a chain")) }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::call::Verb;
    use crate::version::Version;

    fn parse(input: Value) -> Result<PortConfig, PluginError> {
        PortConfig::parse(&Call {
            verb: Verb::Status,
            version: Version::V1_0_0,
            network: "pods".to_owned(),
            input,
            args: String::new(),
            path: Vec::new(),
        })
    }

    fn mapped(mapping: Value) -> Value {
        json!({"backend": "nftables", "runtimeConfig": {"portMappings": [mapping]}})
    }

    #[test]
    fn mappings_are_typed_and_of_their_family() {
        let input = json!({"backend": "iptables", "runtimeConfig": {"portMappings": [
            {"hostPort": 8080, "containerPort": 80, "protocol": "TCP", "hostIP": ""},
            {"hostPort": 53, "containerPort": 53, "protocol": "udp", "hostIP": "fd00::1"},
            {"hostPort": 53, "containerPort": 53, "protocol": "udp", "hostIP": "0.0.0.0"},
        ]}});
        let config = parse(input).unwrap();
        assert_eq!((config.snat, config.mark_bit), (true, 13));
        assert_eq!((config.mappings(Family::V4).count(), config.mappings(Family::V6).count()), (2, 2));
        assert_eq!(config.udp_ports(), [53, 53]);
        assert_eq!(config.mappings[2].destination(), None);
    }

    #[test]
    fn bad_input_is_refused() {
        for input in [
            mapped(json!({"hostPort": 0, "containerPort": 80, "protocol": "tcp"})),
            mapped(json!({"hostPort": 80, "containerPort": 70000, "protocol": "tcp"})),
            mapped(json!({"hostPort": 80, "containerPort": -1, "protocol": "tcp"})),
            mapped(json!({"hostPort": 80, "containerPort": 80, "protocol": "tcp dport 1 drop"})),
            mapped(json!({"hostPort": 80, "containerPort": 80})),
            mapped(json!({"hostPort": 80, "containerPort": 80, "protocol": "tcp", "hostIP": "host"})),
            json!({"backend": "ebtables"}),
            json!({"markMasqBit": 32}),
            json!({"markMasqBit": 1, "externalSetMarkChain": "A"}),
            json!({"backend": "nftables", "externalSetMarkChain": "A"}),
            json!({"backend": "iptables", "externalSetMarkChain": "-j ACCEPT"}),
            json!({"backend": "nftables", "conditionsV4": ["-d", "10.0.0.0/8"]}),
            json!({"backend": "iptables", "conditionsV6": ["ip6", "daddr"]}),
            json!({"backend": "iptables", "conditionsV4": ["-d\n-A"]}),
            json!({"backend": "nftables", "conditionsV4": ["ip daddr 10.0.0.1; flush ruleset"]}),
        ] {
            let error = parse(input.clone()).err().unwrap_or_else(|| panic!("{input} passes"));
            assert_eq!(error.to_json(Version::V1_0_0)["code"], 7, "{input}: {error}");
        }
    }
}
