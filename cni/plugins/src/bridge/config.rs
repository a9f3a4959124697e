//! What `bridge` is told. DEL and CHECK read leniently: what ADD refused must not be in the way of taking it back.

use serde::Deserialize;

use crate::args::{self, ArgsError};
use crate::call::{Call, wrong_ifname};
use crate::config::{self, ConfigError, or_default};
use crate::error::PluginError;
use crate::netlink::Port;
use crate::result::Dns;

const BRIDGE: &str = "cni0";
const LARGEST_VLAN: i64 = 4094;

/// The configuration.
#[derive(Clone, Debug)]
pub(super) struct BridgeConfig {
    pub(super) bridge: String,
    /// The bridge has the gateway's address.
    pub(super) gateway: bool,
    /// And is the container's default route.
    pub(super) default_gateway: bool,
    pub(super) force_address: bool,
    pub(super) masquerade: bool,
    pub(super) masquerade_backend: Option<String>,
    pub(super) mtu: Option<u32>,
    pub(super) port: Port,
    pub(super) promiscuous: bool,
    pub(super) spoof_check: bool,
    /// Waits until the network says that nobody else has an IPv6 address.
    pub(super) duplicate_detection: bool,
    /// Whether the container's interface is set up.
    pub(super) container_interface: bool,
    pub(super) mac: Option<Vec<u8>>,
    /// Name of the plugin that gives addresses.
    pub(super) ipam: Option<String>,
    pub(super) dns: Dns,
    /// DEL deletes the pair at once, and does not leave it to the end of the namespace (a key that the reference has
    /// not).
    pub(super) delete_link: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Raw {
    #[serde(default, deserialize_with = "or_default")]
    bridge: String,
    #[serde(default, deserialize_with = "or_default")]
    is_gateway: bool,
    #[serde(default, deserialize_with = "or_default")]
    is_default_gateway: bool,
    #[serde(default, deserialize_with = "or_default")]
    force_address: bool,
    #[serde(default, deserialize_with = "or_default")]
    ip_masq: bool,
    ip_masq_backend: Option<String>,
    #[serde(default, deserialize_with = "or_default")]
    mtu: u32,
    #[serde(default, deserialize_with = "or_default")]
    hairpin_mode: bool,
    #[serde(default, deserialize_with = "or_default")]
    promisc_mode: bool,
    #[serde(default, deserialize_with = "or_default")]
    vlan: i64,
    vlan_trunk: Option<serde_json::Value>,
    #[serde(default, rename = "macspoofchk", deserialize_with = "or_default")]
    mac_spoof_check: bool,
    #[serde(default, rename = "enabledad", deserialize_with = "or_default")]
    enable_dad: bool,
    #[serde(default, deserialize_with = "or_default")]
    disable_container_interface: bool,
    #[serde(default, deserialize_with = "or_default")]
    port_isolation: bool,
    #[serde(default, deserialize_with = "or_default")]
    delete_link: bool,
    #[serde(default, deserialize_with = "or_default")]
    ipam: RawIpam,
    #[serde(default, deserialize_with = "or_default")]
    dns: Dns,
    #[serde(default, deserialize_with = "or_default")]
    args: RawArgs,
    #[serde(default, deserialize_with = "or_default")]
    runtime_config: RawMac,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RawIpam {
    #[serde(deserialize_with = "or_default")]
    r#type: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RawArgs {
    #[serde(deserialize_with = "or_default")]
    cni: RawMac,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RawMac {
    #[serde(deserialize_with = "or_default")]
    mac: String,
}

impl BridgeConfig {
    pub(super) fn parse(call: &Call) -> Result<Self, PluginError> {
        Ok(Self::of(config::parse(&call.input)?))
    }

    /// With all that has to be right for ADD.
    pub(super) fn for_add(call: &Call) -> Result<Self, PluginError> {
        let raw: Raw = config::parse(&call.input)?;
        let mac = mac(call, &raw)?;
        refuse_vlan(&raw)?;
        let config = Self { mac, ..Self::of(raw) };
        if let Some(why) = wrong_ifname(&config.bridge) {
            return Err(ConfigError::field("bridge", why).into());
        }
        if config.port.hairpin && config.promiscuous {
            let why = "hairpin mode and promiscuous mode cannot be set at the same time";
            return Err(ConfigError::field("promiscMode", why).into());
        }
        if config.ipam.is_some() && !config.container_interface {
            let why = "cannot use IPAM when the container's interface is disabled";
            return Err(ConfigError::field("disableContainerInterface", why).into());
        }
        Ok(config)
    }

    fn of(raw: Raw) -> Self {
        let named = |name: String| Some(name).filter(|name| !name.is_empty());
        Self {
            bridge: named(raw.bridge).unwrap_or_else(|| BRIDGE.to_owned()),
            gateway: raw.is_gateway || raw.is_default_gateway,
            default_gateway: raw.is_default_gateway,
            force_address: raw.force_address,
            masquerade: raw.ip_masq,
            masquerade_backend: raw.ip_masq_backend,
            mtu: Some(raw.mtu).filter(|mtu| *mtu > 0),
            port: Port { hairpin: raw.hairpin_mode, isolated: raw.port_isolation },
            promiscuous: raw.promisc_mode,
            spoof_check: raw.mac_spoof_check,
            duplicate_detection: raw.enable_dad,
            container_interface: !raw.disable_container_interface,
            mac: None,
            ipam: named(raw.ipam.r#type),
            dns: raw.dns,
            delete_link: raw.delete_link,
        }
    }
}

fn refuse_vlan(raw: &Raw) -> Result<(), ConfigError> {
    if !(0..=LARGEST_VLAN).contains(&raw.vlan) {
        return Err(ConfigError::field("vlan", format!("invalid VLAN ID {}", raw.vlan)));
    }
    let why = "bridges with VLAN filtering are made by the reference plugin only";
    if raw.vlan != 0 {
        return Err(ConfigError::Unsupported { field: "vlan", why });
    }
    if raw.vlan_trunk.as_ref().is_some_and(|trunk| !trunk.is_null()) {
        return Err(ConfigError::Unsupported { field: "vlanTrunk", why });
    }
    Ok(())
}

/// The wished hardware address: the later one in this order counts.
fn mac(call: &Call, raw: &Raw) -> Result<Option<Vec<u8>>, PluginError> {
    let by_args = args::known(&call.args, "MAC")?;
    let why = "it is no hardware address";
    let mut mac = None;
    if let Some(text) = by_args {
        let value = text.chars().take(80).collect();
        mac = Some(parse_mac(text).ok_or(ArgsError::Value { key: "MAC", value, why })?);
    }
    for (field, text) in [("args.cni.mac", &raw.args.cni.mac), ("runtimeConfig.mac", &raw.runtime_config.mac)]
    {
        if !text.is_empty() {
            mac = Some(parse_mac(text).ok_or_else(|| ConfigError::field(field, why))?);
        }
    }
    Ok(mac)
}

fn parse_mac(text: &str) -> Option<Vec<u8>> {
    let byte = |text: &str| {
        let digits = text.len() == 2 && text.bytes().all(|one| one.is_ascii_hexdigit());
        u8::from_str_radix(text, 16).ok().filter(|_| digits)
    };
    let bytes: Option<Vec<u8>> = text.split([':', '-']).map(byte).collect();
    bytes.filter(|bytes| bytes.len() == 6)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::call::Verb;
    use crate::version::Version;

    fn call(input: Value) -> Call {
        let args = "IgnoreUnknown=1;MAC=02:00:00:00:00:01".to_owned();
        let network = "pods".to_owned();
        Call { verb: Verb::Status, version: Version::V1_0_0, network, input, args, path: Vec::new() }
    }

    #[test]
    fn defaults_and_what_follows_from_what() {
        let config = BridgeConfig::for_add(&call(json!({"isDefaultGateway": true, "mtu": null}))).unwrap();
        assert_eq!((config.bridge.as_str(), config.gateway, config.mtu), ("cni0", true, None));
        assert_eq!(config.mac, Some(vec![2, 0, 0, 0, 0, 1]));
        let later = json!({"args": {"cni": {"mac": "02:00:00:00:00:02"}}, "runtimeConfig": {"mac": "02-00-00-00-00-0F"}});
        assert_eq!(BridgeConfig::for_add(&call(later)).unwrap().mac, Some(vec![2, 0, 0, 0, 0, 15]));
    }

    #[test]
    fn what_add_refuses_del_reads() {
        for (input, code) in [
            (json!({"bridge": "a/b"}), 7),
            (json!({"bridge": "sixteen_letters_"}), 7),
            (json!({"vlan": 4095}), 7),
            (json!({"vlan": 100}), 2),
            (json!({"vlanTrunk": [{"id": 7}]}), 2),
            (json!({"hairpinMode": true, "promiscMode": true}), 7),
            (json!({"disableContainerInterface": true, "ipam": {"type": "host-local"}}), 7),
            (json!({"runtimeConfig": {"mac": "02:00"}}), 7),
        ] {
            let error = BridgeConfig::for_add(&call(input.clone())).unwrap_err();
            assert_eq!(error.to_json(Version::V1_0_0)["code"], code, "{input}: {error}");
            assert!(BridgeConfig::parse(&call(input)).is_ok());
        }
        for input in [json!({"mtu": -1}), json!({"bridge": 7}), json!({"ipam": 7}), json!([])] {
            assert!(BridgeConfig::parse(&call(input.clone())).is_err(), "{input}");
        }
    }
}
