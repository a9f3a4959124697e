//! A node for people: the daemon in a folder of its own with the embedded default network, and a first pod.
//!
//! Everything of it lies below one folder, but the bridge, the cgroups, the pins in `/var/run/netns`
//! and firewall rules; `down` takes all of that away. Both may come twice.

mod daemon;
mod first_pod;
mod mark;
mod network;
mod prerequisites;

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};

use crate::client::Cri;
use crate::{cgroup, wait};
use daemon::Daemon;

/// Where things are, and which.
pub struct Settings {
    /// Of everything that the node keeps.
    pub folder: PathBuf,
    /// The `target` folder.
    pub binaries: PathBuf,
    /// `release/orlop` below it when nobody says.
    pub daemon: Option<PathBuf>,
    /// A name on PATH or a path.
    pub runc: PathBuf,
    /// What the first pod runs; busybox, built here, when nobody says.
    pub image: Option<String>,
    pub bridge: String,
    pub subnet: String,
    /// Parent of the cgroups of shims and pods.
    pub cgroup: String,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            folder: "/var/lib/orlop-up".into(),
            binaries: "target".into(),
            daemon: None,
            runc: "runc".into(),
            image: None,
            // Neither is what `orlop config network` says: that may be in use on this machine.
            bridge: "orlop-up0".to_owned(),
            subnet: "10.63.0.0/24".to_owned(),
            cgroup: "/orlop-up".to_owned(),
        }
    }
}

impl Settings {
    fn daemon(&self) -> PathBuf {
        self.daemon.clone().unwrap_or_else(|| self.binaries.join("release/orlop"))
    }

    fn shim_folder(&self) -> PathBuf {
        self.binaries.join("shim")
    }

    fn below(&self, path: &str) -> PathBuf {
        self.folder.join(path)
    }

    fn socket(&self) -> PathBuf {
        self.below("run/orlop.sock")
    }
}

/// One line of progress.
fn say(line: &str) {
    println!("==> {line}");
}

/// Writes a file of the node's.
fn put(path: &Path, text: &str) -> Result<()> {
    let written = fs::File::create(path).and_then(|mut file| file.write_all(text.as_bytes()));
    written.with_context(|| format!("write {}", path.display()))
}

/// Starts the node, unless it runs, and its first pod.
pub fn up(settings: &Settings) -> Result<()> {
    prerequisites::check(settings)?;
    mark::admit(&settings.folder)?;
    let again = mark::is_there(&settings.folder);
    if !again {
        network::check_free(settings)?;
    }
    fs::create_dir_all(&settings.folder).with_context(|| format!("make {}", settings.folder.display()))?;
    let settings = &absolute(settings)?;
    if again {
        let before = mark::read(&settings.folder)?;
        ensure!(
            (&before.bridge, &before.subnet, &before.cgroup)
                == (&settings.bridge, &settings.subnet, &settings.cgroup),
            "the node in {} was made with another bridge, subnet or cgroup: make down first",
            settings.folder.display()
        );
    }
    mark::write(settings)?;
    start_daemon(settings)?;
    first_pod::run(settings, &Cri::new(&settings.socket()))?;
    print!("{}", lines_to_go_on(settings));
    Ok(())
}

/// Leaves a daemon that runs alone, but for one whose binary was built anew: pods do not notice its end.
fn start_daemon(settings: &Settings) -> Result<()> {
    let daemon = Daemon::of(settings);
    match daemon.pid() {
        Some(pid) if daemon.is_current(pid) => {
            say(&format!("the daemon runs already, pid {pid}"));
            return Ok(());
        }
        Some(_) => {
            say("the daemon is of an earlier build: it is replaced, pods run on");
            daemon.stop()?;
        }
        None => {}
    }
    network::write(settings)?;
    daemon.configure()?;
    daemon.start()
}

/// Ends the node with all its pods.
pub fn down(settings: &Settings) -> Result<()> {
    if !settings.folder.exists() {
        say(&format!("there is no node in {}", settings.folder.display()));
        return Ok(());
    }
    ensure!(
        mark::is_there(&settings.folder),
        "{} was not made by `make up`: nothing is removed",
        settings.folder.display()
    );
    let settings = &mark::read(&settings.folder)?;
    let daemon = Daemon::of(settings);
    // A node whose daemon was never configured has no pods.
    if daemon.is_configured() {
        if daemon.pid().is_none() {
            // Only a daemon knows how its pods are taken down.
            daemon.start()?;
        }
        remove_pods(&Cri::new(&settings.socket()))?;
        daemon.stop()?;
    }
    network::remove(settings)?;
    let ours =
        |path: &str| path.contains(&format!("{}/", settings.cgroup)) || path.ends_with(&settings.cgroup);
    let gone = wait::within(wait::PATIENCE, || {
        cgroup::remove(&cgroup::folders(ours));
        cgroup::folders(ours).is_empty().then_some(())
    });
    ensure!(gone.is_some(), "processes are left in the cgroup {}", settings.cgroup);
    mark::remove_folder(&settings.folder)?;
    say("nothing is left");
    Ok(())
}

fn remove_pods(cri: &Cri) -> Result<()> {
    for pod in cri.pods().context("list the pods")? {
        say(&format!("removing pod {}", &pod.id[..12.min(pod.id.len())]));
        cri.stop_pod(&pod.id).with_context(|| format!("stop pod {}", pod.id))?;
        cri.remove_pod(&pod.id).with_context(|| format!("remove pod {}", pod.id))?;
    }
    Ok(())
}

/// Paths as the daemon needs them, wherever it runs.
fn absolute(settings: &Settings) -> Result<Settings> {
    let full = |path: &Path| path.canonicalize().with_context(|| format!("find {}", path.display()));
    Ok(Settings {
        folder: full(&settings.folder)?,
        binaries: full(&settings.binaries)?,
        daemon: Some(full(&settings.daemon())?),
        runc: prerequisites::find(&settings.runc)?,
        image: settings.image.clone(),
        bridge: settings.bridge.clone(),
        subnet: settings.subnet.clone(),
        cgroup: settings.cgroup.clone(),
    })
}

fn lines_to_go_on(settings: &Settings) -> String {
    let socket = settings.socket();
    let socket = socket.display();
    let built = settings.binaries.join("tools/bin/crictl");
    let (crictl, remedy) = if prerequisites::find(Path::new("crictl")).is_ok() {
        ("crictl".to_owned(), "")
    } else if built.exists() {
        (built.display().to_string(), "")
    } else {
        (built.display().to_string(), "      (make tools builds it, with Go)")
    };
    format!(
        "\nTo go on:\n  {crictl} --runtime-endpoint unix://{socket} pods{remedy}\n  \
         kubelet --container-runtime-endpoint=unix://{socket} …\n  make down\n\
         The daemon's log is {}, its configuration {}.\n",
        settings.below("orlop.log").display(),
        settings.below("config.toml").display()
    )
}
