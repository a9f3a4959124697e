//! The node's daemon: its configuration, its start with visible progress, and its end.

use std::fs;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::Signal;

use super::{Settings, put, say};
use crate::client::Cri;
use crate::{process, wait};

/// How long it may take to be ready, or to end.
const LIMIT: Duration = Duration::from_secs(60);
/// The variables by which HTTP clients are told of a proxy, and where they need none.
const PROXIES: [&str; 4] = ["HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"];
const DIRECT: [&str; 2] = ["NO_PROXY", "no_proxy"];
/// Lines of its log that a failed start shows.
const LOG_TAIL: usize = 20;

pub(super) struct Daemon<'a> {
    settings: &'a Settings,
}

impl<'a> Daemon<'a> {
    pub(super) fn of(settings: &'a Settings) -> Self {
        Self { settings }
    }

    fn pid_file(&self) -> PathBuf {
        self.settings.below("orlop.pid")
    }

    fn config_file(&self) -> PathBuf {
        self.settings.below("config.toml")
    }

    /// Its process, if that is there and still the daemon of this folder.
    pub(super) fn pid(&self) -> Option<u32> {
        let pid = fs::read_to_string(self.pid_file()).ok()?.trim().parse().ok()?;
        let found = process::look(pid)?;
        let config = self.config_file();
        (found.state != 'Z' && found.command.contains(&*config.to_string_lossy())).then_some(pid)
    }

    /// Whether this process runs the binary that is there now.
    pub(super) fn is_current(&self, pid: u32) -> bool {
        fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| exe == self.settings.daemon())
    }

    pub(super) fn is_configured(&self) -> bool {
        self.config_file().exists()
    }

    pub(super) fn configure(&self) -> Result<()> {
        put(&self.config_file(), &self.config())
    }

    /// Starts it and waits until runtime and network are ready.
    pub(super) fn start(&self) -> Result<()> {
        let log_path = self.settings.below("orlop.log");
        let log = fs::File::create(&log_path).context("open the daemon's log")?;
        // In a session of its own: it outlives the terminal.
        let mut command = process::command("setsid");
        command.arg(self.settings.daemon()).arg("--config").arg(self.config_file());
        command.current_dir("/").stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        command.envs(proxies());
        let started = Instant::now();
        let mut child =
            command.spawn().with_context(|| format!("start {}", self.settings.daemon().display()))?;
        put(&self.pid_file(), &child.id().to_string())?;
        let cri = Cri::new(&self.settings.socket()).with_limit(Duration::from_secs(2));
        let mut told = String::new();
        let ready = wait::within(LIMIT, || {
            if !matches!(child.try_wait(), Ok(None)) {
                return Some(Err(()));
            }
            let waits_for = lacking(&cri);
            if !waits_for.is_empty() && waits_for != told {
                say(&format!("waiting for {waits_for}"));
                told.clone_from(&waits_for);
            }
            waits_for.is_empty().then_some(Ok(()))
        });
        match ready {
            Some(Ok(())) => {
                say(&format!("daemon ready after {} ms, pid {}", started.elapsed().as_millis(), child.id()));
                Ok(())
            }
            Some(Err(())) => {
                bail!("the daemon ended at once; {} ends with\n{}", log_path.display(), tail(&log_path))
            }
            None => bail!("still waiting for {told}; {} ends with\n{}", log_path.display(), tail(&log_path)),
        }
    }

    /// Ends it; its containers are not touched by that.
    pub(super) fn stop(&self) -> Result<()> {
        if let Some(pid) = self.pid() {
            process::signal(pid, Signal::TERM);
            let ended = wait::within(LIMIT, || self.pid().is_none().then_some(()));
            ensure!(ended.is_some(), "the daemon, pid {pid}, does not end");
        }
        // The state folder is a mount on itself.
        let _ = rustix::mount::unmount(self.settings.below("run"), rustix::mount::UnmountFlags::DETACH);
        say("daemon stopped");
        Ok(())
    }

    fn config(&self) -> String {
        let folder = self.settings.folder.display();
        let shim = self.settings.shim_folder().join("containerd-shim-orlop-v1");
        let runtime = "plugins.\"io.containerd.cri.v1.runtime\"";
        format!(
            "version = 3\nroot = \"{folder}/root\"\nstate = \"{folder}/run\"\n\n\
             [grpc]\naddress = \"{}\"\n\n\
             [plugins.\"io.containerd.cri.v1.images\".registry]\nconfig_path = \"{folder}/certs.d\"\n\n\
             [plugins.\"io.containerd.runtime.v2.task\"]\nshim_cgroup = \"{}/shims\"\n\n\
             [{runtime}]\nrestrict_oom_score_adj = true\n\n\
             [{runtime}.cni]\nbin_dirs = [\"{folder}/cni/bin\"]\nconf_dir = \"{folder}/cni/net.d\"\n\
             cache_dir = \"{folder}/cni/cache\"\n\n\
             [{runtime}.containerd.runtimes.runc]\nruntime_type = \"io.containerd.runc.v2\"\n\
             runtime_path = \"{}\"\n[{runtime}.containerd.runtimes.runc.options]\nBinaryName = \"{}\"\n",
            self.settings.socket().display(),
            self.settings.cgroup,
            shim.display(),
            self.settings.runc.display(),
        )
    }
}

/// What the way to a registry needs of this shell's environment. Our own registry is on the loopback.
fn proxies() -> Vec<(&'static str, String)> {
    let value = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
    let set: Vec<_> = PROXIES.into_iter().filter_map(|name| value(name).map(|value| (name, value))).collect();
    if set.is_empty() {
        return set;
    }
    let direct = DIRECT.into_iter().find_map(value).map_or_else(String::new, |hosts| hosts + ",");
    let direct = direct + "127.0.0.1,localhost";
    set.into_iter().chain(DIRECT.map(|name| (name, direct.clone()))).collect()
}

/// What is not ready yet, with the reason; nothing when all is.
fn lacking(cri: &Cri) -> String {
    if cri.version(Default::default()).is_err() {
        return "the daemon to answer".to_owned();
    }
    let conditions = match cri.status(Default::default()) {
        Ok(answer) => answer.status.unwrap_or_default().conditions,
        Err(status) => return format!("its status: {status}"),
    };
    let missing = conditions.iter().filter(|condition| !condition.status);
    missing.map(|it| format!("{}: {}", it.r#type, it.message)).collect::<Vec<_>>().join("; ")
}

fn tail(path: &std::path::Path) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LOG_TAIL)..].join("\n")
}
