//! New rules as the kernel takes them: the same steps that `nft` makes of the text, so that it lists them as that text.

use std::net::IpAddr;

use super::message::{Request, nested};
use super::{NEW_RULE, NFTABLES, RULE_CHAIN, RULE_TABLE, RULE_USERDATA, Table};
use crate::prefix::{IpPrefix, width};

const EXPRESSIONS: u16 = 4;
const ELEMENT: u16 = 1;
const NAME: u16 = 1;
const DATA: u16 = 2;
const REGISTER_1: u32 = 1;
const REGISTER_2: u32 = 2;
// NFT_META_*
const META_NFPROTO: u32 = 15;
const META_L4PROTO: u32 = 16;
// NFT_PAYLOAD_*
const NETWORK: u32 = 1;
const TRANSPORT: u32 = 2;
const NFPROTO_IPV4: u8 = 2;
const NFPROTO_IPV6: u8 = 10;
/// Both ends of a port in TCP, UDP and SCTP alike.
const DESTINATION_PORT: u32 = 2;

/// Which address of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Source,
    Destination,
}

/// How a value is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Is {
    Equal,
    Other,
}

/// A rule that is being put together.
#[derive(Clone, Debug, Default)]
pub(crate) struct NewRule {
    expressions: Vec<u8>,
}

impl NewRule {
    fn step(mut self, name: &str, attributes: &[(u16, Vec<u8>)]) -> Self {
        let mut name_bytes = name.as_bytes().to_vec();
        name_bytes.push(0);
        let data: Vec<u8> = attributes.iter().flat_map(|(kind, value)| nested(*kind, value)).collect();
        let element = [nested(NAME, &name_bytes), nested(DATA | NESTED, &data)].concat();
        self.expressions.extend(nested(ELEMENT | NESTED, &element));
        self
    }

    fn meta(self, key: u32) -> Self {
        self.step("meta", &[(2, be(key)), (1, be(REGISTER_1))])
    }

    fn payload(self, base: u32, offset: u32, length: u32) -> Self {
        self.step("payload", &[(1, be(REGISTER_1)), (2, be(base)), (3, be(offset)), (4, be(length))])
    }

    fn compare(self, is: Is, value: &[u8]) -> Self {
        let operation = match is {
            Is::Equal => 0,
            Is::Other => 1,
        };
        self.step("cmp", &[(1, be(REGISTER_1)), (2, be(operation)), (3 | NESTED, nested(1, value))])
    }

    fn immediate(self, register: u32, value: &[u8]) -> Self {
        self.step("immediate", &[(1, be(register)), (2 | NESTED, nested(1, value))])
    }

    /// Packets of a family: where a table has both.
    pub(crate) fn family(self, ip: IpAddr) -> Self {
        let family = if ip.is_ipv4() { NFPROTO_IPV4 } else { NFPROTO_IPV6 };
        self.meta(META_NFPROTO).compare(Is::Equal, &[family])
    }

    /// Packets from or to a network, or all others.
    pub(crate) fn address(self, side: Side, is: Is, network: IpPrefix) -> Self {
        let (bytes, offset) = match (network.network().ip, side) {
            (IpAddr::V4(ip), Side::Source) => (ip.octets().to_vec(), 12),
            (IpAddr::V4(ip), Side::Destination) => (ip.octets().to_vec(), 16),
            (IpAddr::V6(ip), Side::Source) => (ip.octets().to_vec(), 8),
            (IpAddr::V6(ip), Side::Destination) => (ip.octets().to_vec(), 24),
        };
        if network.length > 0 && network.length.is_multiple_of(8) {
            // Whole bytes need no mask.
            let length = usize::from(network.length / 8);
            let value = bytes.get(..length).unwrap_or_default();
            return self.payload(NETWORK, offset, u32::from(network.length / 8)).compare(is, value);
        }
        let mask: Vec<u8> = (0..bytes.len()).map(|index| mask_byte(network.length, index)).collect();
        let length = be(u32::from(width(network.ip) / 8));
        let zero = vec![0; bytes.len()];
        self.payload(NETWORK, offset, u32::from(width(network.ip) / 8))
            .step(
                "bitwise",
                &[
                    (1, be(REGISTER_1)),
                    (2, be(REGISTER_1)),
                    (3, length),
                    (4 | NESTED, nested(1, &mask)),
                    (5 | NESTED, nested(1, &zero)),
                ],
            )
            .compare(is, &bytes)
    }

    /// Packets of a protocol, by its number, to a port.
    pub(crate) fn port(self, protocol: u8, port: u16) -> Self {
        self.meta(META_L4PROTO)
            .compare(Is::Equal, &[protocol])
            .payload(TRANSPORT, DESTINATION_PORT, 2)
            .compare(Is::Equal, &port.to_be_bytes())
    }

    /// They carry the host's address from here on.
    pub(crate) fn masquerade(self) -> Self {
        self.step("masq", &[])
    }

    /// They go to this address and port.
    pub(crate) fn dnat(self, ip: IpAddr, port: u16) -> Self {
        const DNAT: u32 = 1;
        let (bytes, family) = match ip {
            IpAddr::V4(ip) => (ip.octets().to_vec(), NFPROTO_IPV4),
            IpAddr::V6(ip) => (ip.octets().to_vec(), NFPROTO_IPV6),
        };
        let nat = [(1, be(DNAT)), (2, be(family.into())), (3, be(REGISTER_1)), (5, be(REGISTER_2))];
        self.immediate(REGISTER_1, &bytes).immediate(REGISTER_2, &port.to_be_bytes()).step("nat", &nat)
    }

    /// The request that appends it to a chain.
    pub(crate) fn append_to(&self, table: Table, chain: &str, comment: &str) -> Request {
        let mut request = Request::appending(NFTABLES, NEW_RULE, table.family());
        request.text(RULE_TABLE, table.name()).text(RULE_CHAIN, chain);
        request.bytes(EXPRESSIONS | NESTED, &self.expressions);
        // Type, length, text with its end.
        let length = u8::try_from(comment.len() + 1).unwrap_or(u8::MAX);
        let mut data = vec![0, length];
        data.extend(comment.bytes().take(usize::from(length) - 1));
        data.push(0);
        request.bytes(RULE_USERDATA, &data);
        request
    }
}

const NESTED: u16 = 0x8000;

fn be(number: u32) -> Vec<u8> {
    number.to_be_bytes().to_vec()
}

fn mask_byte(length: u8, index: usize) -> u8 {
    let before = u8::try_from(index * 8).unwrap_or(u8::MAX);
    match length.saturating_sub(before) {
        0 => 0,
        some if some >= 8 => 0xff,
        some => 0xff << (8 - some),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_of_a_prefix() {
        let mask = |length| (0..4).map(|index| mask_byte(length, index)).collect::<Vec<_>>();
        assert_eq!(mask(0), [0, 0, 0, 0]);
        assert_eq!(mask(20), [255, 255, 240, 0]);
        assert_eq!(mask(31), [255, 255, 255, 254]);
    }
}
