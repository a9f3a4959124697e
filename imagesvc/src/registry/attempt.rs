//! What went wrong with each host that was asked.

use std::fmt;
use std::time::Duration;

use runtime_core::content::ContentError;
use runtime_core::error::ErrorKind;
use runtime_core::ids::Digest;

use super::client::FileError;

/// One host's failure.
#[derive(Debug, thiserror::Error)]
pub enum AttemptError {
    #[error("cannot be reached")]
    Connect(#[source] reqwest::Error),
    #[error("broke off before it answered")]
    Send(#[source] reqwest::Error),
    #[error("broke off its answer")]
    Body(#[source] reqwest::Error),
    #[error("ended its answer after {received} of {size} bytes")]
    Truncated { received: u64, size: u64 },
    #[error("sent nothing for {limit:?}, the longest that a pull may make no progress")]
    Stalled { limit: Duration },
    #[error("answered {status}{detail}")]
    Status { status: u16, detail: String, retry_after: Option<Duration> },
    #[error("asks for credentials and none of ours are for it")]
    NoCredentials,
    #[error("sent a challenge that is not understood: {challenge:?}")]
    Challenge { challenge: String },
    #[error("sends us to {realm} for a token, which cannot be used: {why}")]
    Token { realm: String, why: String },
    #[error("sends us to {realm} for a token, which failed")]
    TokenServer {
        realm: String,
        #[source]
        source: Box<AttemptError>,
    },
    #[error("redirects to {target:?}, which is refused: {why}")]
    Redirect { target: String, why: &'static str },
    #[error("redirects to {target:?}, which asks for credentials: it gets none, they are not for it")]
    ForeignChallenge { target: String },
    #[error("redirects to {target:?}, which failed")]
    Behind {
        target: String,
        #[source]
        source: Box<AttemptError>,
    },
    #[error("sent more than the {limit} bytes that a document may have")]
    TooLarge { limit: u64 },
    #[error("sent {found} instead of {expected}")]
    WrongDigest { expected: Digest, found: Digest },
    #[error("sent bytes that could not be kept")]
    Store(#[source] ContentError),
    #[error("has settings that cannot be used")]
    Client(#[source] reqwest::Error),
    #[error("has certificate files that cannot be read")]
    File(#[source] FileError),
    #[error("was not asked any more: cancelled")]
    Cancelled,
}

/// When asking the same host once more may help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hope {
    None,
    /// Where no other host can be asked instead.
    IfLast,
    /// A host that has sent bytes and is gone may be about to come back.
    IfLastAndMet,
    Any,
}

impl AttemptError {
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Connect(_) | Self::Send(_) | Self::Body(_) | Self::Truncated { .. } => {
                ErrorKind::Unavailable
            }
            Self::Stalled { .. } => ErrorKind::Unavailable,
            Self::Status { status: 404, .. } => ErrorKind::NotFound,
            Self::Status { status: 401 | 403, .. }
            | Self::NoCredentials
            | Self::ForeignChallenge { .. }
            | Self::Token { .. } => ErrorKind::PermissionDenied,
            Self::Status { status: 408 | 429 | 500..=599, .. } => ErrorKind::Unavailable,
            Self::Status { .. } | Self::Challenge { .. } | Self::Redirect { .. } => {
                ErrorKind::FailedPrecondition
            }
            Self::TokenServer { source, .. } => match source.kind() {
                ErrorKind::Unavailable => ErrorKind::Unavailable,
                _ => ErrorKind::PermissionDenied,
            },
            Self::Behind { source, .. } => source.kind(),
            Self::TooLarge { .. } => ErrorKind::ResourceExhausted,
            Self::WrongDigest { .. } => ErrorKind::DataLoss,
            Self::Store(source) => source.kind(),
            Self::Client(_) | Self::File(_) => ErrorKind::FailedPrecondition,
            Self::Cancelled => ErrorKind::Cancelled,
        }
    }

    pub(super) fn hope(&self) -> Hope {
        match self {
            Self::Body(_) | Self::Truncated { .. } => Hope::Any,
            Self::Send(_) | Self::Status { status: 408 | 429 | 500 | 502 | 503 | 504, .. } => Hope::IfLast,
            Self::Connect(_) => Hope::IfLastAndMet,
            Self::Behind { source, .. } | Self::TokenServer { source, .. } => source.hope(),
            // One that stalls has had its time already.
            Self::Stalled { .. }
            | Self::Status { .. }
            | Self::NoCredentials
            | Self::Challenge { .. }
            | Self::Token { .. }
            | Self::Redirect { .. }
            | Self::ForeignChallenge { .. }
            | Self::TooLarge { .. }
            | Self::WrongDigest { .. }
            | Self::Store(_)
            | Self::Client(_)
            | Self::File(_)
            | Self::Cancelled => Hope::None,
        }
    }

    /// What the host itself, or the one it sent us to, has answered.
    pub(super) fn status(&self) -> Option<u16> {
        match self {
            Self::Status { status, .. } => Some(*status),
            Self::Behind { source, .. } => source.status(),
            _ => None,
        }
    }

    pub(super) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Status { retry_after, .. } => *retry_after,
            Self::Behind { source, .. } | Self::TokenServer { source, .. } => source.retry_after(),
            _ => None,
        }
    }

    /// Addresses of redirects may carry signatures: they are never shown. `limit` is the progress timeout.
    pub(super) fn of_send(error: reqwest::Error, limit: Option<Duration>) -> Self {
        let error = error.without_url();
        match limit {
            _ if error.is_connect() => Self::Connect(error),
            Some(limit) if error.is_timeout() => Self::Stalled { limit },
            _ => Self::Send(error),
        }
    }

    pub(super) fn of_body(error: reqwest::Error, limit: Option<Duration>) -> Self {
        match limit {
            Some(limit) if error.is_timeout() => Self::Stalled { limit },
            _ => Self::Body(error.without_url()),
        }
    }
}

/// No host gave what was asked for.
#[derive(Debug)]
pub struct RegistryError {
    pub step: String,
    /// In the order of asking.
    pub attempts: Vec<(String, AttemptError)>,
}

impl RegistryError {
    /// The last host is the registry itself: what it says counts.
    pub fn kind(&self) -> ErrorKind {
        self.attempts.last().map_or(ErrorKind::FailedPrecondition, |(_, error)| error.kind())
    }
}

impl fmt::Display for RegistryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "failed to {}", self.step)?;
        if self.attempts.is_empty() {
            return f.write_str(": no host is configured for it");
        }
        let mut separator = ": ";
        for (host, error) in &self.attempts {
            write!(f, "{separator}{host} {}", runtime_core::error::chain(error))?;
            separator = "; ";
        }
        Ok(())
    }
}

/// The causes are part of the text, one chain a host.
impl std::error::Error for RegistryError {}
