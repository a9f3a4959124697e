//! Events: who publishes does not know who listens, and never waits for them.
//!
//! Each subscription has a queue of its own, bounded in number and bytes. A subscriber whose queue is full is cut
//! off: what waits is let go, and its next [`Subscription::recv`] ends it with how much was lost. Then it lists
//! anew. containerd's queues grow without bound instead. Nothing is kept for those who come later; events are
//! hints, the records are the truth.

mod envelope;
mod error;
mod feed;
mod fields;
pub mod plugin;
mod queue;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

pub use envelope::{Envelope, Topic};
pub use error::{PublishError, SubscribeError, SubscriptionError, TopicError};
pub use feed::Feed;

use crate::clock::{SharedClock, Timestamp};
use crate::filter::Filters;
use crate::ids::Namespace;
use crate::record::TypedValue;
use queue::{Pushed, Queue};

/// Subscriptions at one time. A node has a handful of watchers; each may hold a full queue.
pub const MAX_SUBSCRIBERS: usize = 256;
/// Largest event. Each is looked through for each selector on `event` of each subscriber; those of containerd have
/// some hundred bytes, and some thousand with mounts or labels.
pub const MAX_EVENT_BYTES: usize = 256 << 10;

/// The exchange of all namespaces; clones share it. Its subscriptions end with the last clone.
#[derive(Clone)]
pub struct Exchange {
    clock: SharedClock,
    subscribers: Arc<Subscribers>,
}

impl Exchange {
    pub fn new(clock: SharedClock) -> Self {
        Self { clock, subscribers: Arc::default() }
    }

    /// Sends an event of this daemon, as of now.
    pub fn publish(&self, namespace: &Namespace, topic: &str, event: TypedValue) -> Result<(), PublishError> {
        let envelope = Envelope {
            timestamp: self.clock.now(),
            namespace: namespace.clone(),
            topic: Topic::parse(topic)?,
            event,
        };
        self.send(envelope)
    }

    /// Whether anybody listens.
    pub(crate) fn has_subscribers(&self) -> bool {
        !self.subscribers.known().by_id.is_empty()
    }

    /// Sends an event on behalf of someone else, such as a shim, with the time that it says.
    pub fn forward(&self, envelope: Envelope) -> Result<(), PublishError> {
        if envelope.timestamp == Timestamp::default() {
            return Err(PublishError::NoTimestamp { topic: envelope.topic });
        }
        self.send(envelope)
    }

    fn send(&self, envelope: Envelope) -> Result<(), PublishError> {
        let bytes = envelope.size();
        if bytes > MAX_EVENT_BYTES {
            return Err(PublishError::TooLarge { topic: envelope.topic, bytes });
        }
        let envelope = Arc::new(envelope);
        // Filters and queues are looked at outside of the lock: publishers do not wait for each other either.
        for subscriber in self.subscribers.all() {
            if subscriber.filters.matches(&*envelope)
                && subscriber.queue.push(Arc::clone(&envelope)) == Pushed::CutOff
            {
                self.subscribers.remove(subscriber.id);
            }
        }
        Ok(())
    }

    /// Every event from now on that one of `filters` matches; without any, every event.
    pub fn subscribe<S: AsRef<str>>(&self, filters: &[S]) -> Result<Subscription, SubscribeError> {
        let filters = Filters::parse_all(filters)?;
        let subscriber = self.subscribers.add(filters)?;
        Ok(Subscription { subscriber, subscribers: Arc::downgrade(&self.subscribers) })
    }
}

/// One listener. Dropping it ends the subscription.
pub struct Subscription {
    subscriber: Arc<Subscriber>,
    subscribers: Weak<Subscribers>,
}

impl Subscription {
    /// The next event, in the order in which its publisher sent them. Cancel-safe: an event is taken only when it
    /// is returned. An error is final and comes again at each further call.
    pub async fn recv(&mut self) -> Result<Arc<Envelope>, SubscriptionError> {
        self.subscriber.queue.pop().await
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        if let Some(subscribers) = self.subscribers.upgrade() {
            subscribers.remove(self.subscriber.id);
        }
    }
}

struct Subscriber {
    id: u64,
    filters: Filters,
    queue: Queue,
}

#[derive(Default)]
struct Subscribers(Mutex<Known>);

#[derive(Default)]
struct Known {
    next: u64,
    by_id: BTreeMap<u64, Arc<Subscriber>>,
}

impl Subscribers {
    /// Poisoning means nothing here: no change of the map can stop halfway.
    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn all(&self) -> Vec<Arc<Subscriber>> {
        self.known().by_id.values().cloned().collect()
    }

    fn add(&self, filters: Filters) -> Result<Arc<Subscriber>, SubscribeError> {
        let mut known = self.known();
        if known.by_id.len() >= MAX_SUBSCRIBERS {
            return Err(SubscribeError::TooMany);
        }
        known.next += 1;
        let subscriber = Arc::new(Subscriber { id: known.next, filters, queue: Queue::default() });
        known.by_id.insert(subscriber.id, Arc::clone(&subscriber));
        Ok(subscriber)
    }

    fn remove(&self, id: u64) {
        self.known().by_id.remove(&id);
    }
}

impl Drop for Subscribers {
    fn drop(&mut self) {
        self.all().iter().for_each(|subscriber| subscriber.queue.close());
    }
}

#[cfg(test)]
mod tests;
