//! Names and comments by which rules are found again: made as the reference makes them, so that either finds the other's.

use sha2::{Digest, Sha512};

/// Longest name of a chain that iptables takes, in the reference's count.
const CHAIN: usize = 28;
/// Longest comment of nftables.
const COMMENT: usize = 128;
/// Longest comment of iptables.
const LONG_COMMENT: usize = 255;

/// The first characters of a prefix and a hash.
fn hashed(length: usize, prefix: &str, text: &str) -> String {
    let mut name = prefix.to_owned();
    for byte in Sha512::digest(text.as_bytes()) {
        name.push_str(&format!("{byte:02x}"));
    }
    name.truncate(length);
    name
}

/// The chain of a container in iptables; `kind` is empty for masquerading and `DN-` for host ports.
pub(crate) fn chain(kind: &str, network: &str, container: &str) -> String {
    hashed(CHAIN, &format!("CNI-{kind}"), &format!("{network}{container}"))
}

/// The comment of masquerading rules in iptables.
pub(crate) fn masquerade_comment(network: &str, container: &str) -> String {
    format!("name: \"{network}\" id: \"{container}\"")
}

/// The comment of host port rules in iptables.
pub(crate) fn port_comment(network: &str, container: &str) -> String {
    let mut comment = format!("dnat name: \"{network}\" id: \"{container}\"");
    if comment.len() > LONG_COMMENT {
        // Names are ASCII.
        comment.truncate(LONG_COMMENT - 2);
        comment.push_str("...");
    }
    comment
}

/// What the comments of all masquerading rules of a network begin with in nftables.
pub(crate) fn network_mark(network: &str) -> String {
    hashed(16, "", network)
}

/// And of one interface.
pub(crate) fn interface_mark(network: &str, ifname: &str, container: &str) -> String {
    format!("{}-{}", network_mark(network), hashed(16, "", &format!("{ifname}:{container}")))
}

/// The whole comment.
pub(crate) fn interface_comment(network: &str, ifname: &str, container: &str) -> String {
    let plain = ifname.replace('"', "");
    let mark = interface_mark(network, ifname, container);
    let mut comment = format!("{mark}, net: {network}, if: {plain}, id: {container}");
    if comment.len() > COMMENT {
        let end = (0..=COMMENT).rev().find(|end| comment.is_char_boundary(*end)).unwrap_or(0);
        comment.truncate(end);
    }
    comment
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_the_references() {
        // From its own tests.
        assert_eq!(chain("", "test", "1234"), "CNI-2bbe0c48b91a7d1b8a6753a8");
        assert_eq!(chain("DN-", "test", "1234"), "CNI-DN-2bbe0c48b91a7d1b8a675");
        assert_eq!(network_mark("unit-test").len(), 16);
        let long = "x".repeat(200);
        assert_eq!(interface_comment("pods", "eth0", &long).len(), COMMENT);
        assert_eq!(port_comment("pods", &long.repeat(2)).len(), LONG_COMMENT + 1);
        assert!(!interface_comment("pods", "et\"h", "c").contains('"'));
    }
}
