//! `macspoofchk`: the bridge takes only frames with the container's own hardware address from its port.

use std::fmt::Write;

use super::BridgeError;
use crate::call::Attachment;
use crate::error::PluginError;
use crate::firewall::netfilter::{self, Table};
use crate::firewall::nft;

const TABLE: Table = Table::Bridge("nat");
const IN: &str = "PREROUTING";

/// Chains of an interface, by its container and name.
struct Names {
    interface: String,
    mac: String,
    comment: String,
}

impl Names {
    fn of(at: &Attachment) -> Result<Self, BridgeError> {
        // `nft` takes no other characters in a chain's name.
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
        if !at.ifname.bytes().all(plain) {
            return Err(BridgeError::SpoofCheckName(at.ifname.clone()));
        }
        let id = format!("{}-{}", at.container, at.ifname);
        let interface = format!("cni-br-iface-{id}");
        Ok(Self { mac: format!("{interface}-mac"), interface, comment: format!("macspoofchk-{id}") })
    }
}

pub(super) fn set_up(at: &Attachment, port: &str, mac: &str) -> Result<(), PluginError> {
    Ok(nft::apply("write the rules of macspoofchk", &plan(&Names::of(at)?, port, mac))?)
}

fn plan(names: &Names, port: &str, mac: &str) -> String {
    let Names { interface, mac: mac_chain, comment } = names;
    let mut lines = format!(
        "add table bridge nat\n\
         add chain bridge nat {IN} {{ type filter hook prerouting priority -300 ; policy accept ; }}\n"
    );
    for chain in [interface, mac_chain] {
        // Writing to a string cannot fail.
        let _ = write!(lines, "add chain bridge nat {chain}\nflush chain bridge nat {chain}\n");
    }
    for (chain, rule) in [
        (IN, format!("iifname \"{port}\" jump {interface}")),
        (interface, format!("jump {mac_chain}")),
        (mac_chain, format!("ether saddr {mac} return")),
        (mac_chain, "drop".to_owned()),
    ] {
        let _ = writeln!(lines, "add rule bridge nat {chain} {rule} comment \"{comment}\"");
    }
    lines
}

/// Removes the chains of an interface and what leads to them, if they are there.
pub(super) fn remove(at: &Attachment) -> Result<(), PluginError> {
    let Ok(names) = Names::of(at) else { return Ok(()) };
    netfilter::remove(TABLE, &[IN], |comment| comment == names.comment)?;
    let mut lines = String::new();
    for chain in [&names.interface, &names.mac] {
        if netfilter::has_chain(TABLE, chain).unwrap_or(true) {
            let _ = writeln!(lines, "flush chain bridge nat {chain}");
        }
    }
    let deletions = lines.replace("flush", "delete");
    lines.push_str(&deletions);
    if lines.is_empty() { Ok(()) } else { Ok(nft::apply("remove the rules of macspoofchk", &lines)?) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_names_are_put_in_rules() {
        let at = |ifname: &str| Attachment { container: "c1".to_owned(), ifname: ifname.to_owned() };
        let lines = plan(&Names::of(&at("eth0")).unwrap(), "veth1", "02:00:00:00:00:01");
        assert!(lines.contains("add rule bridge nat PREROUTING iifname \"veth1\" jump cni-br-iface-c1-eth0 comment \"macspoofchk-c1-eth0\"\n"));
        assert!(Names::of(&at("a;b")).is_err());
    }
}
