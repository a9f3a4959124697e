//! Why an event was not published, or a subscription not made or ended.

use super::{MAX_EVENT_BYTES, MAX_SUBSCRIBERS, Topic};
use crate::error::ErrorKind;
use crate::filter::FilterError;
use crate::ids::IdError;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TopicError {
    #[error("event topic {topic:?} does not start with /")]
    Relative { topic: String },
    #[error("event topic {topic:?} is not made of identifiers behind slashes, such as /tasks/exit")]
    Component {
        topic: String,
        #[source]
        source: IdError,
    },
}

impl TopicError {
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Relative { .. } | Self::Component { .. } => ErrorKind::InvalidArgument,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    #[error(transparent)]
    Topic(#[from] TopicError),
    #[error("forwarded event {topic} has no timestamp")]
    NoTimestamp { topic: Topic },
    #[error("event {topic} has {bytes} bytes, more than the {MAX_EVENT_BYTES} that one may have")]
    TooLarge { topic: Topic, bytes: usize },
}

impl PublishError {
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Topic(source) => source.kind(),
            Self::NoTimestamp { .. } | Self::TooLarge { .. } => ErrorKind::InvalidArgument,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubscribeError {
    #[error("failed to read the filters of an event subscription")]
    Filter(#[from] FilterError),
    #[error("{MAX_SUBSCRIBERS} event subscriptions are open already, no more are possible")]
    TooMany,
}

impl SubscribeError {
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Filter(source) => source.kind(),
            Self::TooMany => ErrorKind::ResourceExhausted,
        }
    }
}

/// Why there are no more events.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubscriptionError {
    #[error("the event subscription fell behind and was ended, {lost} events are lost")]
    Lagged { lost: usize },
    #[error("the event exchange has ended")]
    Closed,
}

impl SubscriptionError {
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Lagged { .. } => ErrorKind::ResourceExhausted,
            Self::Closed => ErrorKind::Unavailable,
        }
    }
}
