//! The URLs that wait to be opened: secret tokens, each good for one request of one kind for a short time.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use runtime_core::error::ErrorKind;
use tokio::time::Instant;

use crate::request::{AttachRequest, ExecRequest, PortForwardRequest};

/// 144 random bits: not to be guessed, and 24 characters without padding.
const TOKEN_BYTES: usize = 18;

/// What a token stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Request {
    Exec(ExecRequest),
    Attach(AttachRequest),
    PortForward(PortForwardRequest),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Endpoint {
    Exec,
    Attach,
    PortForward,
}

impl Endpoint {
    pub(crate) fn path(self) -> &'static str {
        match self {
            Self::Exec => "exec",
            Self::Attach => "attach",
            Self::PortForward => "portforward",
        }
    }

    pub(crate) fn from_path(path: &str) -> Option<Self> {
        [Self::Exec, Self::Attach, Self::PortForward].into_iter().find(|endpoint| endpoint.path() == path)
    }
}

impl Request {
    pub(crate) fn endpoint(&self) -> Endpoint {
        match self {
            Self::Exec(_) => Endpoint::Exec,
            Self::Attach(_) => Endpoint::Attach,
            Self::PortForward(_) => Endpoint::PortForward,
        }
    }
}

#[derive(Debug)]
pub(crate) struct Tokens {
    lifetime: Duration,
    capacity: usize,
    pending: Mutex<HashMap<String, (Request, Instant)>>,
}

impl Tokens {
    pub(crate) fn new(lifetime: Duration, capacity: usize) -> Self {
        Self { lifetime, capacity, pending: Mutex::default() }
    }

    pub(crate) fn issue(&self, request: Request) -> Result<String, TokenError> {
        let token = random_token()?;
        let now = Instant::now();
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        pending.retain(|_, (_, expiry)| *expiry > now);
        if pending.len() >= self.capacity {
            return Err(TokenError::Full { limit: self.capacity });
        }
        pending.insert(token.clone(), (request, now + self.lifetime));
        Ok(token)
    }

    /// Takes the request out, so that no second client gets it.
    pub(crate) fn redeem(&self, endpoint: Endpoint, token: &str) -> Option<Request> {
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        let (request, expiry) = pending.get(token)?;
        if request.endpoint() != endpoint || *expiry <= Instant::now() {
            return None;
        }
        pending.remove(token).map(|(request, _)| request)
    }
}

fn random_token() -> Result<String, TokenError> {
    let mut bytes = [0; TOKEN_BYTES];
    // Requests of up to 256 bytes are never cut short once the kernel's pool is ready.
    let read = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())
        .map_err(|errno| TokenError::Random(errno.into()))?;
    if read != TOKEN_BYTES {
        return Err(TokenError::Random(std::io::ErrorKind::UnexpectedEof.into()));
    }
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

/// Why no URL could be made.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    #[error("{limit} streaming requests wait to be opened already")]
    Full { limit: usize },
    #[error("cannot get random bytes for a token")]
    Random(#[source] std::io::Error),
}

impl TokenError {
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Full { .. } => ErrorKind::ResourceExhausted,
            Self::Random(_) => ErrorKind::Internal,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn forward(sandbox: &str) -> Request {
        Request::PortForward(PortForwardRequest { sandbox: sandbox.into(), ports: Vec::new() })
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_is_good_once_for_its_endpoint_and_time() {
        let tokens = Tokens::new(Duration::from_secs(60), 10);
        let token = tokens.issue(forward("a")).unwrap();
        assert_eq!(token.len(), 24);
        assert_eq!(tokens.redeem(Endpoint::Exec, &token), None, "another endpoint");
        assert_eq!(tokens.redeem(Endpoint::PortForward, &token), Some(forward("a")));
        assert_eq!(tokens.redeem(Endpoint::PortForward, &token), None, "used");

        let token = tokens.issue(forward("b")).unwrap();
        tokio::time::advance(Duration::from_secs(61)).await;
        assert_eq!(tokens.redeem(Endpoint::PortForward, &token), None, "expired");
    }

    #[tokio::test(start_paused = true)]
    async fn the_table_is_bounded_and_frees_what_expired() {
        let tokens = Tokens::new(Duration::from_secs(60), 3);
        let issued: std::collections::HashSet<_> =
            (0..3).map(|_| tokens.issue(forward("a")).unwrap()).collect();
        assert_eq!(issued.len(), 3);
        let full = tokens.issue(forward("a")).unwrap_err();
        assert_eq!(full.kind(), ErrorKind::ResourceExhausted);
        tokio::time::advance(Duration::from_secs(61)).await;
        tokens.issue(forward("a")).unwrap();
    }
}
