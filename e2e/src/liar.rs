//! A registry that answers by a script, for all that a real one does not say.
//!
//! One server plays many registries: a repository's name tells the script which.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use crate::images::{Image, MANIFEST};

/// What was asked.
#[derive(Clone, Debug)]
pub struct Request {
    pub method: String,
    /// Without the query.
    pub path: String,
    /// The value of `Authorization`.
    pub authorization: Option<String>,
}

impl Request {
    /// Whether a manifest is asked for.
    pub fn is_manifest(&self) -> bool {
        self.path.contains("/manifests/")
    }
}

/// How an answer goes on behind its head.
#[derive(Clone, Copy)]
enum End {
    Whole,
    /// Announces all, sends so many bytes.
    Cut(usize),
    /// Announces nothing, sends so many bytes.
    Close(usize),
    /// Announces nothing and sends it over and over.
    Endless,
}

/// What is answered.
pub struct Answer {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
    end: End,
}

impl Answer {
    /// A status and a body that is announced and sent whole.
    pub fn new(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self { status, headers: vec![], body: body.into(), end: End::Whole }
    }

    /// One more header.
    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// Announced whole, and the connection closed after so many bytes.
    pub fn cut(self, after: usize) -> Self {
        Self { end: End::Cut(after), ..self }
    }

    /// Of a length that is not announced, closed after so many bytes.
    pub fn closed(self, after: usize) -> Self {
        Self { end: End::Close(after), ..self }
    }

    /// The body over and over until the client has enough.
    pub fn endless(self) -> Self {
        Self { end: End::Endless, ..self }
    }

    /// What a registry that does everything right says of an image.
    pub fn honest(image: &Image, request: &Request) -> Self {
        if request.is_manifest() {
            let manifest = image.manifest();
            return Self::new(200, manifest.bytes.clone())
                .with("content-type", MANIFEST)
                .with("docker-content-digest", &manifest.digest);
        }
        match image.blobs().find(|blob| request.path.ends_with(&blob.digest)) {
            Some(blob) => Self::new(200, blob.bytes.clone()),
            None => Self::new(404, "{}"),
        }
    }

    fn head(&self) -> String {
        let length = match self.end {
            End::Whole | End::Cut(_) => format!("content-length: {}\r\n", self.body.len()),
            End::Close(_) | End::Endless => String::new(),
        };
        let headers: String =
            self.headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        format!("HTTP/1.1 {} -\r\nconnection: close\r\n{length}{headers}\r\n", self.status)
    }
}

/// The server. It serves until the test's process ends.
pub struct Liar {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<Request>>>,
}

impl Liar {
    /// Starts it on a free loopback port.
    pub fn start(script: impl Fn(&Request) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("bind a free loopback port");
        let address = listener.local_addr().expect("a bound socket has an address");
        let asked: Arc<Mutex<Vec<Request>>> = Arc::default();
        let (script, seen) = (Arc::new(script), Arc::clone(&asked));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (script, seen) = (Arc::clone(&script), Arc::clone(&seen));
                // A client that hangs up early is part of the game.
                std::thread::spawn(move || serve(stream, script.as_ref(), &seen));
            }
        });
        Self { address, asked }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// All that it was asked so far.
    pub fn asked(&self) -> Vec<Request> {
        self.asked.lock().expect("no thread panics while it holds the requests").clone()
    }
}

fn serve(
    mut stream: TcpStream,
    script: &dyn Fn(&Request) -> Answer,
    seen: &Mutex<Vec<Request>>,
) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let first = lines.next().transpose()?.unwrap_or_default();
    let mut authorization = None;
    while let Some(line) = lines.next().transpose()?.filter(|line| !line.is_empty()) {
        let header = line.split_once(':').filter(|(name, _)| name.eq_ignore_ascii_case("authorization"));
        authorization = header.map(|(_, value)| value.trim().to_owned()).or(authorization);
    }
    let mut words = first.split_whitespace();
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let path = target.split('?').next().unwrap_or_default();
    let request = Request { method: method.to_owned(), path: path.to_owned(), authorization };
    seen.lock().expect("no thread panics while it holds the requests").push(request.clone());
    let answer = script(&request);
    stream.write_all(answer.head().as_bytes())?;
    if request.method == "HEAD" {
        return Ok(());
    }
    let body = &answer.body;
    match answer.end {
        End::Whole => stream.write_all(body),
        End::Cut(after) | End::Close(after) => stream.write_all(&body[..after.min(body.len())]),
        End::Endless => loop {
            stream.write_all(body)?;
        },
    }
}
