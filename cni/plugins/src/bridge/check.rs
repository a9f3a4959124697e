//! CHECK: compares what ADD answered with what is there now.

use std::path::Path;

use thiserror::Error;

use super::BridgeError;
use super::config::BridgeConfig;
use super::ipam::Source;
use crate::call::{Attachment, Call};
use crate::error::PluginError;
use crate::netlink::{Kind, Link, Netlink, Waiter};
use crate::netns::Netns;
use crate::prefix::IpPrefix;
use crate::result::{CniResult, Interface, ResultError};

/// Something is not as ADD left it.
#[derive(Debug, Error)]
pub(crate) enum Difference {
    #[error("the previous result has no interface {0}")]
    NotInResult(String),
    #[error("interface {0} not found")]
    Missing(String),
    #[error("interface {name} is no {kind}")]
    Kind { name: String, kind: &'static str },
    #[error("interface {name} has the hardware address {found}, not {expected}")]
    Mac { name: String, found: String, expected: String },
    #[error("promiscuous mode of bridge {name} is {found}, configured is {expected}")]
    Promiscuous { name: String, found: bool, expected: bool },
    #[error("no link of the previous result joins the container's interface with bridge {0}")]
    NoPort(String),
    #[error("interface {ifname} does not have the address {address}")]
    Address { ifname: String, address: IpPrefix },
    #[error("there is no route to {0}")]
    Route(IpPrefix),
}

fn differs(difference: Difference) -> PluginError {
    BridgeError::from(difference).into()
}

pub(super) fn check(call: &Call, at: &Attachment, netns: &Path) -> Result<(), PluginError> {
    let config = BridgeConfig::parse(call)?;
    let netns = Netns::open(netns)?;
    Source::of(call, &config).check(call, at)?;
    let missing = ResultError::Missing { why: "CHECK compares with it" };
    let result = CniResult::previous(&call.input)?.ok_or(missing)?;
    let sandbox = netns.name();
    let named = |name: &str, sandbox: &str| {
        let found = result.interfaces.iter().find(|one| one.name == name && one.sandbox == sandbox);
        found.ok_or_else(|| differs(Difference::NotInResult(name.to_owned())))
    };
    let (bridge, inner) = (named(&config.bridge, "")?, named(&at.ifname, &sandbox)?);
    let waiter = Waiter::new()?;
    let mut host = Netlink::open(&waiter)?;
    let (mut interior, ()) = Netlink::open_in(&waiter, &netns, || ())?;
    let bridge = look(&mut host, bridge, Kind::Bridge, "bridge")?;
    if bridge.promiscuous != config.promiscuous {
        let (name, found, expected) = (bridge.name, bridge.promiscuous, config.promiscuous);
        return Err(differs(Difference::Promiscuous { name, found, expected }));
    }
    let inner = look(&mut interior, inner, Kind::Veth, "veth")?;
    check_port(&mut host, &result, &bridge, &inner)?;
    check_addresses(&mut interior, &inner, &result)?;
    check_routes(&mut interior, &result)
}

/// The link of an interface, when it is what the result says.
fn look(
    netlink: &mut Netlink<'_>,
    expected: &Interface,
    kind: Kind,
    kind_name: &'static str,
) -> Result<Link, PluginError> {
    let name = || expected.name.clone();
    let link = netlink.link(&expected.name)?.ok_or_else(|| differs(Difference::Missing(name())))?;
    if link.kind != kind {
        return Err(differs(Difference::Kind { name: name(), kind: kind_name }));
    }
    let found = link.mac_text();
    if !expected.mac.is_empty() && expected.mac != found {
        let expected = expected.mac.clone();
        return Err(differs(Difference::Mac { name: link.name, found, expected }));
    }
    Ok(link)
}

/// One of the other interfaces of the result is the port that belongs to the container's.
fn check_port(
    host: &mut Netlink<'_>,
    result: &CniResult,
    bridge: &Link,
    inner: &Link,
) -> Result<(), PluginError> {
    for one in result.interfaces.iter().filter(|one| one.sandbox.is_empty() && one.name != bridge.name) {
        let port = host.link(&one.name)?.ok_or_else(|| differs(Difference::Missing(one.name.clone())))?;
        let joins = port.peer == Some(inner.index) && inner.peer == Some(port.index);
        if port.kind == Kind::Veth && joins && port.master == Some(bridge.index) {
            return look(host, one, Kind::Veth, "veth").map(drop);
        }
    }
    Err(differs(Difference::NoPort(bridge.name.clone())))
}

fn check_addresses(interior: &mut Netlink<'_>, inner: &Link, result: &CniResult) -> Result<(), PluginError> {
    let present = interior.addresses(inner)?;
    for ip in &result.ips {
        if !present.iter().any(|one| one.prefix == ip.address) {
            let (ifname, address) = (inner.name.clone(), ip.address);
            return Err(differs(Difference::Address { ifname, address }));
        }
        let network = ip.address.network();
        if !interior.routes(ip.address.ip)?.iter().any(|(destination, _)| *destination == network) {
            return Err(differs(Difference::Route(network)));
        }
    }
    Ok(())
}

fn check_routes(interior: &mut Netlink<'_>, result: &CniResult) -> Result<(), PluginError> {
    for route in &result.routes {
        let wanted = route.dst.network();
        let mut present = interior.routes(wanted.ip)?.into_iter();
        // As in the reference: of a default route the gateway does not count.
        let same_way = |gateway: Option<_>| wanted.length == 0 || route.gw.is_none() || route.gw == gateway;
        if !present.any(|(destination, gateway)| destination == wanted && same_way(gateway)) {
            return Err(differs(Difference::Route(wanted)));
        }
    }
    Ok(())
}
