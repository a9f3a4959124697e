//! The CRI log: its format, long lines, both streams, reopening, and a writer that never waits for the daemon.

use e2e::node::Node;
use e2e::pod::{Pod, container, wait_exited, with_go};
use e2e::{process, wait};

/// Lines as `(stream, tag, text)`, with the time checked.
fn parsed(log: &str) -> Vec<(String, String, String)> {
    let mut last = String::new();
    let mut parse = |line: &str| {
        let words: Vec<&str> = line.splitn(4, ' ').collect();
        let [time, stream, tag, text] = words.as_slice() else { panic!("not a log line: {line:?}") };
        assert!(
            time.len() >= 20 && time.starts_with("20") && time.ends_with('Z') && time.contains('T'),
            "{time}"
        );
        let padded = format!("{:0<29}", time.trim_end_matches('Z'));
        assert!(padded >= last, "time goes back: {last} {padded}");
        last = padded;
        ((*stream).to_owned(), (*tag).to_owned(), (*text).to_owned())
    };
    assert!(log.is_empty() || log.ends_with('\n'), "the log ends in the middle of a line");
    log.split_terminator('\n').map(&mut parse).collect()
}

fn line(stream: &str, tag: &str, text: &str) -> (String, String, String) {
    (stream.to_owned(), tag.to_owned(), text.to_owned())
}

/// Runs a shell line to its end and gives its log as it is when the state is Exited.
fn logged(pod: &Pod, name: &str, script: &str) -> Vec<(String, String, String)> {
    pod.run_sh(name, script);
    parsed(&pod.log(name))
}

#[test]
fn both_streams_are_logged_line_by_line() {
    let node = Node::start();
    let pod = node.run_pod("streams");
    let lines = logged(&pod, "out", "echo hello World; printf 'tab\\t\\r\\n\\n'; echo ünï");
    let expected = ["hello World", "tab\t\r", "", "ünï"].map(|text| line("stdout", "F", text));
    assert_eq!(lines, expected);
    let script = "echo out; until test -e /go/now; do sleep 0.02; done; echo err >&2";
    let (config, go) = with_go(&node, container("err", &["sh", "-c", script]));
    let id = pod.start(&config);
    wait::until("the first line is logged", || pod.log("err").contains("F out\n"));
    e2e::fixture::write(&go.join("now"), "");
    wait_exited(&node.cri(), &id);
    assert_eq!(parsed(&pod.log("err")), [line("stdout", "F", "out"), line("stderr", "F", "err")]);
}

#[test]
fn long_lines_are_split_at_16_kib_and_tagged_partial() {
    let node = Node::start();
    let pod = node.run_pod("long");
    let make = |bytes: usize| format!("head -c {bytes} /dev/zero | tr '\\0' x; echo end");
    let lines = logged(&pod, "three", &make(40_000));
    let shape: Vec<(&str, usize)> = lines.iter().map(|(_, tag, text)| (tag.as_str(), text.len())).collect();
    assert_eq!(shape, [("P", 16_384), ("P", 16_384), ("F", 40_000 - 2 * 16_384 + 3)]);
    let joined: String = lines.iter().map(|(_, _, text)| text.as_str()).collect();
    assert_eq!(joined, format!("{}end", "x".repeat(40_000)));
}

#[test]
fn a_last_line_without_newline_is_partial_and_not_lost() {
    let node = Node::start();
    let pod = node.run_pod("partial");
    let lines = logged(&pod, "partial", "echo whole; printf unfinished");
    assert_eq!(lines, [line("stdout", "F", "whole"), line("stdout", "P", "unfinished")]);
}

#[test]
fn nothing_of_much_output_is_lost() {
    let node = Node::start();
    let pod = node.run_pod("much");
    let lines = logged(&pod, "much", "seq 1 200000");
    assert_eq!(lines.len(), 200_000);
    assert!(lines.iter().zip(1..).all(|((_, tag, text), number)| tag == "F" && *text == number.to_string()));
}

#[test]
fn reopening_makes_the_new_file_and_leaves_the_old_one_alone() {
    let mut node = Node::start();
    let pod = node.run_pod("reopen");
    let id = pod.start_sh("count", "n=0; while true; do n=$((n+1)); echo $n; sleep 0.01; done");
    let path = pod.log_path("count");
    let mut rotated = Vec::new();
    for turn in 0..3 {
        wait::until("the log has lines", || pod.log("count").lines().count() > 5);
        let old = path.with_extension(format!("log.{turn}"));
        std::fs::rename(&path, &old).unwrap();
        let request = cri_proto::v1::ReopenContainerLogRequest { container_id: id.clone() };
        node.cri().reopen_container_log(request).unwrap();
        assert!(path.exists(), "the new file is there when the call answers");
        rotated.push((old.clone(), e2e::fixture::read(&old)));
        node.restart_daemon();
    }
    wait::until("the log goes on", || pod.log("count").lines().count() > 5);
    node.cri().stop(&id, 0).unwrap();
    let mut all = String::new();
    for (old, content) in &rotated {
        assert_eq!(&e2e::fixture::read(old), content, "an old file grew");
        all.push_str(content);
    }
    all.push_str(&pod.log("count"));
    let numbers: Vec<u32> = parsed(&all).iter().map(|(_, _, text)| text.parse().expect("a number")).collect();
    assert!(numbers.iter().copied().eq(1..=numbers.last().copied().unwrap_or(0)), "a line is lost or twice");

    let request = cri_proto::v1::ReopenContainerLogRequest { container_id: id };
    let status = node.cri().reopen_container_log(request).unwrap_err();
    assert_eq!(status.code(), tonic::Code::FailedPrecondition, "{status}");
}

#[test]
fn a_container_writes_on_while_the_daemon_is_away() {
    let mut node = Node::start();
    let pod = node.run_pod("away");
    let script = "until test -e /go/now; do sleep 0.05; done; seq 1 50000";
    let (config, go) = with_go(&node, container("writer", &["sh", "-c", script]));
    let id = pod.start(&config);
    node.kill9();
    e2e::fixture::write(&go.join("now"), "");
    // Far more than a pipe holds: a writer that depended on the daemon would stand still.
    wait::until("all is written without a daemon", || pod.log("writer").lines().count() == 50_000);
    node.resume();
    let status = wait_exited(&node.cri(), &id);
    assert_eq!((status.exit_code, status.reason.as_str()), (0, "Completed"));
    let lines = parsed(&pod.log("writer"));
    assert!(lines.iter().zip(1..).all(|((_, _, text), number)| *text == number.to_string()));
}

#[test]
fn a_background_process_does_not_hold_the_exit_back() {
    let node = Node::start();
    let pod = node.run_pod("background");
    let status = pod.run_sh("background", "(sleep 3219 &); echo done; exit 4");
    assert_eq!(status.exit_code, 4);
    assert!(pod.log("background").ends_with("stdout F done\n"));
    let sleeps = || process::all().into_iter().filter(|process| process.command == "sleep 3219").count();
    wait::until("the background process is gone", || sleeps() == 0);
}
