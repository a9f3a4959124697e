//! The node's pod network: the one that the daemon has embedded, with its files in the node's folder.

use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use super::{Settings, say};
use crate::process;

/// Refuses a bridge or addresses that something else on this machine has.
pub(super) fn check_free(settings: &Settings) -> Result<()> {
    let Settings { bridge, subnet, .. } = settings;
    if Path::new("/sys/class/net").join(bridge).exists() {
        bail!("the interface {bridge} exists already and was not made by `make up`");
    }
    let wanted = range(subnet).with_context(|| format!("{subnet} is not a subnet"))?;
    let routes = run(process::command("ip").args(["-4", "-o", "route", "show", "table", "all"]))?;
    for route in routes.lines() {
        let destination = route.split_whitespace().find(|word| !["local", "broadcast"].contains(word));
        let Some(taken) = destination.and_then(range) else { continue };
        if wanted.0 <= taken.1 && taken.0 <= wanted.1 {
            bail!("the addresses {subnet} are in use on this machine: {route}");
        }
    }
    Ok(())
}

/// First and last address of `a.b.c.d` or `a.b.c.d/bits`; not of the default route.
fn range(text: &str) -> Option<(u32, u32)> {
    let (address, bits) = text.split_once('/').unwrap_or((text, "32"));
    let address = u32::from(address.parse::<Ipv4Addr>().ok()?);
    let bits = bits.parse::<u32>().ok().filter(|bits| (1..=32).contains(bits))?;
    let hosts = u32::MAX.checked_shr(bits).unwrap_or(0);
    Some((address & !hosts, address | hosts))
}

/// Links to the plugins, and the network's configuration.
pub(super) fn write(settings: &Settings) -> Result<()> {
    let plugins = settings.below("cni/bin");
    fs::create_dir_all(settings.below("cni/net.d")).context("make the folder of networks")?;
    run(process::command(settings.shim_folder().join("orlop-cni")).arg("install").arg(&plugins))?;
    let text = run(process::command(settings.daemon()).args(["config", "network"]))?;
    let mut network: Value = serde_json::from_str(&text).context("read the embedded network")?;
    let bridge = &mut network["plugins"][0];
    bridge["bridge"] = settings.bridge.clone().into();
    bridge["ipam"]["ranges"][0][0]["subnet"] = settings.subnet.clone().into();
    bridge["ipam"]["dataDir"] = settings.below("cni/addresses").to_string_lossy().into();
    let file = settings.below("cni/net.d/10-orlop.conflist");
    fs::File::create(&file)
        .and_then(|file| serde_json::to_writer_pretty(file, &network).map_err(Into::into))
        .with_context(|| format!("write {}", file.display()))?;
    say(&format!("pod network: bridge {}, addresses of {}", settings.bridge, settings.subnet));
    Ok(())
}

/// The bridge stays when its last pod goes: plugins do not know whose it is.
pub(super) fn remove(settings: &Settings) -> Result<()> {
    if Path::new("/sys/class/net").join(&settings.bridge).exists() {
        run(process::command("ip").args(["link", "del", &settings.bridge]))?;
    }
    Ok(())
}

pub(super) fn run(command: &mut std::process::Command) -> Result<String> {
    let output = command.output().with_context(|| format!("start {command:?}"))?;
    let stderr = process::text(&output.stderr);
    ensure!(output.status.success(), "{command:?} failed: {}", stderr.trim());
    Ok(process::text(&output.stdout))
}

#[cfg(test)]
mod tests {
    use super::range;

    #[test]
    fn ranges_of_routes() {
        let number = |a, b, c, d| u32::from(std::net::Ipv4Addr::new(a, b, c, d));
        assert_eq!(range("10.63.0.0/24"), Some((number(10, 63, 0, 0), number(10, 63, 0, 255))));
        assert_eq!(range("10.63.0.7"), Some((number(10, 63, 0, 7), number(10, 63, 0, 7))));
        assert_eq!(range("10.63.0.7/31"), Some((number(10, 63, 0, 6), number(10, 63, 0, 7))));
        for text in ["default", "0.0.0.0/0", "10.0.0.0/33", "fe80::/64", ""] {
            assert_eq!(range(text), None, "{text}");
        }
    }
}
