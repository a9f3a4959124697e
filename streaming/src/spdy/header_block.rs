//! Compressed header blocks. Both directions have one zlib stream for the life of the connection, so blocks are
//! handled strictly in order, even those of streams that are refused.

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

use crate::headers::Headers;
use crate::spdy::dictionary::dictionary;

/// Kubernetes sends three short headers. What inflates beyond this is a bomb.
pub(crate) const MAX_INFLATED: usize = 64 * 1024;
pub(crate) const MAX_HEADERS: u32 = 64;

pub(crate) struct HeaderReader {
    inflate: Decompress,
    inflated: Vec<u8>,
}

impl HeaderReader {
    pub(crate) fn new() -> Self {
        Self { inflate: Decompress::new(true), inflated: Vec::new() }
    }

    /// Inflates one block. After an error the connection's later blocks cannot be read.
    pub(crate) fn inflate(&mut self, mut block: &[u8]) -> Result<InflatedBlock<'_>, InflateError> {
        // One byte more than allowed shows that there was more.
        self.inflated.resize(MAX_INFLATED + 1, 0);
        let mut filled = 0;
        while !block.is_empty() {
            let before = (self.inflate.total_in(), self.inflate.total_out());
            let room = &mut self.inflated[filled..];
            let status = self.inflate.decompress(block, room, FlushDecompress::Sync);
            // Both deltas are bounded by the slices they come from.
            let read = (self.inflate.total_in() - before.0) as usize;
            filled += (self.inflate.total_out() - before.1) as usize;
            block = &block[read..];
            match status {
                Ok(Status::StreamEnd) => return Err(InflateError::Ended),
                Ok(Status::Ok | Status::BufError) if filled > MAX_INFLATED => {
                    return Err(InflateError::TooLarge);
                }
                Ok(Status::Ok) if read > 0 => {}
                Ok(Status::Ok | Status::BufError) => return Err(InflateError::Stuck),
                Err(error) if error.needs_dictionary().is_some() => {
                    self.inflate.set_dictionary(&dictionary()).map_err(InflateError::Zlib)?;
                }
                Err(error) => return Err(InflateError::Zlib(error)),
            }
        }
        if filled > MAX_INFLATED {
            return Err(InflateError::TooLarge);
        }
        Ok(InflatedBlock(&self.inflated[..filled]))
    }
}

pub(crate) struct InflatedBlock<'a>(&'a [u8]);

impl InflatedBlock<'_> {
    /// Reads names and values. An error here concerns one stream only.
    pub(crate) fn parse(&self) -> Result<Headers, HeaderError> {
        let mut rest = self.0;
        let count = number(&mut rest)?;
        if count > MAX_HEADERS {
            return Err(HeaderError::TooMany(count));
        }
        let mut headers = Headers::default();
        for _ in 0..count {
            let (name, value) = (text(&mut rest)?, text(&mut rest)?);
            if name.is_empty() || name.bytes().any(|byte| byte.is_ascii_uppercase()) {
                return Err(HeaderError::Name);
            }
            if !headers.insert(name, value) {
                return Err(HeaderError::Twice);
            }
        }
        if rest.is_empty() { Ok(headers) } else { Err(HeaderError::Rest) }
    }
}

fn number(rest: &mut &[u8]) -> Result<u32, HeaderError> {
    let (number, tail) = rest.split_first_chunk().ok_or(HeaderError::Short)?;
    *rest = tail;
    Ok(u32::from_be_bytes(*number))
}

fn text(rest: &mut &[u8]) -> Result<String, HeaderError> {
    let length = number(rest)? as usize;
    let (text, tail) = rest.split_at_checked(length).ok_or(HeaderError::Short)?;
    *rest = tail;
    Ok(std::str::from_utf8(text).map_err(HeaderError::Text)?.to_owned())
}

/// Writes the only block we send: an empty one.
pub(crate) struct HeaderWriter {
    deflate: Compress,
}

impl HeaderWriter {
    pub(crate) fn new() -> Result<Self, flate2::CompressError> {
        let mut deflate = Compress::new(Compression::default(), true);
        deflate.set_dictionary(&dictionary())?;
        Ok(Self { deflate })
    }

    pub(crate) fn empty_block(&mut self) -> Result<Vec<u8>, flate2::CompressError> {
        let mut block = Vec::with_capacity(64);
        self.deflate.compress_vec(&0u32.to_be_bytes(), &mut block, FlushCompress::Sync)?;
        Ok(block)
    }
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum InflateError {
    #[error("header block that is not zlib")]
    Zlib(#[source] flate2::DecompressError),
    #[error("header block that ends the compressed stream")]
    Ended,
    #[error("header block that stops in the middle")]
    Stuck,
    #[error("header block of more than {MAX_INFLATED} bytes")]
    TooLarge,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum HeaderError {
    #[error("header block that is too short for what it announces")]
    Short,
    #[error("{0} headers")]
    TooMany(u32),
    #[error("header name that is empty or not in lower case")]
    Name,
    #[error("header that comes twice")]
    Twice,
    #[error("header that is not UTF-8")]
    Text(#[source] std::str::Utf8Error),
    #[error("bytes after the last header")]
    Rest,
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Peer(Compress);

    impl Peer {
        fn new() -> Self {
            let mut deflate = Compress::new(Compression::best(), true);
            // The id that the protocol's dictionary is known by.
            assert_eq!(deflate.set_dictionary(&dictionary()).unwrap(), 0xe3c6_a7c2);
            Self(deflate)
        }

        fn block(&mut self, bytes: &[u8]) -> Vec<u8> {
            let mut block = Vec::with_capacity(bytes.len() + 1024);
            self.0.compress_vec(bytes, &mut block, FlushCompress::Sync).unwrap();
            block
        }
    }

    fn plain(headers: &[(&str, &str)]) -> Vec<u8> {
        let mut bytes = (headers.len() as u32).to_be_bytes().to_vec();
        for part in headers.iter().flat_map(|(name, value)| [name, value]) {
            bytes.extend((part.len() as u32).to_be_bytes());
            bytes.extend(part.as_bytes());
        }
        bytes
    }

    #[test]
    fn blocks_of_one_connection_share_their_compressor() {
        let (mut peer, mut reader) = (Peer::new(), HeaderReader::new());
        for round in 0..3 {
            let port = round.to_string();
            let block = peer.block(&plain(&[("streamtype", "error"), ("port", &port)]));
            let headers = reader.inflate(&block).unwrap().parse().unwrap();
            assert_eq!(headers.get("streamtype"), Some("error"));
            assert_eq!(headers.get("port"), Some(port.as_str()));
            assert_eq!(headers.get("absent"), None);
        }
    }

    #[test]
    fn our_empty_blocks_can_be_read() {
        let (mut writer, mut reader) = (HeaderWriter::new().unwrap(), HeaderReader::new());
        for _ in 0..3 {
            let block = writer.empty_block().unwrap();
            assert_eq!(reader.inflate(&block).unwrap().parse(), Ok(Headers::default()));
        }
    }

    #[test]
    fn a_malformed_block_spoils_its_own_stream_only() {
        let (mut peer, mut reader) = (Peer::new(), HeaderReader::new());
        let many: Vec<(String, String)> = (0..65).map(|n| (format!("h{n}"), String::new())).collect();
        let many: Vec<(&str, &str)> = many.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        let mut behind = plain(&[("a", "b")]);
        behind.push(0);
        let cases = [
            (plain(&[("Port", "80")]), HeaderError::Name),
            (plain(&[("a", "1"), ("a", "2")]), HeaderError::Twice),
            (plain(&many), HeaderError::TooMany(65)),
            (vec![0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff], HeaderError::Short),
            (vec![0, 0], HeaderError::Short),
            (behind, HeaderError::Rest),
        ];
        for (bytes, error) in cases {
            let block = peer.block(&bytes);
            assert_eq!(reader.inflate(&block).unwrap().parse(), Err(error));
        }
        let block = peer.block(&plain(&[("a", "first\0second")]));
        assert_eq!(reader.inflate(&block).unwrap().parse().unwrap().get("a"), Some("first"));
    }

    #[test]
    fn bombs_and_garbage_are_refused() {
        let bomb = Peer::new().block(&vec![0; 10 << 20]);
        assert!(matches!(HeaderReader::new().inflate(&bomb), Err(InflateError::TooLarge)));
        let full = Peer::new().block(&vec![0; MAX_INFLATED]);
        assert!(HeaderReader::new().inflate(&full).is_ok());
        let over = Peer::new().block(&vec![0; MAX_INFLATED + 1]);
        assert!(matches!(HeaderReader::new().inflate(&over), Err(InflateError::TooLarge)));
        assert!(matches!(HeaderReader::new().inflate(b"GET / HTTP/1.1"), Err(InflateError::Zlib(_))));
    }
}
