//! Masquerading: packets of a container to the outside carry the host's address. The rules are the reference's.
//!
//! Rules are found by names and comments, not by addresses: they go also when nobody knows the addresses any more, and
//! those of another container that got the same address stay.

mod iptables;
mod nftables;

use crate::call::Attachment;
use crate::config::ConfigError;
use crate::firewall::{self, FirewallError};
use crate::prefix::IpPrefix;

/// By what the rules of an interface are known.
#[derive(Clone, Debug)]
pub(crate) struct Marks {
    network: String,
    container: String,
    ifname: String,
}

impl Marks {
    pub(crate) fn new(network: &str, at: &Attachment) -> Self {
        Self { network: network.to_owned(), container: at.container.clone(), ifname: at.ifname.clone() }
    }
}

/// Who keeps the rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Backend(firewall::Backend);

impl Backend {
    /// The configured one, or the one that the node has.
    pub(crate) fn chosen(configured: Option<&str>) -> Result<Self, ConfigError> {
        let named = |name: &str| firewall::Backend::named("ipMasqBackend", name);
        Ok(Self(configured.map_or_else(|| Ok(firewall::Backend::available()), named)?))
    }
}

/// Writes the rules for these addresses, in place of any that the interface had.
pub(crate) fn add(backend: Backend, marks: &Marks, addresses: &[IpPrefix]) -> Result<(), FirewallError> {
    match backend.0 {
        firewall::Backend::Iptables => iptables::add(marks, addresses),
        firewall::Backend::Nftables => nftables::add(marks, addresses),
    }
}

/// Removes the rules of an interface, whoever keeps them: the configuration may have changed since.
pub(crate) fn remove(marks: &Marks) -> Result<(), FirewallError> {
    let iptables = iptables::remove(marks);
    nftables::remove(marks)?;
    iptables
}

/// Removes the rules of a network that belong to no attachment that the runtime knows.
pub(crate) fn remove_all_but(network: &str, valid: &[Attachment]) -> Result<(), FirewallError> {
    let iptables = iptables::remove_all_but(network, valid);
    nftables::remove_all_but(network, valid)?;
    iptables
}
