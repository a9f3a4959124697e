//! Frames: header, sizes, reading and writing. Nothing here knows what a call is.

use std::io;

use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt};

/// Bytes of a frame's header.
pub const HEADER: usize = 10;
/// Largest payload of a frame, in bytes.
pub const MAX_PAYLOAD: usize = 4 << 20;

/// The sender will send nothing more on this stream.
pub const FLAG_REMOTE_CLOSED: u8 = 0x1;
/// The sender will go on sending on this stream.
pub const FLAG_REMOTE_OPEN: u8 = 0x2;
/// The frame carries no message, not even an empty one.
pub const FLAG_NO_DATA: u8 = 0x4;

/// What a frame carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Request,
    Response,
    Data,
    /// From a newer peer; its frames are skipped.
    Unknown(u8),
}

impl Kind {
    fn byte(self) -> u8 {
        match self {
            Self::Request => 1,
            Self::Response => 2,
            Self::Data => 3,
            Self::Unknown(byte) => byte,
        }
    }

    fn from_byte(byte: u8) -> Self {
        match byte {
            1 => Self::Request,
            2 => Self::Response,
            3 => Self::Data,
            other => Self::Unknown(other),
        }
    }
}

/// Header of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    pub length: u32,
    pub stream: u32,
    pub kind: Kind,
    pub flags: u8,
}

impl Header {
    /// The header as sent.
    #[must_use]
    pub fn encode(self) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        bytes[..4].copy_from_slice(&self.length.to_be_bytes());
        bytes[4..8].copy_from_slice(&self.stream.to_be_bytes());
        bytes[8] = self.kind.byte();
        bytes[9] = self.flags;
        bytes
    }

    /// The header as received; every value is possible.
    #[must_use]
    pub fn decode(bytes: [u8; HEADER]) -> Self {
        let [a, b, c, d, e, f, g, h, kind, flags] = bytes;
        Self {
            length: u32::from_be_bytes([a, b, c, d]),
            stream: u32::from_be_bytes([e, f, g, h]),
            kind: Kind::from_byte(kind),
            flags,
        }
    }
}

/// A received frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Received {
    Frame {
        header: Header,
        payload: Vec<u8>,
    },
    /// The payload was larger than [`MAX_PAYLOAD`]; it was read and dropped, the connection is still in step.
    Oversized {
        header: Header,
    },
}

/// A message is larger than a frame can carry.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("message of {size} bytes is larger than the {MAX_PAYLOAD} bytes of a ttrpc frame")]
pub struct TooLarge {
    pub size: usize,
}

/// One frame, ready to be written.
///
/// # Errors
/// When the payload is too large.
pub fn encode(stream: u32, kind: Kind, flags: u8, payload: &[u8]) -> Result<Vec<u8>, TooLarge> {
    let too_large = TooLarge { size: payload.len() };
    if payload.len() > MAX_PAYLOAD {
        return Err(too_large);
    }
    let length = u32::try_from(payload.len()).map_err(|_| too_large)?;
    let mut bytes = Vec::with_capacity(HEADER + payload.len());
    bytes.extend_from_slice(&Header { length, stream, kind, flags }.encode());
    bytes.extend_from_slice(payload);
    Ok(bytes)
}

/// Reads the next frame; `None` when the peer closed between two frames.
///
/// # Errors
/// When the connection fails or ends inside a frame.
pub async fn read<R: AsyncRead + Unpin>(reader: &mut R) -> io::Result<Option<Received>> {
    let mut bytes = [0; HEADER];
    let mut filled = 0;
    while filled < HEADER {
        let count = reader.read(&mut bytes[filled..]).await?;
        if count == 0 && filled == 0 {
            return Ok(None);
        }
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        filled += count;
    }
    let header = Header::decode(bytes);
    let length = usize::try_from(header.length).map_err(io::Error::other)?;
    if length > MAX_PAYLOAD {
        let skipped =
            tokio::io::copy(&mut reader.take(u64::from(header.length)), &mut tokio::io::sink()).await?;
        if skipped < u64::from(header.length) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        return Ok(Some(Received::Oversized { header }));
    }
    // Grows with what arrives, so that a header alone does not reserve 4 MiB.
    let mut payload = Vec::with_capacity(length.min(64 << 10));
    reader.take(u64::from(header.length)).read_to_end(&mut payload).await?;
    if payload.len() < length {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(Some(Received::Frame { header, payload }))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read_all(bytes: &[u8]) -> io::Result<Vec<Received>> {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let (mut reader, mut frames) = (bytes, Vec::new());
            while let Some(frame) = read(&mut reader).await? {
                frames.push(frame);
            }
            Ok(frames)
        })
    }

    proptest! {
        #[test]
        fn headers_come_back(length: u32, stream: u32, kind: u8, flags: u8) {
            let header = Header { length, stream, kind: Kind::from_byte(kind), flags };
            prop_assert_eq!(Header::decode(header.encode()), header);
        }

        #[test]
        fn frames_come_back_in_order(frames in prop::collection::vec((any::<u32>(), any::<u8>(), any::<u8>(), prop::collection::vec(any::<u8>(), 0..300)), 0..8)) {
            let mut bytes = Vec::new();
            for (stream, kind, flags, payload) in &frames {
                bytes.extend(encode(*stream, Kind::from_byte(*kind), *flags, payload).unwrap());
            }
            let received = read_all(&bytes).unwrap();
            prop_assert_eq!(received.len(), frames.len());
            for (got, (stream, kind, flags, payload)) in received.iter().zip(&frames) {
                let Received::Frame { header, payload: got } = got else { panic!("oversized") };
                prop_assert_eq!((header.stream, header.kind.byte(), header.flags, got), (*stream, *kind, *flags, payload));
            }
        }

        #[test]
        fn garbage_ends_in_frames_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(frames) = read_all(&bytes) {
                prop_assert!(frames.len() <= bytes.len() / HEADER);
            }
        }
    }

    #[test]
    fn a_frame_cut_short_is_an_error() {
        let bytes = encode(1, Kind::Request, 0, b"hello").unwrap();
        for end in 1..bytes.len() {
            assert_eq!(
                read_all(&bytes[..end]).unwrap_err().kind(),
                io::ErrorKind::UnexpectedEof,
                "cut at {end}"
            );
        }
    }

    #[test]
    fn an_oversized_frame_is_skipped_and_the_next_is_read() {
        let length = u32::try_from(MAX_PAYLOAD + 1).unwrap();
        let header = Header { length, stream: 3, kind: Kind::Request, flags: 0 };
        let mut bytes = header.encode().to_vec();
        bytes.resize(HEADER + MAX_PAYLOAD + 1, 7);
        bytes.extend(encode(5, Kind::Request, 0, b"next").unwrap());
        let frames = read_all(&bytes).unwrap();
        assert_eq!(frames[0], Received::Oversized { header });
        assert!(matches!(&frames[1], Received::Frame { payload, .. } if payload == b"next"));
        assert!(encode(1, Kind::Request, 0, &vec![0; MAX_PAYLOAD + 1]).is_err());
    }
}
