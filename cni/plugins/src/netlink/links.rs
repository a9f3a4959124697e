//! Links: looked up, made, changed and deleted.

use std::os::fd::{AsFd, AsRawFd};

use rtnetlink::packet_route::link::{
    InfoData, InfoKind, InfoVeth, LinkAttribute, LinkFlags, LinkInfo, LinkMessage, State,
};
use rtnetlink::{LinkBridge, LinkBridgePort, LinkMessageBuilder, LinkUnspec, LinkVeth};

use super::{LinkError, Netlink, all, found};

/// What a link is, as far as it matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Bridge,
    Veth,
    Other,
}

/// A link as the kernel has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) index: u32,
    pub(crate) name: String,
    pub(crate) kind: Kind,
    pub(crate) mac: Vec<u8>,
    pub(crate) up: bool,
    /// Whether it carries packets: for a port of a bridge a moment after it was set up.
    pub(crate) running: bool,
    pub(crate) promiscuous: bool,
    /// Index of the bridge that it is a port of.
    pub(crate) master: Option<u32>,
    /// For a veth: index of the other end, in the other end's namespace.
    pub(crate) peer: Option<u32>,
    pub(crate) alias: String,
}

/// A pair of links to make.
pub(crate) struct Veth<'a> {
    /// This end, a port of the bridge, up from the start.
    pub(crate) name: &'a str,
    pub(crate) bridge: u32,
    /// The other end.
    pub(crate) peer: &'a str,
    pub(crate) mac: Option<Vec<u8>>,
    pub(crate) mtu: Option<u32>,
}

/// Settings of a bridge's port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Port {
    pub(crate) hairpin: bool,
    pub(crate) isolated: bool,
}

impl Link {
    fn from_message(message: LinkMessage) -> Self {
        let flags = message.header.flags;
        let mut link = Self {
            index: message.header.index,
            name: String::new(),
            kind: Kind::Other,
            mac: Vec::new(),
            up: flags.contains(LinkFlags::Up),
            running: false,
            promiscuous: flags.contains(LinkFlags::Promisc),
            master: None,
            peer: None,
            alias: String::new(),
        };
        for attribute in message.attributes {
            match attribute {
                LinkAttribute::IfName(name) => link.name = name,
                LinkAttribute::IfAlias(alias) => link.alias = alias,
                LinkAttribute::Address(mac) => link.mac = mac,
                LinkAttribute::Controller(index) => link.master = Some(index),
                LinkAttribute::Link(index) => link.peer = Some(index),
                LinkAttribute::OperState(state) => link.running = state == State::Up,
                LinkAttribute::LinkInfo(infos) => link.kind = kind(&infos),
                _ => {}
            }
        }
        link
    }

    /// The hardware address as text.
    pub(crate) fn mac_text(&self) -> String {
        self.mac.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(":")
    }
}

fn kind(infos: &[LinkInfo]) -> Kind {
    let kind = infos.iter().find_map(|info| match info {
        LinkInfo::Kind(InfoKind::Bridge) => Some(Kind::Bridge),
        LinkInfo::Kind(InfoKind::Veth) => Some(Kind::Veth),
        _ => None,
    });
    kind.unwrap_or(Kind::Other)
}

impl Netlink<'_> {
    pub(crate) fn link(&mut self, name: &str) -> Result<Option<Link>, LinkError> {
        let request = self.handle.link().get().match_name(name);
        self.one_link(name, request)
    }

    pub(crate) fn link_at(&mut self, index: u32) -> Result<Option<Link>, LinkError> {
        let request = self.handle.link().get().match_index(index);
        self.one_link(&format!("number {index}"), request)
    }

    fn one_link(
        &mut self,
        what: &str,
        request: rtnetlink::LinkGetRequest,
    ) -> Result<Option<Link>, LinkError> {
        let answer = self.request("look up link", what, all(request.execute()));
        Ok(found(answer)?.and_then(|links| links.into_iter().next()).map(Link::from_message))
    }

    /// Makes a bridge, which is up.
    pub(crate) fn add_bridge(&mut self, name: &str, mtu: Option<u32>) -> Result<(), LinkError> {
        let mut builder = LinkBridge::new(name);
        if let Some(mtu) = mtu {
            builder = builder.mtu(mtu);
        }
        let request = self.handle.link().add(builder.build());
        self.request("make bridge", name, request.execute())
    }

    /// Makes a pair of links, the other end in the other namespace from the start: moving one there costs a grace period.
    pub(crate) fn add_veth(&mut self, veth: &Veth<'_>, netns: impl AsFd) -> Result<(), LinkError> {
        let mut peer = LinkMessageBuilder::<LinkUnspec>::default()
            .name(veth.peer)
            .setns_by_fd(netns.as_fd().as_raw_fd());
        let mut builder =
            LinkMessageBuilder::<LinkVeth>::new(veth.name, veth.peer).up().controller(veth.bridge);
        if let Some(mtu) = veth.mtu {
            peer = peer.mtu(mtu);
            builder = builder.mtu(mtu);
        }
        if let Some(mac) = &veth.mac {
            peer = peer.address(mac.clone());
        }
        let data = InfoData::Veth(InfoVeth::Peer(peer.build()));
        let request = self.handle.link().add(builder.set_info_data(data).build());
        self.request("make the pair of links", format!("{} and {}", veth.name, veth.peer), request.execute())
    }

    pub(crate) fn set_port(&mut self, link: &Link, port: Port) -> Result<(), LinkError> {
        let message = LinkBridgePort::new(link.index).hairpin(port.hairpin).isolated(port.isolated).build();
        let request = self.handle.link().set_port(message);
        self.request("set hairpin mode and isolation of", &*link.name, request.execute())
    }

    pub(crate) fn set_up(&mut self, link: &Link) -> Result<(), LinkError> {
        self.change("set up", link, LinkMessageBuilder::up)
    }

    pub(crate) fn set_down(&mut self, link: &Link) -> Result<(), LinkError> {
        self.change("set down", link, LinkMessageBuilder::down)
    }

    pub(crate) fn set_promiscuous(&mut self, link: &Link) -> Result<(), LinkError> {
        self.change("make promiscuous", link, |builder| builder.promiscuous(true))
    }

    pub(crate) fn set_mac(&mut self, link: &Link, mac: &[u8]) -> Result<(), LinkError> {
        self.change("set the hardware address of", link, |builder| builder.address(mac.to_vec()))
    }

    /// Writes a note on a link.
    pub(crate) fn set_alias(&mut self, link: &Link, alias: &str) -> Result<(), LinkError> {
        self.change("write an alias on", link, |builder| builder.alias(alias))
    }

    /// Takes a port off its bridge.
    pub(crate) fn take_off_bridge(&mut self, link: &Link) -> Result<(), LinkError> {
        self.change("take off its bridge", link, LinkMessageBuilder::nocontroller)
    }

    fn change(
        &mut self,
        step: &'static str,
        link: &Link,
        with: impl FnOnce(LinkMessageBuilder<LinkUnspec>) -> LinkMessageBuilder<LinkUnspec>,
    ) -> Result<(), LinkError> {
        let message = with(LinkUnspec::new_with_index(link.index)).build();
        let request = self.handle.link().change(message);
        self.request(step, &*link.name, request.execute())
    }

    /// Deletes a link; one that is gone is fine.
    pub(crate) fn delete(&mut self, link: &Link) -> Result<(), LinkError> {
        let request = self.handle.link().del(link.index);
        found(self.request("delete", &*link.name, request.execute())).map(drop)
    }
}
