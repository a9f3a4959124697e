//! Clients that vanish, lie, flood or fall asleep: the process is let go each time, and others are served on.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::sync::atomic::Ordering;
use std::time::Duration;

use streaming::{Config, Event, Server};
use support::backend::{Stage, Wings};
use support::client::{Client, Encoder, Frame, ask, control, data, ping, syn_of, upgrade_request};
use support::{forward, server, soon, tty};
use tokio::io::AsyncWriteExt;

const PROTOCOL: &str = "v4.channel.k8s.io";

/// A client with a running process.
async fn running(server: &Server, wings: &mut Wings) -> (Client, support::backend::Played) {
    let mut client = Client::open(&server.exec(tty()).unwrap(), PROTOCOL).await;
    for kind in ["error", "stdin", "stdout", "resize"] {
        client.stream(kind).await;
    }
    (client, soon("the start", wings.started.recv()).await.unwrap())
}

async fn nothing_alive(wings: &mut Wings) {
    soon("the end of all processes", wings.alive.wait_for(|alive| *alive == 0)).await.unwrap();
}

#[tokio::test]
async fn a_client_cut_off_at_any_byte_leaves_no_process() {
    let (stage, mut wings) = Stage::new();
    let (server, _tasks) = server(Config::default(), stage.clone()).await;
    let mut encoder = Encoder::new();
    let mut session = Vec::new();
    for (stream, kind) in [(1, "error"), (3, "stdin"), (5, "stdout"), (7, "resize")] {
        session.extend(encoder.syn(stream, &[("streamtype", kind)]));
    }
    let complete = session.len();
    session.extend(data(3, false, b"some input"));
    session.extend(ping(1));
    session.extend(data(7, false, br#"{"Width":80,"Height":24}"#));
    session.extend(data(3, true, b"last input"));

    let mut started = 0;
    for length in 0..=session.len() {
        let mut client = Client::open(&server.exec(tty()).unwrap(), PROTOCOL).await;
        client.send(&session[..length]).await;
        let process = if length >= complete {
            started += 1;
            Some(soon("the start", wings.started.recv()).await.unwrap())
        } else {
            None
        };
        drop(client);
        if let Some(process) = process {
            process.dropped().await;
        }
    }
    nothing_alive(&mut wings).await;
    assert_eq!(stage.calls.load(Ordering::SeqCst), started, "a process needs all of its streams");
}

#[tokio::test]
async fn a_request_cut_off_at_any_byte_costs_nothing() {
    let (stage, _wings) = Stage::new();
    let (server, _tasks) = server(Config::default(), stage.clone()).await;
    let url = server.exec(tty()).unwrap();
    let (address, request) = upgrade_request(&url, PROTOCOL);
    for length in 0..request.len() {
        let mut socket = tokio::net::TcpStream::connect(&address).await.unwrap();
        socket.write_all(&request.as_bytes()[..length]).await.unwrap();
    }
    let (_socket, head) = ask(&address, &request).await;
    assert!(head.starts_with("HTTP/1.1 101 "), "the token is still good: {head}");
    assert_eq!(stage.calls.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn whoever_breaks_the_protocol_is_told_and_cut_off() {
    let (stage, mut wings) = Stage::new();
    let (server, _tasks) = server(Config::default(), stage).await;
    let bomb = |encoder: &mut Encoder| syn_of(9, 0, &encoder.block(&vec![0; 8 << 20]));
    type Attack = Box<dyn Fn(&mut Encoder) -> Vec<u8>>;
    let attacks: [(&str, Attack); 8] = [
        ("bomb", Box::new(bomb)),
        ("garbage headers", Box::new(|_| syn_of(9, 0, &[0xff; 100]))),
        ("headers frame of garbage", Box::new(|_| control(8, 0, &[[0, 0, 0, 1], [0xff; 4]].concat()))),
        ("huge control frame", Box::new(|_| vec![0x80, 3, 0, 1, 0, 0xff, 0xff, 0xff])),
        ("version 2", Box::new(|_| vec![0x80, 2, 0, 6, 0, 0, 0, 4, 0, 0, 0, 1])),
        ("stream 0", Box::new(|_| data(0, false, b"x"))),
        ("short reset", Box::new(|_| control(3, 0, &[0, 0]))),
        ("short syn", Box::new(|_| control(1, 0, &[0, 0, 0, 9, 0]))),
    ];
    for (name, attack) in attacks {
        let (mut client, process) = running(&server, &mut wings).await;
        let bytes = attack(&mut client.encoder);
        client.send(&bytes).await;
        let rest = client.rest().await;
        assert_eq!(rest.others.last(), Some(&Frame::GoAway { last: 7, status: 1 }), "{name}");
        process.dropped().await;
    }
}

#[tokio::test]
async fn random_bytes_never_do_harm() {
    let (stage, mut wings) = Stage::new();
    let (server, _tasks) = server(Config::default(), stage).await;
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    for _ in 0..200 {
        let (mut client, process) = running(&server, &mut wings).await;
        let mut bytes = Vec::new();
        while bytes.len() < 2048 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            bytes.extend(state.to_be_bytes());
        }
        // Short frames, so that many of them are looked into: half control frames of any kind, half data of any stream.
        for frame in bytes.chunks_mut(24) {
            let [first, second, third, kind, .., high, middle, low] = &mut frame[..8] else {
                panic!("eight bytes")
            };
            (*high, *middle, *low) = (0, 0, 16);
            (*first, *second, *third) = if *kind & 1 == 0 { (0x80, 3, 0) } else { (0, 0, 0) };
            *kind = *kind / 2 % 12;
        }
        // The server may close while we still send.
        let _ = client.socket.write_all(&bytes).await;
        drop(client);
        process.dropped().await;
    }
    let (mut client, process) = running(&server, &mut wings).await;
    process.say(Event::Exit(0)).await;
    assert_eq!(client.rest().await.status(1)["status"], "Success", "others are served on");
}

#[tokio::test]
async fn stream_ids_that_go_back_or_are_even_are_reset() {
    let (stage, mut wings) = Stage::new();
    let (server, _tasks) = server(Config::default(), stage).await;
    let (mut client, process) = running(&server, &mut wings).await;
    for stream in [10, 7] {
        let frame = client.encoder.syn(stream, &[("streamtype", "stdin")]);
        client.send(&frame).await;
        assert_eq!(client.frame().await, Some(Frame::Reset { stream, status: 1 }));
    }
    client.send(&data(3, true, b"")).await;
    client.send(&data(3, false, b"after the end")).await;
    assert_eq!(client.frame().await, Some(Frame::Reset { stream: 3, status: 9 }));
    process.say(Event::Exit(0)).await;
    assert_eq!(client.rest().await.status(1)["status"], "Success");
}

#[tokio::test]
async fn a_flood_of_questions_without_listening_is_cut_off() {
    let (stage, mut wings) = Stage::new();
    let (server, _tasks) = server(Config::default(), stage).await;
    let (mut client, process) = running(&server, &mut wings).await;
    let pings = ping(1).repeat(4096);
    let flood = async { while client.socket.write_all(&pings).await.is_ok() {} };
    soon("cutting off", flood).await;
    process.dropped().await;
}

#[tokio::test]
async fn an_idle_connection_is_closed_and_pings_keep_it() {
    let idle_timeout = Duration::from_millis(300);
    let (stage, mut wings) = Stage::new();
    let (server, _tasks) = server(Config { idle_timeout, ..Config::default() }, stage).await;
    let (mut client, process) = running(&server, &mut wings).await;
    let start = tokio::time::Instant::now();
    let mut ticks = tokio::time::interval(idle_timeout / 10);
    for id in (1..61).step_by(2) {
        ticks.tick().await;
        client.send(&ping(id)).await;
        assert_eq!(client.frame().await, Some(Frame::Ping { id }));
    }
    assert!(start.elapsed() > idle_timeout * 2);
    assert_eq!(client.frame().await, None);
    process.dropped().await;

    let mut forwarding = Client::open(&server.port_forward(forward()).unwrap(), "portforward.k8s.io").await;
    assert_eq!(forwarding.frame().await, None, "nothing was ever forwarded");
}

#[tokio::test]
async fn everything_ends_with_the_group() {
    let (stage, mut wings) = Stage::new();
    let (server, tasks) = server(Config::default(), stage).await;
    let (mut client, process) = running(&server, &mut wings).await;
    let address = server.address();
    assert!(tasks.stop(support::LIMIT).await, "no task is left");
    process.dropped().await;
    assert_eq!(client.frame().await, None);
    assert!(tokio::net::TcpStream::connect(address).await.is_err(), "nobody listens any more");
}

/// The probes of a stuck client are ours, every five seconds: they do not count as life.
#[tokio::test]
async fn a_client_that_is_stuck_is_idle() {
    let idle_timeout = Duration::from_secs(6);
    let (stage, mut wings) = Stage::with_stdin_queue(1);
    let (server, _tasks) = server(Config { idle_timeout, ..Config::default() }, stage).await;
    let (mut client, process) = running(&server, &mut wings).await;
    let input = data(3, false, &[0; 64 * 1024]);
    // Until the server closes: the process takes nothing.
    let stuck = async { while client.socket.write_all(&input).await.is_ok() {} };
    soon("the end of an idle connection", stuck).await;
    process.dropped().await;
}
