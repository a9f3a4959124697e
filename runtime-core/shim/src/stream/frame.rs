//! Frames of a session: one byte kind, the payload's length as little-endian u32, the payload.
//!
//! Lengths are capped before anything is reserved for them. Kinds that are not known are skipped, so that either side
//! may be newer than the other.

use std::io;

use prost::Message;
use tokio::net::UnixStream;

use crate::protocol::io::{StreamFailed, StreamOpen};

/// Largest payload, in bytes, of all frames but the opening one.
pub const MAX_PAYLOAD: usize = 64 << 10;
/// Largest opening frame: it carries the `process` of an exec.
const MAX_OPEN: usize = 4 << 20;
/// Bytes of a frame's head.
const HEAD: usize = 5;

const OPEN: u8 = 1;
const OPENED: u8 = 2;
const FAILED: u8 = 3;
const STDIN: u8 = 4;
const STDIN_END: u8 = 5;
const RESIZE: u8 = 6;
const STDOUT: u8 = 7;
const STDERR: u8 = 8;
const EXIT: u8 = 9;

/// What a client sends.
#[derive(Clone, Debug, PartialEq)]
pub enum ClientFrame {
    /// The first frame, and only that.
    Open(StreamOpen),
    Stdin(Vec<u8>),
    /// There will be no more input.
    StdinEnd,
    /// The client's terminal has that many columns and rows.
    Resize {
        width: u16,
        height: u16,
    },
}

/// What a shim sends.
#[derive(Clone, Debug, PartialEq)]
pub enum ShimFrame {
    /// The session is open.
    Opened,
    /// There is no session.
    Failed(StreamFailed),
    Stdout(Vec<u8>),
    Stderr(Vec<u8>),
    /// Exit code of the process; the last frame.
    Exit(i32),
}

/// One direction's frames.
pub trait Frame: Sized {
    /// Largest payload of a frame of that kind.
    fn limit(kind: u8) -> usize;

    /// The frame, `None` when its kind is not known.
    ///
    /// # Errors
    /// When the payload is not one of that kind.
    fn decode(kind: u8, payload: Vec<u8>) -> io::Result<Option<Self>>;

    /// The frame as sent.
    fn encode(&self) -> Vec<u8>;
}

impl Frame for ClientFrame {
    fn limit(kind: u8) -> usize {
        if kind == OPEN { MAX_OPEN } else { MAX_PAYLOAD }
    }

    fn decode(kind: u8, payload: Vec<u8>) -> io::Result<Option<Self>> {
        Ok(Some(match kind {
            OPEN => Self::Open(message(&payload)?),
            STDIN => Self::Stdin(payload),
            STDIN_END => Self::StdinEnd,
            RESIZE => {
                let [a, b, c, d] = sized(&payload)?;
                Self::Resize { width: u16::from_le_bytes([a, b]), height: u16::from_le_bytes([c, d]) }
            }
            _ => return Ok(None),
        }))
    }

    fn encode(&self) -> Vec<u8> {
        match self {
            Self::Open(open) => encode(OPEN, &open.encode_to_vec()),
            Self::Stdin(bytes) => encode(STDIN, bytes),
            Self::StdinEnd => encode(STDIN_END, &[]),
            Self::Resize { width, height } => {
                encode(RESIZE, &[width.to_le_bytes(), height.to_le_bytes()].concat())
            }
        }
    }
}

impl Frame for ShimFrame {
    fn limit(_: u8) -> usize {
        MAX_PAYLOAD
    }

    fn decode(kind: u8, payload: Vec<u8>) -> io::Result<Option<Self>> {
        Ok(Some(match kind {
            OPENED => Self::Opened,
            FAILED => Self::Failed(message(&payload)?),
            STDOUT => Self::Stdout(payload),
            STDERR => Self::Stderr(payload),
            EXIT => Self::Exit(i32::from_le_bytes(sized(&payload)?)),
            _ => return Ok(None),
        }))
    }

    fn encode(&self) -> Vec<u8> {
        match self {
            Self::Opened => encode(OPENED, &[]),
            Self::Failed(failed) => encode(FAILED, &failed.encode_to_vec()),
            Self::Stdout(bytes) => encode(STDOUT, bytes),
            Self::Stderr(bytes) => encode(STDERR, bytes),
            Self::Exit(code) => encode(EXIT, &code.to_le_bytes()),
        }
    }
}

fn encode(kind: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(HEAD + payload.len());
    frame.push(kind);
    // Longer ones than that are refused by the other side, as all that are too long.
    frame.extend_from_slice(&u32::try_from(payload.len()).unwrap_or(u32::MAX).to_le_bytes());
    frame.extend_from_slice(payload);
    frame
}

fn message<M: Message + Default>(payload: &[u8]) -> io::Result<M> {
    M::decode(payload).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

fn sized<const SIZE: usize>(payload: &[u8]) -> io::Result<[u8; SIZE]> {
    payload.try_into().map_err(|_| bad(format!("a payload of {} bytes instead of {SIZE}", payload.len())))
}

fn bad(message: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, message)
}

/// Reads frames; keeps what was read of one, so that a read that is given up loses nothing.
#[derive(Debug, Default)]
pub struct FrameReader {
    begun: Vec<u8>,
}

impl FrameReader {
    /// The next frame; `None` when the other side closed between two frames. Cancel-safe.
    ///
    /// # Errors
    /// When the connection fails, ends inside a frame, or carries what is no frame.
    pub async fn next<F: Frame>(&mut self, socket: &UnixStream) -> io::Result<Option<F>> {
        loop {
            while let Some(missing) = self.missing::<F>()? {
                socket.readable().await?;
                match self.fill(socket, missing) {
                    Ok(0) if self.begun.is_empty() => return Ok(None),
                    Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                    Err(error) if !waits(&error) => return Err(error),
                    Ok(_) | Err(_) => {}
                }
            }
            let mut payload = std::mem::take(&mut self.begun);
            let kind = payload[0];
            payload.drain(..HEAD);
            if let Some(frame) = F::decode(kind, payload)? {
                return Ok(Some(frame));
            }
        }
    }

    /// How many bytes are still to come of what is known of the frame's length.
    fn missing<F: Frame>(&self) -> io::Result<Option<usize>> {
        let Some(&[kind, a, b, c, d]) = self.begun.first_chunk() else {
            return Ok(Some(HEAD - self.begun.len()));
        };
        let length = usize::try_from(u32::from_le_bytes([a, b, c, d])).map_err(io::Error::other)?;
        if length > F::limit(kind) {
            return Err(bad(format!("a frame of kind {kind} and {length} bytes is too long")));
        }
        Ok(Some(HEAD + length - self.begun.len()).filter(|missing| *missing > 0))
    }

    fn fill(&mut self, socket: &UnixStream, missing: usize) -> io::Result<usize> {
        let filled = self.begun.len();
        // Grows with what arrives, so that a head alone reserves little.
        self.begun.resize(filled + missing.min(MAX_PAYLOAD), 0);
        let read = socket.try_read(&mut self.begun[filled..]);
        self.begun.truncate(filled + read.as_ref().copied().unwrap_or(0));
        read
    }
}

/// Writes bytes, from `*written` on; what was written is counted there, also when this is given up. Cancel-safe.
///
/// # Errors
/// When the connection fails.
pub async fn write(socket: &UnixStream, bytes: &[u8], written: &mut usize) -> io::Result<()> {
    while *written < bytes.len() {
        socket.writable().await?;
        match socket.try_write(&bytes[*written..]) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => *written += count,
            Err(error) if waits(&error) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn waits(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::protocol::io::{StreamAttach, stream_open::Wish};

    fn client_frames() -> Vec<ClientFrame> {
        let attach = StreamAttach { container: "c".into(), stdin: true, ..Default::default() };
        vec![
            ClientFrame::Open(StreamOpen { wish: Some(Wish::Attach(attach)) }),
            ClientFrame::Stdin(vec![7; MAX_PAYLOAD]),
            ClientFrame::Resize { width: 300, height: 2 },
            ClientFrame::StdinEnd,
        ]
    }

    #[tokio::test]
    async fn frames_arrive_whole_however_they_are_cut() {
        let (sender, receiver) = UnixStream::pair().unwrap();
        let bytes: Vec<u8> = client_frames().iter().flat_map(Frame::encode).collect();
        let sent = async {
            for piece in bytes.chunks(4093) {
                let mut written = 0;
                write(&sender, piece, &mut written).await.unwrap();
                tokio::task::yield_now().await;
            }
            drop(sender);
        };
        let received = async {
            let (mut reader, mut frames) = (FrameReader::default(), Vec::new());
            while let Some(frame) = reader.next::<ClientFrame>(&receiver).await.unwrap() {
                frames.push(frame);
            }
            frames
        };
        assert_eq!(tokio::join!(sent, received).1, client_frames());
    }

    #[test]
    fn frames_of_the_shim_are_their_own_inverse() {
        let failed = StreamFailed { code: 9, message: "no".into(), start_failure: None };
        for frame in [
            ShimFrame::Opened,
            ShimFrame::Failed(failed),
            ShimFrame::Stdout(vec![1]),
            ShimFrame::Stderr(Vec::new()),
            ShimFrame::Exit(-1),
        ] {
            let bytes = frame.encode();
            assert_eq!(ShimFrame::decode(bytes[0], bytes[HEAD..].to_vec()).unwrap(), Some(frame));
        }
    }

    async fn read(bytes: &[u8]) -> io::Result<Option<ClientFrame>> {
        let (sender, receiver) = std::os::unix::net::UnixStream::pair().unwrap();
        receiver.set_nonblocking(true).unwrap();
        let receiver = UnixStream::from_std(receiver).unwrap();
        (&sender).write_all(bytes).unwrap();
        drop(sender);
        FrameReader::default().next(&receiver).await
    }

    #[tokio::test]
    async fn what_is_no_frame_is_refused() {
        let kind = async |bytes: &[u8]| read(bytes).await.unwrap_err().kind();
        assert_eq!(kind(&[STDIN, 1, 0, 1, 0]).await, io::ErrorKind::InvalidData);
        assert_eq!(kind(&[OPEN, 0, 0, 0, 1]).await, io::ErrorKind::InvalidData);
        assert_eq!(kind(&[99, 255, 255, 255, 255]).await, io::ErrorKind::InvalidData);
        assert_eq!(kind(&[RESIZE, 3, 0, 0, 0, 1, 2, 3]).await, io::ErrorKind::InvalidData);
        assert_eq!(kind(&[OPEN, 1, 0, 0, 0, 0xff]).await, io::ErrorKind::InvalidData);
        assert_eq!(kind(&[STDIN, 4, 0, 0, 0, 1]).await, io::ErrorKind::UnexpectedEof);
        assert_eq!(kind(&[STDIN, 4]).await, io::ErrorKind::UnexpectedEof);
    }

    #[tokio::test]
    async fn kinds_of_the_future_are_skipped() {
        assert_eq!(read(&[]).await.unwrap(), None);
        assert_eq!(
            read(&[99, 2, 0, 0, 0, 1, 2, STDIN_END, 0, 0, 0, 0]).await.unwrap(),
            Some(ClientFrame::StdinEnd)
        );
    }
}
