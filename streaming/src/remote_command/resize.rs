//! Terminal sizes as the client writes them: JSON objects back to back, cut into pieces anyhow.

use serde::Deserialize;

/// An object is some thirty bytes.
const MAX_OBJECT: usize = 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct Size {
    #[serde(alias = "Width")]
    pub(crate) width: u16,
    #[serde(alias = "Height")]
    pub(crate) height: u16,
}

#[derive(Debug, Default)]
pub(crate) struct SizeReader {
    rest: Vec<u8>,
}

impl SizeReader {
    /// The newest size that is complete now; older ones are of no use any more.
    pub(crate) fn read(&mut self, bytes: &[u8]) -> Result<Option<Size>, SizeError> {
        self.rest.extend_from_slice(bytes);
        let mut sizes = serde_json::Deserializer::from_slice(&self.rest).into_iter::<Size>();
        let mut newest = None;
        let mut done = 0;
        while let Some(size) = sizes.next() {
            match size {
                Ok(size) => newest = Some(size),
                Err(error) if error.is_eof() => break,
                Err(error) => return Err(SizeError::Json(error)),
            }
            done = sizes.byte_offset();
        }
        self.rest.drain(..done);
        if self.rest.len() > MAX_OBJECT { Err(SizeError::TooLong) } else { Ok(newest) }
    }
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum SizeError {
    #[error("not a terminal size")]
    Json(#[source] serde_json::Error),
    #[error("a terminal size of more than {MAX_OBJECT} bytes")]
    TooLong,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_however_they_are_cut() {
        let mut reader = SizeReader::default();
        assert_eq!(reader.read(br#"{"Width":80,"#).unwrap(), None);
        let size = |width, height| Some(Size { width, height });
        assert_eq!(reader.read(b"\"Height\":24}\n").unwrap(), size(80, 24));
        assert_eq!(reader.read(br#"{"Width":1,"Height":2}{"Width":3,"Height":4}{"#).unwrap(), size(3, 4));
        assert_eq!(reader.read(br#""Width":5,"Height":6}"#).unwrap(), size(5, 6));
        let text = br#"{"Width":132,"Height":43}"#;
        let mut reader = SizeReader::default();
        let (last, first) = text.split_last().unwrap();
        for byte in first {
            assert_eq!(reader.read(&[*byte]).unwrap(), None);
        }
        assert_eq!(reader.read(&[*last]).unwrap(), size(132, 43));
    }

    #[test]
    fn what_is_no_size_is_refused() {
        for text in
            [&br#"{"Width":70000,"Height":1}"#[..], br#"{"Width":-1,"Height":1}"#, b"]", b"{\"Width\":1}"]
        {
            assert!(matches!(SizeReader::default().read(text), Err(SizeError::Json(_))));
        }
        let endless = [b"{\"Width\":1,\"x\":\"".as_slice(), &[b'a'; 2000]].concat();
        assert!(matches!(SizeReader::default().read(&endless), Err(SizeError::TooLong)));
    }
}
