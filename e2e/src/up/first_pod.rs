//! The first pod of a node: its image, its address, its log, and a command in it.

use std::path::Path;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use cri_proto::v1 as cri;
use cri_proto::v1::NamespaceMode;

use super::{Settings, say};
use crate::client::{Cri, image_spec};
use crate::registry::{self, Registry};
use crate::{images, process, wait};

const NAME: &str = "first";
/// A host that nobody has: the mirror that leads to our registry can be in nobody's way.
const REGISTRY: &str = "up.orlop.internal";
const BUSYBOX: &str = "up.orlop.internal/busybox:debian";
/// Longer than the pull of any image; the daemon gives up a host that is silent much sooner.
const PULL_LIMIT: Duration = Duration::from_secs(60 * 60);
/// How often a pull under way is reported.
const REPORT_EVERY: Duration = Duration::from_secs(5);
const LOG: &str = "main.log";
const HELLO: &str = "echo \"Hello from a pod of orlop: $(hostname)\"; exec sleep 2147483647";

pub(super) fn run(settings: &Settings, cri: &Cri) -> Result<()> {
    let image = match &settings.image {
        Some(image) => pull(settings, cri, image)?,
        None => own_image(settings, cri)?,
    };
    let started = Instant::now();
    let pod_config = pod_config(settings);
    let pod = cri.run_pod(&pod_config).context("run the pod")?;
    let container = container(settings, cri, &pod, &image)?;
    say(&format!("pod {NAME} runs after {} ms: {pod}", started.elapsed().as_millis()));
    let address = cri.pod(&pod).context("its status")?.network.map(|network| network.ip).unwrap_or_default();
    ensure!(!address.is_empty(), "pod {pod} has no address");
    say(&format!("its address: {address}"));
    show_log(settings, cri, &container)?;
    show_exec(settings, cri, &container)
}

/// The pod's container: the one that runs, if it is of this image, or else a new one in its place.
fn container(settings: &Settings, cri: &Cri, pod: &str, image: &str) -> Result<String> {
    let wanted = cri.image(image).context("look for the image")?.map(|it| it.id).unwrap_or_default();
    for found in cri.containers().context("list the containers")? {
        if found.pod_sandbox_id != pod {
            continue;
        }
        if found.state == i32::from(cri::ContainerState::ContainerRunning) && found.image_id == wanted {
            return Ok(found.id);
        }
        cri.remove(&found.id).context("remove the container of before")?;
        // The next one writes to the same file; what is shown shall be its own words.
        let _ = std::fs::remove_file(settings.below("logs").join(LOG));
    }
    let config = container_config(settings, image);
    let id = cri.create(pod, &pod_config(settings), &config).context("create the container")?;
    cri.start(&id).context("start the container")?;
    Ok(id)
}

/// Pulls, and says every few seconds how much has come.
fn pull(settings: &Settings, cri: &Cri, image: &str) -> Result<String> {
    let started = Instant::now();
    say(&format!("pulling {image}"));
    let content = settings.below("root/io.containerd.content.v1.content");
    let before = bytes_below(&content);
    let id = std::thread::scope(|scope| {
        let (done, pulling) = channel::<()>();
        scope.spawn(move || {
            while pulling.recv_timeout(REPORT_EVERY) == Err(RecvTimeoutError::Timeout) {
                let fetched = bytes_below(&content).saturating_sub(before) >> 20;
                say(&format!("{fetched} MiB after {} s", started.elapsed().as_secs()));
            }
        });
        let pulled = cri.with_limit(PULL_LIMIT).pull(image);
        drop(done);
        pulled
    });
    let id = id.with_context(|| format!("pull {image}"))?;
    say(&format!("pulled after {} ms: {id}", started.elapsed().as_millis()));
    Ok(image.to_owned())
}

/// What the files of a folder that changes meanwhile hold, about.
fn bytes_below(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let size = |entry: std::fs::DirEntry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => bytes_below(&entry.path()),
        Ok(metadata) => metadata.len(),
        Err(_) => 0,
    };
    entries.map(size).sum()
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
    registry.push("busybox", "debian", &images::busybox("orlop"));
    registry::write_mirror(&settings.below("certs.d"), REGISTRY, registry.address());
    let pulled = pull(settings, cri, BUSYBOX);
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
        log_path: LOG.to_owned(),
        ..Default::default()
    }
}

fn show_log(settings: &Settings, cri: &Cri, container: &str) -> Result<()> {
    // Many an image has nothing to say.
    let patience = if settings.image.is_some() { Duration::from_secs(2) } else { wait::PATIENCE };
    let path = cri.container(container).context("the container's status")?.log_path;
    let said = wait::within(patience, || {
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
    let named = settings.image.is_some();
    let line = if named { "uname -sr; id" } else { "uname -sr; id; ip -4 -o address show eth0" };
    say(&format!("a command in it: sh -c '{line}'"));
    match cri.exec_in(container, &["sh", "-c", line], 20) {
        Ok(answer) if answer.exit_code == 0 => print!("{}", process::text(&answer.stdout)),
        // An image that somebody named may have no shell, and may have ended already.
        Ok(answer) if named => println!("(exit code {})", answer.exit_code),
        Err(status) if named => println!("({})", status.message()),
        Ok(answer) => bail!("it failed: {}", process::text(&answer.stderr)),
        Err(status) => return Err(status).context("run it"),
    }
    Ok(())
}
