//! The shim process with a real OCI runtime: `runc` from PATH, a root filesystem of the busybox in PATH.
//!
//! These tests need root and fail loudly without it. Each has its own folders and its own shim, and looks afterwards
//! whether a process, mount or cgroup was left.

mod support;

use std::time::Duration;

use runtime_shim::client::KillTarget;
use runtime_shim::exit_file;
use runtime_shim::layout::stream_socket;
use runtime_shim::protocol::Code;
use runtime_shim::protocol::io::{StartFailureKind, exec_end::Outcome};
use runtime_shim::protocol::sandbox::PingRequest;
use runtime_shim::protocol::task::{CreateTaskRequest, DeleteRequest, StartRequest, StateRequest};
use runtime_shim::protocol::task_types::Status;
use support::{Node, Process, wait_until};

#[tokio::test]
async fn a_container_runs_logs_and_exits_with_its_code() {
    let node = Node::start("run").await;
    let container = node.container("c1", Process::shell("echo out; echo err >&2; printf 'no end'; exit 7"));
    let created = node.client.create(&container.request()).await.unwrap();
    assert!(container.log.exists());
    assert_eq!(node.state("c1").await.status(), Status::Created);
    assert_eq!(node.client.create(&container.request()).await.unwrap_err().code(), Some(Code::AlreadyExists));
    let start = StartRequest { id: "c1".into(), exec_id: String::new() };
    assert_eq!(node.client.start(&start).await.unwrap().pid, created.pid);
    assert_eq!(node.client.start(&start).await.unwrap().pid, created.pid);
    let exit = node.client.wait_exit("c1").await.unwrap();
    assert_eq!(exit.code, 7);
    let record = exit_file::read(&container.bundle.exit_file()).unwrap();
    assert_eq!((record.code, record.pid, record.oom_killed), (7, created.pid, false));
    assert_eq!(record.at_unix_nanos, exit.at_unix_nanos);
    let mut lines = container.log_lines();
    lines.sort();
    assert_eq!(lines, ["stderr F err", "stdout F out", "stdout P no end"]);
    assert_eq!(node.state("c1").await.status(), Status::Stopped);
    assert_eq!(node.client.signal("c1", 9, KillTarget::Init).await.unwrap_err().code(), Some(Code::NotFound));
    let deleted =
        node.client.delete(&DeleteRequest { id: "c1".into(), exec_id: String::new() }).await.unwrap();
    assert_eq!((deleted.pid, deleted.exit_status), (created.pid, 7));
    assert!(container.bundle.exit_file().exists());
    let again = node.client.delete(&DeleteRequest { id: "c1".into(), exec_id: String::new() }).await;
    assert_eq!(again.unwrap_err().code(), Some(Code::NotFound));
    node.finish().await;
}

#[tokio::test]
async fn a_command_that_does_not_exist_is_a_start_failure_and_leaves_nothing() {
    let node = Node::start("missing").await;
    let container = node.container("c1", Process::new(&["/no/such/command"]));
    let error = node.client.create(&container.request()).await.unwrap_err();
    let failure = error.start_failure().unwrap();
    assert_eq!((failure.kind(), failure.exit_code), (StartFailureKind::CommandNotFound, 127));
    assert!(failure.message.contains("/no/such/command"), "{}", failure.message);
    let state = node.client.state(&StateRequest { id: "c1".into(), exec_id: String::new() }).await;
    assert_eq!(state.unwrap_err().code(), Some(Code::NotFound));
    assert!(!node.is_mounted(&container.bundle.rootfs()));
    let request = CreateTaskRequest {
        options: Some(node.options("/no/such/runtime")),
        ..node.container("c2", Process::shell("true")).request()
    };
    let error = node.client.create(&request).await.unwrap_err();
    assert!(error.start_failure().is_none() && error.to_string().contains("/no/such/runtime"), "{error}");
    node.finish().await;
}

#[tokio::test]
async fn exec_gives_output_and_code_and_children_do_not_hold_it() {
    let node = Node::start("exec").await;
    node.run("c1", Process::shell("exec sleep 1000")).await;
    let result = node.exec("c1", "echo out; echo err >&2; sleep 1000 & exit 3", Duration::ZERO, 0).await;
    assert_eq!((result.stdout.as_str(), result.stderr.as_str()), ("out\n", "err\n"));
    assert_eq!(result.outcome, Some(Outcome::ExitCode(3)));
    let left = node.exec("c1", "pidof sleep | wc -w", Duration::ZERO, 0).await;
    assert_eq!(left.stdout.trim(), "2");
    let long = node.exec("c1", "yes | head -c 300000", Duration::ZERO, 100_000).await;
    assert_eq!(
        (long.stdout.len(), long.truncated, long.outcome),
        (100_000, true, Some(Outcome::ExitCode(0)))
    );
    let error = node.try_exec("c1", &["/no/such/command"]).await.unwrap_err();
    assert_eq!(error.start_failure().unwrap().kind(), StartFailureKind::CommandNotFound);
    node.finish().await;
}

#[tokio::test]
async fn exec_timeout_kills_a_double_forked_daemon_and_not_the_container() {
    let node = Node::start("timeout").await;
    node.run("c1", Process::shell("exec sleep 1000")).await;
    let script = "(setsid sh -c 'setsid sleep 4321 & setsid sleep 4322 &' &); sleep 4323";
    let result = node.exec("c1", script, Duration::from_millis(700), 0).await;
    assert_eq!(result.outcome, Some(Outcome::TimedOut(true)));
    let left = node.exec("c1", "ps -o args | grep 'sleep 43' | grep -v grep; true", Duration::ZERO, 0).await;
    assert_eq!(left.stdout, "");
    assert_eq!(node.state("c1").await.status(), Status::Running);
    node.finish().await;
}

#[tokio::test]
async fn a_client_that_goes_away_in_mid_exec_ends_it() {
    let node = Node::start("gone").await;
    node.run("c1", Process::shell("exec sleep 1000")).await;
    let mut stream =
        node.client.exec(&node.exec_request("c1", &["sh", "-c", "echo begun; sleep 4324"])).await.unwrap();
    assert!(stream.next().await.unwrap().is_some());
    drop(stream);
    wait_until("the exec is gone", async || {
        let left =
            node.exec("c1", "ps -o args | grep 'sleep 4324' | grep -v grep; true", Duration::ZERO, 0).await;
        left.stdout.is_empty()
    })
    .await;
    node.finish().await;
}

#[tokio::test]
async fn a_hung_create_stalls_only_its_own_container_and_survives_its_client() {
    let node = Node::start("hung").await;
    let (wrapper, gate) = node.blocking_runtime("create");
    node.run("other", Process::shell("exec sleep 1000")).await;
    let slow = node.container("slow", Process::shell("exec sleep 1000"));
    let request = CreateTaskRequest { options: Some(node.options(&wrapper)), ..slow.request() };
    let client = node.another_client().await;
    let call = tokio::time::timeout(Duration::from_millis(300), client.create(&request));
    assert!(call.await.is_err());
    drop(client);
    assert_eq!(node.state("slow").await.status(), Status::Unknown);
    let early = node.client.signal("slow", 15, KillTarget::Init).await;
    assert_eq!(early.unwrap_err().code(), Some(Code::FailedPrecondition));
    let result = node.exec("other", "echo fine", Duration::ZERO, 0).await;
    assert_eq!(result.stdout, "fine\n");
    gate.open();
    wait_until("the create is done", async || node.state("slow").await.status() == Status::Created).await;
    node.finish().await;
}

#[tokio::test]
async fn a_hung_create_can_be_killed() {
    let node = Node::start("kill-create").await;
    let (wrapper, gate) = node.blocking_runtime("create");
    let slow = node.container("slow", Process::shell("exec sleep 1000"));
    let request = CreateTaskRequest { options: Some(node.options(&wrapper)), ..slow.request() };
    let client = node.client.clone();
    let call = tokio::task::LocalSet::new();
    call.run_until(async {
        let creating = tokio::task::spawn_local(async move { client.create(&request).await });
        wait_until("the create has begun", async || gate.is_reached()).await;
        node.client.signal("slow", 9, KillTarget::Init).await.unwrap();
        assert_eq!(creating.await.unwrap().unwrap_err().code(), Some(Code::Aborted));
    })
    .await;
    assert!(!node.is_mounted(&slow.bundle.rootfs()));
    node.finish().await;
}

#[tokio::test]
async fn a_create_that_hangs_in_a_hook_can_be_killed_and_leaves_no_cgroup() {
    let node = Node::start("hook").await;
    let gate = node.gate();
    let container = node.container("c1", Process::shell("exec sleep 1000"));
    container.add_blocking_hook(&gate);
    let (client, request) = (node.client.clone(), container.request());
    tokio::task::LocalSet::new()
        .run_until(async {
            let creating = tokio::task::spawn_local(async move { client.create(&request).await });
            wait_until("the hook runs", async || gate.is_reached()).await;
            node.client.signal("c1", 9, KillTarget::Init).await.unwrap();
            assert_eq!(creating.await.unwrap().unwrap_err().code(), Some(Code::Aborted));
        })
        .await;
    // The id is free again.
    node.run("c1", Process::shell("exec sleep 1000")).await;
    node.finish().await;
}

#[tokio::test]
async fn reopening_the_log_loses_nothing() {
    let node = Node::start("reopen").await;
    let container =
        node.container("c1", Process::shell("i=0; while [ $i -lt 20000 ]; do i=$((i+1)); echo $i; done"));
    node.client.create(&container.request()).await.unwrap();
    node.client.start(&StartRequest { id: "c1".into(), exec_id: String::new() }).await.unwrap();
    let mut texts = Vec::new();
    for rotation in 0..20 {
        let old = container.log.with_extension(format!("{rotation}"));
        std::fs::rename(&container.log, &old).unwrap();
        node.client.reopen_log("c1").await.unwrap();
        assert!(container.log.exists());
        texts.push(std::fs::read_to_string(old).unwrap());
    }
    node.client.wait_exit("c1").await.unwrap();
    texts.push(std::fs::read_to_string(&container.log).unwrap());
    let all = texts.concat();
    let numbers: Vec<u32> =
        all.lines().map(|line| line.rsplit(' ').next().unwrap().parse().unwrap()).collect();
    assert_eq!(numbers, (1..=20_000).collect::<Vec<_>>());
    node.finish().await;
}

#[tokio::test]
async fn the_rest_dies_with_the_first_process_without_a_pid_namespace() {
    let node = Node::start("host-pid").await;
    let process = Process::shell("setsid sleep 4325 & echo $!; exit 0").with_host_pid();
    let container = node.run("c1", process).await;
    assert_eq!(node.client.wait_exit("c1").await.unwrap().code, 0);
    let pid = container.log_lines()[0].rsplit(' ').next().unwrap().to_owned();
    wait_until("the left process is gone", async || !std::path::Path::new(&format!("/proc/{pid}")).exists())
        .await;
    node.finish().await;
}

#[tokio::test]
async fn processes_of_a_container_begin_with_clean_signals() {
    let node = Node::start("signals").await;
    let container = node
        .run(
            "c1",
            Process::shell("grep SigBlk /proc/self/status; grep SigIgn /proc/self/status; exec sleep 1000"),
        )
        .await;
    let exec = node
        .exec("c1", "grep SigBlk /proc/self/status; grep SigIgn /proc/self/status", Duration::ZERO, 0)
        .await;
    wait_until("the masks are logged", async || container.log_lines().len() == 2).await;
    let logged: Vec<_> = container.log_lines().iter().map(|line| line.replace("stdout F ", "")).collect();
    for lines in [logged.join("\n"), exec.stdout] {
        let masks: Vec<_> =
            lines.lines().map(|line| u64::from_str_radix(line[7..].trim(), 16).unwrap()).collect();
        assert_eq!(masks[0], 0, "{lines}");
        assert_eq!(masks[1] & (1 << 12 | 1 << 14 | 1 << 16), 0, "SIGPIPE, SIGTERM, SIGCHLD: {lines}");
    }
    let shim = node.shim_identity();
    let pid = rustix::process::Pid::from_raw(shim.pid.cast_signed()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    node.client.signal("c1", 9, KillTarget::Init).await.unwrap();
    assert_eq!(node.client.wait_exit("c1").await.unwrap().code, 137);
    assert!(shim.is_alive());
    node.finish().await;
}

#[tokio::test]
async fn out_of_memory_is_told() {
    let node = Node::start("oom").await;
    let process = Process::shell("exec dd if=/dev/zero of=/dev/null bs=200M count=5").with_memory(30 << 20);
    let container = node.run("c1", process).await;
    assert_eq!(node.client.wait_exit("c1").await.unwrap().code, 137);
    assert!(exit_file::read(&container.bundle.exit_file()).unwrap().oom_killed);
    node.finish().await;
}

#[tokio::test]
async fn starting_the_shim_twice_finds_the_first_and_a_stale_socket_is_replaced() {
    let node = Node::start("twice").await;
    let again = runtime_shim::launch::start_shim(&node.launch_spec()).await.unwrap();
    assert_eq!(again, node.launched);
    let identity = node.shim_identity();
    assert!(identity.is_alive());
    rustix::process::kill_process(
        rustix::process::Pid::from_raw(identity.pid.cast_signed()).unwrap(),
        rustix::process::Signal::KILL,
    )
    .unwrap();
    wait_until("the shim is dead", async || !identity.is_alive()).await;
    assert!(node.socket().exists() && stream_socket(&node.socket()).exists());
    let fresh = runtime_shim::launch::start_shim(&node.launch_spec()).await.unwrap();
    assert_eq!(fresh.address, node.launched.address);
    assert_ne!(node.shim_identity(), identity);
    // The client finds the new shim by itself; the pod died with the old one, its pins are the daemon's to clear.
    node.client.ping_sandbox(&PingRequest { sandbox_id: "pod".into() }).await.unwrap();
    for _ in 0..2 {
        runtime_shim::teardown::pod(&node.sandbox_bundle()).unwrap();
    }
    node.finish().await;
}

#[tokio::test]
async fn an_idle_shim_has_one_thread_and_little_memory() {
    let node = Node::start("memory").await;
    let pid = node.shim_identity().pid;
    let measure = async |when: &str| {
        let threads = format!("/proc/{pid}/task");
        wait_until("one thread", async || std::fs::read_dir(&threads).unwrap().count() == 1).await;
        let rollup = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
        let line = rollup.lines().find(|line| line.starts_with("Private_Dirty:")).unwrap();
        let kilobytes: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
        println!("shim {when}: {kilobytes} kB private dirty");
        kilobytes
    };
    let idle = measure("of an idle pod").await;
    node.run("c1", Process::shell("exec sleep 1000")).await;
    let one = measure("of a pod with a container").await;
    for _ in 0..10 {
        node.exec("c1", "yes | head -c 1000000", Duration::ZERO, 0).await;
    }
    let used = measure("after ten execs").await;
    // Of the build with tests' profile, which is larger than the one that is shipped.
    assert!(idle.max(one).max(used) < 1024);
    node.finish().await;
}

#[tokio::test]
async fn much_output_arrives_whole() {
    const LINES: usize = 200_000;
    let node = Node::start("much").await;
    let line = "x".repeat(99);
    let process = Process::shell(&format!("yes {line} | head -n {LINES}"));
    let container = node.container("c1", process);
    node.client.create(&container.request()).await.unwrap();
    let begun = std::time::Instant::now();
    node.client.start(&StartRequest { id: "c1".into(), exec_id: String::new() }).await.unwrap();
    assert_eq!(node.client.wait_exit("c1").await.unwrap().code, 0);
    println!("{LINES} lines of 100 bytes in {:?}", begun.elapsed());
    let lines = container.log_lines();
    assert_eq!(lines.len(), LINES);
    let expected = format!("stdout F {line}");
    assert!(lines.iter().all(|line| *line == expected));
    node.finish().await;
}
