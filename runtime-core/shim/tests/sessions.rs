//! Attach and interactive exec through a real shim and a real OCI runtime, see `shim.rs`.

#![expect(clippy::unwrap_used, reason = "test code outside of test functions")]

mod support;

use std::time::Duration;

use runtime_shim::client::KillTarget;
use runtime_shim::layout::stream_socket;
use runtime_shim::protocol::Code;
use runtime_shim::protocol::io::{StartFailureKind, StreamAttach, StreamExec, StreamOpen, stream_open::Wish};
use runtime_shim::protocol::task_types::Status;
use runtime_shim::stream::Stdin;
use runtime_shim::stream::session::{OpenError, Session, SessionEvent, SessionOutput};
use support::{Node, Process, process_spec, wait_until};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const LIMIT: Duration = Duration::from_secs(30);

/// All that a session gave.
#[derive(Debug, Default, PartialEq)]
struct Told {
    stdout: String,
    stderr: String,
    exit: Option<i32>,
}

async fn next(output: &mut SessionOutput) -> Option<SessionEvent> {
    tokio::time::timeout(LIMIT, output.next()).await.expect("something comes in time").unwrap()
}

/// Collects until the end, or until stdout ends so.
async fn told_until(output: &mut SessionOutput, end: Option<&str>) -> Told {
    let (mut told, mut out, mut err) = (Told::default(), Vec::new(), Vec::new());
    while !end.is_some_and(|end| out.ends_with(end.as_bytes())) {
        match next(output).await {
            Some(SessionEvent::Stdout(bytes)) => out.extend(bytes),
            Some(SessionEvent::Stderr(bytes)) => err.extend(bytes),
            Some(SessionEvent::Exit(code)) => told.exit = Some(code),
            None => break,
        }
    }
    (told.stdout, told.stderr) = (String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap());
    told
}

async fn told(mut output: SessionOutput) -> Told {
    told_until(&mut output, None).await
}

async fn open(node: &Node, wish: Wish) -> Result<Session, OpenError> {
    Session::open(&stream_socket(&node.socket()), StreamOpen { wish: Some(wish) }, LIMIT).await
}

async fn try_attach(node: &Node, id: &str) -> Result<Session, OpenError> {
    let wish = StreamAttach { container: id.into(), stdin: true, stdout: true, stderr: true };
    open(node, Wish::Attach(wish)).await
}

async fn attach(node: &Node, id: &str) -> Session {
    try_attach(node, id).await.unwrap()
}

fn exec_wish(id: &str, args: &[&str], terminal: bool) -> StreamExec {
    let args: Vec<_> = args.iter().map(|&arg| arg.to_owned()).collect();
    let process = serde_json::to_vec(&process_spec(&args, terminal)).unwrap();
    StreamExec { container: id.into(), process, terminal, stdin: true, stdout: true, stderr: !terminal }
}

async fn exec(node: &Node, script: &str, terminal: bool) -> Session {
    open(node, Wish::Exec(exec_wish("c1", &["sh", "-c", script], terminal))).await.unwrap()
}

fn refusal(result: Result<Session, OpenError>) -> Code {
    match result {
        Err(OpenError::Refused { code, .. }) => code,
        other => panic!("{other:?}"),
    }
}

/// Which processes of that name the container has, asked by an exec of its own.
async fn sleeps(node: &Node, seconds: &str) -> String {
    let script = format!("ps -o args | grep 'sleep {seconds}' | grep -v grep; true");
    node.exec("c1", &script, Duration::ZERO, 0).await.stdout
}

#[tokio::test]
async fn a_container_with_a_terminal_takes_input_and_size() {
    let node = Node::start("tty").await;
    let script = "tty; read line; stty size; echo \"got $line\" >&2; exit 4";
    let process = Process::shell(script).with_terminal().with_stdin(Stdin::Keep);
    let container = node.run("c1", process).await;
    assert!(node.state("c1").await.terminal);
    // /dev/pts/0 or /dev/console, which are the same.
    let begun = async || container.log_lines().first().is_some_and(|line| line.starts_with("stdout F /dev/"));
    wait_until("it has begun", begun).await;
    let mut session = attach(&node, "c1").await;
    session.input.resize(100, 40).await.unwrap();
    session.input.stdin(b"hello\n").await.unwrap();
    let told = told(session.output).await;
    assert!(told.stdout.ends_with("40 100\r\ngot hello\r\n"), "{told:?}");
    assert_eq!((told.stderr.as_str(), told.exit), ("", Some(4)));
    let lines = container.log_lines();
    assert_eq!(lines[lines.len() - 2..], ["stdout F 40 100", "stdout F got hello"]);
    assert!(!container.bundle.path().join("console.sock").exists());
    node.finish().await;
}

#[tokio::test]
async fn kept_input_outlives_its_clients_and_all_of_them_see_the_output() {
    let node = Node::start("keep").await;
    let container = node.run("c1", Process::shell("echo early; cat").with_stdin(Stdin::Keep)).await;
    wait_until("it has begun", async || !container.log_lines().is_empty()).await;
    let mut first = attach(&node, "c1").await;
    first.input.stdin(b"one\n").await.unwrap();
    assert_eq!(told_until(&mut first.output, Some("\n")).await.stdout, "one\n");
    first.input.close_stdin().await.unwrap();
    drop(first);
    let (mut second, mut third) = (attach(&node, "c1").await, attach(&node, "c1").await);
    second.input.stdin(b"two\n").await.unwrap();
    for session in [&mut second, &mut third] {
        assert_eq!(told_until(&mut session.output, Some("\n")).await.stdout, "two\n");
    }
    assert_eq!(node.state("c1").await.status(), Status::Running);
    node.client.signal("c1", 9, KillTarget::Init).await.unwrap();
    assert_eq!(told(second.output).await.exit, Some(137));
    assert_eq!(told(third.output).await.exit, Some(137));
    assert_eq!(container.log_lines(), ["stdout F early", "stdout F one", "stdout F two"]);
    node.finish().await;
}

#[tokio::test]
async fn input_that_is_open_once_ends_with_its_first_client() {
    let node = Node::start("once").await;
    for (id, leaves) in [("c1", false), ("c2", true)] {
        node.run(id, Process::shell("cat; echo end; exit 3").with_stdin(Stdin::Once)).await;
        let mut watcher = try_attach(&node, id).await.unwrap();
        let mut session = attach(&node, id).await;
        session.input.stdin(b"x\n").await.unwrap();
        if leaves {
            drop(session);
        } else {
            session.input.close_stdin().await.unwrap();
            let told = told(session.output).await;
            assert_eq!((told.stdout.as_str(), told.exit), ("x\nend\n", Some(3)));
        }
        assert_eq!(told_until(&mut watcher.output, None).await.stdout, "x\nend\n");
        assert_eq!(node.client.wait_exit(id).await.unwrap().code, 3);
    }
    node.finish().await;
}

#[tokio::test]
async fn without_input_a_container_sees_its_end_and_attached_clients_are_not_asked() {
    let node = Node::start("none").await;
    let container = node.run("c1", Process::shell("cat; echo end; exec sleep 1000")).await;
    wait_until("the input has ended", async || container.log_lines() == ["stdout F end"]).await;
    let mut session = attach(&node, "c1").await;
    session.input.stdin(b"nobody reads this").await.unwrap();
    session.input.resize(1, 1).await.unwrap();
    session.input.close_stdin().await.unwrap();
    node.client.signal("c1", 9, KillTarget::Init).await.unwrap();
    assert_eq!(told(session.output).await, Told { exit: Some(137), ..Told::default() });
    node.finish().await;
}

#[tokio::test]
async fn a_stalled_client_is_dropped_and_the_container_goes_on() {
    const LINES: usize = 100_000;
    let node = Node::start("stalled").await;
    let script = format!("read go; yes {} | head -n {LINES}", "x".repeat(99));
    let container = node.run("c1", Process::shell(&script).with_stdin(Stdin::Keep)).await;
    let mut stalled = attach(&node, "c1").await;
    stalled.input.stdin(b"go\n").await.unwrap();
    assert_eq!(node.client.wait_exit("c1").await.unwrap().code, 0);
    assert_eq!(container.log_lines().len(), LINES);
    let told = told(stalled.output).await;
    assert_eq!(told.exit, None);
    assert!(told.stdout.len() < 4 << 20, "{} bytes were kept", told.stdout.len());
    node.finish().await;
}

#[tokio::test]
async fn a_container_that_does_not_read_holds_up_its_writer_only() {
    let node = Node::start("deaf").await;
    let pid = node.shim_identity().pid;
    let files = || std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count();
    for (id, terminal) in [("c1", false), ("c2", true)] {
        let process = Process::shell("exec sleep 1000").with_stdin(Stdin::Keep);
        node.run(id, if terminal { process.with_terminal() } else { process }).await;
        let before = files();
        let mut session = attach(&node, id).await;
        // A terminal swallows what is over one line, but never a second line that nobody reads.
        let much = b"0123456789\n".repeat(400_000);
        let blocked = tokio::time::timeout(Duration::from_millis(300), session.input.stdin(&much)).await;
        assert!(blocked.is_err(), "{id} took it all");
        assert_eq!(node.state(id).await.status(), Status::Running);
        // A client that leaves is noticed although its input is still in the way.
        drop(session);
        wait_until("its connection is closed", async || files() <= before).await;
        let other = attach(&node, id).await;
        node.client.signal(id, 9, KillTarget::Init).await.unwrap();
        assert_eq!(told(other.output).await.exit, Some(137));
    }
    node.finish().await;
}

#[tokio::test]
async fn a_terminal_that_was_closed_and_opened_again_is_read_and_holds_up_nobody() {
    let node = Node::start("reopened").await;
    let script =
        "tty=$(tty); exec <&- >&- 2>&-; sleep 0.2; exec 3<>$tty; sleep 0.2; echo again >&3; sleep 1000";
    let container = node.run("c1", Process::shell(script).with_terminal().with_stdin(Stdin::Keep)).await;
    wait_until("it wrote again", async || container.log_lines() == ["stdout F again"]).await;
    node.run(
        "c2",
        Process::shell("exec <&- >&- 2>&-; exec sleep 1000").with_terminal().with_stdin(Stdin::Keep),
    )
    .await;
    for id in ["c1", "c2"] {
        let mut session = attach(&node, id).await;
        let much = b"0123456789\n".repeat(10_000);
        // Taken, dropped or in the way of its sender: the shim answers.
        let _ = tokio::time::timeout(Duration::from_millis(300), session.input.stdin(&much)).await;
        let state = tokio::time::timeout(LIMIT, node.state(id)).await.expect("the shim answers");
        assert_eq!(state.status(), Status::Running);
        drop(session);
        node.client.signal(id, 9, KillTarget::Init).await.unwrap();
        assert_eq!(node.client.wait_exit(id).await.unwrap().code, 137);
    }
    node.finish().await;
}

#[tokio::test]
async fn attaching_to_what_does_not_run_is_refused() {
    let node = Node::start("refused").await;
    assert_eq!(refusal(try_attach(&node, "c1").await), Code::NotFound);
    let container = node.container("c1", Process::shell("exit 0"));
    node.client.create(&container.request()).await.unwrap();
    assert_eq!(refusal(try_attach(&node, "c1").await), Code::FailedPrecondition);
    let start = runtime_shim::protocol::task::StartRequest { id: "c1".into(), exec_id: String::new() };
    node.client.start(&start).await.unwrap();
    node.client.wait_exit("c1").await.unwrap();
    assert_eq!(refusal(try_attach(&node, "c1").await), Code::FailedPrecondition);
    let exec = exec_wish("c1", &["true"], false);
    assert_eq!(refusal(open(&node, Wish::Exec(exec)).await), Code::FailedPrecondition);
    node.finish().await;
}

#[tokio::test]
async fn exec_reads_input_to_its_end_and_gives_all_output() {
    let node = Node::start("exec-io").await;
    node.run("c1", Process::shell("exec sleep 1000")).await;
    let Session { mut input, output } = exec(&node, "cat; echo done; echo err >&2; exit 5", false).await;
    let sent = "0123456789abcdef".repeat(100_000);
    let send = async {
        input.stdin(sent.as_bytes()).await.unwrap();
        input.close_stdin().await.unwrap();
    };
    let ((), told) = tokio::join!(send, told(output));
    assert_eq!(told.stdout.len(), sent.len() + 5);
    assert!(told.stdout.strip_suffix("done\n").is_some_and(|echoed| echoed == sent));
    assert_eq!((told.stderr.as_str(), told.exit), ("err\n", Some(5)));
    node.finish().await;
}

#[tokio::test]
async fn exec_waits_for_a_slow_client_and_loses_nothing() {
    let node = Node::start("slow").await;
    node.run("c1", Process::shell("exec sleep 1000")).await;
    let slow = exec(&node, "yes | head -c 5000000; exit 6", false).await;
    // The shim goes on meanwhile.
    let told_other = told(exec(&node, "echo other", false).await.output).await;
    assert_eq!(told_other, Told { stdout: "other\n".into(), stderr: String::new(), exit: Some(0) });
    assert!(node.exec("c1", "pidof yes", Duration::ZERO, 0).await.stdout.trim().parse::<u32>().is_ok());
    let told = told(slow.output).await;
    assert_eq!((told.stdout.len(), told.exit), (5_000_000, Some(6)));
    node.finish().await;
}

#[tokio::test]
async fn exec_with_a_terminal() {
    let node = Node::start("exec-tty").await;
    let container = node.run("c1", Process::shell("exec sleep 1000")).await;
    let mut session =
        exec(&node, "stty -echo; echo ready; read line; stty size; tty; echo $line >&2; exit 3", true).await;
    assert_eq!(told_until(&mut session.output, Some("ready\r\n")).await.stdout, "ready\r\n");
    session.input.resize(132, 43).await.unwrap();
    session.input.stdin(b"hello\n").await.unwrap();
    // Ends although its input stays open.
    let told = told(session.output).await;
    assert_eq!(
        told,
        Told { stdout: "43 132\r\n/dev/pts/0\r\nhello\r\n".into(), stderr: String::new(), exit: Some(3) }
    );
    let left = std::fs::read_dir(container.bundle.path()).unwrap();
    let left: Vec<_> = left.map(|entry| entry.unwrap().file_name()).collect();
    assert!(!left.iter().any(|name| name.to_string_lossy().starts_with("exec-")), "{left:?}");
    node.finish().await;
}

#[tokio::test]
async fn all_output_of_a_terminal_arrives_before_the_exit() {
    let node = Node::start("tty-much").await;
    node.run("c1", Process::shell("exec sleep 1000")).await;
    for terminal in [true, false] {
        // The child holds the terminal, or pipe, longer than the process lives.
        let script = "stty -onlcr; sleep 1000 & yes 0123456789 | head -n 20000; exit 2";
        let session = exec(&node, script, terminal).await;
        let told = told(session.output).await;
        assert_eq!((told.stdout.len(), told.exit), (220_000, Some(2)), "terminal: {terminal}");
    }
    node.finish().await;
}

#[tokio::test]
async fn a_client_that_leaves_takes_its_process_tree_along() {
    let node = Node::start("leaver").await;
    node.run("c1", Process::shell("exec sleep 1000")).await;
    for terminal in [false, true] {
        let script = "(setsid sleep 4331 &); sleep 4332 & echo begun; sleep 4333";
        let mut session = exec(&node, script, terminal).await;
        told_until(&mut session.output, Some("\n")).await;
        // Its input is in the way of its leaving, as nobody reads it.
        let much = b"0123456789\n".repeat(400_000);
        let blocked = tokio::time::timeout(Duration::from_millis(300), session.input.stdin(&much)).await;
        assert!(blocked.is_err());
        assert_eq!(sleeps(&node, "433").await.lines().count(), 3);
        drop(session);
        wait_until("the tree is gone", async || sleeps(&node, "433").await.is_empty()).await;
    }
    assert_eq!(node.state("c1").await.status(), Status::Running);
    node.finish().await;
}

#[tokio::test]
async fn execs_that_cannot_start_say_why() {
    let node = Node::start("no-exec").await;
    node.run("c1", Process::shell("exec sleep 1000")).await;
    for terminal in [false, true] {
        let wish = exec_wish("c1", &["/no/such/command"], terminal);
        match open(&node, Wish::Exec(wish)).await {
            Err(OpenError::Refused { start_failure: Some(failure), .. }) => {
                assert_eq!(failure.kind(), StartFailureKind::CommandNotFound);
            }
            other => panic!("{other:?}"),
        }
    }
    let wish = StreamExec { terminal: true, ..exec_wish("c1", &["true"], false) };
    assert_eq!(refusal(open(&node, Wish::Exec(wish)).await), Code::InvalidArgument);
    let wish = StreamExec { process: b"{".to_vec(), ..exec_wish("c1", &["true"], false) };
    assert_eq!(refusal(open(&node, Wish::Exec(wish)).await), Code::InvalidArgument);
    node.finish().await;
}

#[tokio::test]
async fn nonsense_and_crowds_are_refused() {
    let node = Node::start("nonsense").await;
    node.run("c1", Process::shell("exec sleep 1000")).await;
    let path = stream_socket(&node.socket());
    for bytes in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        &[1, 255, 255, 255, 255],
        &[4, 0, 0, 0, 0],
        &[1, 0, 0, 0, 0],
        &[1, 9],
    ] {
        let mut socket = tokio::net::UnixStream::connect(&path).await.unwrap();
        socket.write_all(bytes).await.unwrap();
        socket.shutdown().await.unwrap();
        let mut answer = Vec::new();
        // Reset, when it was not read to its end.
        let _ = tokio::time::timeout(LIMIT, socket.read_to_end(&mut answer)).await.unwrap();
        assert_eq!(answer.first(), Some(&3), "{bytes:?}");
    }
    let mut crowd = Vec::new();
    for _ in 0..64 {
        crowd.push(attach(&node, "c1").await);
    }
    assert_eq!(refusal(try_attach(&node, "c1").await), Code::ResourceExhausted);
    crowd.pop();
    wait_until("there is room", async || try_attach(&node, "c1").await.is_ok()).await;
    drop(crowd);
    node.finish().await;
}

#[tokio::test]
async fn connections_that_say_nothing_are_sent_away_and_make_room() {
    let node = Node::start("silent").await;
    node.run("c1", Process::shell("exec sleep 1000")).await;
    let path = stream_socket(&node.socket());
    let mut silent = Vec::new();
    while try_attach(&node, "c1").await.is_ok() {
        silent.push(tokio::net::UnixStream::connect(&path).await.unwrap());
        assert!(silent.len() < 1000, "they are not counted");
    }
    for mut socket in silent {
        let mut answer = Vec::new();
        tokio::time::timeout(LIMIT, socket.read_to_end(&mut answer)).await.expect("sent away").unwrap();
        assert_eq!(answer.first(), Some(&3));
    }
    attach(&node, "c1").await;
    node.finish().await;
}

#[tokio::test]
async fn sessions_leave_no_memory_and_no_thread_behind() {
    let node = Node::start("lean").await;
    let pid = node.shim_identity().pid;
    let process = Process::shell("while read line; do yes $line | head -c 500000; echo; done");
    node.run("c1", process.with_stdin(Stdin::Keep)).await;
    let files = || std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count();
    let before = files();
    for _ in 0..10 {
        let mut session = attach(&node, "c1").await;
        session.input.stdin(b"y\n").await.unwrap();
        told_until(&mut session.output, Some("\n\n")).await;
        let Session { mut input, output } = exec(&node, "cat", true).await;
        input.stdin(b"x\n\x04").await.unwrap();
        assert_eq!(told(output).await.exit, Some(0));
    }
    wait_until("all descriptors are closed", async || files() <= before).await;
    let threads = format!("/proc/{pid}/task");
    wait_until("one thread", async || std::fs::read_dir(&threads).unwrap().count() == 1).await;
    let rollup = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
    let line = rollup.lines().find(|line| line.starts_with("Private_Dirty:")).unwrap();
    let kilobytes: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    println!("shim after twenty sessions: {kilobytes} kB private dirty");
    // Of the build with tests' profile, as in `shim.rs`.
    assert!(kilobytes < 1024);
    node.finish().await;
}
