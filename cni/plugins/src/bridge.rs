//! `bridge`: a veth between the container and a bridge of the host, with addresses, routes, and a way out.
//!
//! ADD: addresses (ours) → bridge with the gateway's addresses → pair → container's side → masquerading. What fails
//! undoes the steps of its own call and no others: a second ADD must not take the network of the first away. DEL takes
//! everything away under the same names, in any state that an ADD was killed in.

mod add;
mod check;
mod config;
mod del;
mod gateway;
mod interior;
mod ipam;
mod spoof_check;

use thiserror::Error;

use crate::call::{Call, Verb};
use crate::error::PluginError;
use crate::masquerade;
use crate::prefix::IpPrefix;
use crate::result::CniResult;

use self::config::BridgeConfig;

/// The bridge or the container's link is not as it should be.
#[derive(Debug, Error)]
pub(crate) enum BridgeError {
    #[error("{0} already exists but is not a bridge")]
    NotABridge(String),
    #[error("bridge {bridge} is gone")]
    Gone { bridge: String },
    #[error("{bridge} already has an IP address different from {wanted}: {found}")]
    OtherAddress { bridge: String, wanted: IpPrefix, found: IpPrefix },
    #[error("the container already has an interface {0}")]
    IfnameTaken(String),
    #[error("no free name for the host's end of the pair was found")]
    NoFreeName,
    #[error("link {0} is gone just after it was made")]
    Vanished(String),
    #[error("IPAM plugin {0} gave no address")]
    NoAddress(String),
    #[error(
        "interface {ifname} has the address {address} in DAD failed state: another one on the network has it"
    )]
    DuplicateAddress { ifname: String, address: IpPrefix },
    #[error("interface {ifname} still has tentative addresses after {seconds} s")]
    Tentative { ifname: String, seconds: u64 },
    #[error("the bridge's port {0} does not come up")]
    PortDown(String),
    #[error("the interface name {0:?} cannot be in rules of nftables, which `macspoofchk` needs")]
    SpoofCheckName(String),
    #[error("{0}")]
    Differs(#[from] check::Difference),
}

pub(crate) fn run(call: &Call) -> Result<Option<CniResult>, PluginError> {
    match &call.verb {
        Verb::Add(at, netns) => add::add(call, at, netns).map(Some),
        Verb::Del(at, netns) => del::del(call, at, netns.as_deref()).map(|()| None),
        Verb::Check(at, netns) => check::check(call, at, netns).map(|()| None),
        Verb::Gc => gc(call).map(|()| None),
        Verb::Status => ipam::status(call, &BridgeConfig::parse(call)?).map(|()| None),
    }
}

/// Gives back the addresses and rules of attachments that the runtime does not know.
fn gc(call: &Call) -> Result<(), PluginError> {
    let config = BridgeConfig::parse(call)?;
    let addresses = ipam::gc(call, &config);
    let valid = call.valid_attachments()?;
    let rules = masquerade::remove_all_but(&call.network, &valid);
    addresses?;
    Ok(rules?)
}
