//! What `host-local` is told: ranges, requested addresses, routes, and where the files are.

use std::net::IpAddr;
use std::path::PathBuf;

use serde::Deserialize;

use super::range::{RangeConfig, RangeSet};
use crate::args::{self, ArgsError};
use crate::call::Call;
use crate::config::{self, ConfigError, from_text, or_default};
use crate::error::PluginError;
use crate::result::Route;

/// Where the reference keeps its files.
const FOLDER: &str = "/var/lib/cni/networks";
/// Most range sets and requested addresses: each set is an address of the container.
const MOST: usize = 64;

/// Where the files of a network are.
#[derive(Clone, Debug)]
pub(crate) struct StoreConfig {
    pub(super) folder: PathBuf,
}

/// All that ADD needs.
#[derive(Clone, Debug)]
pub(crate) struct AddConfig {
    pub(super) store: StoreConfig,
    pub(super) sets: Vec<RangeSet>,
    pub(super) requested: Vec<IpAddr>,
    pub(super) routes: Vec<Route>,
    pub(super) resolv_conf: Option<PathBuf>,
}

#[derive(Deserialize)]
struct RawStore {
    ipam: Option<RawFolder>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawFolder {
    data_dir: Option<PathBuf>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Raw {
    ipam: Option<RawIpam>,
    #[serde(default, deserialize_with = "or_default")]
    runtime_config: RawRuntime,
    #[serde(default, deserialize_with = "or_default")]
    args: RawArgs,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawIpam {
    #[serde(flatten)]
    single: RangeConfig,
    #[serde(default, deserialize_with = "or_default")]
    ranges: Vec<Vec<RangeConfig>>,
    #[serde(default, deserialize_with = "or_default")]
    routes: Vec<Route>,
    resolv_conf: Option<PathBuf>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct RawRuntime {
    #[serde(deserialize_with = "or_default")]
    ip_ranges: Vec<Vec<RangeConfig>>,
    #[serde(deserialize_with = "or_default")]
    ips: Vec<Requested>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RawArgs {
    #[serde(deserialize_with = "or_default")]
    cni: RawCniArgs,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RawCniArgs {
    #[serde(deserialize_with = "or_default")]
    ips: Vec<Requested>,
}

/// An address, with or without a prefix length, which does not count.
#[derive(Deserialize)]
#[serde(transparent)]
struct Requested {
    #[serde(deserialize_with = "from_text")]
    ip: Option<RequestedIp>,
}

struct RequestedIp(IpAddr);

impl std::str::FromStr for RequestedIp {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let ip = if text.contains('/') {
            text.parse::<crate::prefix::IpPrefix>().ok().map(|prefix| prefix.ip)
        } else {
            text.parse().ok()
        };
        ip.map(|ip| Self(ip.to_canonical())).ok_or("it is no IP address")
    }
}

impl StoreConfig {
    pub(crate) fn parse(call: &Call) -> Result<Self, PluginError> {
        let raw: RawStore = config::parse(&call.input)?;
        let ipam = raw.ipam.ok_or_else(|| ConfigError::field("ipam", "it is missing"))?;
        let folder = ipam.data_dir.filter(|folder| !folder.as_os_str().is_empty());
        let folder = folder.unwrap_or_else(|| FOLDER.into());
        if !folder.is_absolute() {
            return Err(ConfigError::field("ipam.dataDir", "it is no absolute path").into());
        }
        Ok(Self { folder: folder.join(&call.network) })
    }
}

impl AddConfig {
    pub(crate) fn parse(call: &Call) -> Result<Self, PluginError> {
        let store = StoreConfig::parse(call)?;
        let raw: Raw = config::parse(&call.input)?;
        let ipam = raw.ipam.ok_or_else(|| ConfigError::field("ipam", "it is missing"))?;
        let single = ipam.single.subnet.is_some().then(|| vec![ipam.single]);
        let sets: Vec<_> =
            raw.runtime_config.ip_ranges.into_iter().chain(single).chain(ipam.ranges).collect();
        if sets.is_empty() {
            return Err(ConfigError::field("ipam.ranges", "no IP ranges specified").into());
        }
        let sets = RangeSet::validated(sets, MOST).map_err(|why| ConfigError::field("ipam.ranges", why))?;
        let from_config = raw.args.cni.ips.into_iter().chain(raw.runtime_config.ips);
        let from_config = from_config.filter_map(|requested| requested.ip).map(|requested| requested.0);
        let mut requested: Vec<IpAddr> =
            requested_by_args(&call.args)?.into_iter().chain(from_config).collect();
        requested.sort_unstable();
        requested.dedup();
        if requested.len() > MOST {
            return Err(ConfigError::field("ips", "too many addresses are requested").into());
        }
        let resolv_conf = ipam.resolv_conf.filter(|path| !path.as_os_str().is_empty());
        Ok(Self { store, sets, requested, routes: ipam.routes, resolv_conf })
    }
}

fn requested_by_args(text: &str) -> Result<Option<IpAddr>, ArgsError> {
    let Some(value) = args::known(text, "IP")? else { return Ok(None) };
    let parsed: Result<RequestedIp, _> = value.parse();
    let failed = |why| ArgsError::Value { key: "IP", value: value.chars().take(80).collect(), why };
    parsed.map(|requested| Some(requested.0)).map_err(failed)
}

#[cfg(test)]
mod tests;
