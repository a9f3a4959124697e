//! An HTTP server that answers by a table and remembers what it was asked, for what a real registry does not do.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Status line and headers, then the body.
pub(crate) type Answer = (String, Vec<u8>);
/// Path and `Authorization` of every request.
type Asked = Arc<Mutex<Vec<(String, Option<String>)>>>;
type Script = Arc<dyn Fn(&str, Option<&str>) -> Answer + Send + Sync>;

pub(crate) struct Scripted {
    pub(crate) address: String,
    pub(crate) asked: Asked,
    accepting: tokio::task::JoinHandle<()>,
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Scripted {
    #[expect(clippy::disallowed_methods, reason = "a test has no task group")]
    pub(crate) async fn start(script: impl Fn(&str, Option<&str>) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (script, seen): (Script, _) = (Arc::new(script), asked.clone());
        let accepting = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, script.clone(), seen.clone()));
            }
        });
        Self { address, asked, accepting }
    }
}

async fn serve(mut stream: TcpStream, script: Script, asked: Asked) {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        let Ok(byte) = stream.read_u8().await else { return };
        request.push(byte);
    }
    let text = String::from_utf8(request).unwrap();
    let mut lines = text.lines();
    let first: Vec<&str> = lines.next().unwrap().split(' ').collect();
    let headers: HashMap<String, &str> =
        lines.filter_map(|line| line.split_once(": ")).map(|(k, v)| (k.to_lowercase(), v)).collect();
    let authorization = headers.get("authorization").copied();
    asked.lock().unwrap().push((first[1].to_owned(), authorization.map(str::to_owned)));
    let (head, body) = script(first[1], authorization);
    let head = format!("HTTP/1.1 {head}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n", body.len());
    drop(stream.write_all(head.as_bytes()).await);
    if first[0] != "HEAD" {
        drop(stream.write_all(&body).await);
    }
}
