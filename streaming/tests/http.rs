//! The HTTP side: what is answered to requests that open no session, tokens, and limits before a session.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::sync::atomic::Ordering;
use std::time::Duration;

use streaming::{Config, Server};
use support::backend::Stage;
use support::client::{Client, ask, upgrade_request};
use support::{exec, forward, server, soon};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const EXEC: &str = "v4.channel.k8s.io";

async fn answer(server: &Server, request: &str) -> String {
    ask(&server.address().to_string(), request).await.1
}

#[tokio::test]
async fn requests_that_open_nothing_are_told_why_and_use_up_no_token() {
    let (stage, _wings) = Stage::new();
    let (server, _tasks) = server(Config::default(), stage.clone()).await;
    let url = server.exec(exec()).unwrap();
    let (_, good) = upgrade_request(&url, EXEC);
    let path = good.split(' ').nth(1).unwrap().to_owned();
    let cases = [
        (good.replace("POST", "DELETE"), "405"),
        (good.replace("/exec/", "/attach/"), "404"),
        (good.replace("/exec/", "/nonsense/"), "404"),
        (good.replace(&path, "/exec/"), "404"),
        (good.replace(&path, "/"), "404"),
        (good.replace("Connection: Upgrade\r\n", ""), "400"),
        (good.replace("SPDY/3.1", "websocket"), "400"),
        (good.replace(&format!("X-Stream-Protocol-Version: {EXEC}\r\n"), ""), "400"),
        (good.replace(EXEC, "v5.channel.k8s.io"), "403"),
        (good.replace(EXEC, "portforward.k8s.io"), "403"),
    ];
    for (request, status) in cases {
        let head = answer(&server, &request).await;
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{request}\n{head}");
        let named = head.contains("x-accepted-stream-protocol-versions: v4.channel.k8s.io");
        assert_eq!(named, status == "403", "{head}");
    }
    // GET is as good as POST, and the protocols may come in headers of their own.
    let several = format!("v5.channel.k8s.io\r\nX-Stream-Protocol-Version: {EXEC}");
    let head = answer(&server, &good.replace("POST", "GET").replace(EXEC, &several)).await;
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    for header in ["connection: Upgrade", "upgrade: SPDY/3.1", &format!("x-stream-protocol-version: {EXEC}")]
    {
        assert!(head.contains(&format!("\r\n{header}\r\n")), "{head}");
    }
    assert_eq!(stage.calls.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_url_is_good_once_and_for_a_short_time() {
    let config = Config { token_lifetime: Duration::from_millis(100), ..Config::default() };
    let (stage, _wings) = Stage::new();
    let (server, _tasks) = server(config, stage).await;
    let url = server.port_forward(forward()).unwrap();
    assert!(url.starts_with(&format!("http://127.0.0.1:{}/portforward/", server.address().port())));
    let _client = Client::open(&url, "portforward.k8s.io").await;
    let (_, again) = upgrade_request(&url, "portforward.k8s.io");
    assert!(answer(&server, &again).await.starts_with("HTTP/1.1 404 "));

    let (_, late) = upgrade_request(&server.exec(exec()).unwrap(), EXEC);
    tokio::time::sleep(Duration::from_millis(150)).await;
    assert!(answer(&server, &late).await.starts_with("HTTP/1.1 404 "));
}

#[tokio::test]
async fn sessions_are_limited_and_a_refused_url_stays_good() {
    let config = Config { max_connections: 1, ..Config::default() };
    let (stage, _wings) = Stage::new();
    let (server, _tasks) = server(config, stage).await;
    let first = Client::open(&server.exec(exec()).unwrap(), EXEC).await;
    let (_, second) = upgrade_request(&server.exec(exec()).unwrap(), EXEC);
    assert!(answer(&server, &second).await.starts_with("HTTP/1.1 503 "));
    drop(first);
    let served = async { while !answer(&server, &second).await.starts_with("HTTP/1.1 101 ") {} };
    soon("the place of the first", served).await;
}

#[tokio::test]
async fn what_comes_right_behind_the_request_is_not_lost() {
    let (stage, mut wings) = Stage::new();
    let (server, _tasks) = server(Config::default(), stage).await;
    let (address, request) = upgrade_request(&server.exec(exec()).unwrap(), EXEC);
    let mut encoder = support::client::Encoder::new();
    let mut bytes = request.into_bytes();
    for (stream, kind) in [(1, "error"), (3, "stdin"), (5, "stdout"), (7, "stderr")] {
        bytes.extend(encoder.syn(stream, &[("streamtype", kind)]));
    }
    bytes.extend(support::client::data(3, true, b"at once"));
    let mut socket = tokio::net::TcpStream::connect(address).await.unwrap();
    socket.write_all(&bytes).await.unwrap();
    let mut process = soon("the start", wings.started.recv()).await.unwrap();
    assert_eq!(process.stdin().await, b"at once");
}

#[tokio::test]
async fn endless_headers_and_silence_are_cut_off() {
    let (stage, _wings) = Stage::new();
    let (server, _tasks) = server(Config::default(), stage).await;
    let endless = format!("GET /exec/x HTTP/1.1\r\nX: {}", "a".repeat(64 * 1024));
    let head = answer(&server, &endless).await;
    assert!(head.is_empty() || head.starts_with("HTTP/1.1 431 "), "{head}");
    let many: String = (0..100).map(|n| format!("X-{n}: y\r\n")).collect();
    let head = answer(&server, &format!("GET /exec/x HTTP/1.1\r\n{many}\r\n")).await;
    assert!(head.starts_with("HTTP/1.1 431 "), "{head}");

    let mut silent = tokio::net::TcpStream::connect(server.address()).await.unwrap();
    silent.write_all(b"GET /exec/x HT").await.unwrap();
    let mut rest = Vec::new();
    // A reset is as good an end as a close.
    let _ = soon("the cut", silent.read_to_end(&mut rest)).await;
}

/// More than may shake hands at a time stay silent: those that came first go, and the next client is served at once.
#[tokio::test]
async fn silent_clients_do_not_keep_others_out() {
    let (stage, _wings) = Stage::new();
    let (server, _tasks) = server(Config::default(), stage).await;
    let mut silent = Vec::new();
    for _ in 0..260 {
        silent.push(tokio::net::TcpStream::connect(server.address()).await.unwrap());
    }
    let head = answer(&server, "GET / HTTP/1.1\r\n\r\n").await;
    assert!(head.starts_with("HTTP/1.1 404 "), "{head}");
    // Had the answer waited for a place, the last would have been cut by now, too.
    let last = silent.pop().unwrap().try_read(&mut [0]);
    assert_eq!(last.unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
    let _ = soon("the cut of the first", silent[0].read_to_end(&mut Vec::new())).await;
}
