//! `portmap`: ports of the host that lead to the container, for the addresses that the plugins before it gave.
//!
//! No port is reserved: the later container has it, and a server of the host no longer hears from outside. The rules are
//! the reference's.

mod config;
mod iptables;
mod nftables;

use std::net::IpAddr;

use thiserror::Error;

use self::config::PortConfig;
use crate::call::{Attachment, Call, Verb};
use crate::error::{Code, PluginError};
use crate::firewall::{Backend, Family, FirewallError, netfilter};
use crate::netlink::{Netlink, Waiter};
use crate::prefix::IpPrefix;
use crate::result::{CniResult, ResultError};
use crate::sysctl;

/// Ports of the host could not be mapped.
#[derive(Debug, Error)]
pub(crate) enum PortError {
    #[error("a rule for host ports is missing in chain {chain}: {rule}")]
    Missing { chain: String, rule: String },
}

impl PortError {
    pub(crate) fn code(&self) -> Code {
        match self {
            Self::Missing { .. } => Code::Internal,
        }
    }
}

/// Rules for the ports of one container.
trait Mapper {
    fn forward(&self, ports: &Ports<'_>, to: IpPrefix) -> Result<(), PluginError>;
    fn check(&self, ports: &Ports<'_>, to: IpPrefix) -> Result<(), PluginError>;
    fn remove(&self, ports: &Ports<'_>) -> Result<(), FirewallError>;
}

/// What the rules are made of.
struct Ports<'a> {
    network: &'a str,
    container: &'a str,
    config: &'a PortConfig,
}

pub(crate) fn run(call: &Call) -> Result<Option<CniResult>, PluginError> {
    match &call.verb {
        Verb::Add(at, _) => add(call, at).map(Some),
        Verb::Check(at, _) => check(call, at).map(|()| None),
        Verb::Del(at, _) => del(call, at).map(|()| None),
        Verb::Gc | Verb::Status => PortConfig::parse(call).map(|_| None),
    }
}

fn mapper(backend: Backend) -> &'static dyn Mapper {
    match backend {
        Backend::Iptables => &iptables::Iptables,
        Backend::Nftables => &nftables::Nftables,
    }
}

fn previous(call: &Call) -> Result<CniResult, PluginError> {
    let missing = ResultError::Missing { why: "portmap has to come after a plugin that gives addresses" };
    Ok(CniResult::previous(&call.input)?.ok_or(missing)?)
}

fn add(call: &Call, at: &Attachment) -> Result<CniResult, PluginError> {
    let config = PortConfig::parse(call)?;
    let result = previous(call)?;
    if config.mappings.is_empty() {
        return Ok(result);
    }
    let ports = Ports { network: &call.network, container: &at.container, config: &config };
    let mapper = mapper(config.backend);
    let mapped = result.addresses_in_container(&at.ifname).into_iter().try_for_each(|to| {
        mapper.forward(&ports, to)?;
        forget_connections(&config, to.ip);
        if config.snat { route_localhost(to.ip) } else { Ok(()) }
    });
    if let Err(error) = mapped {
        // The failure that is told is the first one; DEL comes and tries again.
        let _ = mapper.remove(&ports);
        return Err(error);
    }
    Ok(result)
}

fn check(call: &Call, at: &Attachment) -> Result<(), PluginError> {
    let config = PortConfig::parse(call)?;
    let result = previous(call)?;
    let ports = Ports { network: &call.network, container: &at.container, config: &config };
    if config.mappings.is_empty() {
        return Ok(());
    }
    let mut addresses = result.addresses_in_container(&at.ifname).into_iter();
    addresses.try_for_each(|to| mapper(config.backend).check(&ports, to))
}

/// Removes the rules of the container, whoever keeps them. The mappings need not be known: only that there may be some.
fn del(call: &Call, at: &Attachment) -> Result<(), PluginError> {
    let config = PortConfig::for_del(call)?;
    let ports = Ports { network: &call.network, container: &at.container, config: &config };
    let iptables = iptables::Iptables.remove(&ports);
    nftables::Nftables.remove(&ports)?;
    Ok(iptables?)
}

/// Connections over UDP that the kernel remembers would go past the new rules. That they stay fails nobody.
fn forget_connections(config: &PortConfig, to: IpAddr) {
    let ports = config.udp_ports();
    if !ports.is_empty()
        && let Err(error) = netfilter::forget_udp(Family::of(to), &ports)
    {
        eprintln!("portmap: old UDP connections stay: {error}");
    }
}

/// Lets packets from 127.0.0.1 out of the interface that leads to the container.
fn route_localhost(to: IpAddr) -> Result<(), PluginError> {
    if to.is_ipv6() {
        return Ok(());
    }
    let waiter = Waiter::new()?;
    let mut netlink = Netlink::open(&waiter)?;
    // Without a route nothing reaches the container anyway.
    let Some(index) = netlink.link_towards(to).unwrap_or(None) else { return Ok(()) };
    if let Some(link) = netlink.link_at(index)? {
        sysctl::ensure(&format!("ipv4/conf/{}/route_localnet", link.name), "1")?;
    }
    Ok(())
}
