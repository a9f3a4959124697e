//! Ranges of addresses to give out: pure, checked when they are read.

use std::fmt;
use std::net::IpAddr;

use serde::Deserialize;

use crate::config::from_text;
use crate::prefix::{IpPrefix, next, previous, to_bits, width};

/// A range as it is configured.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct RangeConfig {
    #[serde(deserialize_with = "from_text")]
    pub(super) subnet: Option<IpPrefix>,
    #[serde(deserialize_with = "from_text")]
    range_start: Option<IpAddr>,
    #[serde(deserialize_with = "from_text")]
    range_end: Option<IpAddr>,
    #[serde(deserialize_with = "from_text")]
    gateway: Option<IpAddr>,
}

/// Consecutive addresses of one subnet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Range {
    pub(super) subnet: IpPrefix,
    pub(super) start: IpAddr,
    pub(super) end: IpAddr,
    /// Never given out.
    pub(super) gateway: IpAddr,
}

/// Ranges of one family; a container gets one address of them. Never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RangeSet {
    pub(super) ranges: Vec<Range>,
}

impl Range {
    fn validated(config: &RangeConfig) -> Result<Self, String> {
        let subnet = config.subnet.ok_or("a range has no `subnet`")?;
        let subnet = IpPrefix { ip: subnet.ip.to_canonical(), ..subnet };
        if subnet.length > width(subnet.ip) {
            return Err(format!("{subnet} is no subnet of its family"));
        }
        if subnet.length > width(subnet.ip) - 2 {
            return Err(format!("network {subnet} too small to allocate from"));
        }
        if subnet != subnet.network() {
            return Err(format!(
                "network {subnet} has host bits set; the network address is {}",
                subnet.network().ip
            ));
        }
        let last = if subnet.ip.is_ipv4() { previous(subnet.last()) } else { subnet.last() };
        let within = |name, ip: Option<IpAddr>, default| match ip.map(|ip| ip.to_canonical()) {
            None => Ok(default),
            Some(ip) if subnet.contains(ip) => Ok(ip),
            Some(ip) => Err(format!("{name} {ip} not in network {subnet}")),
        };
        let start = within("rangeStart", config.range_start, next(subnet.ip))?;
        let end = within("rangeEnd", config.range_end, last)?;
        if to_bits(end) < to_bits(start) {
            return Err(format!("rangeEnd {end} is before rangeStart {start}"));
        }
        let gateway = config.gateway.map_or(next(subnet.ip), |ip| ip.to_canonical());
        Ok(Self { subnet, start, end, gateway })
    }

    pub(super) fn contains(&self, ip: IpAddr) -> bool {
        let (start, end) = (to_bits(self.start), to_bits(self.end));
        self.subnet.contains(ip) && (start..=end).contains(&to_bits(ip))
    }

    fn overlaps(&self, other: &Self) -> bool {
        self.contains(other.start)
            || self.contains(other.end)
            || other.contains(self.start)
            || other.contains(self.end)
    }
}

impl RangeSet {
    /// Checks all sets, and that no two ranges share an address.
    pub(super) fn validated(sets: Vec<Vec<RangeConfig>>, most: usize) -> Result<Vec<Self>, String> {
        if sets.iter().map(Vec::len).sum::<usize>() > most || sets.len() > most {
            return Err(format!("there are more than {most} ranges"));
        }
        let mut valid: Vec<Self> = Vec::new();
        for (index, configs) in sets.iter().enumerate() {
            let set = Self::of(configs).map_err(|why| format!("invalid range set {index}: {why}"))?;
            if let Some(other) = valid.iter().position(|other| other.overlaps(&set)) {
                return Err(format!("range set {other} overlaps with {index}"));
            }
            valid.push(set);
        }
        Ok(valid)
    }

    fn of(configs: &[RangeConfig]) -> Result<Self, String> {
        let mut ranges: Vec<Range> = Vec::new();
        for config in configs {
            let range = Range::validated(config)?;
            if ranges.iter().any(|other| other.start.is_ipv4() != range.start.is_ipv4()) {
                return Err("mixed address families".to_owned());
            }
            if let Some(other) = ranges.iter().find(|other| other.overlaps(&range)) {
                return Err(format!("subnets {other} and {range} overlap"));
            }
            ranges.push(range);
        }
        if ranges.is_empty() { Err("empty range set".to_owned()) } else { Ok(Self { ranges }) }
    }

    fn overlaps(&self, other: &Self) -> bool {
        self.ranges.iter().any(|one| other.ranges.iter().any(|two| one.overlaps(two)))
    }

    /// The range that an address is of.
    pub(super) fn range_of(&self, ip: IpAddr) -> Option<&Range> {
        self.ranges.iter().find(|range| range.contains(ip))
    }

    /// All addresses to give out, each once, from the one after `last` on and around.
    pub(super) fn candidates(&self, last: Option<IpAddr>) -> impl Iterator<Item = (IpAddr, &Range)> {
        let begin = last.and_then(|last| {
            let index = self.ranges.iter().position(|range| range.contains(last))?;
            Some((index, last))
        });
        let (first, after) = begin.map_or((0, None), |(index, last)| (index, Some(last)));
        let from = move |range: &Range| match after {
            Some(last) if last != range.end => Some(next(last)),
            Some(_) => None,
            None => Some(range.start),
        };
        // The first range comes twice: its end at once, its beginning when all others are done.
        let head = self.ranges.get(first).into_iter();
        let head = head
            .flat_map(move |range| from(range).into_iter().flat_map(|start| span(range, start, range.end)));
        let others = self.ranges.iter().cycle().skip(first + 1).take(self.ranges.len() - 1);
        let others = others.flat_map(|range| span(range, range.start, range.end));
        let tail = self.ranges.get(first).into_iter().filter(move |_| after.is_some());
        let tail = tail.flat_map(move |range| span(range, range.start, after.unwrap_or(range.end)));
        head.chain(others).chain(tail).filter(|(ip, range)| *ip != range.gateway)
    }
}

/// The addresses from one to another, both included.
fn span(range: &Range, start: IpAddr, end: IpAddr) -> impl Iterator<Item = (IpAddr, &Range)> {
    let following = move |ip: &IpAddr| (*ip != end).then(|| next(*ip));
    std::iter::successors(Some(start), following).map(move |ip| (ip, range))
}

impl fmt::Display for Range {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}-{}", self.start, self.end)
    }
}

impl fmt::Display for RangeSet {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, range) in self.ranges.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            write!(formatter, "{comma}{range}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn set(ranges: serde_json::Value) -> RangeSet {
        let configs: Vec<RangeConfig> = serde_json::from_value(ranges).unwrap();
        RangeSet::of(&configs).unwrap()
    }

    fn offered(set: &RangeSet, last: Option<&str>) -> Vec<String> {
        set.candidates(last.map(|last| last.parse().unwrap()))
            .take(20)
            .map(|(ip, _)| ip.to_string())
            .collect()
    }

    #[test]
    fn candidates_go_around_once_without_gateways() {
        let one = set(json!([{"subnet": "10.0.0.0/29"}]));
        assert_eq!(offered(&one, None), ["10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.5", "10.0.0.6"]);
        assert_eq!(
            offered(&one, Some("10.0.0.4")),
            ["10.0.0.5", "10.0.0.6", "10.0.0.2", "10.0.0.3", "10.0.0.4"]
        );
        assert_eq!(
            offered(&one, Some("10.0.0.6")),
            ["10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.5", "10.0.0.6"]
        );
        assert_eq!(offered(&one, Some("10.9.9.9")), offered(&one, None));
        let two = set(json!([
            {"subnet": "10.0.0.0/24", "rangeStart": "10.0.0.10", "rangeEnd": "10.0.0.11"},
            {"subnet": "10.0.1.0/24", "rangeStart": "10.0.1.1", "rangeEnd": "10.0.1.2", "gateway": "10.0.1.2"},
        ]));
        assert_eq!(offered(&two, None), ["10.0.0.10", "10.0.0.11", "10.0.1.1"]);
        assert_eq!(offered(&two, Some("10.0.0.11")), ["10.0.1.1", "10.0.0.10", "10.0.0.11"]);
        assert_eq!(offered(&two, Some("10.0.1.1")), ["10.0.0.10", "10.0.0.11", "10.0.1.1"]);
        let six = set(json!([{"subnet": "fd00::/64"}]));
        assert_eq!(offered(&six, None)[..2], ["fd00::2", "fd00::3"]);
        let single =
            set(json!([{"subnet": "10.0.0.0/24", "rangeStart": "10.0.0.7", "rangeEnd": "10.0.0.7"}]));
        assert_eq!(offered(&single, Some("10.0.0.7")), ["10.0.0.7"]);
        let end = set(json!([{"subnet": "255.255.255.0/24", "rangeEnd": "255.255.255.255"}]));
        assert_eq!(end.candidates(None).count(), 254);
    }
}
