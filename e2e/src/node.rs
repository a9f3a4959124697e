//! One orlop node in private directories: the daemon, its registry, and the check that nothing is left of it.
//!
//! Dropping a node removes its pods and images over the CRI, stops the daemon and panics when anything of it is
//! left. When the test has failed already, it prints the logs instead and takes everything away by force.

mod program;
mod reboot;

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use rustix::process::Signal;

use crate::client::Cri;
use crate::crictl::Crictl;
use crate::fault::{self, Barrier, Faults};
use crate::images::{self, Image};
use crate::leak::{self, Gone, Marks};
use crate::network::{DEFAULT_FILE, Network, Plugins};
use crate::registry::{self, Registry};
use crate::{fixture, process, wait};

pub use self::program::Program;

/// The image that [`Node::start`] has pulled.
pub const BUSYBOX: &str = "docker.io/library/busybox:test";

/// Longest time the daemon takes to stop when asked to.
const STOP_LIMIT: Duration = Duration::from_secs(10);
/// Lines of a log that a failed test shows.
const LOG_TAIL: usize = 150;

/// A running node.
pub struct Node {
    folder: PathBuf,
    cgroup_parent: String,
    program: Program,
    daemon: Option<Child>,
    registry: Registry,
    network: Network,
    cri: Cri,
    faults: Option<Faults>,
    /// Whether the daemon lives in another boot than the machine.
    rebooted: bool,
    /// Words that name what is of the witness in the network.
    witness: OnceLock<Vec<String>>,
}

impl Node {
    /// A node with [`BUSYBOX`] pulled.
    pub fn start() -> Self {
        Self::running(Program::default(), Plugins::Reference)
    }

    /// A node with [`BUSYBOX`] pulled, with this daemon and these CNI plugins.
    pub fn running(program: Program, plugins: Plugins) -> Self {
        Self::with_busybox(Self::prepare(program, plugins, false))
    }

    /// A node with [`BUSYBOX`] pulled and another network than the usual one.
    pub fn start_on(conf: impl FnOnce(&Network) -> serde_json::Value) -> Self {
        let node = Self::start();
        node.network.write(DEFAULT_FILE, &conf(&node.network));
        node
    }

    /// A node without any image.
    pub fn bare() -> Self {
        Self::bare_with(Plugins::Reference)
    }

    /// A node without any image that calls one or the other set of CNI plugins.
    pub fn bare_with(plugins: Plugins) -> Self {
        Self::bare_of(Program::default(), plugins)
    }

    /// A node without any image, with this daemon.
    pub fn bare_of(program: Program, plugins: Plugins) -> Self {
        let mut node = Self::prepare(program, plugins, false);
        node.start_daemon();
        node
    }

    /// A node with [`BUSYBOX`] pulled, whose OCI runtime and shim are wrappers with barriers.
    pub fn with_faults() -> Self {
        Self::with_busybox(Self::prepare(Program::default(), Plugins::Reference, true))
    }

    fn with_busybox(mut node: Self) -> Self {
        node.start_daemon();
        node.registry.push("library/busybox", "test", &images::busybox("test"));
        node.cri.pull(BUSYBOX).unwrap_or_else(|status| panic!("pull {BUSYBOX}: {status}"));
        node
    }

    fn prepare(program: Program, plugins: Plugins, faulty: bool) -> Self {
        process::need_root();
        let folder = tempfile::Builder::new()
            .prefix("o")
            .rand_bytes(6)
            .tempdir()
            .expect("make a folder in /tmp")
            .keep();
        let name = folder.file_name().and_then(|name| name.to_str()).expect("a folder has a name");
        let cgroup_parent = format!("e2e-{name}");
        let registry = Registry::start(&folder.join("registry"));
        registry::write_mirrors(&folder.join("certs.d"), registry.address());
        let network = Network::claim(&folder.join("cni"), plugins);
        let runc = process::built("tools/bin/runc");
        let shim = program.shim.clone();
        let faults = faulty.then(|| Faults::install(&folder.join("oci"), &fault::wrapper(), &runc, &shim));
        let cri = Cri::new(&folder.join("run/orlop.sock"));
        let node = Self {
            folder,
            cgroup_parent,
            program,
            daemon: None,
            registry,
            network,
            cri,
            faults,
            rebooted: false,
            witness: OnceLock::new(),
        };
        let (runc, shim) = match &node.faults {
            Some(faults) => (faults.runc(), faults.shim()),
            None => (runc, shim),
        };
        fixture::write(&node.folder.join("config.toml"), node.config(&runc, &shim));
        node
    }

    fn config(&self, runc: &Path, shim: &Path) -> String {
        let folder = self.folder.display();
        let oci_root = self.program.oci_root.map(|name| format!("Root = \"{folder}/run/{name}\"\n"));
        let handler = |name: &str, binary: &Path| {
            let table = format!("plugins.\"io.containerd.cri.v1.runtime\".containerd.runtimes.{name}");
            format!(
                "[{table}]\nruntime_type = \"io.containerd.runc.v2\"\nruntime_path = \"{}\"\n\
                 [{table}.options]\nBinaryName = \"{}\"\n{}\n",
                shim.display(),
                binary.display(),
                oci_root.as_deref().unwrap_or_default()
            )
        };
        format!(
            "version = 3\nroot = \"{folder}/root\"\nstate = \"{folder}/run\"\n{}\n\
             [grpc]\naddress = \"{folder}/run/orlop.sock\"\n\n\
             [plugins.\"io.containerd.cri.v1.images\".registry]\nconfig_path = \"{folder}/certs.d\"\n\n\
             [plugins.\"io.containerd.cri.v1.runtime\"]\nrestrict_oom_score_adj = true\n{}\n\
             [plugins.\"io.containerd.cri.v1.runtime\".containerd]\ndefault_runtime_name = \"runc\"\n\n{}{}{}{}",
            self.program.root_keys,
            self.program.runtime_keys,
            self.network.config(),
            handler("runc", runc),
            handler("missing", Path::new("/nonexistent/runc")),
            self.program.tables
        )
    }

    fn start_daemon(&mut self) {
        assert!(self.daemon.is_none(), "the daemon of {} runs already", self.folder.display());
        let log = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.log_path())
            .expect("open the daemon's log");
        let mut command = self.daemon_command();
        command
            .arg("--config")
            .arg(self.folder.join("config.toml"))
            .args(["--log-level", self.program.log_level])
            .current_dir(&self.folder)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("duplicate the log's descriptor"))
            .stderr(log);
        self.daemon = Some(command.spawn().unwrap_or_else(|error| panic!("start the daemon: {error}")));
        wait::until("the daemon answers Version", || {
            let running = self.daemon.as_mut().is_some_and(|child| matches!(child.try_wait(), Ok(None)));
            assert!(running, "the daemon ended at once:\n{}", tail(&self.log_path()));
            self.cri.with_limit(Duration::from_secs(2)).version(Default::default()).is_ok()
        });
    }

    /// Kills the daemon with SIGKILL; pods are on their own.
    pub fn kill9(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            process::kill_and_reap(&mut daemon);
        }
    }

    /// Starts the daemon after [`Self::kill9`] or [`Self::stop_daemon`].
    pub fn resume(&mut self) {
        self.start_daemon();
    }

    /// Kills the daemon with SIGKILL and starts it again.
    pub fn restart_daemon(&mut self) {
        self.kill9();
        self.resume();
    }

    /// Replaces a line of the daemon's configuration, and starts the daemon anew with it.
    pub fn reconfigure(&mut self, line: &str, replacement: &str) {
        let path = self.folder.join("config.toml");
        let config = fixture::read(&path);
        assert_eq!(config.matches(line).count(), 1, "{line:?} is once in\n{config}");
        fixture::write(&path, config.replace(line, replacement));
        self.restart_daemon();
    }

    /// Asks the daemon to stop, and waits until it has.
    pub fn stop_daemon(&mut self) {
        let Some(mut daemon) = self.daemon.take() else {
            return;
        };
        process::signal(daemon.id(), Signal::TERM);
        let ended = wait::within(STOP_LIMIT, || daemon.try_wait().ok().flatten());
        if ended.is_none() {
            process::kill_and_reap(&mut daemon);
            panic!("the daemon did not stop within {STOP_LIMIT:?} of SIGTERM");
        }
    }

    /// A client of the daemon.
    pub fn cri(&self) -> Cri {
        self.cri.clone()
    }

    /// A `crictl` for the daemon.
    pub fn crictl(&self) -> Crictl {
        Crictl::new(&self.folder, &self.socket())
    }

    /// The registry behind the mirrors.
    pub fn registry(&mut self) -> &mut Registry {
        &mut self.registry
    }

    /// Pushes an image to the registry behind the mirrors.
    pub fn push(&self, repository: &str, tag: &str, image: &Image) {
        self.registry.push(repository, tag, image);
    }

    /// Pushes an image and pulls it over the mirror of `host`; gives the reference and what PullImage answered.
    pub fn provide(&self, host: &str, repository: &str, tag: &str, image: &Image) -> (String, String) {
        self.registry.push(repository, tag, image);
        let reference = format!("{host}/{repository}:{tag}");
        let id = self.cri.pull(&reference).unwrap_or_else(|status| panic!("pull {reference}: {status}"));
        (reference, id)
    }

    /// The barriers of a node made by [`Self::with_faults`].
    pub fn faults(&self) -> &Faults {
        self.faults.as_ref().expect("the node was made with faults")
    }

    /// Makes the next call of the OCI runtime, the shim or a gated CNI plugin that comes by `stage` stop there.
    pub fn hold(&self, stage: &str) -> Barrier {
        if stage.starts_with("cni-") { self.network.hold(stage) } else { self.faults().hold(stage) }
    }

    /// The pods' network.
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// What there is in the network of pods that run or have run: one line each.
    pub fn network_left(&self) -> Vec<String> {
        let mut left = self.network_of_all();
        left.retain(|line| !self.witness.get().is_some_and(|words| names_any(line, words)));
        left
    }

    fn network_of_all(&self) -> Vec<String> {
        leak::network::find(&self.network.marks(), &self.ids())
    }

    /// What is of the one pod that is there is not left behind from now on.
    pub(crate) fn expect_network_of(&self, id: &str, address: &str) {
        let interfaces = self.network_of_all().into_iter();
        let interfaces = interfaces.filter_map(|line| line.strip_prefix("interface ").map(str::to_owned));
        let words = interfaces.chain([id.to_owned(), address.to_owned()]).collect();
        assert!(self.witness.set(words).is_ok(), "a node has one witness");
    }

    /// The node's folder: everything of it lies below.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The daemon's socket.
    pub fn socket(&self) -> PathBuf {
        self.folder.join("run/orlop.sock")
    }

    /// What pods of this node give as their cgroup parent.
    pub fn cgroup_parent(&self) -> String {
        format!("/{}", self.cgroup_parent)
    }

    /// The daemon's pid.
    pub fn daemon_pid(&self) -> u32 {
        self.daemon.as_ref().expect("the daemon runs").id()
    }

    /// The processes that are there without any pod: the daemon and the registry.
    pub fn own_processes(&self) -> BTreeSet<u32> {
        self.daemon.iter().chain(self.registry.server()).map(Child::id).collect()
    }

    /// All that clients have seen, and all that the daemon has named: pods that failed or were never answered, too.
    fn ids(&self) -> BTreeSet<String> {
        let log = fs::read_to_string(self.log_path()).unwrap_or_default();
        let words = log.split(|letter: char| !letter.is_ascii_alphanumeric());
        let is_id = |word: &&str| word.len() == 64 && word.bytes().all(|byte| byte.is_ascii_hexdigit());
        self.cri.seen().into_iter().chain(words.filter(is_id).map(str::to_owned)).collect()
    }

    fn log_path(&self) -> PathBuf {
        self.folder.join("orlop.log")
    }

    fn marks(&self) -> Marks {
        Marks {
            folder: self.folder.clone(),
            root: self.folder.join("root"),
            state: self.folder.join("run"),
            cgroup_parent: self.cgroup_parent.clone(),
            ids: self.ids(),
            network: self.network.marks(),
            daemon: self.daemon.as_ref().map(Child::id),
            allowed: self.own_processes(),
        }
    }

    /// The connections that the daemon's streaming server has: one line each.
    pub fn connections(&self) -> Vec<String> {
        leak::served_by(self.daemon_pid())
    }

    /// What is there of these pods and containers besides records and images: one line each.
    pub fn left_of(&self, ids: &[&str]) -> Vec<String> {
        let left = leak::find(&self.marks(), Gone::Pods);
        left.into_iter().filter(|line| ids.iter().any(|id| line.contains(id))).collect()
    }

    /// Panics when anything of a pod's network is left; some of it the kernel frees late.
    pub fn assert_no_network_left(&self, what: &str) {
        let clean = wait::within(wait::PATIENCE, || self.network_left().is_empty().then_some(()));
        assert!(clean.is_some(), "left by {what}:\n  {}", self.network_left().join("\n  "));
    }

    /// Panics when anything of a pod is left; images may be there.
    pub fn assert_no_pods_left(&self) {
        self.assert_gone(Gone::Pods);
    }

    fn assert_gone(&self, gone: Gone) {
        let clean = wait::within(wait::PATIENCE, || leak::find(&self.marks(), gone).is_empty().then_some(()));
        let left = leak::find(&self.marks(), gone);
        assert!(clean.is_some(), "left behind by {}:\n  {}", self.folder.display(), left.join("\n  "));
    }

    /// Removes all pods and images over the CRI and checks that they are gone.
    fn finish(&mut self) {
        if self.daemon.is_none() {
            self.start_daemon();
        }
        for pod in self.cri.pods().expect("list pods") {
            self.cri.stop_pod(&pod.id).unwrap_or_else(|status| panic!("stop pod {}: {status}", pod.id));
            self.cri.remove_pod(&pod.id).unwrap_or_else(|status| panic!("remove pod {}: {status}", pod.id));
        }
        assert_eq!(self.cri.containers().expect("list containers"), vec![], "containers outlive their pods");
        for image in self.cri.images().expect("list images") {
            self.cri
                .remove_image_named(&image.id)
                .unwrap_or_else(|status| panic!("remove {}: {status}", image.id));
        }
        self.assert_gone(Gone::PodsAndImages);
        self.stop_daemon();
    }

    fn print_logs(&self) {
        show_end(&self.log_path());
        let bundles = self.folder.join("run/io.containerd.runtime.v2.task/k8s.io");
        for bundle in fs::read_dir(bundles).into_iter().flatten().flatten() {
            let files = fs::read_dir(bundle.path()).into_iter().flatten().flatten();
            let logs = files.map(|file| file.path()).filter(|path| path.to_string_lossy().contains("log"));
            for log in logs.filter(|path| path.is_file()) {
                show_end(&log);
            }
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let failed = std::thread::panicking();
        let finished =
            !failed && std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| self.finish())).is_ok();
        if !finished {
            self.print_logs();
        }
        self.kill9();
        self.registry.stop();
        leak::sweep(&self.marks());
        let _ = fs::remove_dir_all(&self.folder);
        assert!(failed || finished, "the node did not end clean: see above");
    }
}

/// Nobody may be listening any more: that must not keep a node from being taken away.
fn show_end(log: &Path) {
    let _ = writeln!(std::io::stderr(), "---- end of {}\n{}", log.display(), tail(log));
}

fn names_any(line: &str, words: &[String]) -> bool {
    let mut parts = line.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '.');
    parts.any(|part| words.iter().any(|word| word == part))
}

fn tail(path: &Path) -> String {
    let text = process::text(&fs::read(path).unwrap_or_default());
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LOG_TAIL)..].join("\n")
}
