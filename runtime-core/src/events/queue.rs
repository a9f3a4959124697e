//! The queue of one subscriber: events in order, up to a bound, and then the reason why there are no more.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::{Envelope, SubscriptionError};

/// A reader that is this far behind will not catch up: starting hundreds of pods at once makes fewer events.
pub(super) const QUEUE_EVENTS: usize = 4096;
/// The same in bytes, for large events; at least sixteen of them.
pub(super) const QUEUE_BYTES: usize = 4 << 20;

#[derive(Default)]
pub(super) struct Queue {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Arc<Envelope>>,
    bytes: usize,
    ended: Option<SubscriptionError>,
}

/// What became of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pushed {
    Waits,
    /// It did not fit, nor will any other.
    CutOff,
}

impl Queue {
    /// Poisoning means nothing here: between the changes of one call nothing can panic.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn push(&self, envelope: Arc<Envelope>) -> Pushed {
        let mut state = self.state();
        let bytes = state.bytes + envelope.size();
        let fits = state.waiting.len() < QUEUE_EVENTS && bytes <= QUEUE_BYTES;
        if state.ended.is_none() && fits {
            state.waiting.push_back(envelope);
            state.bytes = bytes;
        } else if state.ended.is_none() {
            // What waits would be old news to someone who has to list anew; its memory is wanted now.
            let lost = std::mem::take(&mut state.waiting).len() + 1;
            state.ended = Some(SubscriptionError::Lagged { lost });
        }
        let pushed = if state.ended.is_none() { Pushed::Waits } else { Pushed::CutOff };
        drop(state);
        self.changed.notify_one();
        pushed
    }

    /// Ends the subscription once what waits has been read.
    pub(super) fn close(&self) {
        self.state().ended.get_or_insert(SubscriptionError::Closed);
        self.changed.notify_one();
    }

    /// One reader at a time: a wake-up that comes between the look and the wait is kept for the wait.
    pub(super) async fn pop(&self) -> Result<Arc<Envelope>, SubscriptionError> {
        loop {
            if let Some(outcome) = self.take() {
                return outcome;
            }
            self.changed.notified().await;
        }
    }

    fn take(&self) -> Option<Result<Arc<Envelope>, SubscriptionError>> {
        let mut state = self.state();
        match state.waiting.pop_front() {
            Some(envelope) => {
                state.bytes -= envelope.size();
                Some(Ok(envelope))
            }
            None => state.ended.clone().map(Err),
        }
    }
}
