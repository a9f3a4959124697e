//! Addresses of a link.

use rtnetlink::packet_route::address::{AddressAttribute, AddressFlags, AddressMessage};

use super::{Link, LinkError, Netlink, all, found};
use crate::prefix::IpPrefix;

/// An address as the kernel has it.
#[derive(Clone, Debug)]
pub(crate) struct Address {
    pub(crate) prefix: IpPrefix,
    /// Somebody else on the link may have it: the kernel still asks.
    pub(crate) tentative: bool,
    /// Somebody else has it.
    pub(crate) duplicate: bool,
    message: AddressMessage,
}

impl Address {
    fn from_message(message: AddressMessage) -> Option<Self> {
        let mut flags = AddressFlags::from_bits_retain(message.header.flags.bits().into());
        let (mut address, mut local) = (None, None);
        for attribute in &message.attributes {
            match attribute {
                AddressAttribute::Address(ip) => address = Some(*ip),
                AddressAttribute::Local(ip) => local = Some(*ip),
                AddressAttribute::Flags(more) => flags |= *more,
                _ => {}
            }
        }
        // On a point-to-point link `Address` is the other side's.
        let ip = local.or(address)?;
        let prefix = IpPrefix { ip, length: message.header.prefix_len };
        Some(Self {
            prefix,
            tentative: flags.contains(AddressFlags::Tentative),
            duplicate: flags.contains(AddressFlags::Dadfailed),
            message,
        })
    }
}

impl Netlink<'_> {
    pub(crate) fn addresses(&mut self, link: &Link) -> Result<Vec<Address>, LinkError> {
        let request = self.handle.address().get().set_link_index_filter(link.index);
        let messages = self.request("list addresses of", &*link.name, all(request.execute()))?;
        Ok(messages.into_iter().filter_map(Address::from_message).collect())
    }

    pub(crate) fn add_address(&mut self, link: &Link, address: IpPrefix) -> Result<(), LinkError> {
        let request = self.handle.address().add(link.index, address.ip, address.length);
        self.request("add an address to", format!("{}: {address}", link.name), request.execute())
    }

    /// Takes an address off; one that is gone is fine.
    pub(crate) fn delete_address(&mut self, link: &Link, address: &Address) -> Result<(), LinkError> {
        let request = self.handle.address().del(address.message.clone());
        let what = format!("{}: {}", link.name, address.prefix);
        found(self.request("take an address off", what, request.execute())).map(drop)
    }
}
