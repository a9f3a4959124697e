//! An HTTP server that answers by a script and remembers what it was asked, for what a real registry does not do.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) authorization: Option<String>,
    /// N of `Range: bytes=N-`.
    pub(crate) from: Option<usize>,
    pub(crate) body: String,
}

/// Status line and headers, then the body.
pub(crate) struct Answer {
    head: String,
    body: Vec<u8>,
    end: End,
}

/// How an answer goes on behind its head.
#[derive(Clone, Copy)]
pub(crate) enum End {
    Whole,
    /// Announces all, sends so many bytes, resets the connection.
    Reset(usize),
    /// Announces all, sends so many bytes, closes the connection.
    Cut(usize),
    /// Announces nothing, sends so many bytes, closes the connection.
    Close(usize),
    /// Announces all, sends so many bytes and then none.
    Stall(usize),
    /// Sends it in so many parts with a pause between.
    Dribble(usize, Duration),
    /// Sends it over and over.
    Endless,
    /// Hangs up instead of answering.
    Nothing,
}

impl From<(String, Vec<u8>)> for Answer {
    fn from((head, body): (String, Vec<u8>)) -> Self {
        Self { head, body, end: End::Whole }
    }
}

impl Answer {
    pub(crate) fn new(head: &str, body: &[u8]) -> Self {
        Self::from((head.to_owned(), body.to_vec()))
    }

    pub(crate) fn ending(self, end: End) -> Self {
        Self { end, ..self }
    }
}

type Script = Arc<dyn Fn(&Request) -> Answer + Send + Sync>;

pub(crate) struct Scripted {
    pub(crate) address: String,
    asked: Arc<Mutex<Vec<Request>>>,
    accepting: tokio::task::JoinHandle<()>,
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Scripted {
    #[expect(clippy::disallowed_methods, reason = "a test has no task group")]
    pub(crate) async fn start<A: Into<Answer>>(
        script: impl Fn(&Request) -> A + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (script, seen): (Script, _) = (Arc::new(move |request| script(request).into()), asked.clone());
        let accepting = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, script.clone(), seen.clone()));
            }
        });
        Self { address, asked, accepting }
    }

    pub(crate) fn requests(&self) -> Vec<Request> {
        self.asked.lock().unwrap().clone()
    }

    /// Path and `Authorization` of every request.
    pub(crate) fn asked(&self) -> Vec<(String, Option<String>)> {
        self.requests().into_iter().map(|request| (request.path, request.authorization)).collect()
    }

    /// From where the blob was asked for, each time.
    pub(crate) fn ranges(&self, digest: &str) -> Vec<Option<usize>> {
        let requests = self.requests();
        requests.iter().filter(|request| request.path.contains(digest)).map(|request| request.from).collect()
    }
}

async fn read_request(stream: &mut TcpStream) -> Option<Request> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    let text = String::from_utf8(head).unwrap();
    let mut lines = text.lines();
    let mut first = lines.next()?.split(' ').map(str::to_owned);
    let headers: HashMap<String, &str> =
        lines.filter_map(|line| line.split_once(": ")).map(|(k, v)| (k.to_lowercase(), v)).collect();
    let length = headers.get("content-length").map_or(0, |length| length.parse().unwrap());
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    let from = headers.get("range").map(|range| {
        range.strip_prefix("bytes=").and_then(|range| range.strip_suffix('-')).unwrap().parse().unwrap()
    });
    Some(Request {
        method: first.next()?,
        path: first.next()?,
        authorization: headers.get("authorization").map(|&value| value.to_owned()),
        from,
        body: String::from_utf8(body).unwrap(),
    })
}

async fn serve(mut stream: TcpStream, script: Script, asked: Arc<Mutex<Vec<Request>>>) {
    let Some(request) = read_request(&mut stream).await else { return };
    asked.lock().unwrap().push(request.clone());
    let answer = script(&request);
    // A client that hangs up early is part of the game.
    drop(send(&mut stream, &request, &answer).await);
}

async fn send(stream: &mut TcpStream, request: &Request, answer: &Answer) -> std::io::Result<()> {
    let (body, end) = (&answer.body, answer.end);
    let length = match end {
        End::Close(_) | End::Endless => String::new(),
        _ => format!("content-length: {}\r\n", body.len()),
    };
    let head = format!("HTTP/1.1 {}\r\nconnection: close\r\n{length}\r\n", answer.head);
    if matches!(end, End::Nothing) {
        return Ok(());
    }
    stream.write_all(head.as_bytes()).await?;
    if request.method == "HEAD" {
        return Ok(());
    }
    match end {
        End::Nothing => {}
        End::Whole => stream.write_all(body).await?,
        End::Cut(count) | End::Close(count) => stream.write_all(&body[..count.min(body.len())]).await?,
        End::Reset(count) => {
            stream.write_all(&body[..count.min(body.len())]).await?;
            stream.set_zero_linger()?;
        }
        End::Stall(count) => {
            stream.write_all(&body[..count.min(body.len())]).await?;
            // Until the client gives up.
            while stream.read_u8().await.is_ok() {}
        }
        End::Dribble(parts, pause) => {
            for part in body.chunks(body.len().div_ceil(parts)) {
                stream.write_all(part).await?;
                tokio::time::sleep(pause).await;
            }
        }
        End::Endless => loop {
            stream.write_all(body).await?;
        },
    }
    Ok(())
}
