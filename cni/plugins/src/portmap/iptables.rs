//! Host ports by iptables: chains that all containers share, and one for each container.
//!
//! ```text
//! PREROUTING, OUTPUT (for the host)  → CNI-HOSTPORT-DNAT → CNI-DN-<hash> → CNI-HOSTPORT-SETMARK; DNAT
//! POSTROUTING                        → CNI-HOSTPORT-MASQ (what is marked)
//! ```

use super::config::{Mapping, Protocol};
use super::{Mapper, PortError, Ports};
use crate::error::PluginError;
use crate::firewall::iptables::{Changes, Presence, Rule, Saved, has_rule, presence, read_for_removal};
use crate::firewall::{Family, FirewallError, names};
use crate::prefix::IpPrefix;

const DNAT: &str = "CNI-HOSTPORT-DNAT";
const SET_MARK: &str = "CNI-HOSTPORT-SETMARK";
const MASQUERADE: &str = "CNI-HOSTPORT-MASQ";
/// The match `multiport` takes no more.
const PORTS_A_RULE: usize = 15;

pub(super) struct Iptables;

impl Mapper for Iptables {
    fn forward(&self, ports: &Ports<'_>, to: IpPrefix) -> Result<(), PluginError> {
        let family = Family::of(to.ip);
        Ok(plan(ports, to, &Saved::read(family)?).apply("write rules for host ports", family)?)
    }

    fn check(&self, ports: &Ports<'_>, to: IpPrefix) -> Result<(), PluginError> {
        for rule in container_rules(ports, to).iter().chain(&entries(ports, Family::of(to.ip))) {
            if !has_rule(Family::of(to.ip), rule)? {
                return Err(PortError::Missing { chain: rule.chain.clone(), rule: rule.line() }.into());
            }
        }
        Ok(())
    }

    fn remove(&self, ports: &Ports<'_>) -> Result<(), FirewallError> {
        // The second one was made by very old plugins.
        let chains = ["DN-", "SN-"].map(|kind| names::chain(kind, ports.network, ports.container));
        for family in Family::BOTH {
            let found = chains.iter().map(|chain| presence(family, chain)).max().unwrap_or(Presence::No);
            let Some(saved) = read_for_removal(family, found)? else { continue };
            let mut changes = Changes::default();
            for chain in &chains {
                changes.remove_chain(chain, &saved);
            }
            changes.apply("remove rules for host ports", family)?;
        }
        Ok(())
    }
}

/// What is to be changed for the container's rules to be there, once.
fn plan(ports: &Ports<'_>, to: IpPrefix, saved: &Saved) -> Changes {
    let mut changes = Changes::default();
    let mut shared = |chain: &str, rules: &[Rule], first: Option<&Rule>| {
        if !saved.has_chain(chain) {
            changes.fresh_chain(chain);
        }
        rules.iter().filter(|rule| !saved.has_rule(rule)).for_each(|rule| changes.append(rule));
        first.iter().filter(|rule| !saved.has_rule(rule)).for_each(|rule| changes.insert_first(rule));
    };
    if ports.config.snat && ports.config.external_mark_chain.is_none() {
        let mark = 1_u32 << ports.config.mark_bit;
        let mark = format!("{mark:#x}/{mark:#x}");
        let comment = "CNI portfwd masquerade mark";
        let words = ["-m", "comment", "--comment", comment, "-j", "MARK", "--set-xmark", &mark];
        shared(SET_MARK, &[Rule::new(SET_MARK, words)], None);
        let marked = Rule::new(MASQUERADE, ["-m", "mark", "--mark", &mark, "-j", "MASQUERADE"]);
        let comment = "CNI portfwd requiring masquerade";
        // Before the chains of other plugins, which would have the packets first.
        let first = Rule::new("POSTROUTING", ["-m", "comment", "--comment", comment, "-j", MASQUERADE]);
        shared(MASQUERADE, &[marked], Some(&first));
    }
    let to_host = ["-m", "addrtype", "--dst-type", "LOCAL", "-j", DNAT];
    shared(DNAT, &["PREROUTING", "OUTPUT"].map(|chain| Rule::new(chain, to_host)), None);
    let chain = container_chain(ports);
    changes.cut_off(&chain, saved);
    changes.fresh_chain(&chain);
    for rule in container_rules(ports, to).iter().chain(&entries(ports, Family::of(to.ip))) {
        changes.append(rule);
    }
    changes
}

fn container_chain(ports: &Ports<'_>) -> String {
    names::chain("DN-", ports.network, ports.container)
}

/// The rules by which packets to the container's ports come to its chain. The reference has them for all mappings,
/// whatever address of the host they are for: the chain's own rules tell.
fn entries(ports: &Ports<'_>, family: Family) -> Vec<Rule> {
    let (chain, comment) = (container_chain(ports), names::port_comment(ports.network, ports.container));
    let mut rules = Vec::new();
    for protocol in Protocol::ALL {
        let of_protocol = ports.config.mappings.iter().filter(|one| one.protocol == protocol);
        let numbers: Vec<String> = of_protocol.map(|one| one.host_port.to_string()).collect();
        for some in numbers.chunks(PORTS_A_RULE) {
            let numbers = some.join(",");
            let head = ["-m", "comment", "--comment", &comment, "-m", "multiport", "-p", protocol.as_str()];
            let words = head.into_iter().chain(["--destination-ports", &numbers]);
            let conditions = ports.config.conditions(family).iter().map(String::as_str);
            rules.push(Rule::new(DNAT, words.chain(conditions).chain(["-j", &chain])));
        }
    }
    rules
}

/// The rules of the container's chain: marks first, as the last rule ends it.
fn container_rules(ports: &Ports<'_>, to: IpPrefix) -> Vec<Rule> {
    let chain = container_chain(ports);
    let set_mark = ports.config.external_mark_chain.as_deref().unwrap_or(SET_MARK);
    let mut rules = Vec::new();
    for mapping in ports.config.mappings(Family::of(to.ip)) {
        let of_mapping = |words: &[&str]| {
            let mut all = matches(mapping);
            all.extend(words.iter().map(|word| (*word).to_owned()));
            Rule::new(&chain, all)
        };
        if ports.config.snat {
            let everything = IpPrefix::everything(to.ip);
            let from = if ports.config.masquerade_all { everything } else { to }.to_string();
            rules.push(of_mapping(&["-s", &from, "-j", set_mark]));
            if to.ip.is_ipv4() && !ports.config.masquerade_all {
                rules.push(of_mapping(&["-s", "127.0.0.1", "-j", set_mark]));
            }
        }
        let target = std::net::SocketAddr::new(to.ip, mapping.container_port).to_string();
        rules.push(of_mapping(&["-j", "DNAT", "--to-destination", &target]));
    }
    rules
}

fn matches(mapping: &Mapping) -> Vec<String> {
    let (protocol, port) = (mapping.protocol.as_str().to_owned(), mapping.host_port.to_string());
    let mut words = vec!["-p".to_owned(), protocol, "--dport".to_owned(), port];
    if let Some(ip) = mapping.destination() {
        words.extend(["-d".to_owned(), ip.to_string()]);
    }
    words
}
