//! ExecSync: output and codes, a timeout that ends the whole tree, and the limits of what it carries.

use std::time::{Duration, Instant};

use cri_proto::v1::ContainerState;
use e2e::node::Node;
use e2e::pod::{container, process_of, security};
use e2e::{process, wait};
use tonic::Code;

/// How many processes of the machine have exactly this command line.
fn running(command: &str) -> usize {
    process::all().into_iter().filter(|process| process.command == command).count()
}

#[test]
fn output_and_exit_code_come_back_as_they_are() {
    let mut node = Node::start();
    let pod = node.run_pod("exec");
    let id = pod.start_sh("top", "exec top -b");
    for _ in 0..2 {
        let cri = node.cri();
        let answer = cri.exec_in(&id, &["echo", "-n", "hello"], 0).unwrap();
        assert_eq!((answer.exit_code, answer.stdout.as_slice(), answer.stderr.len()), (0, &b"hello"[..], 0));
        let answer =
            cri.exec_in(&id, &["sh", "-c", "printf '\\377\\000'; echo bad >&2; exit 7"], 10).unwrap();
        assert_eq!((answer.exit_code, answer.stdout.as_slice()), (7, &b"\xff\0"[..]));
        assert_eq!(answer.stderr, b"bad\n");
        let answer = cri.exec_in(&id, &["sh", "-c", "kill -9 $$"], 10).unwrap();
        assert_eq!(answer.exit_code, 137);
        node.restart_daemon();
    }
}

#[test]
fn exec_has_the_environment_user_and_folder_of_its_container() {
    let node = Node::start();
    let pod = node.run_pod("context");
    let mut config = container("top", &["top", "-b"]);
    config.working_dir = "/tmp".to_owned();
    config.envs = vec![cri_proto::v1::KeyValue { key: "MINE".to_owned(), value: b"yes".to_vec() }];
    security(&mut config).run_as_username = "default-user".to_owned();
    let id = pod.start(&config);
    assert_eq!(
        node.cri().sh(&id, "pwd; echo $MINE $IMAGE_SAYS; id -u; id -G"),
        "/tmp\nyes hello\n1000\n1000 50000\n"
    );
}

#[test]
fn a_timeout_kills_the_tree_the_exec_started_and_nothing_else() {
    let node = Node::start();
    let pod = node.run_pod("timeout");
    let id = pod.start_sh("top", "sleep 3220 & exec top -b");
    let init = process_of(&node.cri(), &id);
    wait::until("the container's own child runs", || running("sleep 3220") == 1);
    let started = Instant::now();
    // A child, and a daemon that has left its session and its parent.
    let script = "sleep 3221 & setsid sh -c 'sleep 3222 & exit' & exec sleep 3223";
    let tree = ["sleep 3221", "sleep 3222", "sleep 3223"];
    let (client, asked) = (node.cri(), id.clone());
    let caller = std::thread::spawn(move || client.exec_in(&asked, &["sh", "-c", script], 4));
    wait::until("the whole tree runs", || tree.iter().all(|command| running(command) == 1));
    assert!(!caller.is_finished(), "the exec is answered before its time is over");
    let status = caller.join().expect("the call does not panic").unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status}");
    assert!((4..14).contains(&started.elapsed().as_secs()), "{:?}", started.elapsed());
    for command in tree {
        wait::until(&format!("{command} is gone"), || running(command) == 0);
    }
    assert_eq!(running("sleep 3220"), 1, "the container's own processes live on");
    let now = process_of(&node.cri(), &id);
    assert_eq!((now.pid, now.started), (init.pid, init.started));
    assert_eq!(node.cri().sh(&id, "echo alive"), "alive\n");
}

#[test]
fn a_background_child_does_not_hold_the_answer() {
    let node = Node::start();
    let pod = node.run_pod("background");
    let id = pod.start_sh("top", "exec top -b");
    let started = Instant::now();
    let answer = node.cri().exec_in(&id, &["sh", "-c", "sleep 3224 & echo started"], 0).unwrap();
    assert_eq!((answer.exit_code, answer.stdout.as_slice()), (0, &b"started\n"[..]));
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
    assert_eq!(running("sleep 3224"), 1, "a background child is the container's from now on");
    node.cri().stop(&id, 5).unwrap();
    assert_eq!(running("sleep 3224"), 0);
}

#[test]
fn output_is_cut_at_16_mib_and_the_process_runs_to_its_end() {
    let node = Node::start();
    let pod = node.run_pod("flood");
    let id = pod.start_sh("top", "exec top -b");
    let script = "head -c 18000000 /dev/zero; echo end >&2; exit 9";
    let answer = node.cri().exec_in(&id, &["sh", "-c", script], 30).unwrap();
    assert_eq!(answer.exit_code, 9);
    let kept = answer.stdout.len() + answer.stderr.len();
    assert_eq!(kept, (16 << 20) - 1024, "what a client takes in one message of 16 MiB");
    assert_eq!(answer.stderr, b"end\n");
}

#[test]
fn a_client_that_leaves_takes_its_exec_with_it() {
    let node = Node::start();
    let pod = node.run_pod("leaves");
    let id = pod.start_sh("top", "exec top -b");
    let (hasty, asked) = (node.cri().with_limit(Duration::from_secs(4)), id.clone());
    let caller = std::thread::spawn(move || hasty.exec_in(&asked, &["sleep", "3225"], 0));
    wait::until("the exec runs", || running("sleep 3225") == 1);
    assert!(!caller.is_finished(), "the client left too early to show anything");
    let status = caller.join().expect("the call does not panic").unwrap_err();
    assert!(matches!(status.code(), Code::DeadlineExceeded | Code::Cancelled), "{status}");
    wait::until("the exec is gone with its client", || running("sleep 3225") == 0);
    assert_eq!(node.cri().sh(&id, "echo alive"), "alive\n");
    node.cri().stop(&id, 0).unwrap();
}

#[test]
fn many_execs_at_once_keep_their_outputs_apart() {
    let node = Node::start();
    let pod = node.run_pod("many");
    let id = pod.start_sh("top", "exec top -b");
    let cri = node.cri();
    std::thread::scope(|scope| {
        for number in 0..12 {
            let (cri, id) = (&cri, &id);
            scope.spawn(move || {
                let answer = cri.exec_in(id, &["echo", &number.to_string()], 20).unwrap();
                assert_eq!(answer.stdout, format!("{number}\n").into_bytes(), "{answer:?}");
            });
        }
    });
}

#[test]
fn exec_is_refused_where_it_cannot_run() {
    let node = Node::start();
    let pod = node.run_pod("refused");
    let cri = node.cri();
    let created = pod.create(&container("created", &["top", "-b"])).unwrap();
    let status = cri.exec_in(&created, &["true"], 1).unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition, "{status}");
    let exited = pod.run_sh("exited", "true");
    assert_eq!(exited.state(), ContainerState::ContainerExited);
    let status = cri.exec_in(&exited.id, &["true"], 1).unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition, "{status}");
    let unknown = "e".repeat(64);
    let status = cri.exec_in(&unknown, &["true"], 1).unwrap_err();
    assert_eq!(status.code(), Code::NotFound, "{status}");
    assert!(status.message().contains(&unknown), "{status}");
    let id = pod.start_sh("top", "exec top -b");
    let status = cri.exec_in(&id, &[], 1).unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument, "{status}");
    match cri.exec_in(&id, &["/no/such/command"], 5) {
        Ok(answer) => assert!(matches!(answer.exit_code, 126 | 127 | 255 | 1), "{answer:?}"),
        Err(status) => assert!(status.message().contains("/no/such/command"), "{status}"),
    }
}
