//! Routes of a namespace.

use std::net::IpAddr;

use futures_util::StreamExt;
use rtnetlink::Error;
use rtnetlink::packet_core::{NLM_F_ACK, NLM_F_CREATE, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};

use super::{Link, LinkError, Netlink, all};
use crate::prefix::{IpPrefix, width};
use crate::result::Route;

impl Netlink<'_> {
    /// Adds a route over the link, through `gateway` if there is one.
    pub(crate) fn add_route(
        &mut self,
        link: &Link,
        route: &Route,
        gateway: Option<IpAddr>,
    ) -> Result<(), LinkError> {
        let mut request = NetlinkMessage::from(RouteNetlinkMessage::NewRoute(message(link, route, gateway)));
        // Not exclusive, unlike `ip route add`: there may be several routes to a destination by different gateways.
        // The same one twice is refused nevertheless.
        request.header.flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE;
        let answer = self.handle.request(request);
        let work = async {
            let mut answer = answer?;
            while let Some(message) = answer.next().await {
                if let NetlinkPayload::Error(error) = message.payload {
                    return Err(Error::NetlinkError(error));
                }
            }
            Ok(())
        };
        let via = gateway.map(|ip| format!(" via {ip}")).unwrap_or_default();
        self.request("add the route", format!("{}{via} over {}", route.dst, link.name), work)
    }

    /// Destinations and gateways of all routes of a family, in all tables: one for each gateway.
    pub(crate) fn routes(&mut self, family: IpAddr) -> Result<Vec<(IpPrefix, Option<IpAddr>)>, LinkError> {
        let mut message = RouteMessage::default();
        message.header.address_family = of(family);
        let request = self.handle.route().get(message);
        let messages = self.request("list", "routes", all(request.execute()))?;
        Ok(messages.iter().flat_map(|message| ways(message, family)).collect())
    }

    /// Takes away the routes of a family over a link that somebody added; the kernel's own go with the addresses.
    pub(crate) fn delete_routes(&mut self, link: &Link, family: IpAddr) -> Result<(), LinkError> {
        let mut message = RouteMessage::default();
        message.header.address_family = of(family);
        let request = self.handle.route().get(message);
        let messages = self.request("list", "routes", all(request.execute()))?;
        let added = |message: &RouteMessage| message.header.protocol != RouteProtocol::Kernel;
        let over_link = |message: &RouteMessage| outgoing(message) == Some(link.index);
        for message in messages.into_iter().filter(|message| added(message) && over_link(message)) {
            let request = self.handle.route().del(message);
            missing_is_fine(self.request("take a route off", &*link.name, request.execute()))?;
        }
        Ok(())
    }

    /// Index of the link that packets to this address leave by.
    pub(crate) fn link_towards(&mut self, address: IpAddr) -> Result<Option<u32>, LinkError> {
        let mut message = RouteMessage::default();
        message.header.address_family = of(address);
        message.header.destination_prefix_length = width(address);
        message.attributes.push(RouteAttribute::Destination(address.into()));
        let request = self.handle.route().get(message);
        let answers = self.request("look up the route to", address.to_string(), all(request.execute()))?;
        Ok(answers.iter().find_map(outgoing))
    }
}

fn message(link: &Link, route: &Route, gateway: Option<IpAddr>) -> RouteMessage {
    let network = route.dst.network();
    let mut message = RouteMessage::default();
    let header = &mut message.header;
    header.address_family = of(network.ip);
    header.destination_prefix_length = network.length;
    header.protocol = RouteProtocol::Boot;
    header.kind = RouteType::Unicast;
    header.scope = route.scope.map_or(RouteScope::Universe, RouteScope::from);
    header.table = RouteHeader::RT_TABLE_MAIN;
    let attributes = &mut message.attributes;
    match route.table.map(|table| (table, u8::try_from(table))) {
        None => {}
        Some((_, Ok(table))) => header.table = table,
        Some((table, Err(_))) => {
            header.table = RouteHeader::RT_TABLE_UNSPEC;
            attributes.push(RouteAttribute::Table(table));
        }
    }
    if network.length > 0 {
        attributes.push(RouteAttribute::Destination(network.ip.into()));
    }
    if let Some(gateway) = gateway {
        attributes.push(RouteAttribute::Gateway(gateway.into()));
    }
    attributes.push(RouteAttribute::Oif(link.index));
    if route.priority > 0 {
        attributes.push(RouteAttribute::Priority(route.priority));
    }
    message
}

/// Index of the link that a route leads to, by its first way if it has several.
fn outgoing(message: &RouteMessage) -> Option<u32> {
    message.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Oif(index) => Some(*index),
        RouteAttribute::MultiPath(hops) => hops.first().map(|hop| hop.interface_index),
        _ => None,
    })
}

/// A route that went with its address meanwhile.
fn missing_is_fine(answer: Result<(), LinkError>) -> Result<(), LinkError> {
    match answer {
        Err(LinkError::Request { source, .. })
            if source.raw_os_error() == Some(rustix::io::Errno::SRCH.raw_os_error()) =>
        {
            Ok(())
        }
        answer => answer,
    }
}

fn of(ip: IpAddr) -> AddressFamily {
    if ip.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 }
}

/// The destination of a route, with each gateway: the kernel joins routes of IPv6 to one that has several.
fn ways(message: &RouteMessage, family: IpAddr) -> Vec<(IpPrefix, Option<IpAddr>)> {
    let mut found =
        IpPrefix { length: message.header.destination_prefix_length, ..IpPrefix::everything(family) };
    let mut gateways = Vec::new();
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(address) => found.ip = ip(address).unwrap_or(found.ip),
            RouteAttribute::Gateway(address) => gateways.push(ip(address)),
            RouteAttribute::MultiPath(hops) => {
                gateways.extend(hops.iter().map(|hop| gateway(&hop.attributes)))
            }
            _ => {}
        }
    }
    if gateways.is_empty() {
        gateways.push(None);
    }
    gateways.into_iter().map(|gateway| (found, gateway)).collect()
}

fn gateway(attributes: &[RouteAttribute]) -> Option<IpAddr> {
    attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Gateway(address) => ip(address),
        _ => None,
    })
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(ip) => Some((*ip).into()),
        RouteAddress::Inet6(ip) => Some((*ip).into()),
        _ => None,
    }
}
