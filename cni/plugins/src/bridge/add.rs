//! ADD, in the order in which things depend on each other, and the undoing of what it did when it fails.

use std::path::Path;
use std::time::{Duration, Instant};

use super::config::BridgeConfig;
use super::ipam::Source;
use super::{BridgeError, del, gateway, interior, spoof_check};
use crate::call::{Attachment, Call};
use crate::error::PluginError;
use crate::masquerade::{self, Backend, Marks};
use crate::netlink::{Kind, Link, Netlink, Veth, Waiter};
use crate::netns::Netns;
use crate::result::{CniResult, Interface};
use crate::sysctl;

/// How many names are tried for the host's end.
const TRIES: usize = 10;
/// How long a port may take to carry packets, and how often it is looked at: mostly it does at once.
const COMING_UP: Duration = Duration::from_millis(2550);
const LOOK: Duration = Duration::from_millis(1);

/// What this call has done so far.
#[derive(Debug, Default)]
pub(super) struct Done {
    pub(super) addresses: bool,
    pub(super) pair: bool,
    pub(super) spoof_check: bool,
    pub(super) masquerade: bool,
}

/// One ADD.
struct Addition<'a> {
    call: &'a Call,
    at: &'a Attachment,
    config: &'a BridgeConfig,
    netns: &'a Netns,
    waiter: &'a Waiter,
}

pub(super) fn add(call: &Call, at: &Attachment, netns: &Path) -> Result<CniResult, PluginError> {
    let config = BridgeConfig::for_add(call)?;
    if config.ipam.is_none() {
        // A version that has no words for a result without addresses says so before anything is made.
        CniResult::default().to_json(call.version)?;
    }
    let backend =
        config.masquerade.then(|| Backend::chosen(config.masquerade_backend.as_deref())).transpose()?;
    let netns = Netns::open(netns)?;
    let waiter = Waiter::new()?;
    let addition = Addition { call, at, config: &config, netns: &netns, waiter: &waiter };
    let mut done = Done::default();
    let result = addition.run(backend, &mut done);
    if result.is_err() {
        // The failure that is told is the first one; DEL comes and tries again.
        let _ = del::undo(call, at, &netns, &config, &done);
    }
    result
}

impl Addition<'_> {
    fn run(&self, backend: Option<Backend>, done: &mut Done) -> Result<CniResult, PluginError> {
        let (config, at) = (self.config, self.at);
        let mut host = Netlink::open(self.waiter)?;
        let source = Source::of(self.call, config);
        // Our own needs no interface to look at, and when it has no address left nothing is to be undone.
        let mut result = match source {
            Source::HostLocal => self.addresses(&source, done)?,
            Source::Nobody | Source::Plugin(_) => CniResult::default(),
        };
        let bridge = self.ensure_bridge(&mut host)?;
        let mut gateways = gateway::complete(&mut result, config);
        gateway::ensure(&mut host, &bridge, &gateways, config)?;
        let port = self.make_pair(&mut host, &bridge, done)?;
        if let Source::Plugin(_) = source {
            result = self.addresses(&source, done)?;
            gateways = gateway::complete(&mut result, config);
        }
        let inner = interior::configure(self.waiter, self.netns, &at.ifname, config, &result)?;
        if config.spoof_check {
            done.spoof_check = true;
            spoof_check::set_up(at, &port.name, &inner.mac_text())?;
        }
        if let Source::Plugin(_) = source {
            gateway::ensure(&mut host, &bridge, &gateways, config)?;
        }
        if let Some(backend) = backend.filter(|_| config.ipam.is_some()) {
            done.masquerade = true;
            let addresses: Vec<_> = result.ips.iter().map(|ip| ip.address).collect();
            masquerade::add(backend, &Marks::new(&self.call.network, at), &addresses)?;
        }
        let port = self.wait_until_running(&mut host, port)?;
        let gone = || BridgeError::Gone { bridge: config.bridge.clone() };
        let bridge = host.link(&config.bridge)?.ok_or_else(gone)?;
        result.interfaces =
            vec![interface(&bridge, ""), interface(&port, ""), interface(&inner, &self.netns.name())];
        if !config.dns.is_empty() {
            result.dns = config.dns.clone();
        }
        Ok(result)
    }

    fn addresses(&self, source: &Source<'_>, done: &mut Done) -> Result<CniResult, PluginError> {
        let result = source.add(self.call, self.at)?;
        done.addresses = true;
        Ok(result)
    }

    /// The bridge, made if there is none, and up.
    fn ensure_bridge(&self, host: &mut Netlink<'_>) -> Result<Link, PluginError> {
        let name = &self.config.bridge;
        let bridge = match host.link(name)? {
            Some(bridge) => bridge,
            None => {
                match host.add_bridge(name, self.config.mtu) {
                    // Another pod's plugin was faster.
                    Err(error) if error.is_exists() => {}
                    made => made?,
                }
                // The routes of this interface are ours alone. A kernel without IPv6 has no such parameter.
                let _ = sysctl::set(&format!("ipv6/conf/{name}/accept_ra"), "0");
                host.link(name)?.ok_or_else(|| BridgeError::Gone { bridge: name.clone() })?
            }
        };
        if bridge.kind != Kind::Bridge {
            return Err(BridgeError::NotABridge(name.clone()).into());
        }
        if self.config.promiscuous && !bridge.promiscuous {
            host.set_promiscuous(&bridge)?;
        }
        if !bridge.up {
            host.set_up(&bridge)?;
        }
        Ok(bridge)
    }

    /// Makes the pair; gives the host's end, which is a port of the bridge.
    fn make_pair(&self, host: &mut Netlink<'_>, bridge: &Link, done: &mut Done) -> Result<Link, PluginError> {
        for _ in 0..TRIES {
            let [a, b, c, d] = random_bytes();
            let name = format!("veth{a:02x}{b:02x}{c:02x}{d:02x}");
            let (mac, mtu) = (self.config.mac.clone(), self.config.mtu);
            let veth = Veth { name: &name, bridge: bridge.index, peer: &self.at.ifname, mac, mtu };
            match host.add_veth(&veth, self.netns.file()) {
                Ok(()) => {
                    done.pair = true;
                    return self.set_up_port(host, &name);
                }
                Err(error) if error.is_exists() => {
                    // Either name is taken. A container's interface that DEL left behind makes room.
                    if host.link(&name)?.is_none() {
                        del::remove_left_link(self.waiter, self.netns, &self.at.ifname)?;
                    }
                }
                Err(error) => return Err(error.into()),
            }
        }
        Err(BridgeError::NoFreeName.into())
    }

    fn set_up_port(&self, host: &mut Netlink<'_>, name: &str) -> Result<Link, PluginError> {
        let port = host.link(name)?.ok_or_else(|| BridgeError::Vanished(name.to_owned()))?;
        let _ = sysctl::set(&format!("ipv6/conf/{name}/accept_ra"), "0");
        if self.config.port != Default::default() {
            host.set_port(&port, self.config.port)?;
        }
        Ok(port)
    }

    /// The kernel notices a moment later that both ends are up; before that the bridge drops the container's packets.
    fn wait_until_running(&self, host: &mut Netlink<'_>, port: Link) -> Result<Link, PluginError> {
        if !self.config.container_interface {
            return Ok(port);
        }
        let deadline = Instant::now() + COMING_UP;
        loop {
            let now = host.link_at(port.index)?.ok_or_else(|| BridgeError::Vanished(port.name.clone()))?;
            if now.running {
                return Ok(now);
            }
            if Instant::now() > deadline {
                return Err(BridgeError::PortDown(now.name).into());
            }
            self.waiter.pause(LOOK);
        }
    }
}

fn interface(link: &Link, sandbox: &str) -> Interface {
    let (name, mac, sandbox) = (link.name.clone(), link.mac_text(), sandbox.to_owned());
    Interface { name, mac, sandbox, ..Interface::default() }
}

/// Four bytes that no other plugin has at the moment.
pub(super) fn random_bytes() -> [u8; 4] {
    let mut bytes = [0; 4];
    // A pool that is not filled yet, early at boot, gives less: a name that is taken is tried again.
    let _ = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::NONBLOCK);
    bytes
}
