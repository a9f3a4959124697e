//! Cutting a stream into log lines. Pure; one per stream.

/// Longest text of a log line, in bytes; longer lines are split (containerd's `max_container_log_line_size`).
pub(crate) const MAX_TEXT: usize = 16 * 1024;

/// Tag of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tag {
    /// The line goes on in the next entry of this stream, or the stream ended within it.
    Partial,
    /// The line's end.
    Full,
}

/// Keeps the begun line between two reads; holds memory only while there is one.
#[derive(Default)]
pub(crate) struct Splitter {
    begun: Vec<u8>,
}

impl Splitter {
    /// Takes the next bytes of the stream, gives each log line to `emit`.
    pub(crate) fn push(&mut self, mut bytes: &[u8], mut emit: impl FnMut(Tag, &[u8])) {
        while !bytes.is_empty() {
            let room = MAX_TEXT - self.begun.len();
            // A newline right after the longest text still ends the line there.
            let window = &bytes[..bytes.len().min(room + 1)];
            let (text, tag, used) = match window.iter().position(|byte| *byte == b'\n') {
                Some(end) => (&bytes[..end], Tag::Full, end + 1),
                None if window.len() > room => (&bytes[..room], Tag::Partial, room),
                None => {
                    self.begun.extend_from_slice(bytes);
                    return;
                }
            };
            if self.begun.is_empty() {
                emit(tag, text);
            } else {
                self.begun.extend_from_slice(text);
                emit(tag, &std::mem::take(&mut self.begun));
            }
            bytes = &bytes[used..];
        }
    }

    /// The stream has ended: a begun line is given out as partial.
    pub(crate) fn finish(&mut self, mut emit: impl FnMut(Tag, &[u8])) {
        if !self.begun.is_empty() {
            emit(Tag::Partial, &std::mem::take(&mut self.begun));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn split(chunks: &[&[u8]]) -> Vec<(Tag, Vec<u8>)> {
        let (mut splitter, mut lines) = (Splitter::default(), Vec::new());
        for chunk in chunks {
            splitter.push(chunk, |tag, text| lines.push((tag, text.to_vec())));
        }
        splitter.finish(|tag, text| lines.push((tag, text.to_vec())));
        lines
    }

    fn join(lines: &[(Tag, Vec<u8>)]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (tag, text) in lines {
            bytes.extend_from_slice(text);
            if *tag == Tag::Full {
                bytes.push(b'\n');
            }
        }
        bytes
    }

    fn output() -> impl Strategy<Value = Vec<u8>> {
        let piece = prop_oneof![
            3 => prop::collection::vec(prop_oneof![Just(b'\n'), Just(b'\r'), Just(b'x')], 0..20),
            1 => (MAX_TEXT - 2..MAX_TEXT + 3).prop_map(|size| vec![b'y'; size]),
        ];
        prop::collection::vec(piece, 0..6).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn lines_join_to_the_stream_however_it_was_read(bytes in output(), cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6)) {
            let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
            cuts.sort_unstable();
            cuts.push(bytes.len());
            let mut start = 0;
            let chunks: Vec<_> = cuts.into_iter().map(|end| &bytes[std::mem::replace(&mut start, end)..end]).collect();
            let lines = split(&chunks);
            prop_assert_eq!(join(&lines), bytes.clone());
            prop_assert_eq!(&lines, &split(&[&bytes]));
            for (index, (tag, text)) in lines.iter().enumerate() {
                prop_assert!(text.len() <= MAX_TEXT && !text.contains(&b'\n'));
                prop_assert!(*tag == Tag::Full || text.len() == MAX_TEXT || index + 1 == lines.len());
            }
        }
    }

    #[test]
    fn boundaries() {
        let exactly = [vec![b'a'; MAX_TEXT], b"\nb".to_vec()].concat();
        let lines = split(&[&exactly]);
        assert_eq!(lines[0], (Tag::Full, vec![b'a'; MAX_TEXT]));
        assert_eq!(lines[1], (Tag::Partial, b"b".to_vec()));
        let over = vec![b'a'; MAX_TEXT + 1];
        assert_eq!(split(&[&over]), [(Tag::Partial, vec![b'a'; MAX_TEXT]), (Tag::Partial, b"a".to_vec())]);
        assert_eq!(split(&[b"crlf\r\n", b"\n"]), [(Tag::Full, b"crlf\r".to_vec()), (Tag::Full, Vec::new())]);
        assert_eq!(split(&[b""]), []);
    }
}
