//! What a node needs of the machine; what is missing is named together, each with its remedy.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use super::Settings;
use crate::process;

const FOLDERS: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

pub(super) fn check(settings: &Settings) -> Result<()> {
    let mut missing = Vec::new();
    if !rustix::process::geteuid().is_root() {
        missing.push("root: pods are namespaces, mounts and cgroups; run `sudo make up`".to_owned());
    }
    if find(&settings.runc).is_err() {
        missing.push(format!("{}: apt-get install runc", settings.runc.display()));
    }
    if find(Path::new("nft")).is_err() && find(Path::new("iptables")).is_err() {
        missing.push("nft or iptables: apt-get install nftables".to_owned());
    }
    if settings.image.is_none() {
        for (program, package) in [("docker-registry", "docker-registry"), ("busybox", "busybox")] {
            if find(Path::new(program)).is_err() {
                missing
                    .push(format!("{program}: apt-get install {package}, or name an image: make up IMAGE=…"));
            }
        }
    }
    let shims = settings.shim_folder();
    let ours = ["containerd-shim-orlop-v1", "orlop-pause", "orlop-cni"].map(|name| shims.join(name));
    for binary in ours.into_iter().chain([settings.daemon()]).filter(|path| !path.exists()) {
        missing.push(format!("{}: make release", binary.display()));
    }
    if !has_overlayfs() {
        // A module on Debian's kernel, loaded by the first who needs it.
        let _ = process::command("modprobe").arg("overlay").output();
        if !has_overlayfs() {
            missing.push("overlayfs in the kernel (CONFIG_OVERLAY_FS): modprobe overlay fails".to_owned());
        }
    }
    if !Path::new("/proc/self/ns/net").exists() {
        missing.push("network namespaces in the kernel (CONFIG_NET_NS)".to_owned());
    }
    if missing.is_empty() {
        return Ok(());
    }
    bail!("this machine lacks\n  {}", missing.join("\n  "))
}

fn has_overlayfs() -> bool {
    let kernel = std::fs::read_to_string("/proc/filesystems").unwrap_or_default();
    kernel.lines().any(|line| line.trim_end().ends_with("\toverlay"))
}

/// A program by its path, or by its name in the usual folders.
pub(super) fn find(program: &Path) -> Result<PathBuf> {
    if program.components().count() > 1 {
        return Ok(program.canonicalize()?);
    }
    let mut places = std::env::split_paths(FOLDERS).map(|folder| folder.join(program));
    match places.find(|path| path.is_file()) {
        Some(path) => Ok(path),
        None => bail!("{} is in none of {FOLDERS}", program.display()),
    }
}
