//! Streams as people use them: `crictl exec -i -t`, `attach` and `port-forward`, and what is left when they go away.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Output, Stdio};
use std::thread;
use std::time::Duration;

use cri_proto::v1::ContainerState;
use e2e::crictl::Crictl;
use e2e::node::Node;
use e2e::pod::{container, wait_exited, with_go};
use e2e::{http, process, wait};
use rustix::process::Signal;

/// Runs crictl with these bytes on its standard input, to its end.
fn with_input(crictl: &Crictl, arguments: &[&str], input: &[u8]) -> Output {
    let mut child = crictl.spawn(arguments, Stdio::piped());
    let mut stdin = child.stdin.take().expect("it was piped");
    stdin.write_all(input).expect("crictl reads its input");
    drop(stdin);
    child.wait_with_output().expect("crictl ends")
}

/// A container with a shell that a test may type into.
fn shell(name: &str) -> cri_proto::v1::ContainerConfig {
    let mut config = container(name, &["sh"]);
    config.stdin = true;
    config
}

#[test]
fn exec_carries_input_both_outputs_and_the_exit_code() {
    let node = Node::start();
    let pod = node.run_pod("exec");
    let id = pod.start_sh("main", "sleep 3600");
    let crictl = node.crictl();
    let answer = with_input(&crictl, &["exec", "-i", &id, "sh"], b"echo out; echo err >&2; exit 7\n");
    assert_eq!(process::text(&answer.stdout), "out\n");
    let stderr = process::text(&answer.stderr);
    assert!(stderr.lines().any(|line| line == "err") && stderr.contains("exit code 7"), "{stderr}");
    assert!(!answer.status.success());

    // The end of the input is the end of `cat`, and every byte has come back by then.
    let bytes: Vec<u8> = (0..300_000_u32).map(|number| (number % 251) as u8).collect();
    let answer = with_input(&crictl, &["exec", "-i", &id, "cat"], &bytes);
    assert!(answer.status.success(), "{}", process::text(&answer.stderr));
    assert!(answer.stdout == bytes, "{} of {} bytes came back", answer.stdout.len(), bytes.len());

    let missing = crictl.output(&["exec", &id, "/no/such/program"]);
    assert!(!missing.status.success());
    assert!(process::text(&missing.stderr).contains("/no/such/program"), "{missing:?}");
}

#[test]
fn a_terminal_has_a_size_and_ends_with_its_program() {
    let node = Node::start();
    let pod = node.run_pod("tty");
    let id = pod.start_sh("main", "sleep 3600");
    let line = format!(
        "stty rows 41 cols 97; {} exec -i -t {id} sh -c 'sleep 1; stty size; tty'",
        node.crictl().line()
    );
    let output = process::output(process::command("script").args(["-q", "-e", "-c", &line, "/dev/null"]));
    let text = process::text(&output.stdout);
    assert!(text.contains("41 97") && text.contains("/dev/pts/"), "{text:?}");
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn a_terminal_follows_the_size_of_the_clients() {
    let node = Node::start();
    let pod = node.run_pod("resize");
    let (config, go) = with_go(&node, container("main", &["sleep", "3600"]));
    let id = pod.start(&config);
    // The window changes when the program has seen its first size and made the file.
    let sees = |size: &str| {
        format!(
            "for _ in $(seq 100); do test \"$(stty size)\" = \"{size}\" && break; sleep 0.05; done; stty size"
        )
    };
    let program = format!("{}; touch /go/runs; {}", sees("41 97"), sees("52 131"));
    let resize = format!(
        "(for _ in $(seq 200); do test -e {}/runs && break; sleep 0.05; done; stty rows 52 cols 131 < /dev/tty) &",
        go.display()
    );
    let line = format!(
        "stty rows 41 cols 97; {resize} {} exec -i -t {id} sh -c '{}'",
        node.crictl().line(),
        program
    );
    let output = process::output(process::command("script").args(["-q", "-e", "-c", &line, "/dev/null"]));
    let text = process::text(&output.stdout);
    assert!(text.contains("41 97\r\n52 131"), "{text:?}");
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn attach_types_into_the_container_and_ends_with_it() {
    let mut node = Node::start();
    let pod = node.run_pod("attach");
    let mut config = shell("once");
    config.stdin_once = true;
    let id = pod.start(&config);
    let answer = with_input(&node.crictl(), &["attach", "-i", &id], b"echo hello\n");
    assert_eq!(process::text(&answer.stdout), "hello\n", "{answer:?}");
    assert_eq!(wait_exited(&node.cri(), &id).exit_code, 0, "the shell ends when its input does");

    // Without stdin_once the input stays open from one attachment to the next, also over a restart of the daemon.
    let id = pod.start(&shell("keep"));
    let typed = |line: &str| {
        let crictl = node.crictl();
        let mut child = crictl.spawn(&["attach", "-i", &id], Stdio::piped());
        child.stdin.as_mut().expect("it was piped").write_all(line.as_bytes()).expect("crictl reads");
        let said = wait::within(wait::PATIENCE, || pod.log("keep").contains(&line.trim()[5..]).then_some(()));
        process::kill_and_reap(&mut child);
        assert!(said.is_some(), "{line:?} was not done: {}", pod.log("keep"));
    };
    typed("echo first\n");
    node.restart_daemon();
    let typed = |line: &str, node: &Node| {
        let mut child = node.crictl().spawn(&["attach", "-i", &id], Stdio::piped());
        child.stdin.as_mut().expect("it was piped").write_all(line.as_bytes()).expect("crictl reads");
        wait::until("the second line is done", || pod.log("keep").contains("second"));
        process::kill_and_reap(&mut child);
    };
    typed("echo second\n", &node);
}

/// A port-forward under way.
struct Forward {
    crictl: Child,
    ports: Vec<SocketAddr>,
}

impl Forward {
    fn start(node: &Node, pod: &str, ports: &[&str]) -> Self {
        let mut arguments = vec!["port-forward", pod];
        arguments.extend(ports);
        let mut crictl = node.crictl().spawn(&arguments, Stdio::null());
        let mut lines = BufReader::new(crictl.stdout.take().expect("it was piped")).lines();
        let mut found = Vec::new();
        while found.len() < ports.len() {
            let line = lines.next().expect("crictl says where it listens").expect("its output is text");
            let address = line.strip_prefix("Forwarding from ").and_then(|rest| rest.split(' ').next());
            // Each port is told for IPv4 and perhaps for IPv6.
            found.extend(address.and_then(|it| it.parse::<SocketAddr>().ok()).filter(SocketAddr::is_ipv4));
        }
        thread::spawn(move || lines.for_each(drop));
        Self { crictl, ports: found }
    }
}

impl Drop for Forward {
    fn drop(&mut self) {
        process::kill_and_reap(&mut self.crictl);
    }
}

const SERVE: &str = "mkdir -p /www; echo from the pod > /www/index.html; exec httpd -f -p 8080 -h /www";

fn forwarding_works(node: &Node, pod: &e2e::pod::Pod) {
    pod.start_sh("web", SERVE);
    let forward = Forward::start(node, &pod.id, &[":8080", ":9"]);
    let (web, nobody) = (forward.ports[0], forward.ports[1]);
    let page = |address| http::request(address, "GET", "/index.html", None);
    wait::until("the page comes", || page(web).is_ok_and(|answer| answer.body == b"from the pod\n"));
    let many: Vec<_> =
        (0..8).map(|_| thread::spawn(move || http::request(web, "GET", "/index.html", None))).collect();
    for one in many {
        let answer = one.join().expect("no panic").expect("an answer");
        assert_eq!((answer.status, answer.body.as_slice()), (200, &b"from the pod\n"[..]));
    }
    // Last: crictl itself gives all of its forwards up when one fails. That the server does not is tested with it.
    assert!(page(nobody).is_err());
}

#[test]
fn a_port_is_forwarded_into_the_pods_own_network() {
    let node = Node::start();
    let pod = node.run_pod_as(node.net_pod_config("forward"));
    forwarding_works(&node, &pod);
}

/// A loopback port that nobody has at this moment.
fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("bind a free loopback port");
    listener.local_addr().expect("a bound socket has an address").port()
}

#[test]
fn a_port_is_forwarded_to_a_pod_on_the_nodes_network() {
    let node = Node::start();
    let pod = node.run_pod("forward-host");
    let port = free_port();
    let serve = format!(
        "mkdir /www; echo from the node > /www/index.html; exec httpd -f -p 127.0.0.1:{port} -h /www"
    );
    pod.start_sh("web", &serve);
    wait::until("httpd listens", || TcpStream::connect(("127.0.0.1", port)).is_ok());
    let forward = Forward::start(&node, &pod.id, &[&format!(":{port}")]);
    let answer = http::request(forward.ports[0], "GET", "/index.html", None).expect("an answer");
    assert_eq!(answer.body, b"from the node\n");
}

#[test]
fn a_client_that_vanishes_takes_its_command_along_and_nothing_else() {
    let node = Node::start();
    let pod = node.run_pod("vanish");
    let id = pod.start_sh("main", "sleep 3600");
    let crictl = node.crictl();
    let running = |marker: &str| {
        process::all()
            .into_iter()
            .filter(|it| it.command.starts_with("sleep") && it.command.ends_with(marker))
            .count()
    };
    for (marker, flag) in [("4001", "-i"), ("4002", "-i=false")] {
        let mut child = crictl.spawn(
            &["exec", flag, &id, "sh", "-c", &format!("sleep {marker} & sleep {marker}")],
            Stdio::piped(),
        );
        wait::until("the command runs", || running(marker) == 2);
        process::signal(child.id(), Signal::KILL);
        let _ = child.wait();
        wait::until("nothing of the command is left", || running(marker) == 0);
    }
    assert_eq!(crictl.run(&["exec", "-s", &id, "echo", "alive"]), "alive");
}

#[test]
fn a_client_killed_at_any_moment_leaves_nothing_and_disturbs_nobody() {
    let node = Node::start();
    let pod = node.run_pod_as(node.net_pod_config("moments"));
    let shell = pod.start(&shell("shell"));
    pod.start_sh("web", SERVE);
    let crictl = node.crictl();
    // Long enough for the slowest of them to be in the midst of its stream.
    let marker = "sleep 4003";
    let streams: [&[&str]; 3] = [
        &["exec", "-i", &shell, "sh", "-c", "sleep 4003 & yes | head -c 3000000; cat; wait"],
        &["attach", "-i", &shell],
        &["port-forward", &pod.id, ":8080"],
    ];
    for milliseconds in (0..240).step_by(12) {
        for arguments in streams {
            let mut child = crictl.spawn(arguments, Stdio::piped());
            let mut stdin = child.stdin.take().expect("it was piped");
            let typist = thread::spawn(move || stdin.write_all(&b": typed\n".repeat(20_000)));
            wait::pause(Duration::from_millis(milliseconds));
            process::kill_and_reap(&mut child);
            // It ends with the client, whether that had taken all of it or not.
            let _ = typist.join().expect("no panic");
        }
    }
    wait::until("no command is left", || !process::all().iter().any(|it| it.command == marker));
    wait::until("no connection is left", || node.connections().is_empty());
    assert_eq!(crictl.run(&["exec", "-s", &shell, "echo", "alive"]), "alive");
    let answer = with_input(&crictl, &["exec", "-i", &shell, "cat"], b"as before");
    assert_eq!(process::text(&answer.stdout), "as before");
    assert_eq!(node.cri().container(&shell).expect("status").state(), ContainerState::ContainerRunning);
}

#[test]
fn a_url_cannot_be_guessed_and_nothing_is_given_for_what_does_not_run() {
    let node = Node::start();
    let pod = node.run_pod("urls");
    let id = pod.start_sh("main", "sleep 3600");
    let request = |container: &str| cri_proto::v1::ExecRequest {
        container_id: container.to_owned(),
        cmd: vec!["true".to_owned()],
        stdout: true,
        ..Default::default()
    };
    let url = node.cri().exec(request(&id)).expect("a URL").url;
    let rest = url.strip_prefix("http://").expect("plain HTTP on loopback");
    let (address, token) = rest.split_once("/exec/").expect("an exec URL");
    assert!(token.len() >= 22, "128 bits are 22 characters of base64: {token}");
    let address: SocketAddr = address.parse().expect("an address");
    assert!(address.ip().is_loopback());
    let status = |path: &str| http::request(address, "POST", path, None).expect("an answer").status;
    assert_eq!(status(&format!("/exec/{token}")), 400, "a stream is an upgrade");
    assert_eq!(status("/other"), 404);

    let codes = [
        (request("0123"), tonic::Code::NotFound),
        (cri_proto::v1::ExecRequest { stdout: false, ..request(&id) }, tonic::Code::InvalidArgument),
        (
            cri_proto::v1::ExecRequest { tty: true, stderr: true, ..request(&id) },
            tonic::Code::InvalidArgument,
        ),
    ];
    for (request, code) in codes {
        assert_eq!(node.cri().exec(request.clone()).expect_err("refused").code(), code, "{request:?}");
    }
    let ended = pod.run_sh("ended", "true").id;
    let status = node.cri().exec(request(&ended)).expect_err("refused");
    assert_eq!(status.code(), tonic::Code::FailedPrecondition, "{status}");
}
