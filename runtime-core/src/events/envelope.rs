//! What travels: an event with its topic, namespace and time.

use std::borrow::Cow;
use std::fmt;

use super::error::TopicError;
use super::fields;
use crate::clock::Timestamp;
use crate::filter::Adaptor;
use crate::ids::{Namespace, check_identifier};
use crate::record::TypedValue;

/// Characters of a wrong topic that an error repeats.
const SHOWN: usize = 128;

/// What an event is about: `/tasks/exit`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Topic(String);

impl Topic {
    /// A topic is one or more identifiers with a slash before each.
    pub fn parse(topic: &str) -> Result<Self, TopicError> {
        let shown = || topic.chars().take(SHOWN).collect();
        let components = topic.strip_prefix('/').ok_or_else(|| TopicError::Relative { topic: shown() })?;
        for component in components.split('/') {
            check_identifier("topic component", component)
                .map_err(|source| TopicError::Component { topic: shown(), source })?;
        }
        Ok(Self(topic.to_owned()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    pub timestamp: Timestamp,
    pub namespace: Namespace,
    pub topic: Topic,
    /// One of containerd's event messages, or any other.
    pub event: TypedValue,
}

impl Envelope {
    /// Bytes that it takes in a queue, nearly.
    pub(super) fn size(&self) -> usize {
        let names = self.namespace.as_str().len() + self.topic.0.len() + self.event.type_url.len();
        size_of::<Self>() + names + self.event.value.len()
    }
}

/// containerd's names: `namespace`, `topic`, and `event.<field>` of the events it knows. Not the time.
impl Adaptor for Envelope {
    fn field(&self, path: &[&str]) -> Option<Cow<'_, str>> {
        match path {
            ["namespace", ..] => Some(Cow::Borrowed(self.namespace.as_str())),
            ["topic", ..] => Some(Cow::Borrowed(self.topic.as_str())),
            ["event", path @ ..] => fields::find(&self.event, path),
            _ => None,
        }
    }
}
