//! Addresses with the length of their network's prefix, as `10.0.0.7/24`.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// An address in its network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct IpPrefix {
    pub(crate) ip: IpAddr,
    pub(crate) length: u8,
}

impl IpPrefix {
    /// Everything of the address's family.
    pub(crate) fn everything(family: IpAddr) -> Self {
        let ip = match family {
            IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        Self { ip, length: 0 }
    }

    /// The network, without the bits of the host.
    pub(crate) fn network(self) -> Self {
        let ip = from_bits(self.ip, to_bits(self.ip) & self.mask());
        Self { ip, ..self }
    }

    pub(crate) fn contains(self, ip: IpAddr) -> bool {
        ip.is_ipv4() == self.ip.is_ipv4() && to_bits(ip) & self.mask() == to_bits(self.ip) & self.mask()
    }

    /// The last address of the network.
    pub(crate) fn last(self) -> IpAddr {
        from_bits(self.ip, to_bits(self.ip) | (!self.mask() & width_mask(self.ip)))
    }

    fn mask(self) -> u128 {
        let host = u32::from(width(self.ip).saturating_sub(self.length));
        let mask = u128::MAX.checked_shl(host).unwrap_or(0);
        mask & width_mask(self.ip)
    }
}

/// The number of bits in an address.
pub(crate) fn width(ip: IpAddr) -> u8 {
    if ip.is_ipv4() { 32 } else { 128 }
}

fn width_mask(ip: IpAddr) -> u128 {
    if ip.is_ipv4() { u128::from(u32::MAX) } else { u128::MAX }
}

pub(crate) fn to_bits(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(ip) => ip.to_bits().into(),
        IpAddr::V6(ip) => ip.to_bits(),
    }
}

fn from_bits(family: IpAddr, bits: u128) -> IpAddr {
    match family {
        // The mask above leaves 32 bits.
        IpAddr::V4(_) => Ipv4Addr::from_bits(u32::try_from(bits).unwrap_or(u32::MAX)).into(),
        IpAddr::V6(_) => Ipv6Addr::from_bits(bits).into(),
    }
}

/// The address after this one; around the end it begins again.
pub(crate) fn next(ip: IpAddr) -> IpAddr {
    from_bits(ip, to_bits(ip).wrapping_add(1) & width_mask(ip))
}

/// The address before this one.
pub(crate) fn previous(ip: IpAddr) -> IpAddr {
    from_bits(ip, to_bits(ip).wrapping_sub(1) & width_mask(ip))
}

impl FromStr for IpPrefix {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parsed = text.split_once('/').and_then(|(ip, length)| {
            let ip: IpAddr = ip.parse().ok()?;
            let digits = !length.is_empty() && length.bytes().all(|byte| byte.is_ascii_digit());
            let length = length.parse().ok().filter(|length| digits && *length <= width(ip))?;
            Some(Self { ip, length })
        });
        parsed.ok_or_else(|| {
            let shown: String = text.chars().take(60).collect();
            format!("{shown:?} is no address with a prefix length")
        })
    }
}

impl fmt::Display for IpPrefix {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.ip, self.length)
    }
}

impl<'de> Deserialize<'de> for IpPrefix {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

impl Serialize for IpPrefix {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefix(text: &str) -> IpPrefix {
        text.parse().unwrap()
    }

    #[test]
    fn networks_and_their_ends() {
        for (text, network, last) in [
            ("10.1.2.3/24", "10.1.2.0/24", "10.1.2.255"),
            ("10.1.2.3/0", "0.0.0.0/0", "255.255.255.255"),
            ("10.1.2.3/32", "10.1.2.3/32", "10.1.2.3"),
            ("fd00::7/64", "fd00::/64", "fd00::ffff:ffff:ffff:ffff"),
            ("fd00::7/0", "::/0", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
        ] {
            assert_eq!(prefix(text).network(), prefix(network));
            assert_eq!(prefix(text).last(), last.parse::<IpAddr>().unwrap());
        }
        assert!(prefix("10.1.2.0/24").contains("10.1.2.9".parse().unwrap()));
        assert!(!prefix("10.1.2.0/24").contains("10.1.3.9".parse().unwrap()));
        assert!(!prefix("::/0").contains("10.1.3.9".parse().unwrap()));
        assert_eq!(next("10.1.2.255".parse().unwrap()), "10.1.3.0".parse::<IpAddr>().unwrap());
        assert_eq!(next("255.255.255.255".parse().unwrap()), "0.0.0.0".parse::<IpAddr>().unwrap());
        assert_eq!(previous("10.1.3.0".parse().unwrap()), "10.1.2.255".parse::<IpAddr>().unwrap());
    }

    #[test]
    fn what_is_no_prefix() {
        for text in
            ["", "10.1.2.3", "10.1.2.3/", "10.1.2.3/33", "10.1.2/24", "fd00::/129", "10.1.2.3/+8", "a/8"]
        {
            assert!(text.parse::<IpPrefix>().is_err(), "{text}");
        }
    }
}
