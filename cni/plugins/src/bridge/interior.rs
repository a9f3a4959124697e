//! The container's side of the pair: addresses, routes, and that the neighbours hear of it.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::BridgeError;
use super::config::BridgeConfig;
use crate::error::PluginError;
use crate::netlink::{Link, Netlink, Waiter};
use crate::netns::Netns;
use crate::result::CniResult;
use crate::sysctl::{self, SysctlError};

/// How long duplicate address detection may take, and how often it is looked at.
const SETTLING: Duration = Duration::from_secs(5);
const LOOK: Duration = Duration::from_millis(10);

/// Sets the container's interface up with what the result says.
pub(super) fn configure(
    waiter: &Waiter,
    netns: &Netns,
    ifname: &str,
    config: &BridgeConfig,
    result: &CniResult,
) -> Result<Link, PluginError> {
    let six = result.ips.iter().any(|ip| ip.address.ip.is_ipv6());
    let prepare = || prepare(ifname, config, six);
    let (mut interior, prepared) = Netlink::open_in(waiter, netns, prepare)?;
    prepared?;
    let link = interior.link(ifname)?.ok_or_else(|| BridgeError::Vanished(ifname.to_owned()))?;
    if config.container_interface {
        for ip in &result.ips {
            interior.add_address(&link, ip.address)?;
        }
        interior.set_up(&link)?;
        let gateway = |six: bool| {
            result.ips.iter().filter_map(|ip| ip.gateway).find(|gateway| gateway.is_ipv6() == six)
        };
        if gateway(true).is_some() {
            settle(waiter, &mut interior, &link)?;
        }
        for route in &result.routes {
            interior.add_route(&link, route, route.gw.or(gateway(route.dst.ip.is_ipv6())))?;
        }
    }
    Ok(link)
}

/// Parameters of the interface, set in the container's namespace before it is up. Those that only make a difference in
/// time may be missing in the kernel.
fn prepare(ifname: &str, config: &BridgeConfig, six: bool) -> Result<(), SysctlError> {
    if config.ipam.is_none() {
        return Ok(());
    }
    let detection = if config.duplicate_detection {
        // Optional, as in the reference.
        let _ = sysctl::set(&format!("ipv6/conf/{ifname}/enhanced_dad"), "1");
        "1"
    } else {
        "0"
    };
    let _ = sysctl::set(&format!("ipv6/conf/{ifname}/accept_dad"), detection);
    // The kernel then tells the neighbours when the link comes up (gratuitous ARP).
    let _ = sysctl::set(&format!("ipv4/conf/{ifname}/arp_notify"), "1");
    if six {
        for interface in ["lo", ifname] {
            let name = format!("ipv6/conf/{interface}/disable_ipv6");
            if sysctl::get(&name).is_some_and(|now| now != "0") {
                sysctl::set(&name, "0")?;
            }
        }
        sysctl::set(&format!("ipv6/conf/{ifname}/keep_addr_on_down"), "1")?;
    }
    Ok(())
}

/// Waits until no IPv6 address is tentative: before that it cannot be used.
fn settle(waiter: &Waiter, interior: &mut Netlink<'_>, link: &Link) -> Result<(), PluginError> {
    let deadline = Instant::now() + SETTLING;
    let ifname = || link.name.clone();
    loop {
        let addresses = interior.addresses(link)?;
        if let Some(failed) = addresses.iter().find(|one| one.duplicate) {
            return Err(BridgeError::DuplicateAddress { ifname: ifname(), address: failed.prefix }.into());
        }
        if !addresses.iter().any(|one| one.tentative && matches!(one.prefix.ip, IpAddr::V6(_))) {
            return Ok(());
        }
        if Instant::now() > deadline {
            let running = interior.link(&link.name)?.is_some_and(|link| link.running);
            let error = BridgeError::Tentative { ifname: ifname(), seconds: SETTLING.as_secs() };
            return if running { Err(error.into()) } else { Ok(()) };
        }
        waiter.pause(LOOK);
    }
}
