//! The first pod of a node: its image, its address, its log, and a command in it.

use std::path::Path;
use std::time::Instant;

use anyhow::{Context as _, Result, bail, ensure};
use cri_proto::v1 as cri;
use cri_proto::v1::NamespaceMode;

use super::{Settings, say};
use crate::client::{Cri, image_spec};
use crate::registry::{self, Registry};
use crate::{images, process, wait};

const NAME: &str = "first";
const BUSYBOX: &str = "docker.io/library/busybox:orlop";
const HELLO: &str = "echo \"Hello from a pod of orlop: $(hostname)\"; exec sleep 2147483647";

pub(super) fn run(settings: &Settings, cri: &Cri) -> Result<()> {
    let image = match &settings.image {
        Some(image) => pull(cri, image)?,
        None => own_image(settings, cri)?,
    };
    let started = Instant::now();
    let pod_config = pod_config(settings);
    let pod = cri.run_pod(&pod_config).context("run the pod")?;
    let config = container_config(settings, &image);
    let container = cri.create(&pod, &pod_config, &config).context("create the container")?;
    cri.start(&container).context("start the container")?;
    say(&format!("pod {NAME} runs after {} ms: {pod}", started.elapsed().as_millis()));
    let address = cri.pod(&pod).context("its status")?.network.map(|network| network.ip).unwrap_or_default();
    ensure!(!address.is_empty(), "pod {pod} has no address");
    say(&format!("its address: {address}"));
    show_log(cri, &container)?;
    show_exec(settings, cri, &container)
}

fn pull(cri: &Cri, image: &str) -> Result<String> {
    let started = Instant::now();
    say(&format!("pulling {image}"));
    let id = cri.pull(image).with_context(|| format!("pull {image}"))?;
    say(&format!("pulled after {} ms: {id}", started.elapsed().as_millis()));
    Ok(image.to_owned())
}

/// Debian's busybox as an image, through a registry as any other, which ends when it is pulled.
fn own_image(settings: &Settings, cri: &Cri) -> Result<String> {
    if cri.image(BUSYBOX).context("look for the image")?.is_some() {
        return Ok(BUSYBOX.to_owned());
    }
    say("building an image from Debian's busybox");
    let folder = settings.below("registry");
    let registry = Registry::start(&folder);
    say(&format!("serving it at the loopback registry {}", registry.address()));
    registry.push("library/busybox", "orlop", &images::busybox("orlop"));
    let mirrors = settings.below("certs.d");
    registry::write_mirror(&mirrors, "docker.io", registry.address());
    let pulled = pull(cri, BUSYBOX);
    // Whatever else is pulled from there comes from where it should.
    std::fs::remove_dir_all(mirrors.join("docker.io")).context("remove the mirror of docker.io")?;
    drop(registry);
    std::fs::remove_dir_all(&folder).context("remove the registry's data")?;
    pulled
}

fn pod_config(settings: &Settings) -> cri::PodSandboxConfig {
    let namespaces = cri::NamespaceOption {
        network: NamespaceMode::Pod.into(),
        pid: NamespaceMode::Container.into(),
        ipc: NamespaceMode::Pod.into(),
        ..Default::default()
    };
    cri::PodSandboxConfig {
        metadata: Some(cri::PodSandboxMetadata {
            name: NAME.to_owned(),
            uid: "orlop-up-first".to_owned(),
            namespace: "default".to_owned(),
            attempt: 0,
        }),
        hostname: NAME.to_owned(),
        log_directory: settings.below("logs").to_string_lossy().into_owned(),
        linux: Some(cri::LinuxPodSandboxConfig {
            cgroup_parent: format!("{}/pods", settings.cgroup),
            security_context: Some(cri::LinuxSandboxSecurityContext {
                namespace_options: Some(namespaces),
                ..Default::default()
            }),
            ..Default::default()
        }),
        ..Default::default()
    }
}

/// An image that somebody named runs what it runs.
fn container_config(settings: &Settings, image: &str) -> cri::ContainerConfig {
    let own = ["sh", "-c", HELLO].map(str::to_owned).to_vec();
    cri::ContainerConfig {
        metadata: Some(cri::ContainerMetadata { name: "main".to_owned(), attempt: 0 }),
        image: Some(image_spec(image)),
        command: if settings.image.is_none() { own } else { Vec::new() },
        log_path: "main.log".to_owned(),
        ..Default::default()
    }
}

fn show_log(cri: &Cri, container: &str) -> Result<()> {
    let path = cri.container(container).context("the container's status")?.log_path;
    let said = wait::within(wait::PATIENCE, || {
        let text = std::fs::read_to_string(Path::new(&path)).unwrap_or_default();
        text.ends_with('\n').then_some(text)
    });
    say(&format!("its log, {path}:"));
    match said {
        Some(text) => print!("{text}"),
        None => println!("(it has said nothing yet)"),
    }
    Ok(())
}

fn show_exec(settings: &Settings, cri: &Cri, container: &str) -> Result<()> {
    const LINE: &str = "uname -sr; id; ip -4 -o address show eth0";
    say(&format!("a command in it: sh -c '{LINE}'"));
    match cri.exec_in(container, &["sh", "-c", LINE], 20) {
        Ok(answer) if answer.exit_code == 0 => print!("{}", process::text(&answer.stdout)),
        Ok(answer) => bail!("it failed: {}", process::text(&answer.stderr)),
        // Not every image has a shell.
        Err(status) if settings.image.is_some() => println!("({})", status.message()),
        Err(status) => return Err(status).context("run it"),
    }
    Ok(())
}
