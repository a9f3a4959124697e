//! A SPDY/3.1 client that shares nothing with the server but the protocol's dictionary.

use std::collections::BTreeMap;

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::dictionary::dictionary;
use super::soon;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Frame {
    Reply { stream: u32 },
    Reset { stream: u32, status: u32 },
    Settings,
    Ping { id: u32 },
    GoAway { last: u32, status: u32 },
    Data { stream: u32, fin: bool, bytes: Vec<u8> },
}

/// Encodes what a client sends.
pub(crate) struct Encoder(Compress);

impl Encoder {
    pub(crate) fn new() -> Self {
        let mut deflate = Compress::new(Compression::best(), true);
        deflate.set_dictionary(&dictionary()).unwrap();
        Self(deflate)
    }

    pub(crate) fn block(&mut self, plain: &[u8]) -> Vec<u8> {
        let mut block = Vec::with_capacity(plain.len() / 2 + 1024);
        self.0.compress_vec(plain, &mut block, FlushCompress::Sync).unwrap();
        block
    }

    pub(crate) fn syn(&mut self, stream: u32, headers: &[(&str, &str)]) -> Vec<u8> {
        let mut plain = (headers.len() as u32).to_be_bytes().to_vec();
        for text in headers.iter().flat_map(|(name, value)| [name, value]) {
            plain.extend((text.len() as u32).to_be_bytes());
            plain.extend(text.as_bytes());
        }
        let block = self.block(&plain);
        syn_of(stream, 0, &block)
    }
}

pub(crate) fn syn_of(stream: u32, flags: u8, block: &[u8]) -> Vec<u8> {
    let mut body = stream.to_be_bytes().to_vec();
    body.extend([0; 6]);
    body.extend(block);
    control(1, flags, &body)
}

pub(crate) fn control(kind: u16, flags: u8, body: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x80, 3];
    frame.extend(kind.to_be_bytes());
    frame.extend((u32::from(flags) << 24 | body.len() as u32).to_be_bytes());
    frame.extend(body);
    frame
}

pub(crate) fn data(stream: u32, fin: bool, bytes: &[u8]) -> Vec<u8> {
    let mut frame = stream.to_be_bytes().to_vec();
    frame.extend((u32::from(fin) << 24 | bytes.len() as u32).to_be_bytes());
    frame.extend(bytes);
    frame
}

pub(crate) fn ping(id: u32) -> Vec<u8> {
    control(6, 0, &id.to_be_bytes())
}

pub(crate) fn reset(stream: u32) -> Vec<u8> {
    control(3, 0, &[stream.to_be_bytes(), 5u32.to_be_bytes()].concat())
}

pub(crate) struct Client {
    pub(crate) socket: TcpStream,
    pub(crate) encoder: Encoder,
    inflate: Decompress,
    next: u32,
}

/// The request that opens a session.
pub(crate) fn upgrade_request(url: &str, protocols: &str) -> (String, String) {
    let (address, path) = url.strip_prefix("http://").unwrap().split_once('/').unwrap();
    let request = format!(
        "POST /{path} HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\
         X-Stream-Protocol-Version: {protocols}\r\nContent-Length: 0\r\n\r\n"
    );
    (address.to_owned(), request)
}

/// Sends a request and gives back the head of the answer.
pub(crate) async fn ask(address: &str, request: &str) -> (TcpStream, String) {
    let mut socket = TcpStream::connect(address).await.unwrap();
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match soon("the answer", socket.read_u8()).await {
            Ok(byte) => head.push(byte),
            Err(_) => break,
        }
    }
    (socket, String::from_utf8(head).unwrap())
}

impl Client {
    pub(crate) async fn open(url: &str, protocols: &str) -> Self {
        let (address, request) = upgrade_request(url, protocols);
        let (socket, head) = ask(&address, &request).await;
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        Self { socket, encoder: Encoder::new(), inflate: Decompress::new(true), next: 1 }
    }

    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        soon("sending", self.socket.write_all(bytes)).await.unwrap();
    }

    /// Opens a stream without waiting for the answer.
    pub(crate) async fn syn(&mut self, headers: &[(&str, &str)]) -> u32 {
        let stream = self.next;
        self.next += 2;
        let frame = self.encoder.syn(stream, headers);
        self.send(&frame).await;
        stream
    }

    pub(crate) async fn stream(&mut self, kind: &str) -> u32 {
        let stream = self.syn(&[("streamtype", kind)]).await;
        assert_eq!(self.frame().await, Some(Frame::Reply { stream }));
        stream
    }

    /// A pair of port-forward: error and data stream.
    pub(crate) async fn pair(&mut self, port: u16, request: &str) -> (u32, u32) {
        let port = port.to_string();
        let headers = |kind| [("streamtype", kind), ("port", port.as_str()), ("requestid", request)];
        (self.syn(&headers("error")).await, self.syn(&headers("data")).await)
    }

    /// The next frame; `None` at the end of the connection.
    pub(crate) async fn frame(&mut self) -> Option<Frame> {
        soon("a frame", self.read_frame()).await
    }

    async fn read_frame(&mut self) -> Option<Frame> {
        let first = self.socket.read_u32().await.ok()?;
        let second = self.socket.read_u32().await.ok()?;
        let mut body = vec![0; (second & 0xff_ffff) as usize];
        self.socket.read_exact(&mut body).await.ok()?;
        if first >> 31 == 0 {
            return Some(Frame::Data { stream: first, fin: second >> 24 & 1 == 1, bytes: body });
        }
        assert_eq!(first >> 16, 0x8003, "a control frame of version 3");
        let number = |at: usize| u32::from_be_bytes(body[at..at + 4].try_into().unwrap());
        Some(match first & 0xffff {
            2 => {
                assert_eq!(self.inflate(&body[4..]), [0; 4], "no headers");
                Frame::Reply { stream: number(0) }
            }
            3 => Frame::Reset { stream: number(0), status: number(4) },
            4 => Frame::Settings,
            6 => Frame::Ping { id: number(0) },
            7 => Frame::GoAway { last: number(0), status: number(4) },
            other => panic!("control frame {other}"),
        })
    }

    fn inflate(&mut self, mut block: &[u8]) -> Vec<u8> {
        let mut plain = Vec::with_capacity(4096);
        while !block.is_empty() {
            let before = self.inflate.total_in();
            if let Err(error) = self.inflate.decompress_vec(block, &mut plain, FlushDecompress::Sync) {
                assert!(error.needs_dictionary().is_some(), "{error}");
                self.inflate.set_dictionary(&dictionary()).unwrap();
            }
            block = &block[(self.inflate.total_in() - before) as usize..];
        }
        plain
    }

    /// All that still comes, each stream's bytes joined, and the other frames.
    pub(crate) async fn rest(&mut self) -> Rest {
        let mut rest = Rest::default();
        while let Some(frame) = self.frame().await {
            match frame {
                Frame::Data { stream, fin, bytes } => {
                    assert!(!rest.finished.contains(&stream), "data after the end of {stream}");
                    rest.data.entry(stream).or_default().extend(bytes);
                    if fin {
                        rest.finished.push(stream);
                    }
                }
                other => rest.others.push(other),
            }
        }
        rest
    }

    /// Reads on until this stream is finished and gives back its bytes; those of the others are lost.
    pub(crate) async fn until_finished(&mut self, wanted: u32) -> Vec<u8> {
        let mut all = Vec::new();
        loop {
            match self.frame().await.expect("the stream is finished first") {
                Frame::Data { stream, fin, bytes } if stream == wanted => {
                    all.extend(bytes);
                    if fin {
                        return all;
                    }
                }
                _ => {}
            }
        }
    }

    pub(crate) async fn until(&mut self, wanted: &Frame) {
        while self.frame().await.unwrap_or_else(|| panic!("{wanted:?} comes first")) != *wanted {}
    }
}

#[derive(Debug, Default)]
pub(crate) struct Rest {
    pub(crate) data: BTreeMap<u32, Vec<u8>>,
    pub(crate) finished: Vec<u32>,
    pub(crate) others: Vec<Frame>,
}

impl Rest {
    pub(crate) fn bytes(&self, stream: u32) -> &[u8] {
        self.data.get(&stream).map_or(&[], Vec::as_slice)
    }

    pub(crate) fn status(&self, stream: u32) -> serde_json::Value {
        assert!(self.finished.contains(&stream), "the error stream is finished: {self:?}");
        serde_json::from_slice(self.bytes(stream)).unwrap()
    }
}
