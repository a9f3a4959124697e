//! Host ports by nftables: one table a family, rules known by the container's id as their comment.

use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::{Mapper, PortError, Ports};
use crate::error::PluginError;
use crate::firewall::netfilter::message::Request;
use crate::firewall::netfilter::rule::{Is, NewRule, Side};
use crate::firewall::netfilter::{self, Rule, Table};
use crate::firewall::{Family, FirewallError, nft};
use crate::prefix::{IpPrefix, width};

const TABLE: &str = "cni_hostport";
/// All rules are here.
const PORTS: &str = "hostports";
/// Older plugins had rules for one address of the host here.
const PORTS_OF_ADDRESS: &str = "hostip_hostports";
const MASQUERADE: &str = "masquerading";

pub(super) struct Nftables;

fn table(family: Family) -> Table {
    match family {
        Family::V4 => Table::Ip(TABLE),
        Family::V6 => Table::Ip6(TABLE),
    }
}

impl Mapper for Nftables {
    fn forward(&self, ports: &Ports<'_>, to: IpPrefix) -> Result<(), PluginError> {
        let of_container = |chain| -> Result<Vec<Rule>, FirewallError> {
            let rules = netfilter::rules(table(Family::of(to.ip)), chain)?.into_iter();
            Ok(rules.filter(|rule| rule.comment.as_deref() == Some(ports.container)).collect())
        };
        let mut stale = of_container(PORTS)?;
        stale.extend(of_container(MASQUERADE)?);
        let table = table(Family::of(to.ip));
        if has_frame(table, ports)? && netfilter::replace(table, &stale, requests(ports, to))? {
            return Ok(());
        }
        Ok(nft::apply("write rules for host ports", &plan(ports, to, &stale))?)
    }

    fn check(&self, ports: &Ports<'_>, to: IpPrefix) -> Result<(), PluginError> {
        let family = Family::of(to.ip);
        let masquerading = match (ports.config.snat, family) {
            (false, _) => 0,
            (true, Family::V4) => 2,
            (true, Family::V6) => 1,
        };
        for (chain, expected) in [(PORTS, ports.config.mappings(family).count()), (MASQUERADE, masquerading)]
        {
            let rules = netfilter::rules(table(family), chain)?.into_iter();
            if rules.filter(|rule| rule.comment.as_deref() == Some(ports.container)).count() < expected {
                let rule = format!("{expected} with the comment {}", ports.container);
                return Err(PortError::Missing { chain: chain.to_owned(), rule }.into());
            }
        }
        Ok(())
    }

    fn remove(&self, ports: &Ports<'_>) -> Result<(), FirewallError> {
        for family in Family::BOTH {
            let chains = [PORTS, PORTS_OF_ADDRESS, MASQUERADE];
            netfilter::remove(table(family), &chains, |comment| comment == ports.container)?;
        }
        Ok(())
    }
}

/// Whether the chains that all containers share are as [`frame`] makes them without conditions.
fn has_frame(table: Table, ports: &Ports<'_>) -> Result<bool, FirewallError> {
    /// Steps of `fib daddr type local jump`.
    const STEPS: usize = 3;
    if Family::BOTH.iter().any(|family| !ports.config.conditions(*family).is_empty()) {
        return Ok(false);
    }
    for chain in ["prerouting", "output"] {
        if !matches!(*netfilter::rules(table, chain)?, [Rule { steps: STEPS, .. }]) {
            return Ok(false);
        }
    }
    Ok(netfilter::rules(table, "hostports_all")?.len() == 2)
}

/// The same rules as in [`plan`], for a table that is there.
fn requests(ports: &Ports<'_>, to: IpPrefix) -> Vec<Request> {
    let table = table(Family::of(to.ip));
    let host = |ip: IpAddr| IpPrefix { ip, length: width(ip) };
    let mut requests = Vec::new();
    for mapping in ports.config.mappings(Family::of(to.ip)) {
        let mut rule = NewRule::default();
        if let Some(ip) = mapping.destination() {
            rule = rule.address(Side::Destination, Is::Equal, host(ip));
        }
        let rule = rule.port(mapping.protocol.number(), mapping.host_port);
        requests.push(rule.dnat(to.ip, mapping.container_port).append_to(table, PORTS, ports.container));
    }
    if ports.config.snat {
        let localhost = to.ip.is_ipv4().then_some(IpAddr::V4(Ipv4Addr::LOCALHOST));
        for from in [to.ip].into_iter().chain(localhost) {
            let rule = NewRule::default().address(Side::Source, Is::Equal, host(from));
            let rule = rule.address(Side::Destination, Is::Equal, host(to.ip)).masquerade();
            requests.push(rule.append_to(table, MASQUERADE, ports.container));
        }
    }
    requests
}

/// The chains that all containers share. They are written anew each time, as the reference does: conditions may change.
fn frame(table: &str, conditions: &str, snat: bool) -> String {
    let to_ports = format!("{conditions}fib daddr type local jump hostports_all");
    let mut lines = format!(
        "add table {table} {{ comment \"CNI portmap plugin\" ; }}\n\
         add chain {table} {PORTS}\n\
         add chain {table} {PORTS_OF_ADDRESS}\n\
         add chain {table} hostports_all\n\
         flush chain {table} hostports_all\n\
         add rule {table} hostports_all jump {PORTS_OF_ADDRESS}\n\
         add rule {table} hostports_all jump {PORTS}\n\
         add chain {table} prerouting {{ type nat hook prerouting priority -100 ; }}\n\
         flush chain {table} prerouting\n\
         add rule {table} prerouting {to_ports}\n\
         add chain {table} output {{ type nat hook output priority -100 ; }}\n\
         flush chain {table} output\n\
         add rule {table} output {to_ports}\n"
    );
    if snat {
        lines.push_str(&format!(
            "add chain {table} {MASQUERADE} {{ type nat hook postrouting priority 100 ; }}\n"
        ));
    }
    lines
}

fn plan(ports: &Ports<'_>, to: IpPrefix, stale: &[Rule]) -> String {
    let family = Family::of(to.ip);
    let (ip, table) = (family.word(), format!("{} {TABLE}", family.word()));
    let conditions: String = ports.config.conditions(family).iter().map(|word| format!("{word} ")).collect();
    let mut lines = frame(&table, &conditions, ports.config.snat);
    // Writing to a string cannot fail.
    for rule in stale {
        let _ = writeln!(lines, "delete rule {table} {} handle {}", rule.chain, rule.handle);
    }
    let mut add = |chain: &str, rule: &str| {
        let _ = writeln!(lines, "add rule {table} {chain} {rule} comment \"{}\"", ports.container);
    };
    for mapping in ports.config.mappings(family) {
        let host = mapping.destination().map(|host| format!("{ip} daddr {host} ")).unwrap_or_default();
        let target = SocketAddr::new(to.ip, mapping.container_port);
        let (protocol, port) = (mapping.protocol.as_str(), mapping.host_port);
        add(PORTS, &format!("{host}{protocol} dport {port} dnat to {target}"));
    }
    if ports.config.snat {
        let container = to.ip;
        add(MASQUERADE, &format!("{ip} saddr {container} {ip} daddr {container} masquerade"));
        if to.ip.is_ipv4() {
            add(MASQUERADE, &format!("{ip} saddr 127.0.0.1 {ip} daddr {container} masquerade"));
        }
    }
    lines
}
