//! The node's pod network: the one that the daemon has embedded, with its files in the node's folder.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::{Settings, say};
use crate::process;

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
