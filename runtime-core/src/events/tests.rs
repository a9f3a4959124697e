//! Who gets which events, and what becomes of those who do not read theirs.

use std::collections::BTreeSet;
use std::future::Future;
use std::task::{Context, Poll, Waker};

use super::queue::{QUEUE_BYTES, QUEUE_EVENTS};
use super::*;
use crate::clock::Clock;
use crate::error::ErrorKind;

struct Fixed;

impl Clock for Fixed {
    fn now(&self) -> Timestamp {
        Timestamp(42)
    }
}

fn exchange() -> Exchange {
    Exchange::new(Arc::new(Fixed))
}

fn all(exchange: &Exchange) -> Subscription {
    exchange.subscribe::<&str>(&[]).unwrap()
}

/// `ContainerCreate { id }`.
fn created(id: &str) -> TypedValue {
    let mut value = vec![0x0a, u8::try_from(id.len()).unwrap()];
    value.extend_from_slice(id.as_bytes());
    TypedValue { type_url: "containerd.events.ContainerCreate".to_owned(), value }
}

fn publish(exchange: &Exchange, topic: &str, id: &str) {
    exchange.publish(&Namespace::k8s(), topic, created(id)).unwrap();
}

/// Whether nothing waits for the subscriber.
fn is_quiet(subscription: &mut Subscription) -> bool {
    let mut next = std::pin::pin!(subscription.recv());
    matches!(next.as_mut().poll(&mut Context::from_waker(Waker::noop())), Poll::Pending)
}

async fn ids(subscription: &mut Subscription, count: usize) -> Vec<String> {
    let mut ids = Vec::new();
    for _ in 0..count {
        let envelope = subscription.recv().await.unwrap();
        ids.push(String::from_utf8(envelope.event.value[2..].to_vec()).unwrap());
    }
    ids
}

#[tokio::test]
async fn every_subscriber_gets_every_event_in_order() {
    let exchange = exchange();
    publish(&exchange, "/containers/create", "too-early");
    let (mut one, mut other) = (all(&exchange), all(&exchange));
    for id in ["a", "b", "c"] {
        publish(&exchange, "/containers/create", id);
    }
    let first = one.recv().await.unwrap();
    assert_eq!(
        *first,
        Envelope {
            timestamp: Timestamp(42),
            namespace: Namespace::k8s(),
            topic: Topic::parse("/containers/create").unwrap(),
            event: created("a"),
        }
    );
    assert_eq!(ids(&mut one, 2).await, ["b", "c"]);
    assert_eq!(ids(&mut other, 3).await, ["a", "b", "c"]);
    assert!(is_quiet(&mut one) && is_quiet(&mut other));
}

#[tokio::test]
async fn a_waiting_reader_wakes() {
    let exchange = exchange();
    let mut reader = all(&exchange);
    let (envelope, ()) = tokio::join!(reader.recv(), async { publish(&exchange, "/containers/create", "a") });
    assert_eq!(envelope.unwrap().topic.as_str(), "/containers/create");
}

#[tokio::test]
async fn filters_choose_by_namespace_topic_and_event() {
    let table: &[(&[&str], &[&str])] = &[
        (&[], &["a", "b", "c"]),
        (&["topic==\"/containers/create\""], &["a", "b"]),
        (&["topic~=|^/containers/|"], &["a", "b"]),
        (&["topic==\"/tasks/exit\"", "event.id==b"], &["b", "c"]),
        (&["topic==\"/containers/create\",event.id==b"], &["b"]),
        (&["namespace==k8s.io"], &["a", "b", "c"]),
        (&["namespace==default"], &[]),
        (&["event.id"], &["a", "b", "c"]),
        (&["timestamp", "event", "event.runtime.name"], &[]),
    ];
    for (filters, expected) in table {
        let exchange = exchange();
        let mut subscription = exchange.subscribe(filters).unwrap();
        publish(&exchange, "/containers/create", "a");
        publish(&exchange, "/containers/create", "b");
        publish(&exchange, "/tasks/exit", "c");
        assert_eq!(&ids(&mut subscription, expected.len()).await, expected, "{filters:?}");
        assert!(is_quiet(&mut subscription), "{filters:?}");
    }
}

#[test]
fn a_wrong_filter_is_refused() {
    let error = exchange().subscribe(&["topic==/tasks/exit"]).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
}

#[test]
fn topics_are_identifiers_behind_slashes() {
    for good in ["/test", "/tasks/exec-added", "/a/b.c/d_e"] {
        assert!(Topic::parse(good).is_ok(), "{good}");
    }
    for bad in
        ["", "/", "test", "//test", "/test/", "/te st", "/a/../b", "/-a", &format!("/{}", "a".repeat(77))]
    {
        assert!(Topic::parse(bad).is_err(), "{bad:?}");
        let published = exchange().publish(&Namespace::k8s(), bad, created("a"));
        assert_eq!(published.unwrap_err().kind(), ErrorKind::InvalidArgument, "{bad:?}");
    }
}

#[tokio::test]
async fn a_forwarded_event_keeps_its_time_and_must_have_one() {
    let exchange = exchange();
    let mut subscription = all(&exchange);
    let envelope = |timestamp| Envelope {
        timestamp,
        namespace: Namespace::parse("default").unwrap(),
        topic: Topic::parse("/tasks/exit").unwrap(),
        event: created("a"),
    };
    let error = exchange.forward(envelope(Timestamp::default())).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    exchange.forward(envelope(Timestamp(7))).unwrap();
    assert_eq!(*subscription.recv().await.unwrap(), envelope(Timestamp(7)));
}

#[tokio::test]
async fn a_subscriber_that_does_not_read_is_cut_off_and_told_what_it_lost() {
    let exchange = exchange();
    let (mut slow, mut quick) = (all(&exchange), all(&exchange));
    for _ in 0..=QUEUE_EVENTS {
        publish(&exchange, "/containers/create", "a");
        assert_eq!(ids(&mut quick, 1).await, ["a"]);
    }
    let lagged = SubscriptionError::Lagged { lost: QUEUE_EVENTS + 1 };
    assert_eq!(slow.recv().await, Err(lagged.clone()));
    publish(&exchange, "/containers/create", "b");
    assert_eq!(slow.recv().await, Err(lagged));
    assert_eq!(ids(&mut quick, 1).await, ["b"]);
    assert_eq!(exchange.subscribers.all().len(), 1);
}

#[tokio::test]
async fn large_events_are_bounded_one_by_one_and_together() {
    let exchange = exchange();
    let mut slow = all(&exchange);
    let large = |bytes| TypedValue { type_url: String::new(), value: vec![0; bytes] };
    let too_large = exchange.publish(&Namespace::k8s(), "/test", large(MAX_EVENT_BYTES)).unwrap_err();
    assert_eq!(too_large.kind(), ErrorKind::InvalidArgument);
    let half = MAX_EVENT_BYTES / 2;
    for _ in 0..QUEUE_BYTES / half {
        exchange.publish(&Namespace::k8s(), "/test", large(half)).unwrap();
    }
    assert_eq!(slow.recv().await, Err(SubscriptionError::Lagged { lost: QUEUE_BYTES / half }));
}

#[test]
fn the_number_of_subscribers_is_bounded_and_dropping_one_makes_room() {
    let exchange = exchange();
    let mut subscriptions: Vec<Subscription> = (0..MAX_SUBSCRIBERS).map(|_| all(&exchange)).collect();
    let refused = exchange.subscribe::<&str>(&[]).err().unwrap();
    assert_eq!((refused.kind(), refused), (ErrorKind::ResourceExhausted, SubscribeError::TooMany));
    subscriptions.pop();
    subscriptions.push(all(&exchange));
    drop(subscriptions);
    assert!(exchange.subscribers.all().is_empty());
}

#[tokio::test]
async fn what_waits_is_still_read_when_the_exchange_ends() {
    let exchange = exchange();
    let mut subscription = all(&exchange);
    publish(&exchange, "/containers/create", "a");
    drop(exchange.clone());
    publish(&exchange, "/containers/create", "b");
    drop(exchange);
    assert_eq!(ids(&mut subscription, 2).await, ["a", "b"]);
    assert_eq!(subscription.recv().await, Err(SubscriptionError::Closed));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn publishers_at_once_lose_nothing() {
    const EACH: usize = 200;
    let exchange = exchange();
    let mut subscription = all(&exchange);
    let publisher = |name: &'static str| {
        let exchange = exchange.clone();
        std::thread::spawn(move || {
            (0..EACH).for_each(|n| publish(&exchange, "/containers/create", &format!("{name}{n}")));
        })
    };
    let publishers = ["a", "b", "c"].map(publisher);
    let received = ids(&mut subscription, 3 * EACH).await;
    publishers.into_iter().for_each(|thread| thread.join().unwrap());
    assert!(is_quiet(&mut subscription));
    for name in ["a", "b", "c"] {
        let of_one: Vec<&String> = received.iter().filter(|id| id.starts_with(name)).collect();
        let expected: Vec<String> = (0..EACH).map(|n| format!("{name}{n}")).collect();
        assert_eq!(of_one, expected.iter().collect::<Vec<_>>());
    }
    assert_eq!(received.iter().collect::<BTreeSet<_>>().len(), 3 * EACH);
}
