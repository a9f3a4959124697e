//! DEL: takes away what an ADD made, in whatever state it was left. What is gone is fine.
//!
//! Deleting a pair waits for two grace periods of the kernel, in which the whole node can change no link; a namespace that
//! ends takes its links along in the background. So the pair is made harmless and left to the namespace: no address, no
//! port of the bridge, and a note by which ADD and a second DEL know it. `deleteLink` in the configuration has it deleted.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

use super::add::Done;
use super::config::BridgeConfig;
use super::ipam::Source;
use super::{BridgeError, spoof_check};
use crate::call::{Attachment, Call};
use crate::error::{PluginError, with_sources};
use crate::masquerade::{self, Marks};
use crate::netlink::{Kind, Link, Netlink, Waiter};
use crate::netns::Netns;

/// The note on a link that DEL has left to its namespace.
const LEFT: &str = "left by orlop-cni";

pub(super) fn del(call: &Call, at: &Attachment, netns: Option<&Path>) -> Result<(), PluginError> {
    let config = BridgeConfig::parse(call)?;
    let link = Netns::open_if_there(netns).map_err(PluginError::from).and_then(|netns| match netns {
        Some(netns) => take_link_away(&netns, &at.ifname, &config),
        None => Ok(()),
    });
    // A link that stays keeps its address, or another container would get it as well.
    link?;
    let given_back = Source::of(call, &config).del(call, at);
    if config.spoof_check
        && let Err(error) = spoof_check::remove(at)
    {
        eprintln!("bridge: {}", with_sources(&error));
    }
    let mut rules = Ok(());
    if config.masquerade && config.ipam.is_some() {
        rules = masquerade::remove(&Marks::new(&call.network, at));
    }
    given_back?;
    Ok(rules?)
}

/// Undoes the steps of a failed ADD, those and no others.
pub(super) fn undo(
    call: &Call,
    at: &Attachment,
    netns: &Netns,
    config: &BridgeConfig,
    done: &Done,
) -> Result<(), PluginError> {
    let masquerade =
        if done.masquerade { masquerade::remove(&Marks::new(&call.network, at)) } else { Ok(()) };
    let spoof_check = if done.spoof_check { spoof_check::remove(at) } else { Ok(()) };
    if done.pair {
        // At once: the runtime may try again in the same namespace.
        let at_once = BridgeConfig { delete_link: true, ..config.clone() };
        take_link_away(netns, &at.ifname, &at_once)?;
    }
    if done.addresses {
        Source::of(call, config).undo(call, at)?;
    }
    masquerade?;
    spoof_check
}

/// Takes the container's interface away.
fn take_link_away(netns: &Netns, ifname: &str, config: &BridgeConfig) -> Result<(), PluginError> {
    let waiter = Waiter::new()?;
    let (mut interior, ()) = Netlink::open_in(&waiter, netns, || ())?;
    let Some(link) = interior.link(ifname)?.filter(|link| config.delete_link || link.alias != LEFT) else {
        return Ok(());
    };
    let mut host = Netlink::open(&waiter)?;
    match port_of(&mut host, &link)?.filter(|_| !config.delete_link) {
        None => interior.delete(&link)?,
        Some(port) => {
            let addresses = interior.addresses(&link)?;
            for family in [IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)] {
                // Without addresses of a family there are no routes either.
                if addresses.iter().any(|one| one.prefix.ip.is_ipv4() == family.is_ipv4()) {
                    interior.delete_routes(&link, family)?;
                }
            }
            for address in &addresses {
                interior.delete_address(&link, address)?;
            }
            // It stays up: setting it down waits for a grace period.
            if port.master.is_some() {
                host.take_off_bridge(&port)?;
            }
            interior.set_alias(&link, LEFT)?;
        }
    }
    Ok(())
}

/// The host's end of the container's link, if it is a pair with an end here.
fn port_of(host: &mut Netlink<'_>, inner: &Link) -> Result<Option<Link>, PluginError> {
    let Some(index) = inner.peer.filter(|_| inner.kind == Kind::Veth) else { return Ok(None) };
    let port = host.link_at(index)?;
    Ok(port.filter(|port| port.kind == Kind::Veth && port.peer == Some(inner.index)))
}

/// Deletes an interface that DEL left, for another one of its name. Any other one is in use.
pub(super) fn remove_left_link(waiter: &Waiter, netns: &Netns, ifname: &str) -> Result<(), PluginError> {
    let (mut interior, ()) = Netlink::open_in(waiter, netns, || ())?;
    match interior.link(ifname)? {
        None => Ok(()),
        Some(link) if link.alias == LEFT => Ok(interior.delete(&link)?),
        Some(_) => Err(BridgeError::IfnameTaken(ifname.to_owned()).into()),
    }
}
