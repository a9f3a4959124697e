//! `loopback`: sets the container's loopback interface up and says which addresses it has.

use thiserror::Error;

use crate::call::{Call, Verb};
use crate::error::PluginError;
use crate::netlink::{Link, LinkError, Netlink, Waiter};
use crate::netns::Netns;
use crate::prefix::IpPrefix;
use crate::result::{CniResult, Interface, IpConfig};

const NAME: &str = "lo";

/// The loopback interface is not as it should be.
#[derive(Debug, Error)]
pub(crate) enum LoopbackError {
    #[error("the namespace has no interface lo")]
    Missing,
    #[error("the loopback interface is down")]
    Down,
    #[error("the loopback interface has the address {0}, which is none of the loopback network")]
    ForeignAddress(IpPrefix),
}

pub(crate) fn run(call: &Call) -> Result<Option<CniResult>, PluginError> {
    match &call.verb {
        Verb::Add(_, netns) => add(call, &Netns::open(netns)?).map(Some),
        Verb::Check(_, netns) => check(&Netns::open(netns)?).map(|()| None),
        Verb::Del(_, netns) => match Netns::open_if_there(netns.as_deref())? {
            Some(netns) => del(&netns).map(|()| None),
            None => Ok(None),
        },
        Verb::Gc | Verb::Status => Ok(None),
    }
}

fn add(call: &Call, netns: &Netns) -> Result<CniResult, PluginError> {
    let previous = CniResult::previous(&call.input)?;
    let waiter = Waiter::new()?;
    let (mut netlink, ()) = Netlink::open_in(&waiter, netns, || ())?;
    let link = loopback(&mut netlink)?;
    if !link.up {
        netlink.set_up(&link)?;
    }
    let addresses: Vec<IpPrefix> = netlink.addresses(&link)?.into_iter().map(|one| one.prefix).collect();
    if let Some(foreign) = addresses.iter().find(|one| !one.ip.is_loopback()) {
        return Err(LoopbackError::ForeignAddress(*foreign).into());
    }
    Ok(previous.unwrap_or_else(|| result(netns, &addresses)))
}

/// What it answers when it is the first of its chain.
fn result(netns: &Netns, addresses: &[IpPrefix]) -> CniResult {
    let first = |six: bool| addresses.iter().find(|one| one.ip.is_ipv6() == six);
    let ips = [first(false), first(true)].into_iter().flatten();
    CniResult {
        interfaces: vec![Interface {
            name: NAME.to_owned(),
            mac: "00:00:00:00:00:00".to_owned(),
            sandbox: netns.name(),
            ..Interface::default()
        }],
        ips: ips.map(|one| IpConfig { interface: Some(0), address: *one, gateway: None }).collect(),
        ..CniResult::default()
    }
}

fn check(netns: &Netns) -> Result<(), PluginError> {
    let waiter = Waiter::new()?;
    let (mut netlink, ()) = Netlink::open_in(&waiter, netns, || ())?;
    if loopback(&mut netlink)?.up { Ok(()) } else { Err(LoopbackError::Down.into()) }
}

fn del(netns: &Netns) -> Result<(), PluginError> {
    let waiter = Waiter::new()?;
    let (mut netlink, ()) = Netlink::open_in(&waiter, netns, || ())?;
    let link = loopback(&mut netlink)?;
    let set_down: Result<(), LinkError> = if link.up { netlink.set_down(&link) } else { Ok(()) };
    Ok(set_down?)
}

fn loopback(netlink: &mut Netlink<'_>) -> Result<Link, PluginError> {
    Ok(netlink.link(NAME)?.ok_or(LoopbackError::Missing)?)
}
