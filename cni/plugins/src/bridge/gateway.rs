//! The bridge as gateway: which addresses it has to have follows from the container's, and is pure.

use std::net::IpAddr;

use super::BridgeError;
use super::config::BridgeConfig;
use crate::error::PluginError;
use crate::netlink::{Link, Netlink};
use crate::prefix::{IpPrefix, next};
use crate::result::{CniResult, Route};
use crate::sysctl;

/// Index of the container's interface among those of the result.
pub(super) const CONTAINERS: usize = 2;

/// Completes the addresses with gateways and the default route; gives the addresses that the bridge needs.
pub(super) fn complete(result: &mut CniResult, config: &BridgeConfig) -> Vec<IpPrefix> {
    let mut gateways = Vec::new();
    let mut has_default = [false, false];
    for ip in &mut result.ips {
        ip.interface = Some(CONTAINERS);
        if !config.gateway {
            continue;
        }
        let gateway = *ip.gateway.get_or_insert_with(|| next(ip.address.network().ip));
        let everything = IpPrefix::everything(ip.address.ip);
        let [four, six] = &mut has_default;
        let done = if ip.address.ip.is_ipv4() { four } else { six };
        if config.default_gateway && !*done {
            let found = result.routes.iter().any(|route| route.dst == everything && route.gw.is_some());
            if !found {
                result.routes.push(default_route(everything, gateway));
            }
            *done = true;
        }
        gateways.push(IpPrefix { ip: gateway, length: ip.address.length });
    }
    gateways.sort_by_key(|gateway| gateway.ip.is_ipv6());
    gateways
}

fn default_route(dst: IpPrefix, gateway: IpAddr) -> Route {
    Route { dst, gw: Some(gateway), mtu: 0, advmss: 0, priority: 0, table: None, scope: None }
}

/// What has to be done for the bridge to have an address.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    Nothing,
    /// After taking these off, which are of the same network.
    Add {
        instead_of: Vec<usize>,
    },
    Refuse(IpPrefix),
}

/// Several IPv6 addresses are fine as long as their networks do not overlap; of IPv4 there is one.
fn step(wanted: IpPrefix, present: &[IpPrefix], force: bool) -> Step {
    if present.contains(&wanted) {
        return Step::Nothing;
    }
    let same_family = |one: &IpPrefix| one.ip.is_ipv4() == wanted.ip.is_ipv4();
    let conflicts = |one: &IpPrefix| {
        same_family(one) && (wanted.ip.is_ipv4() || one.contains(wanted.ip) || wanted.contains(one.ip))
    };
    let conflicting: Vec<usize> =
        present.iter().enumerate().filter(|(_, one)| conflicts(one)).map(|(index, _)| index).collect();
    match conflicting.first().and_then(|index| present.get(*index)) {
        Some(other) if !force => Step::Refuse(*other),
        _ => Step::Add { instead_of: conflicting },
    }
}

/// Sees to it that the bridge has these addresses and that the host forwards packets.
pub(super) fn ensure(
    host: &mut Netlink<'_>,
    bridge: &Link,
    gateways: &[IpPrefix],
    config: &BridgeConfig,
) -> Result<(), PluginError> {
    if gateways.is_empty() {
        return Ok(());
    }
    for wanted in gateways {
        let present = host.addresses(bridge)?;
        let prefixes: Vec<IpPrefix> = present.iter().map(|one| one.prefix).collect();
        match step(*wanted, &prefixes, config.force_address) {
            Step::Nothing => {}
            Step::Refuse(found) => {
                let bridge = bridge.name.clone();
                return Err(BridgeError::OtherAddress { bridge, wanted: *wanted, found }.into());
            }
            Step::Add { instead_of } => {
                for address in instead_of.iter().filter_map(|index| present.get(*index)) {
                    host.delete_address(bridge, address)?;
                }
                match host.add_address(bridge, *wanted) {
                    Err(error) if !error.is_exists() => return Err(error.into()),
                    _ => {}
                }
                // Its own address, set by somebody, stays: otherwise the bridge has that of its lowest port.
                host.set_mac(bridge, &own_mac(bridge))?;
            }
        }
    }
    if gateways.iter().any(|gateway| gateway.ip.is_ipv4()) {
        sysctl::ensure("ipv4/ip_forward", "1")?;
    }
    if gateways.iter().any(|gateway| gateway.ip.is_ipv6()) {
        sysctl::ensure("ipv6/conf/all/forwarding", "1")?;
    }
    Ok(())
}

/// A bridge that lost all ports before its address was set has the address zero, which cannot be set.
fn own_mac(bridge: &Link) -> Vec<u8> {
    if bridge.mac.iter().any(|byte| *byte != 0) {
        return bridge.mac.clone();
    }
    let [a, b, c, d] = super::add::random_bytes();
    vec![0x02, 0x63, a, b, c, d]
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn prefixes(texts: &[&str]) -> Vec<IpPrefix> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn a_bridge_has_one_address_of_ipv4_and_one_a_network_of_ipv6() {
        let add = |instead_of: &[usize]| Step::Add { instead_of: instead_of.to_vec() };
        let refuse = |text: &str| Step::Refuse(text.parse().unwrap());
        for (wanted, present, force, expected) in [
            ("10.1.0.1/24", &[][..], false, add(&[])),
            ("10.1.0.1/24", &["10.1.0.1/24"][..], false, Step::Nothing),
            ("10.1.0.1/24", &["fd00::1/64"][..], false, add(&[])),
            ("10.1.0.1/24", &["10.1.0.1/16"][..], false, refuse("10.1.0.1/16")),
            ("10.1.0.1/24", &["fd00::1/64", "10.2.0.1/24"][..], true, add(&[1])),
            ("fd00::1/64", &["fe80::1/64", "fd01::1/64"][..], false, add(&[])),
            ("fd00::1/64", &["fd00::2/64"][..], false, refuse("fd00::2/64")),
            ("fd00::1/64", &["fd00::2/64"][..], true, add(&[0])),
        ] {
            assert_eq!(
                step(wanted.parse().unwrap(), &prefixes(present), force),
                expected,
                "{wanted} {present:?}"
            );
        }
    }

    #[test]
    fn gateways_and_the_default_route_follow_from_the_addresses() {
        let call = |input| crate::call::Call {
            verb: crate::call::Verb::Status,
            version: crate::version::Version::V1_0_0,
            network: "pods".to_owned(),
            input,
            args: String::new(),
            path: Vec::new(),
        };
        let ips =
            json!({"ips": [{"address": "fd00::7/64"}, {"address": "10.1.0.7/24", "gateway": "10.1.0.9"}]});
        let result = CniResult::parse("it", &ips).unwrap();
        let completed = |input| {
            let mut result = result.clone();
            let gateways = complete(&mut result, &BridgeConfig::for_add(&call(input)).unwrap());
            (
                gateways,
                result.routes.iter().map(|route| (route.dst.to_string(), route.gw)).collect::<Vec<_>>(),
            )
        };
        assert_eq!(completed(json!({})), (vec![], vec![]));
        let expected = prefixes(&["10.1.0.9/24", "fd00::1/64"]);
        assert_eq!(completed(json!({"isGateway": true})), (expected.clone(), vec![]));
        let routes = vec![
            ("::/0".to_owned(), Some("fd00::1".parse().unwrap())),
            ("0.0.0.0/0".to_owned(), Some("10.1.0.9".parse().unwrap())),
        ];
        assert_eq!(completed(json!({"isDefaultGateway": true})), (expected, routes));
    }
}
