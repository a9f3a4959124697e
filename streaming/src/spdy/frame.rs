//! The eight bytes before every frame, the fixed bodies of control frames, and how answers are written.

/// The version in control frames: 3.1 is 3 there.
const VERSION: u16 = 3;
const CONTROL: u32 = 1 << 31;
const STREAM_MASK: u32 = CONTROL - 1;

pub(crate) const FIN: u8 = 0x01;
pub(crate) const UNIDIRECTIONAL: u8 = 0x02;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    SynStream,
    SynReply,
    RstStream,
    Settings,
    Ping,
    GoAway,
    Headers,
    /// WINDOW_UPDATE, CREDENTIAL and what nobody has defined: passed over.
    Ignored,
}

/// What the first eight bytes say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FrameHead {
    Data { stream: u32, fin: bool, length: usize },
    Control { kind: Kind, flags: u8, length: usize },
}

impl FrameHead {
    pub(crate) fn parse(bytes: [u8; 8]) -> Result<Self, FrameError> {
        let [a, b, c, d, flags, x, y, z] = bytes;
        let word = u32::from_be_bytes([a, b, c, d]);
        let length = u32::from_be_bytes([0, x, y, z]) as usize;
        if word & CONTROL == 0 {
            return match word {
                0 => Err(FrameError::StreamZero),
                stream => Ok(Self::Data { stream, fin: flags & FIN != 0, length }),
            };
        }
        let version = u16::from_be_bytes([a & 0x7f, b]);
        if version != VERSION {
            return Err(FrameError::Version(version));
        }
        let kind = match u16::from_be_bytes([c, d]) {
            1 => Kind::SynStream,
            2 => Kind::SynReply,
            3 => Kind::RstStream,
            4 => Kind::Settings,
            6 => Kind::Ping,
            7 => Kind::GoAway,
            8 => Kind::Headers,
            _ => Kind::Ignored,
        };
        Ok(Self::Control { kind, flags, length })
    }
}

/// Takes a number off the front of a control frame's body.
pub(crate) fn take_u32(body: &mut &[u8]) -> Result<u32, FrameError> {
    let (number, rest) = body.split_first_chunk().ok_or(FrameError::Short)?;
    *body = rest;
    Ok(u32::from_be_bytes(*number))
}

/// Takes a stream id off the front of a control frame's body.
pub(crate) fn take_stream(body: &mut &[u8]) -> Result<u32, FrameError> {
    match take_u32(body)? & STREAM_MASK {
        0 => Err(FrameError::StreamZero),
        stream => Ok(stream),
    }
}

pub(crate) fn write_data_head(stream: u32, fin: bool, length: usize, out: &mut Vec<u8>) {
    out.extend((stream & STREAM_MASK).to_be_bytes());
    out.extend(flags_and_length(if fin { FIN } else { 0 }, length));
}

/// Writes a control frame without flags.
pub(crate) fn write_control(kind: Kind, body: &[&[u8]], out: &mut Vec<u8>) {
    let number: u16 = match kind {
        Kind::SynStream => 1,
        Kind::SynReply => 2,
        Kind::RstStream => 3,
        Kind::Settings => 4,
        Kind::Ping => 6,
        Kind::GoAway => 7,
        Kind::Headers => 8,
        Kind::Ignored => 9,
    };
    out.extend((VERSION | 1 << 15).to_be_bytes());
    out.extend(number.to_be_bytes());
    out.extend(flags_and_length(0, body.iter().map(|part| part.len()).sum()));
    for part in body {
        out.extend(*part);
    }
}

/// What we write is far below the 24 bits that a length has.
fn flags_and_length(flags: u8, length: usize) -> [u8; 4] {
    let [.., x, y, z] = length.to_be_bytes();
    [flags, x, y, z]
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FrameError {
    #[error("frame of SPDY version {0}")]
    Version(u16),
    #[error("frame for stream 0")]
    StreamZero,
    #[error("control frame that is too short")]
    Short,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_read_as_the_protocol_says() {
        let data = FrameHead::parse([0, 0, 0, 5, 1, 0, 1, 2]);
        assert_eq!(data, Ok(FrameHead::Data { stream: 5, fin: true, length: 258 }));
        let ping = FrameHead::parse([0x80, 3, 0, 6, 0, 0, 0, 4]);
        assert_eq!(ping, Ok(FrameHead::Control { kind: Kind::Ping, flags: 0, length: 4 }));
        let window = FrameHead::parse([0x80, 3, 0, 9, 0, 0, 0, 8]);
        assert_eq!(window, Ok(FrameHead::Control { kind: Kind::Ignored, flags: 0, length: 8 }));
        assert_eq!(FrameHead::parse([0x80, 2, 0, 6, 0, 0, 0, 4]), Err(FrameError::Version(2)));
        assert_eq!(FrameHead::parse([0; 8]), Err(FrameError::StreamZero));
    }

    #[test]
    fn what_is_written_can_be_read() {
        let mut out = Vec::new();
        write_control(Kind::RstStream, &[&7u32.to_be_bytes(), &3u32.to_be_bytes()], &mut out);
        assert_eq!(out, [0x80, 3, 0, 3, 0, 0, 0, 8, 0, 0, 0, 7, 0, 0, 0, 3]);
        out.clear();
        write_data_head(9, true, 70_000, &mut out);
        let head = FrameHead::parse(out.try_into().unwrap());
        assert_eq!(head, Ok(FrameHead::Data { stream: 9, fin: true, length: 70_000 }));
    }
}
