//! What a shim does for its pod as a whole, with a real OCI runtime: network namespace, sysctls, the holder and its pid
//! namespace, new limits, out-of-memory verdicts, the shim's own cgroup. As `shim.rs`: needs root, looks for leaks.

#![expect(clippy::unwrap_used, reason = "test code outside of test functions")]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use runtime_shim::client::{CallError, KillTarget};
use runtime_shim::exit_file;
use runtime_shim::layout::{Bundle, PinnedNamespace};
use runtime_shim::protocol::io::{NamespaceMode, PodNamespaces};
use runtime_shim::protocol::task::{DeleteRequest, StartRequest, UpdateTaskRequest};
use runtime_shim::protocol::{Code, LINUX_RESOURCES};
use runtime_shim::spawner::Spawner;
use runtime_sys::namespace;
use runtime_sys::pidfd::{self, Exit};
use runtime_sys::spawn::Spawn;
use rustix::process::{Pid, Signal};
use serde_json::{Value, json};
use support::{Container, Node, Process, wait_until};

/// The sandbox's id, and therefore the holder's.
const POD: &str = "pod";

fn net_pin(node: &Node) -> PathBuf {
    node.sandbox_bundle().path().with_file_name("netns").join("cni-1")
}

fn with_network(node: &Node, sysctls: &[(&str, &str)]) -> PodNamespaces {
    PodNamespaces {
        hostname: "the-pod".into(),
        net_pin: net_pin(node).to_str().unwrap().into(),
        sysctls: sysctls.iter().map(|&(name, value)| (name.into(), value.into())).collect::<BTreeMap<_, _>>(),
        ..Default::default()
    }
}

/// Lets a container join a namespace by its pin.
fn join(container: &Container, kind: &str, pin: &Path) {
    let mut spec: Value = serde_json::from_slice(&fs::read(container.bundle.config()).unwrap()).unwrap();
    let namespaces = spec["linux"]["namespaces"].as_array_mut().unwrap();
    namespaces.retain(|namespace| namespace["type"] != kind);
    namespaces.push(json!({"type": kind, "path": pin}));
    serde_json::to_writer(fs::File::create(container.bundle.config()).unwrap(), &spec).unwrap();
}

async fn start(node: &Node, id: &str, container: &Container) -> u32 {
    node.client.create(&container.request()).await.unwrap();
    node.client.start(&StartRequest { id: id.into(), exec_id: String::new() }).await.unwrap().pid
}

fn pid_pin(node: &Node) -> PathBuf {
    node.sandbox_bundle().namespace(PinnedNamespace::Pid)
}

fn kill_shim(node: &Node) {
    let pid = Pid::from_raw(node.shim_identity().pid.cast_signed()).unwrap();
    rustix::process::kill_process(pid, Signal::KILL).unwrap();
}

#[tokio::test]
async fn containers_of_a_pod_share_its_network_and_its_sysctls() {
    let node = Node::launch("net", None).await;
    let sysctls = [
        ("net.ipv4.ip_unprivileged_port_start", "7"),
        ("kernel/msgmax", "4242"),
        ("kernel.domainname", "d.e"),
    ];
    node.create_pod(with_network(&node, &sysctls)).await.unwrap();
    node.create_pod(with_network(&node, &sysctls)).await.unwrap();
    let pin = net_pin(&node);
    let listener = namespace::run_in(&pin, || TcpListener::bind("127.0.0.1:0")).unwrap().unwrap();
    let address = listener.local_addr().unwrap();
    namespace::run_in(&pin, || TcpStream::connect(address)).unwrap().unwrap();
    let script = "cd /proc/sys; cat net/ipv4/ip_unprivileged_port_start kernel/msgmax kernel/domainname kernel/hostname; \
                  grep -c : /proc/net/dev";
    let container = node.container("c1", Process::shell(script));
    join(&container, "network", &pin);
    start(&node, "c1", &container).await;
    assert_eq!(node.client.wait_exit("c1").await.unwrap().code, 0);
    let lines: Vec<_> = container.log_lines().iter().map(|line| line.replace("stdout F ", "")).collect();
    assert_eq!(lines[..4], ["7", "4242", "d.e", "the-pod"]);
    node.finish().await;
}

#[tokio::test]
async fn sysctls_that_a_pod_cannot_have_are_named_and_leave_nothing() {
    let node = Node::launch("sysctl", None).await;
    for (name, value) in [
        ("kernel.core_pattern", "|/bin/sh"),
        ("net/../kernel/core_pattern", "x"),
        ("kernel.shmmax+kernel.core_pattern", "1"),
        ("net.ipv4.ip_forward", "1\n1"),
        ("net.ipv4.no_such_parameter", "1"),
        ("net.ipv4.ip_forward", "very"),
    ] {
        let error = node.create_pod(with_network(&node, &[(name, value)])).await.unwrap_err();
        assert_eq!(error.code(), Some(Code::InvalidArgument), "{error}");
        let CallError::Status { message, .. } = &error else { panic!("{error}") };
        assert!(message.contains(name), "{message}");
        assert!(!net_pin(&node).exists());
        assert!(!node.sandbox_bundle().path().join("ns").exists());
    }
    let shared =
        PodNamespaces { ipc: NamespaceMode::Node.into(), ..with_network(&node, &[("kernel.sem", "1")]) };
    assert_eq!(node.create_pod(shared).await.unwrap_err().code(), Some(Code::InvalidArgument));
    node.create_pod(with_network(&node, &[])).await.unwrap();
    node.finish().await;
}

#[tokio::test]
async fn a_network_pin_of_somebody_else_is_left_alone() {
    let (first, second) = (Node::launch("first", None).await, Node::launch("second", None).await);
    let namespaces = with_network(&first, &[]);
    first.create_pod(namespaces.clone()).await.unwrap();
    assert!(second.create_pod(namespaces).await.is_err());
    second.finish().await;
    assert!(namespace::is_pinned(&net_pin(&first)));
    // Whoever takes the pin away does not hinder the end.
    namespace::unpin(&net_pin(&first)).unwrap();
    first.finish().await;
}

#[tokio::test]
async fn containers_join_the_pid_namespace_of_the_holder_which_goes_last() {
    let node = Node::launch("holder", None).await;
    node.create_pod(with_network(&node, &[])).await.unwrap();
    let holder = node.container(POD, Process::shell("exec sleep 1000"));
    let created = node.client.create(&holder.request()).await.unwrap();
    let pin = pid_pin(&node);
    let inode = |path: &Path| rustix::fs::stat(path).unwrap().st_ino;
    assert_eq!(inode(&pin), inode(Path::new(&format!("/proc/{}/ns/pid", created.pid))));
    node.client.start(&StartRequest { id: POD.into(), exec_id: String::new() }).await.unwrap();
    let container = node.container("c1", Process::shell("cat /proc/1/cmdline; echo; exec sleep 1000"));
    join(&container, "pid", &pin);
    start(&node, "c1", &container).await;
    wait_until("it has looked", async || container.log_lines().len() == 1).await;
    assert_eq!(container.log_lines()[0].replace('\0', " ").trim_end(), "stdout F sleep 1000");
    let (holder, container) = (holder.bundle.exit_file(), container.bundle.exit_file());
    let request =
        runtime_shim::protocol::sandbox::StopSandboxRequest { sandbox_id: POD.into(), ..Default::default() };
    node.client.stop_sandbox(&request).await.unwrap();
    assert!(!pin.exists());
    let at = |path: &Path| exit_file::read(path).unwrap().at_unix_nanos;
    assert!(at(&container) < at(&holder));
    node.finish().await;
}

#[tokio::test]
async fn a_deleted_holder_is_unpinned_and_may_come_again() {
    let node = Node::start("again").await;
    for _ in 0..2 {
        let holder = node.container(POD, Process::shell("exec sleep 1000"));
        start(&node, POD, &holder).await;
        assert!(namespace::is_pinned(&pid_pin(&node)));
        node.client.signal(POD, 9, KillTarget::Init).await.unwrap();
        node.client.wait_exit(POD).await.unwrap();
        node.client.delete(&DeleteRequest { id: POD.into(), exec_id: String::new() }).await.unwrap();
        assert!(!pid_pin(&node).exists());
    }
    // One that shares the node's pid namespace has none to join.
    let shared = node.container(POD, Process::shell("exec sleep 1000").with_host_pid());
    start(&node, POD, &shared).await;
    assert!(!pid_pin(&node).exists());
    node.finish().await;
}

fn delete(node: &Node, bundle: &Bundle, id: &str) -> Exit {
    let spec = node.launch_spec();
    let child = Spawn::new(spec.binary)
        .inherit_env("PATH")
        .directory(bundle.path())
        .args(["-namespace", &spec.namespace, "-id", id, "-bundle"])
        .arg(bundle.path())
        .arg("delete")
        .start()
        .unwrap();
    pidfd::wait(child.pidfd()).unwrap()
}

#[tokio::test]
async fn delete_behind_a_dead_shim_takes_holder_and_network_along() {
    let node = Node::launch("dead", None).await;
    node.create_pod(with_network(&node, &[])).await.unwrap();
    let holder = node.container(POD, Process::shell("exec sleep 1000"));
    let pid = start(&node, POD, &holder).await;
    let identity = node.shim_identity();
    kill_shim(&node);
    wait_until("the shim is dead", async || !identity.is_alive()).await;
    assert!(Path::new(&format!("/proc/{pid}")).exists());
    for _ in 0..2 {
        assert_eq!(delete(&node, &node.sandbox_bundle(), POD), Exit::Code(0));
        wait_until("the holder is gone", async || !Path::new(&format!("/proc/{pid}")).exists()).await;
        assert!(!net_pin(&node).exists() && !node.sandbox_bundle().path().join("ns").exists());
    }
    // A shim that comes up in its place finds nothing in its way.
    runtime_shim::launch::start_shim(&node.launch_spec()).await.unwrap();
    node.create_pod(with_network(&node, &[])).await.unwrap();
    node.finish().await;
}

#[tokio::test]
async fn a_new_shim_clears_what_a_dead_one_left_of_the_pod() {
    let node = Node::launch("over", None).await;
    node.create_pod(with_network(&node, &[])).await.unwrap();
    let inode = || rustix::fs::stat(net_pin(&node)).unwrap().st_ino;
    let before = inode();
    let identity = node.shim_identity();
    kill_shim(&node);
    wait_until("the shim is dead", async || !identity.is_alive()).await;
    // What is open keeps the old namespace's number from being used again.
    let old = fs::File::open(net_pin(&node)).unwrap();
    runtime_shim::launch::start_shim(&node.launch_spec()).await.unwrap();
    node.create_pod(with_network(&node, &[])).await.unwrap();
    assert_ne!(inode(), before);
    drop(old);
    node.finish().await;
}

#[tokio::test]
async fn limits_are_updated_while_there_is_a_process() {
    let node = Node::start("update").await;
    let update = |id: &str, json: &str| UpdateTaskRequest {
        id: id.into(),
        resources: Some(prost_types::Any { type_url: LINUX_RESOURCES.into(), value: json.into() }),
        ..Default::default()
    };
    let container = node.container("c1", Process::shell("exec sleep 1000").with_memory(64 << 20));
    let pid = node.client.create(&container.request()).await.unwrap().pid;
    let limit = || {
        let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
        let in_v1 = groups.lines().find_map(|line| line.split_once(":memory:"));
        let file = match in_v1 {
            Some((_, path)) => format!("/sys/fs/cgroup/memory{path}/memory.limit_in_bytes"),
            None => format!("/sys/fs/cgroup{}/memory.max", groups.trim().trim_start_matches("0::")),
        };
        fs::read_to_string(file).unwrap()
    };
    assert_eq!(limit().trim(), (64 << 20).to_string());
    for bytes in [80 << 20, 96 << 20] {
        let json = json!({"memory": {"limit": bytes, "swap": bytes}}).to_string();
        node.client.update(&update("c1", &json)).await.unwrap();
        assert_eq!(limit().trim(), bytes.to_string());
        node.client.start(&StartRequest { id: "c1".into(), exec_id: String::new() }).await.unwrap();
    }
    let code = |result: Result<(), CallError>| result.unwrap_err().code();
    let refused = node.client.update(&update("c1", r#"{"memory": {"limit": "much"}}"#)).await;
    assert_eq!(code(refused), Some(Code::Unknown));
    assert_eq!(code(node.client.update(&update("c1", "no")).await), Some(Code::InvalidArgument));
    assert_eq!(code(node.client.update(&update("c2", "{}")).await), Some(Code::NotFound));
    node.client.signal("c1", 9, KillTarget::Init).await.unwrap();
    node.client.wait_exit("c1").await.unwrap();
    assert_eq!(code(node.client.update(&update("c1", "{}")).await), Some(Code::FailedPrecondition));
    node.finish().await;
}

#[tokio::test]
async fn out_of_memory_of_a_child_is_told_with_the_code_of_the_first_process() {
    let node = Node::start("oom-child").await;
    let script = "dd if=/dev/zero of=/dev/null bs=100M count=1; echo $?; exit 3";
    let container = node.run("c1", Process::shell(script).with_memory(16 << 20)).await;
    assert_eq!(node.client.wait_exit("c1").await.unwrap().code, 3);
    let record = exit_file::read(&container.bundle.exit_file()).unwrap();
    assert_eq!((record.code, record.oom_killed), (3, true));
    assert!(container.log_lines().iter().any(|line| line.ends_with(" 137")));

    let script = "exec dd if=/dev/zero of=/dev/null bs=100M count=1";
    let container = node.run("c2", Process::shell(script).with_memory(16 << 20)).await;
    assert_eq!(node.client.wait_exit("c2").await.unwrap().code, 137);
    assert!(exit_file::read(&container.bundle.exit_file()).unwrap().oom_killed);

    let container = node.run("c3", Process::shell("kill -9 $$").with_memory(16 << 20).with_host_pid()).await;
    assert_eq!(node.client.wait_exit("c3").await.unwrap().code, 137);
    assert!(!exit_file::read(&container.bundle.exit_file()).unwrap().oom_killed);
    node.finish().await;
}

#[tokio::test]
async fn shims_are_born_in_their_cgroup_of_every_hierarchy() {
    let path = format!("/orlop-test-shims-{}/shims", std::process::id());
    let failed = |error| panic!("{error}");
    let spawner = Arc::new(Spawner::new(&path, failed).unwrap());
    let here = fs::read_to_string("/proc/self/cgroup").unwrap();
    let threads = || fs::read_dir("/proc/self/task").unwrap().count();
    let first = Node::launch("cgroup", Some(spawner.clone())).await;
    let second = Node::launch("cgroup", Some(spawner.clone())).await;
    for node in [&first, &second] {
        let groups = fs::read_to_string(format!("/proc/{}/cgroup", node.shim_identity().pid)).unwrap();
        assert!(groups.lines().all(|line| line.ends_with(&format!(":{path}"))), "{groups}");
    }
    assert_eq!(fs::read_to_string("/proc/self/cgroup").unwrap(), here);
    first.finish().await;
    second.finish().await;
    let before = threads();
    drop(spawner);
    assert!(threads() < before);
    let left = runtime_sys::cgroup::hierarchies().unwrap().into_iter();
    let left: Vec<_> =
        left.map(|found| found.point.join(&path[1..])).filter(|folder| folder.exists()).collect();
    assert_eq!(left, Vec::<PathBuf>::new());
}

#[tokio::test]
async fn a_child_that_comes_too_late_is_killed_and_reaped() {
    const ARGUMENT: &str = "86411.7";
    let path = format!("/orlop-test-late-{}/shims", std::process::id());
    let spawner = Spawner::new(&path, |error| panic!("{error}")).unwrap();
    let sleep = || Spawn::new("/bin/sleep").arg(ARGUMENT);
    // Rarely it is in time.
    while let Ok(child) = spawner.start(sleep(), Duration::ZERO) {
        pidfd::send_signal(child.pidfd(), Signal::KILL).unwrap();
        pidfd::wait(child.pidfd()).unwrap();
    }
    // The next job comes after it.
    let next = spawner.start(Spawn::new("/bin/true"), Duration::from_secs(30)).unwrap();
    pidfd::wait(next.pidfd()).unwrap();
    let commands = fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter_map(|entry| fs::read_to_string(entry.path().join("cmdline")).ok());
    assert_eq!(commands.filter(|command| command.contains(ARGUMENT)).count(), 0);
}
