//! What one host has let us in with. A session has one repository and only pulls, so a host has one scope.
//!
//! It is kept for the session alone: a registry has to see the credentials of every pull (KEP-2535). Requests
//! that are turned away at the same time, as when a token expires, take turns and share one new token.

use std::sync::{Mutex, PoisonError};

use reqwest::header::HeaderValue;
use tokio::sync::Semaphore;

use crate::registry::attempt::AttemptError;

pub(super) struct Access {
    value: Mutex<Option<HeaderValue>>,
    turn: Semaphore,
}

/// Another `Authorization` value than the one that was refused.
pub(super) enum Renewed {
    /// Another request has got it meanwhile; it may be refused in turn.
    Meanwhile(HeaderValue),
    Now(HeaderValue),
}

impl Access {
    pub(super) fn new() -> Self {
        Self { value: Mutex::default(), turn: Semaphore::new(1) }
    }

    pub(super) fn value(&self) -> Option<HeaderValue> {
        self.value.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Replaces what was `refused` by what `answer` brings, unless that has been done. Cancel-safe.
    pub(super) async fn renew(
        &self,
        refused: Option<&HeaderValue>,
        answer: impl Future<Output = Result<HeaderValue, AttemptError>>,
    ) -> Result<Renewed, AttemptError> {
        let _turn = self.turn.acquire().await.expect("this semaphore is never closed");
        if let Some(value) = self.value().filter(|value| Some(value) != refused) {
            return Ok(Renewed::Meanwhile(value));
        }
        let value = answer.await?;
        *self.value.lock().unwrap_or_else(PoisonError::into_inner) = Some(value.clone());
        Ok(Renewed::Now(value))
    }
}
