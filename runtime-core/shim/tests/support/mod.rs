//! A shim of its own for a test: folders, a root filesystem, specifications, and the look around at the end.

#![expect(clippy::unwrap_used, reason = "test code outside of test functions")]
#![allow(dead_code, reason = "each file of tests uses a part")]

use std::fs;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use runtime_shim::client::{CallError, ShimClient};
use runtime_shim::identity::ProcessIdentity;
use runtime_shim::launch::{self, LaunchSpec, Launched, Verbosity};
use runtime_shim::layout::{self, Bundle, PinnedNamespace};
use runtime_shim::protocol::io::{ExecRequest, PodNamespaces, exec_end::Outcome, exec_frame::Event};
use runtime_shim::protocol::sandbox::{CreateSandboxRequest, ShutdownSandboxRequest};
use runtime_shim::protocol::task::{CreateTaskRequest, StartRequest, StateRequest, StateResponse};
use runtime_shim::protocol::types::Mount;
use runtime_shim::protocol::{runc, to_any};
use runtime_shim::spawner::Spawner;
use runtime_shim::stream::Stdin;
use serde_json::{Value, json};

const NAMESPACE: &str = "test";
const SANDBOX: &str = "pod";
const DEADLINE: Duration = Duration::from_secs(30);

/// Waits for a condition, with a deadline.
pub(crate) async fn wait_until(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let begun = Instant::now();
    while !condition().await {
        assert!(begun.elapsed() < DEADLINE, "{what}: not within {DEADLINE:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// A shim with a pod.
pub(crate) struct Node {
    folder: tempfile::TempDir,
    cgroup: String,
    pub(crate) launched: Launched,
    pub(crate) client: ShimClient,
}

/// A container's first process and what belongs to it.
pub(crate) struct Process {
    args: Vec<String>,
    memory: Option<u64>,
    own_pid_namespace: bool,
    terminal: bool,
    stdin: Stdin,
}

impl Process {
    pub(crate) fn new(args: &[&str]) -> Self {
        let args = args.iter().map(|&arg| arg.to_owned()).collect();
        Self { args, memory: None, own_pid_namespace: true, terminal: false, stdin: Stdin::None }
    }

    pub(crate) fn shell(script: &str) -> Self {
        Self::new(&["sh", "-c", script])
    }

    pub(crate) fn with_memory(mut self, bytes: u64) -> Self {
        self.memory = Some(bytes);
        self
    }

    pub(crate) fn with_terminal(mut self) -> Self {
        self.terminal = true;
        self
    }

    pub(crate) fn with_stdin(mut self, stdin: Stdin) -> Self {
        self.stdin = stdin;
        self
    }

    pub(crate) fn with_host_pid(mut self) -> Self {
        self.own_pid_namespace = false;
        self
    }
}

/// A container's folders.
pub(crate) struct Container {
    id: String,
    pub(crate) bundle: Bundle,
    pub(crate) log: PathBuf,
    lower: PathBuf,
    options: prost_types::Any,
    terminal: bool,
    stdin: Stdin,
}

/// What an exec came to.
#[derive(Debug, Default)]
pub(crate) struct ExecResult {
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) outcome: Option<Outcome>,
    pub(crate) truncated: bool,
}

impl Node {
    /// Starts a shim and makes a pod.
    pub(crate) async fn start(name: &str) -> Self {
        let node = Self::launch(name, None).await;
        let namespaces = PodNamespaces { hostname: "the-pod".into(), ..Default::default() };
        node.create_pod(namespaces.clone()).await.unwrap();
        node.create_pod(namespaces).await.unwrap();
        node
    }

    /// Starts a shim.
    pub(crate) async fn launch(name: &str, spawner: Option<Arc<Spawner>>) -> Self {
        assert!(rustix::process::geteuid().is_root(), "this test needs root");
        let folder = tempfile::Builder::new().prefix(&format!("orlop-shim-{name}-")).tempdir().unwrap();
        make_image(&folder.path().join("image"));
        let cgroup = folder.path().file_name().unwrap().to_str().unwrap().to_owned();
        let bundle = Bundle::of(&folder.path().join("state"), NAMESPACE, SANDBOX);
        fs::DirBuilder::new().recursive(true).mode(0o711).create(bundle.path()).unwrap();
        let launched =
            launch::start_shim(&LaunchSpec { spawner, ..launch_spec(folder.path()) }).await.unwrap();
        let client = ShimClient::connect(&launched.address).await.unwrap().with_limit(DEADLINE);
        Self { folder, cgroup, launched, client }
    }

    pub(crate) async fn create_pod(&self, namespaces: PodNamespaces) -> Result<(), CallError> {
        let request = CreateSandboxRequest {
            sandbox_id: SANDBOX.into(),
            bundle_path: text(self.sandbox_bundle().path()),
            options: Some(to_any(&namespaces)),
            ..Default::default()
        };
        self.client.create_sandbox(&request).await.map(drop)
    }

    pub(crate) fn launch_spec(&self) -> LaunchSpec {
        launch_spec(self.folder.path())
    }

    pub(crate) fn socket(&self) -> PathBuf {
        layout::socket(&layout::socket_folder(&self.state_folder()), NAMESPACE, SANDBOX)
    }

    pub(crate) fn shim_identity(&self) -> ProcessIdentity {
        ProcessIdentity::read(&self.sandbox_bundle().shim_pid()).unwrap()
    }

    fn state_folder(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    pub(crate) fn sandbox_bundle(&self) -> Bundle {
        Bundle::of(&self.state_folder(), NAMESPACE, SANDBOX)
    }

    /// A second connection.
    pub(crate) async fn another_client(&self) -> ShimClient {
        ShimClient::connect(&self.launched.address).await.unwrap().with_limit(DEADLINE)
    }

    /// Runtime options with that binary.
    pub(crate) fn options(&self, binary: &str) -> prost_types::Any {
        let root = text(&self.folder.path().join("state/runc"));
        to_any(&runc::Options { binary_name: binary.into(), root, ..Default::default() })
    }

    /// Writes a container's bundle.
    pub(crate) fn container(&self, id: &str, process: Process) -> Container {
        let bundle = Bundle::of(&self.state_folder(), NAMESPACE, id);
        fs::create_dir_all(bundle.path()).unwrap();
        let (terminal, stdin) = (process.terminal, process.stdin);
        let spec = self.spec(id, process);
        fs::File::create(bundle.config()).map(|file| serde_json::to_writer(file, &spec).unwrap()).unwrap();
        for name in ["upper", "work"] {
            fs::create_dir_all(bundle.path().join(name)).unwrap();
        }
        Container {
            id: id.into(),
            log: self.folder.path().join(format!("{id}.log")),
            lower: self.folder.path().join("image"),
            options: self.options("runc"),
            bundle,
            terminal,
            stdin,
        }
    }

    fn spec(&self, id: &str, process: Process) -> Value {
        let pin = |kind| text(&self.sandbox_bundle().namespace(kind));
        let mut namespaces = vec![
            json!({"type": "mount"}),
            json!({"type": "ipc", "path": pin(PinnedNamespace::Ipc)}),
            json!({"type": "uts", "path": pin(PinnedNamespace::Uts)}),
        ];
        if process.own_pid_namespace {
            namespaces.push(json!({"type": "pid"}));
        }
        let mut resources = json!({"devices": [{"allow": true, "access": "rwm"}]});
        if let Some(bytes) = process.memory {
            resources["memory"] = json!({"limit": bytes, "swap": bytes});
        }
        json!({
            "ociVersion": "1.0.2",
            "process": process_spec(&process.args, process.terminal),
            "root": {"path": "rootfs"},
            "mounts": [
                {"destination": "/proc", "type": "proc", "source": "proc"},
                {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["mode=755"]},
                {"destination": "/dev/pts", "type": "devpts", "source": "devpts", "options": ["newinstance", "ptmxmode=0666", "mode=0620"]},
                {"destination": "/dev/shm", "type": "bind", "source": text(&self.sandbox_bundle().shm()), "options": ["rbind"]},
            ],
            "linux": {
                "namespaces": namespaces,
                "cgroupsPath": format!("/{}/{id}", self.cgroup),
                "resources": resources,
            },
        })
    }

    /// Creates and starts a container.
    pub(crate) async fn run(&self, id: &str, process: Process) -> Container {
        let container = self.container(id, process);
        self.client.create(&container.request()).await.unwrap();
        self.client.start(&StartRequest { id: id.into(), exec_id: String::new() }).await.unwrap();
        container
    }

    pub(crate) async fn state(&self, id: &str) -> StateResponse {
        self.client.state(&StateRequest { id: id.into(), exec_id: String::new() }).await.unwrap()
    }

    pub(crate) fn exec_request(&self, id: &str, args: &[&str]) -> ExecRequest {
        let args: Vec<_> = args.iter().map(|&arg| arg.to_owned()).collect();
        let process = serde_json::to_vec(&process_spec(&args, false)).unwrap();
        ExecRequest { container: id.into(), process, timeout_nanos: 0, output_limit: 0 }
    }

    pub(crate) async fn try_exec(&self, id: &str, args: &[&str]) -> Result<ExecResult, CallError> {
        self.collect(self.exec_request(id, args)).await
    }

    pub(crate) async fn exec(
        &self,
        id: &str,
        script: &str,
        timeout: Duration,
        output_limit: u64,
    ) -> ExecResult {
        let timeout_nanos = i64::try_from(timeout.as_nanos()).unwrap();
        let request = self.exec_request(id, &["sh", "-c", script]);
        self.collect(ExecRequest { timeout_nanos, output_limit, ..request }).await.unwrap()
    }

    async fn collect(&self, request: ExecRequest) -> Result<ExecResult, CallError> {
        let run = async {
            let (mut result, mut out, mut err) = (ExecResult::default(), Vec::new(), Vec::new());
            let mut stream = self.client.exec(&request).await?;
            while let Some(frame) = stream.next().await? {
                match frame.event.unwrap() {
                    Event::Stdout(bytes) => out.extend(bytes),
                    Event::Stderr(bytes) => err.extend(bytes),
                    Event::End(end) => (result.outcome, result.truncated) = (end.outcome, end.truncated),
                }
            }
            result.stdout = String::from_utf8(out).unwrap();
            result.stderr = String::from_utf8(err).unwrap();
            Ok(result)
        };
        tokio::time::timeout(DEADLINE, run).await.expect("the exec ends in time")
    }

    /// Something to wait at.
    pub(crate) fn gate(&self) -> Gate {
        let gate =
            Gate { fifo: self.folder.path().join("gate"), reached: self.folder.path().join("reached") };
        let mode = rustix::fs::Mode::from_raw_mode(0o600);
        rustix::fs::mknodat(rustix::fs::CWD, &gate.fifo, rustix::fs::FileType::Fifo, mode, 0).unwrap();
        gate
    }

    /// A runtime that waits at a gate before it does `verb`.
    pub(crate) fn blocking_runtime(&self, verb: &str) -> (String, Gate) {
        let path = self.folder.path().join("slow-runc");
        let gate = self.gate();
        let script = format!(
            "#!/bin/sh\ncase \" $* \" in *' {verb} '*) : > {}; read line < {};; esac\nexec runc \"$@\"\n",
            gate.reached.display(),
            gate.fifo.display()
        );
        let mut options = fs::OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).mode(0o755).open(&path).unwrap();
        std::io::Write::write_all(&mut file, script.as_bytes()).unwrap();
        (text(&path), gate)
    }

    pub(crate) fn is_mounted(&self, path: &Path) -> bool {
        mounts_below(path) > 0
    }

    /// Ends the pod and its shim, then looks for what was left.
    pub(crate) async fn finish(self) {
        let identity = self.shim_identity();
        let request = ShutdownSandboxRequest { sandbox_id: SANDBOX.into() };
        self.client.shutdown_sandbox(&request).await.unwrap();
        wait_until("the shim has ended", async || !identity.is_alive()).await;
        assert!(!self.socket().exists() && !layout::stream_socket(&self.socket()).exists());
        assert_eq!(mounts_below(self.folder.path()), 0);
        let log = fs::read_to_string(self.sandbox_bundle().shim_log()).unwrap();
        assert_eq!(cgroups_named(&self.cgroup), Vec::<PathBuf>::new(), "shim log: {log}");
        let left = processes_mentioning(&text(self.folder.path()));
        assert_eq!(left, Vec::<String>::new());
    }
}

/// Opens when the test says so.
pub(crate) struct Gate {
    fifo: PathBuf,
    reached: PathBuf,
}

impl Gate {
    pub(crate) fn is_reached(&self) -> bool {
        self.reached.exists()
    }

    pub(crate) fn open(&self) {
        let mut file = fs::OpenOptions::new().write(true).open(&self.fifo).unwrap();
        std::io::Write::write_all(&mut file, b"go\n").unwrap();
    }
}

impl Container {
    pub(crate) fn request(&self) -> CreateTaskRequest {
        let at = |name: &str| text(&self.bundle.path().join(name));
        CreateTaskRequest {
            id: self.id.clone(),
            bundle: text(self.bundle.path()),
            rootfs: vec![Mount {
                r#type: "overlay".into(),
                source: "overlay".into(),
                target: String::new(),
                options: vec![
                    format!("lowerdir={}", self.lower.display()),
                    format!("upperdir={}", at("upper")),
                    format!("workdir={}", at("work")),
                ],
            }],
            stdout: format!("cri://{}", self.log.display()),
            terminal: self.terminal,
            stdin: self.stdin.uri().into(),
            options: Some(self.options.clone()),
            ..Default::default()
        }
    }

    /// Makes the runtime wait in the middle of its create.
    pub(crate) fn add_blocking_hook(&self, gate: &Gate) {
        let mut spec: Value = serde_json::from_slice(&fs::read(self.bundle.config()).unwrap()).unwrap();
        let script = format!(": > {}; read line < {}", gate.reached.display(), gate.fifo.display());
        spec["hooks"] = json!({"createRuntime": [{"path": "/bin/sh", "args": ["sh", "-c", script]}]});
        let file = fs::File::create(self.bundle.config()).unwrap();
        serde_json::to_writer(file, &spec).unwrap();
    }

    /// The log's lines without their times.
    pub(crate) fn log_lines(&self) -> Vec<String> {
        let text = fs::read_to_string(&self.log).unwrap();
        text.lines().map(|line| line.split_once(' ').unwrap().1.to_owned()).collect()
    }
}

fn launch_spec(folder: &Path) -> LaunchSpec {
    let state = folder.join("state");
    LaunchSpec {
        binary: env!("CARGO_BIN_EXE_containerd-shim-orlop-v1").into(),
        bundle: Bundle::of(&state, NAMESPACE, SANDBOX).path().into(),
        namespace: NAMESPACE.into(),
        id: SANDBOX.into(),
        address: state.join("orlop.sock"),
        publish_binary: "/bin/true".into(),
        socket_folder: layout::socket_folder(&state),
        verbosity: Verbosity::Normal,
        options: None,
        spawner: None,
        limit: DEADLINE,
    }
}

pub(crate) fn process_spec(args: &[String], terminal: bool) -> Value {
    json!({
        "args": args,
        "terminal": terminal,
        "cwd": "/",
        "env": ["PATH=/bin"],
        "user": {"uid": 0, "gid": 0},
        "noNewPrivileges": true,
    })
}

/// The dynamic busybox from PATH with the libraries that it names.
fn make_image(root: &Path) {
    for name in ["bin", "dev", "proc", "sys", "tmp", "etc"] {
        fs::create_dir_all(root.join(name)).unwrap();
    }
    let busybox = find("busybox");
    fs::copy(&busybox, root.join("bin/busybox")).unwrap();
    for applet in [
        "sh", "sleep", "echo", "cat", "ps", "grep", "pidof", "wc", "yes", "head", "setsid", "dd", "true",
        "stty", "tty",
    ] {
        symlink("busybox", root.join("bin").join(applet)).unwrap();
    }
    let elf = fs::read(&busybox).unwrap();
    for library in libraries(&elf) {
        let Some(found) = ["/lib/x86_64-linux-gnu", "/lib64", "/lib/aarch64-linux-gnu", "/lib"]
            .iter()
            .map(|folder| Path::new(folder).join(&library))
            .find(|path| path.exists())
        else {
            continue;
        };
        for folder in ["lib", "lib64"] {
            fs::create_dir_all(root.join(folder)).unwrap();
            fs::copy(&found, root.join(folder).join(&library)).unwrap();
        }
    }
}

/// Names in the file that look like shared libraries.
fn libraries(elf: &[u8]) -> Vec<String> {
    let words = elf.split(|byte| *byte == 0).filter_map(|word| std::str::from_utf8(word).ok());
    let names = words.filter_map(|word| word.rsplit('/').next()).filter(|word| word.contains(".so."));
    let plain =
        |word: &&str| word.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-+".contains(&byte));
    names.filter(plain).map(str::to_owned).collect()
}

fn find(name: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap();
    let found = std::env::split_paths(&path).map(|folder| folder.join(name)).find(|path| path.exists());
    found.unwrap_or_else(|| panic!("{name} is in PATH"))
}

fn mounts_below(folder: &Path) -> usize {
    let folder = text(folder);
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    table.lines().filter(|line| line.split(' ').nth(4).unwrap().starts_with(&folder)).count()
}

/// Cgroups left by containers; the folder above them is taken away here, as it is the test's own.
fn cgroups_named(name: &str) -> Vec<PathBuf> {
    let mut left = Vec::new();
    let hierarchies = fs::read_dir("/sys/fs/cgroup").unwrap().flatten().map(|entry| entry.path());
    for hierarchy in hierarchies.chain([PathBuf::from("/sys/fs/cgroup")]) {
        let above = hierarchy.join(name);
        let Ok(entries) = fs::read_dir(&above) else {
            continue;
        };
        left.extend(entries.flatten().filter(|entry| entry.path().is_dir()).map(|entry| entry.path()));
        // Not empty when something is left, which is told.
        let _ = fs::remove_dir(&above);
    }
    left
}

fn processes_mentioning(text: &str) -> Vec<String> {
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let lines = processes.filter_map(|entry| fs::read(entry.path().join("cmdline")).ok());
    let lines = lines.map(|line| String::from_utf8_lossy(&line).replace('\0', " "));
    lines.filter(|line| line.contains(text)).collect()
}

fn text(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}
