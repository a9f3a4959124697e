//! One chain of rules, one rule an address, known by its comment.

use std::fmt::Write;

use super::Marks;
use crate::call::Attachment;
use crate::firewall::netfilter::message::Request;
use crate::firewall::netfilter::rule::{Is, NewRule, Side};
use crate::firewall::netfilter::{self, Rule, Table};
use crate::firewall::{Family, FirewallError, names, nft};
use crate::prefix::{IpPrefix, width};

const TABLE: Table = Table::Inet("cni_plugins_masquerade");
const CHAIN: &str = "masq_checks";
/// What makes the table, with the comments that the reference gives it.
const FRAME: &str = "\
add table inet cni_plugins_masquerade { comment \"Masquerading for plugins from github.com/containernetworking/plugins\" ; }
add chain inet cni_plugins_masquerade masq_checks { comment \"Masquerade traffic from certain IPs to any (non-multicast) IP outside their subnet\" ; }
add chain inet cni_plugins_masquerade postrouting { type nat hook postrouting priority 100 ; }
flush chain inet cni_plugins_masquerade postrouting
add rule inet cni_plugins_masquerade postrouting ip daddr == 224.0.0.0/4 return
add rule inet cni_plugins_masquerade postrouting ip6 daddr == ff00::/8 return
add rule inet cni_plugins_masquerade postrouting goto masq_checks
";
/// Rules of the frame's chain of outgoing packets.
const FRAME_RULES: usize = 3;

pub(super) fn add(marks: &Marks, addresses: &[IpPrefix]) -> Result<(), FirewallError> {
    let mark = mark(marks);
    let stale: Vec<Rule> = netfilter::rules(TABLE, CHAIN)?
        .into_iter()
        .filter(|rule| rule.comment.as_deref().is_some_and(|comment| comment.starts_with(&mark)))
        .collect();
    let framed = netfilter::rules(TABLE, "postrouting")?.len() == FRAME_RULES;
    if framed && netfilter::replace(TABLE, &stale, requests(marks, addresses))? {
        return Ok(());
    }
    nft::apply("write masquerading rules", &plan(marks, addresses, &stale))
}

/// The same rules as in [`plan`], for a table that is there.
fn requests(marks: &Marks, addresses: &[IpPrefix]) -> Vec<Request> {
    let comment = names::interface_comment(&marks.network, &marks.ifname, &marks.container);
    let rule = |address: &IpPrefix| {
        let host = IpPrefix { length: width(address.ip), ..*address };
        let rule = NewRule::default().family(address.ip).address(Side::Source, Is::Equal, host);
        let rule = rule.address(Side::Destination, Is::Other, address.network()).masquerade();
        rule.append_to(TABLE, CHAIN, &comment)
    };
    addresses.iter().map(rule).collect()
}

fn plan(marks: &Marks, addresses: &[IpPrefix], stale: &[Rule]) -> String {
    let mut lines = FRAME.to_owned();
    let comment = names::interface_comment(&marks.network, &marks.ifname, &marks.container);
    let table = "inet cni_plugins_masquerade masq_checks";
    for rule in stale {
        // Writing to a string cannot fail.
        let _ = writeln!(lines, "delete rule {table} handle {}", rule.handle);
    }
    for address in addresses {
        let family = Family::of(address.ip).word();
        let _ = writeln!(
            lines,
            "add rule {table} {family} saddr == {} {family} daddr != {} masquerade comment \"{comment}\"",
            address.ip,
            address.network()
        );
    }
    lines
}

pub(super) fn remove(marks: &Marks) -> Result<(), FirewallError> {
    let mark = mark(marks);
    netfilter::remove(TABLE, &[CHAIN], |comment| comment.starts_with(&mark))
}

pub(super) fn remove_all_but(network: &str, valid: &[Attachment]) -> Result<(), FirewallError> {
    let of_network = format!("{}-", names::network_mark(network));
    let kept: Vec<String> =
        valid.iter().map(|at| names::interface_mark(network, &at.ifname, &at.container)).collect();
    let foreign = |comment: &str| {
        comment.starts_with(&of_network) && !kept.iter().any(|mark| comment.starts_with(mark))
    };
    netfilter::remove(TABLE, &[CHAIN], foreign)
}

fn mark(marks: &Marks) -> String {
    names::interface_mark(&marks.network, &marks.ifname, &marks.container)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_an_address_in_place_of_the_old_ones() {
        let marks = Marks { network: "pods".into(), container: "c1".into(), ifname: "eth0".into() };
        let addresses = ["10.1.0.7/24".parse().unwrap(), "fd00::7/64".parse().unwrap()];
        let stale = [Rule { chain: CHAIN.into(), handle: 12, comment: None, steps: 0 }];
        let lines = plan(&marks, &addresses, &stale);
        let comment = names::interface_comment("pods", "eth0", "c1");
        let table = "rule inet cni_plugins_masquerade masq_checks";
        assert_eq!(
            lines.strip_prefix(FRAME).unwrap(),
            format!(
                "delete {table} handle 12\n\
                 add {table} ip saddr == 10.1.0.7 ip daddr != 10.1.0.0/24 masquerade comment \"{comment}\"\n\
                 add {table} ip6 saddr == fd00::7 ip6 daddr != fd00::/64 masquerade comment \"{comment}\"\n"
            )
        );
    }
}
