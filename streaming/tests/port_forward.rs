//! Port-forward from a client's point of view.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::time::Duration;

use streaming::{Config, Server};
use support::backend::{CLOSED_PORT, Stage, Wings};
use support::client::{Client, Encoder, Frame, data, ping, reset};
use support::{forward, server, soon};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::sync::mpsc;

const PROTOCOL: &str = "portforward.k8s.io";

async fn connection(connections: &mut mpsc::Receiver<(u16, DuplexStream)>, port: u16) -> DuplexStream {
    let (dialled, connection) = soon("the connection", connections.recv()).await.unwrap();
    assert_eq!(dialled, port);
    connection
}

async fn replied(client: &mut Client, streams: (u32, u32)) {
    for stream in [streams.0, streams.1] {
        assert_eq!(client.frame().await, Some(Frame::Reply { stream }));
    }
}

/// A client with a connection to port 80.
async fn forwarding(server: &Server, wings: &mut Wings) -> (Client, (u32, u32), DuplexStream) {
    let mut client = Client::open(&server.port_forward(forward()).unwrap(), PROTOCOL).await;
    let pair = client.pair(80, "0").await;
    replied(&mut client, pair).await;
    let pod = connection(&mut wings.connections, 80).await;
    (client, pair, pod)
}

#[tokio::test]
async fn pairs_live_and_fail_on_their_own() {
    let (stage, mut wings) = Stage::new();
    let (server, _tasks) = server(Config::default(), stage).await;
    let (mut client, first, mut first_pod) = forwarding(&server, &mut wings).await;

    let failing = client.pair(CLOSED_PORT, "1").await;
    let message = client.until_finished(failing.0).await;
    let message = String::from_utf8(message).unwrap();
    assert_eq!(message, "error forwarding port 81 to sandbox pod: connection refused");

    let second = client.pair(8080, "2").await;
    client.until(&Frame::Reply { stream: second.1 }).await;
    let mut second_pod = connection(&mut wings.connections, 8080).await;
    for (pair, pod, word) in [(first, &mut first_pod, b"one"), (second, &mut second_pod, b"two")] {
        client.send(&data(pair.1, true, word)).await;
        let mut got = Vec::new();
        soon("the upload", pod.read_to_end(&mut got)).await.unwrap();
        assert_eq!(got, word, "a half-close ends one direction");
        pod.write_all(&got).await.unwrap();
        pod.shutdown().await.unwrap();
        assert_eq!(client.until_finished(pair.1).await, word);
        assert_eq!(client.until_finished(pair.0).await, b"", "no error");
    }
}

#[tokio::test]
async fn a_client_cut_off_at_any_byte_leaves_no_connection() {
    let (stage, mut wings) = Stage::new();
    let (server, _tasks) = server(Config::default(), stage).await;
    let mut encoder = Encoder::new();
    let mut session = Vec::new();
    let mut pairs_complete = Vec::new();
    for (first, request) in [(1, "0"), (5, "1")] {
        for (stream, kind) in [(first, "error"), (first + 2, "data")] {
            let headers = [("streamtype", kind), ("port", "80"), ("requestid", request)];
            session.extend(encoder.syn(stream, &headers));
        }
        pairs_complete.push(session.len());
        session.extend(data(first + 2, false, b"some input"));
    }
    session.extend(ping(1));
    session.extend(data(3, true, b""));
    session.extend(reset(7));

    for length in 0..=session.len() {
        let mut client = Client::open(&server.port_forward(forward()).unwrap(), PROTOCOL).await;
        client.send(&session[..length]).await;
        let mut pods = Vec::new();
        for _ in pairs_complete.iter().filter(|complete| **complete <= length) {
            pods.push(connection(&mut wings.connections, 80).await);
        }
        drop(client);
        for mut pod in pods {
            let mut got = Vec::new();
            soon("the end in the pod", pod.read_to_end(&mut got)).await.unwrap();
            assert!(b"some input".starts_with(&got), "cut at {length}: {got:?}");
            let talk = async { while pod.write_all(b"is anybody there?").await.is_ok() {} };
            soon("the end of the other half", talk).await;
        }
    }
    forwarding(&server, &mut wings).await;
}

#[tokio::test]
async fn the_pod_may_close_first_and_still_be_written_to() {
    let (stage, mut wings) = Stage::new();
    let (server, _tasks) = server(Config::default(), stage).await;
    let (mut client, pair, mut pod) = forwarding(&server, &mut wings).await;
    pod.write_all(b"greeting").await.unwrap();
    pod.shutdown().await.unwrap();
    assert_eq!(client.until_finished(pair.1).await, b"greeting");
    client.send(&data(pair.1, true, b"answer")).await;
    let mut got = Vec::new();
    soon("the upload", pod.read_to_end(&mut got)).await.unwrap();
    assert_eq!(got, b"answer");
}

#[tokio::test]
async fn a_reset_ends_the_connection_in_the_pod_at_any_stage() {
    let (stage, mut wings) = Stage::new();
    let (server, _tasks) = server(Config::default(), stage).await;
    let mut client = Client::open(&server.port_forward(forward()).unwrap(), PROTOCOL).await;
    for (request, finish_first) in [("0", false), ("1", true)] {
        let pair = client.pair(80, request).await;
        client.until(&Frame::Reply { stream: pair.1 }).await;
        let mut pod = connection(&mut wings.connections, 80).await;
        if finish_first {
            client.send(&data(pair.1, true, b"")).await;
            assert_eq!(soon("the end", pod.read(&mut [0; 8])).await.unwrap(), 0);
        }
        client.send(&reset(pair.1)).await;
        // The server lets go of the connection: writing fails once it has.
        soon("the close", async { while pod.write_all(&[0; 512]).await.is_ok() {} }).await;
    }
    client.send(&ping(1)).await;
    client.until(&Frame::Ping { id: 1 }).await;
}

#[tokio::test]
async fn a_stream_whose_target_does_not_read_does_not_block_the_others_for_ever() {
    let (stage, mut wings) = Stage::new();
    let (server, _tasks) = server(Config::default(), stage).await;
    let mut client = Client::open(&server.port_forward(forward()).unwrap(), PROTOCOL).await;
    let stuck = client.pair(80, "0").await;
    let other = client.pair(8080, "1").await;
    for stream in [stuck.0, stuck.1, other.0, other.1] {
        client.until(&Frame::Reply { stream }).await;
    }
    let _stuck_pod = connection(&mut wings.connections, 80).await;
    let mut other_pod = connection(&mut wings.connections, 8080).await;
    for _ in 0..16 {
        client.send(&data(stuck.1, false, &vec![0; 64 * 1024])).await;
    }
    client.send(&data(other.1, true, b"through")).await;
    let mut got = Vec::new();
    soon("the other upload", other_pod.read_to_end(&mut got)).await.unwrap();
    assert_eq!(got, b"through");
    client.until(&Frame::Reset { stream: stuck.1, status: 7 }).await;
}

#[tokio::test]
async fn half_a_pair_is_given_up_in_time() {
    let config = Config { creation_timeout: Duration::from_millis(50), ..Config::default() };
    let (stage, _wings) = Stage::new();
    let (server, _tasks) = server(config, stage).await;
    let mut client = Client::open(&server.port_forward(forward()).unwrap(), PROTOCOL).await;
    let error = client.syn(&[("streamtype", "error"), ("port", "80"), ("requestid", "0")]).await;
    assert_eq!(client.until_finished(error).await, b"timed out waiting for the data stream");
    let data = client.syn(&[("streamtype", "data"), ("port", "80"), ("requestid", "1")]).await;
    client.until(&Frame::Reset { stream: data, status: 5 }).await;
}

#[tokio::test]
async fn streams_are_limited_and_can_be_opened_again_after_others_ended() {
    let (stage, _wings) = Stage::new();
    let (server, _tasks) = server(Config::default(), stage).await;
    let mut client = Client::open(&server.port_forward(forward()).unwrap(), PROTOCOL).await;
    for request in 0..1000 {
        let request = request.to_string();
        let headers = [("streamtype", "error"), ("port", "80"), ("requestid", request.as_str())];
        let stream = client.syn(&headers).await;
        assert_eq!(client.frame().await, Some(Frame::Reply { stream }));
    }
    let headers = [("streamtype", "error"), ("port", "80"), ("requestid", "more")];
    let stream = client.syn(&headers).await;
    assert_eq!(client.frame().await, Some(Frame::Reset { stream, status: 3 }));
    client.send(&reset(1)).await;
    let stream = client.syn(&headers).await;
    assert_eq!(client.frame().await, Some(Frame::Reply { stream }));
}

/// As older clients, which close only when they are told that the connection is over.
#[tokio::test]
async fn a_client_that_says_nothing_more_is_not_waited_for() {
    let (stage, mut wings) = Stage::new();
    let (server, _tasks) = server(Config::default(), stage).await;
    let (mut client, pair, mut pod) = forwarding(&server, &mut wings).await;
    pod.write_all(b"all there is").await.unwrap();
    pod.shutdown().await.unwrap();
    assert_eq!(client.until_finished(pair.1).await, b"all there is");
    assert_eq!(client.until_finished(pair.0).await, b"", "the error stream ends without an error");
    assert_eq!(soon("the end", pod.read_to_end(&mut Vec::new())).await.unwrap(), 0);
}
