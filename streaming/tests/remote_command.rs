//! Exec and attach from a client's point of view.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::time::Duration;

use bytes::Bytes;
use streaming::{AttachRequest, Config, Event, ExecRequest};
use support::backend::{Got, Refusing, Stage};
use support::client::{Client, Encoder, Frame, control, data, ping, reset};
use support::{exec, server, soon, tty};
use tokio::io::AsyncWriteExt;

const ALL: &str = "v5.channel.k8s.io, v4.channel.k8s.io, v3.channel.k8s.io, channel.k8s.io";

fn text(text: &'static str) -> Bytes {
    Bytes::from_static(text.as_bytes())
}

#[tokio::test]
async fn exec_carries_both_ways_and_tells_the_exit_code() {
    let (stage, mut wings) = Stage::new();
    let (server, _tasks) = server(Config::default(), stage).await;
    let mut client = Client::open(&server.exec(exec()).unwrap(), ALL).await;
    let (error, stdin) = (client.stream("error").await, client.stream("stdin").await);
    // Before the last stream is open: bytes are kept for the process.
    client.send(&data(stdin, false, b"early ")).await;
    let (stdout, stderr) = (client.stream("stdout").await, client.stream("stderr").await);
    let mut process = soon("the start", wings.started.recv()).await.unwrap();
    client.send(&data(stdin, false, b"late")).await;
    client.send(&data(stdin, true, b"")).await;
    assert_eq!(process.stdin().await, b"early late", "the half-close is the end of stdin");

    let large = vec![b'x'; 1 << 20];
    process.say(Event::Stdout(text("hello"))).await;
    process.say(Event::Stderr(text("oops"))).await;
    process.say(Event::Stdout(large.clone().into())).await;
    process.say(Event::Exit(7)).await;
    let rest = client.rest().await;
    assert_eq!(rest.bytes(stdout), [b"hello".as_slice(), &large].concat());
    assert_eq!(rest.bytes(stderr), b"oops");
    let status = rest.status(error);
    assert_eq!(status["reason"], "NonZeroExitCode");
    assert_eq!(status["details"]["causes"][0]["message"], "7");
    assert_eq!(rest.finished, [stdout, stderr, error], "the status comes when all output is out");
    assert_eq!(rest.others.last(), Some(&Frame::GoAway { last: 7, status: 0 }));
    process.dropped().await;
}

#[tokio::test]
async fn a_terminal_is_resized_and_ends_although_stdin_stays_open() {
    let (stage, mut wings) = Stage::new();
    let (server, _tasks) = server(Config::default(), stage).await;
    let mut client = Client::open(&server.exec(tty()).unwrap(), ALL).await;
    let error = client.stream("error").await;
    let (_stdin, stdout) = (client.stream("stdin").await, client.stream("stdout").await);
    let resize = client.stream("resize").await;
    let mut process = soon("the start", wings.started.recv()).await.unwrap();
    for (piece, size) in [(r#"{"Width":80,"Height":24}{"#, (80, 24)), (r#""Width":1,"Height":2}"#, (1, 2))] {
        client.send(&data(resize, false, piece.as_bytes())).await;
        assert_eq!(soon("the size", process.got.recv()).await, Some(Got::Size(size.0, size.1)));
    }
    process.say(Event::Stdout(text("bye"))).await;
    process.say(Event::Exit(0)).await;
    let rest = client.rest().await;
    assert_eq!(rest.bytes(stdout), b"bye");
    assert_eq!(rest.status(error)["status"], "Success");
    process.dropped().await;
}

#[tokio::test]
async fn a_client_cut_off_at_any_byte_leaves_no_process() {
    let (stage, mut wings) = Stage::new();
    let (server, _tasks) = server(Config::default(), stage).await;
    let mut encoder = Encoder::new();
    let mut session = Vec::new();
    for (stream, kind) in [(1, "error"), (3, "stdin"), (5, "stdout"), (7, "resize")] {
        session.extend(encoder.syn(stream, &[("streamtype", kind)]));
    }
    let all_open = session.len();
    session.extend(data(7, false, br#"{"Width":80,"Height":24}"#));
    session.extend(data(3, false, b"some input"));
    session.extend(ping(1));
    session.extend(data(3, true, b""));
    let attach =
        AttachRequest { container: "box".into(), tty: true, stdin: true, stdout: true, stderr: false };
    for length in 0..=session.len() {
        for url in [server.exec(tty()).unwrap(), server.attach(attach.clone()).unwrap()] {
            let mut client = Client::open(&url, ALL).await;
            client.send(&session[..length]).await;
            if length < all_open {
                continue;
            }
            let process = soon("the start", wings.started.recv()).await.unwrap();
            process.say(Event::Stdout(text("output under way"))).await;
            drop(client);
            process.dropped().await;
        }
    }
    soon("the end of them all", wings.alive.wait_for(|alive| *alive == 0)).await.unwrap();
    assert!(wings.started.try_recv().is_err(), "nothing was started for half a session");
}

#[tokio::test]
async fn attach_succeeds_with_any_exit_code_and_fails_when_the_process_is_lost() {
    let request =
        AttachRequest { container: "box".into(), tty: false, stdin: false, stdout: true, stderr: false };
    let (stage, mut wings) = Stage::new();
    let (server, _tasks) = server(Config::default(), stage).await;
    for exits in [true, false] {
        let mut client = Client::open(&server.attach(request.clone()).unwrap(), ALL).await;
        let (error, _stdout) = (client.stream("error").await, client.stream("stdout").await);
        let process = soon("the start", wings.started.recv()).await.unwrap();
        if exits {
            process.say(Event::Exit(3)).await;
        } else {
            drop(process);
        }
        let status = client.rest().await.status(error);
        assert_eq!(status["status"], if exits { "Success" } else { "Failure" });
    }
}

#[tokio::test]
async fn what_the_backend_refuses_reaches_the_client() {
    let (server, _tasks) = server(Config::default(), std::sync::Arc::new(Refusing::default())).await;
    let request = ExecRequest { stdin: false, stderr: false, ..exec() };
    for (protocol, json) in [("v4.channel.k8s.io", true), ("v2.channel.k8s.io", false)] {
        let mut client = Client::open(&server.exec(request.clone()).unwrap(), protocol).await;
        let (error, stdout) = (client.stream("error").await, client.stream("stdout").await);
        let rest = client.rest().await;
        let message = "Internal error occurred: container \"box\" is not running";
        if json {
            assert_eq!(rest.status(error)["message"], message);
        } else {
            assert_eq!(rest.bytes(error), message.as_bytes());
        }
        assert_eq!(rest.bytes(stdout), b"");
    }
}

#[tokio::test]
async fn streams_that_were_not_asked_for_or_come_twice_are_refused() {
    let (stage, mut wings) = Stage::new();
    let (server, _tasks) = server(Config::default(), stage).await;
    let request = ExecRequest { stdin: false, stderr: false, ..exec() };
    let mut client = Client::open(&server.exec(request).unwrap(), ALL).await;
    let error = client.stream("error").await;
    for kind in ["stdin", "error", "nonsense"] {
        let stream = client.syn(&[("streamtype", kind)]).await;
        assert_eq!(client.frame().await, Some(Frame::Reset { stream, status: 3 }), "{kind}");
    }
    let stream = client.syn(&[("StreamType", "stdout")]).await;
    assert_eq!(client.frame().await, Some(Frame::Reset { stream, status: 1 }), "upper case");
    let stdout = client.stream("stdout").await;
    let process = soon("the start", wings.started.recv()).await.unwrap();
    let late = client.syn(&[("streamtype", "stdin")]).await;
    assert_eq!(client.frame().await, Some(Frame::Reset { stream: late, status: 3 }));
    process.say(Event::Stdout(text("fine"))).await;
    process.say(Event::Exit(0)).await;
    let rest = client.rest().await;
    assert_eq!(rest.bytes(stdout), b"fine", "header blocks stay in step");
    assert_eq!(rest.status(error)["status"], "Success");
}

#[tokio::test]
async fn a_client_that_does_not_open_its_streams_is_told_and_sent_away() {
    let config = Config { creation_timeout: Duration::from_millis(50), ..Config::default() };
    let (stage, _wings) = Stage::new();
    let (server, _tasks) = server(config, stage.clone()).await;
    let mut client = Client::open(&server.exec(exec()).unwrap(), ALL).await;
    let error = client.stream("error").await;
    let status = client.rest().await.status(error);
    assert!(status["message"].as_str().unwrap().contains("stdin, stdout, stderr missing"), "{status}");
    let mut silent = Client::open(&server.exec(exec()).unwrap(), ALL).await;
    assert_eq!(silent.rest().await.others, [Frame::GoAway { last: 0, status: 0 }]);
    assert_eq!(stage.calls.load(std::sync::atomic::Ordering::SeqCst), 0, "nothing was run");
}

#[tokio::test]
async fn pings_are_answered_and_what_means_nothing_is_passed_over() {
    let (stage, mut wings) = Stage::new();
    let (server, _tasks) = server(Config::default(), stage).await;
    let mut client = Client::open(&server.exec(tty()).unwrap(), ALL).await;
    // SETTINGS, WINDOW_UPDATE, and a kind that nobody has defined.
    for (kind, length) in [(4, 12), (9, 8), (77, 100_000)] {
        client.send(&control(kind, 0, &vec![0; length])).await;
    }
    client.send(&[ping(2), ping(1)].concat()).await;
    assert_eq!(client.frame().await, Some(Frame::Ping { id: 1 }), "even ids are not ours to answer");
    for kind in ["error", "stdin", "stdout", "resize"] {
        client.stream(kind).await;
    }
    let process = soon("the start", wings.started.recv()).await.unwrap();
    client.send(&data(99, false, b"x")).await;
    assert_eq!(client.frame().await, Some(Frame::Reset { stream: 99, status: 2 }));
    client.send(&[reset(5), ping(3)].concat()).await;
    client.until(&Frame::Ping { id: 3 }).await;
    // Output that the client does not want any more is thrown away.
    process.say(Event::Stdout(text("unwanted"))).await;
    process.say(Event::Exit(0)).await;
    let rest = client.rest().await;
    assert_eq!(rest.bytes(5), b"");
    assert_eq!(rest.status(1)["status"], "Success");
}

#[tokio::test]
async fn a_slow_reader_slows_the_process_and_loses_nothing() {
    let (stage, mut wings) = Stage::new();
    let (server, _tasks) = server(Config::default(), stage).await;
    let request = ExecRequest { stdin: false, stderr: false, ..exec() };
    let mut client = Client::open(&server.exec(request).unwrap(), ALL).await;
    let (error, stdout) = (client.stream("error").await, client.stream("stdout").await);
    let process = soon("the start", wings.started.recv()).await.unwrap();
    let piece = Bytes::from(vec![b'y'; 64 * 1024]);
    // Far more than the socket and all queues hold: at some time the process has to wait.
    let mut sent = 0;
    while let Ok(permit) = tokio::time::timeout(Duration::from_millis(300), process.events.reserve()).await {
        permit.unwrap().send(Ok(Event::Stdout(piece.clone())));
        sent += piece.len();
        assert!(sent < 256 << 20, "the server takes in output without end");
    }
    let (rest, ()) = tokio::join!(client.rest(), process.say(Event::Exit(0)));
    assert_eq!(rest.bytes(stdout).len(), sent);
    assert_eq!(rest.status(error)["status"], "Success");
}

#[tokio::test]
async fn a_client_that_goes_while_stdin_is_stuck_is_noticed() {
    let (stage, mut wings) = Stage::with_stdin_queue(1);
    let (server, _tasks) = server(Config::default(), stage).await;
    let mut client = Client::open(&server.exec(tty()).unwrap(), ALL).await;
    for kind in ["error", "stdin", "stdout", "resize"] {
        client.stream(kind).await;
    }
    let process = soon("the start", wings.started.recv()).await.unwrap();
    let piece = data(3, false, &vec![0; 64 * 1024]);
    let stuck = async { while client.socket.write_all(&piece).await.is_ok() {} };
    // Until the server has not taken anything for a while.
    let _ = tokio::time::timeout(Duration::from_millis(500), stuck).await;
    drop(client);
    process.dropped().await;
}
