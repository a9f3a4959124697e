//! Messages of the netfilter socket as bytes: written and taken apart, pure.

use std::borrow::Cow;

const HEADER: usize = 16;
/// After the header: family, version, resource.
const GENERIC: usize = 4;
const ERROR: u16 = 2;
const DONE: u16 = 3;
const BATCH_BEGIN: u16 = 16;
const BATCH_END: u16 = 17;
const NFTABLES: u16 = 10;
// NLM_F_*
const REQUEST: u16 = 1;
const MULTI: u16 = 2;
const ACK: u16 = 4;
const INTERRUPTED: u16 = 0x10;
const DUMP: u16 = 0x300;
const CREATE: u16 = 0x400;
const APPEND: u16 = 0x800;
const NESTED: u16 = 0x8000;

/// One request.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    kind: u16,
    flags: u16,
    body: Vec<u8>,
}

/// Requests as they are sent, and what is to come back.
#[derive(Clone, Debug)]
pub(crate) struct Sent {
    pub(super) bytes: Vec<u8>,
    /// How many answers or acknowledgements.
    pub(super) answers: usize,
    /// Whether one answer is a list with an end.
    pub(super) listed: bool,
    /// Whether it is one request, so that an error is the end.
    pub(super) alone: bool,
}

impl Request {
    pub(crate) fn new(subsystem: u16, command: u16, family: u8) -> Self {
        Self { kind: subsystem << 8 | command, flags: REQUEST, body: vec![family, 0, 0, 0] }
    }

    /// Makes something new at the end of a list.
    pub(crate) fn appending(subsystem: u16, command: u16, family: u8) -> Self {
        Self { flags: REQUEST | CREATE | APPEND, ..Self::new(subsystem, command, family) }
    }

    pub(crate) fn bytes(&mut self, kind: u16, value: &[u8]) -> &mut Self {
        self.body.extend(nested(kind, value));
        self
    }

    pub(crate) fn text(&mut self, kind: u16, value: &str) -> &mut Self {
        let mut bytes = value.as_bytes().to_vec();
        bytes.push(0);
        self.bytes(kind, &bytes)
    }

    pub(crate) fn nested(&mut self, kind: u16, attributes: &[u8]) -> &mut Self {
        self.bytes(kind | NESTED, attributes)
    }

    /// To be answered by one message.
    pub(crate) fn single(&self) -> Sent {
        self.sent(self.flags, false)
    }

    /// To be answered by a list.
    pub(crate) fn dump(&self) -> Sent {
        self.sent(self.flags | DUMP, true)
    }

    /// To be acknowledged.
    pub(crate) fn acknowledged(&self) -> Sent {
        self.sent(self.flags | ACK, false)
    }

    fn sent(&self, flags: u16, listed: bool) -> Sent {
        Sent { bytes: framed(self.kind, flags, 1, &self.body), answers: 1, listed, alone: true }
    }
}

/// An attribute, which may be one of several in another.
pub(crate) fn nested(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(value.len() + 4).unwrap_or(u16::MAX);
    let mut bytes = [length.to_ne_bytes(), kind.to_ne_bytes()].concat();
    bytes.extend_from_slice(value);
    bytes.resize(aligned(bytes.len()), 0);
    bytes
}

/// Requests that are carried out together or not at all. Only the last one is acknowledged: all acknowledgements come at
/// once, and the socket holds some 280 of them. Errors come unasked.
pub(crate) fn transaction(requests: &[Request]) -> Sent {
    let [high, low] = NFTABLES.to_be_bytes();
    let edge = |kind| framed(kind, REQUEST, 0, &[0, 0, high, low]);
    let mut bytes = edge(BATCH_BEGIN);
    let last = requests.len();
    for (index, request) in requests.iter().enumerate() {
        let flags = if index + 1 == last { request.flags | ACK } else { request.flags };
        bytes.extend(framed(request.kind, flags, 1, &request.body));
    }
    bytes.extend(edge(BATCH_END));
    Sent { bytes, answers: last.min(1), listed: false, alone: false }
}

fn framed(kind: u16, flags: u16, number: u32, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(HEADER + body.len()).unwrap_or(u32::MAX);
    let mut bytes = length.to_ne_bytes().to_vec();
    bytes.extend_from_slice(&kind.to_ne_bytes());
    bytes.extend_from_slice(&flags.to_ne_bytes());
    bytes.extend_from_slice(&number.to_ne_bytes());
    bytes.extend_from_slice(&[0; 4]);
    bytes.extend_from_slice(body);
    bytes
}

fn aligned(length: usize) -> usize {
    length.div_ceil(4) * 4
}

/// One message of the kernel.
#[derive(Clone, Debug)]
pub(crate) struct Message<'a> {
    kind: u16,
    flags: u16,
    body: Cow<'a, [u8]>,
}

/// All messages of a datagram.
pub(crate) fn all(mut bytes: &[u8]) -> Vec<Message<'_>> {
    let mut messages = Vec::new();
    while let Some((message, rest)) = split(bytes) {
        messages.push(message);
        bytes = rest;
    }
    messages
}

fn split(bytes: &[u8]) -> Option<(Message<'_>, &[u8])> {
    let length = usize::try_from(u32::from_ne_bytes(*bytes.first_chunk()?)).ok()?;
    let kind = u16::from_ne_bytes(*bytes.get(4..)?.first_chunk()?);
    let flags = u16::from_ne_bytes(*bytes.get(6..)?.first_chunk()?);
    let body = bytes.get(HEADER..length)?;
    let rest = bytes.get(aligned(length)..).unwrap_or_default();
    Some((Message { kind, flags, body: Cow::Borrowed(body) }, rest))
}

impl Message<'_> {
    pub(crate) fn into_owned(self) -> Message<'static> {
        Message { kind: self.kind, flags: self.flags, body: Cow::Owned(self.body.into_owned()) }
    }

    pub(crate) fn is(&self, subsystem: u16, command: u16) -> bool {
        self.kind == subsystem << 8 | command
    }

    pub(crate) fn is_end(&self) -> bool {
        self.kind == DONE
    }

    /// Whether it belongs to a list.
    pub(crate) fn is_part(&self) -> bool {
        self.flags & MULTI != 0
    }

    /// Whether a list was changed while the kernel told it.
    pub(crate) fn is_interrupted(&self) -> bool {
        self.flags & INTERRUPTED != 0
    }

    /// The number of an error, 0 in an acknowledgement and at the good end of a list.
    pub(crate) fn error(&self) -> Option<i32> {
        let missing = match self.kind {
            ERROR => i32::MAX,
            DONE => 0,
            _ => return None,
        };
        Some(self.body.first_chunk().map_or(missing, |code| i32::from_ne_bytes(*code).saturating_neg()))
    }

    pub(crate) fn attributes(&self) -> Attributes<'_> {
        Attributes::new(self.body.get(GENERIC..).unwrap_or_default())
    }
}

/// Kinds and values of attributes.
#[derive(Clone, Debug)]
pub(crate) struct Attributes<'a> {
    bytes: &'a [u8],
}

impl<'a> Attributes<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }
}

impl<'a> Iterator for Attributes<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let length = usize::from(u16::from_ne_bytes(*self.bytes.first_chunk()?));
        let kind = u16::from_ne_bytes(*self.bytes.get(2..)?.first_chunk()?) & 0x3fff;
        let value = self.bytes.get(4..length)?;
        self.bytes = self.bytes.get(aligned(length)..).unwrap_or_default();
        Some((kind, value))
    }
}

/// A text without its end.
pub(crate) fn text(value: &[u8]) -> Option<&str> {
    std::str::from_utf8(value.split(|byte| *byte == 0).next()?).ok()
}

/// The comment among the data that `nft` keeps with a rule: type, length, value.
pub(crate) fn comment(mut data: &[u8]) -> Option<String> {
    const COMMENT: u8 = 0;
    while let [kind, length, rest @ ..] = data {
        let value = rest.get(..usize::from(*length))?;
        if *kind == COMMENT {
            return text(value).map(str::to_owned);
        }
        data = rest.get(usize::from(*length)..)?;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_can_be_read() {
        let mut request = Request::new(10, 7, 2);
        request.text(1, "nat").bytes(3, &7_u64.to_be_bytes());
        let sent = transaction(&[request.clone(), request]);
        let messages = all(&sent.bytes);
        assert_eq!((messages.len(), sent.answers), (4, 1));
        let acknowledged = messages.iter().map(|one| one.flags & ACK != 0).collect::<Vec<_>>();
        assert_eq!(acknowledged, [false, false, true, false]);
        assert!(messages[1].is(10, 7) && messages[1].error().is_none());
        let attributes: Vec<_> = messages[2].attributes().collect();
        assert_eq!(text(attributes[0].1), Some("nat"));
        assert_eq!(attributes[1], (3, &7_u64.to_be_bytes()[..]));
    }

    #[test]
    fn cut_messages_end_the_reading() {
        let mut request = Request::new(10, 7, 2);
        request.text(1, "a longer name");
        let bytes = request.single().bytes;
        for length in 0..bytes.len() {
            for message in all(&bytes[..length]) {
                assert_eq!(message.attributes().count(), 0);
            }
        }
        assert_eq!(Attributes::new(&[3, 0, 1, 0, 9]).count(), 0);
        assert_eq!(Attributes::new(&[0; 4]).count(), 0);
        assert_eq!(comment(&[1, 1, 9, 0, 3, b'a', b'b', 0]), Some("ab".to_owned()));
        assert_eq!(comment(&[1, 9, 9]), None);
        assert_eq!(comment(&[0, 9, b'a']), None);
    }
}
