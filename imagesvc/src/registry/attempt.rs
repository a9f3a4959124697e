//! What went wrong with each host that was asked.

use std::fmt;

use runtime_core::content::ContentError;
use runtime_core::error::ErrorKind;
use runtime_core::ids::Digest;

use super::client::FileError;

/// One host's failure.
#[derive(Debug, thiserror::Error)]
pub enum AttemptError {
    #[error("cannot be reached")]
    Connect(#[source] reqwest::Error),
    #[error("did not answer in time")]
    Timeout(#[source] reqwest::Error),
    #[error("broke off its answer")]
    Body(#[source] reqwest::Error),
    #[error("answered {status}{detail}")]
    Status { status: u16, detail: String },
    #[error("asks for credentials and none of ours are for it")]
    NoCredentials,
    #[error("sent a challenge that is not understood: {challenge:?}")]
    Challenge { challenge: String },
    #[error("sends us to {realm} for a token, which failed: {why}")]
    Token { realm: String, why: String },
    #[error("redirects to {target:?}, which is refused: {why}")]
    Redirect { target: String, why: &'static str },
    #[error("redirects to {target:?}, which asks for credentials: it gets none, they are not for it")]
    ForeignChallenge { target: String },
    #[error("sent more than the {limit} bytes that a document may have")]
    TooLarge { limit: u64 },
    #[error("sent {found} instead of {expected}")]
    WrongDigest { expected: Digest, found: Digest },
    #[error("did not say which digest it has")]
    NoDigest,
    #[error("sent bytes that could not be kept")]
    Store(#[source] ContentError),
    #[error("has settings that cannot be used")]
    Client(#[source] reqwest::Error),
    #[error("has certificate files that cannot be read")]
    File(#[source] FileError),
    #[error("was not asked any more: cancelled")]
    Cancelled,
}

impl AttemptError {
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Connect(_) | Self::Timeout(_) | Self::Body(_) => ErrorKind::Unavailable,
            Self::Status { status: 404, .. } => ErrorKind::NotFound,
            Self::Status { status: 401 | 403, .. }
            | Self::NoCredentials
            | Self::ForeignChallenge { .. }
            | Self::Token { .. } => ErrorKind::PermissionDenied,
            Self::Status { status: 429 | 500..=599, .. } => ErrorKind::Unavailable,
            Self::Status { .. } | Self::Challenge { .. } | Self::NoDigest | Self::Redirect { .. } => {
                ErrorKind::FailedPrecondition
            }
            Self::TooLarge { .. } => ErrorKind::ResourceExhausted,
            Self::WrongDigest { .. } => ErrorKind::DataLoss,
            Self::Store(source) => source.kind(),
            Self::Client(_) | Self::File(_) => ErrorKind::FailedPrecondition,
            Self::Cancelled => ErrorKind::Cancelled,
        }
    }

    /// Addresses of redirects may carry signatures: they are never shown.
    pub(super) fn of_send(error: reqwest::Error) -> Self {
        let error = error.without_url();
        if error.is_timeout() { Self::Timeout(error) } else { Self::Connect(error) }
    }

    pub(super) fn of_body(error: reqwest::Error) -> Self {
        let error = error.without_url();
        if error.is_timeout() { Self::Timeout(error) } else { Self::Body(error) }
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
