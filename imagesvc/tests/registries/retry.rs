//! A registry in trouble is asked again: as often as is sensible, and when it says.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use runtime_core::error::ErrorKind;

use super::image::{Image, tar_of};
use super::node::Node;
use super::scripted::{Answer, End, Scripted};
use super::{DEADLINE, quick, text};

/// Answers the first `bad` requests with `answer`, then as it should.
async fn registry(bad: usize, answer: &'static str, end: End) -> Scripted {
    let (image, count) = (Image::of(&[&tar_of(b"x")]), AtomicUsize::new(0));
    Scripted::start(move |request| {
        if count.fetch_add(1, Ordering::SeqCst) < bad {
            Answer::new(answer, b"").ending(end)
        } else {
            image.answer(request)
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn trouble_that_passes_does_not_fail_a_pull() {
    let times = quick().retry.times as usize;
    let cases = [
        ("429 Too Many Requests", End::Whole),
        ("500 Internal Server Error", End::Whole),
        ("502 Bad Gateway", End::Whole),
        ("503 Service Unavailable\r\nretry-after: 0", End::Whole),
        ("504 Gateway Timeout", End::Whole),
        ("", End::Nothing),
    ];
    for (answer, end) in cases {
        let registry = registry(times, answer, end).await;
        let folder = tempfile::tempdir().unwrap();
        let node = Node::open(folder.path(), quick()).await;
        let pulled = tokio::time::timeout(DEADLINE, node.pull(&format!("{}/app:1", registry.address))).await;
        pulled.expect("the pull ends").unwrap_or_else(|error| panic!("{answer}: {}", text(&error)));
        // The name, the manifest, the configuration, the layer.
        assert_eq!(registry.requests().len(), times + 4, "{answer}");
        node.store.close();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn trouble_that_stays_ends_the_pull_and_what_is_final_ends_it_at_once() {
    let times = 1 + quick().retry.times as usize;
    let cases = [
        ("429 Too Many Requests", ErrorKind::Unavailable, times),
        ("500 Internal Server Error", ErrorKind::Unavailable, times),
        ("503 Service Unavailable", ErrorKind::Unavailable, times),
        // Nobody is kept for an hour: the kubelet comes again.
        ("429 Too Many Requests\r\nretry-after: 3600", ErrorKind::Unavailable, 1),
        ("501 Not Implemented", ErrorKind::Unavailable, 1),
        ("404 Not Found", ErrorKind::NotFound, 1),
        ("403 Forbidden", ErrorKind::PermissionDenied, 1),
        ("401 Unauthorized", ErrorKind::PermissionDenied, 1),
        ("400 Bad Request", ErrorKind::FailedPrecondition, 1),
    ];
    for (answer, kind, asked) in cases {
        let registry = registry(usize::MAX, answer, End::Whole).await;
        let folder = tempfile::tempdir().unwrap();
        let node = Node::open(folder.path(), quick()).await;
        let pulled = tokio::time::timeout(DEADLINE, node.pull(&format!("{}/app:1", registry.address))).await;
        let error = pulled.expect("the pull ends").unwrap_err();
        assert_eq!(error.kind(), kind, "{}", text(&error));
        let said = format!("{} answered {}", registry.address, &answer[..3]);
        assert!(text(&error).contains(&said), "{}", text(&error));
        assert_eq!(registry.requests().len(), asked, "{answer}");
        assert_eq!(node.leftovers().await, Vec::<String>::new());
        node.store.close();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_is_left_alone_as_long_as_it_asks_for() {
    let registry = registry(1, "429 Too Many Requests\r\nretry-after: 1", End::Whole).await;
    let folder = tempfile::tempdir().unwrap();
    let node = Node::open(folder.path(), quick()).await;
    let begun = Instant::now();
    node.pull(&format!("{}/app:1", registry.address)).await.unwrap();
    assert!(begun.elapsed() >= Duration::from_secs(1), "{:?}", begun.elapsed());
    node.store.close();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_without_head_is_asked_with_get() {
    let image = Image::of(&[&tar_of(b"x")]);
    let registry = Scripted::start(move |request| match request.method.as_str() {
        "HEAD" => Answer::new("405 Method Not Allowed", b""),
        _ => image.answer(request),
    })
    .await;
    let folder = tempfile::tempdir().unwrap();
    let node = Node::open(folder.path(), quick()).await;
    node.pull(&format!("{}/app:1", registry.address)).await.unwrap();
    node.store.close();
}
