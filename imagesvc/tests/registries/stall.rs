//! A host that sends nothing for too long has failed; one that is slow has not.

use std::time::{Duration, Instant};

use imagesvc::Config;
use runtime_core::error::ErrorKind;

use super::image::{Image, digest_of, part, tar_of};
use super::node::Node;
use super::scripted::{End, Scripted};
use super::{DEADLINE, hosts, quick, text};

/// Long enough that a busy machine does not look like a stalled host.
const LIMIT: Duration = Duration::from_secs(2);

fn limited() -> Config {
    Config { progress_timeout: Some(LIMIT), ..quick() }
}

async fn registry(image: &Image, layer: &[u8], end: End) -> Scripted {
    let (image, layer) = (image.clone(), layer.to_vec());
    Scripted::start(move |request| {
        image.document(&request.path).unwrap_or_else(|| part(&layer, request.from).ending(end))
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_layer_that_stalls_fails_the_pull_with_layer_and_host() {
    let layer = tar_of(b"x");
    let image = Image::of(&[&layer]);
    for (end, requests) in [(End::Stall(0), 1), (End::Stall(700), 1)] {
        let registry = registry(&image, &layer, end).await;
        let folder = tempfile::tempdir().unwrap();
        let node = Node::open(folder.path(), limited()).await;
        let begun = Instant::now();
        let pulled = tokio::time::timeout(DEADLINE, node.pull(&format!("{}/app:1", registry.address))).await;
        let error = pulled.expect("the pull ends").unwrap_err();
        assert!(begun.elapsed() >= LIMIT);
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        let message = text(&error);
        let said = format!("{} sent nothing for 2s", registry.address);
        assert!(message.contains(&digest_of(&layer)) && message.contains(&said), "{message}");
        assert_eq!(registry.ranges(&digest_of(&layer)).len(), requests, "it has had its time");
        assert_eq!(node.service.list(None).unwrap(), []);
        node.store.close();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_never_answers_fails_the_pull() {
    // Its connections are made and nobody takes them.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let folder = tempfile::tempdir().unwrap();
    let node = Node::open(folder.path(), limited()).await;
    let pulled = tokio::time::timeout(DEADLINE, node.pull(&format!("{address}/app:1"))).await;
    let message = text(&pulled.expect("the pull ends").unwrap_err());
    assert!(message.contains(&format!("{address} sent nothing for 2s")), "{message}");
    node.store.close();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_host_goes_on_behind_one_that_stalls() {
    let layer = tar_of(b"x");
    let image = Image::of(&[&layer]);
    let mirror = registry(&image, &layer, End::Stall(700)).await;
    let server = registry(&image, &layer, End::Whole).await;
    let folder = tempfile::tempdir().unwrap();
    let toml = format!("server = \"http://{}\"\n[host.\"http://{}\"]\n", server.address, mirror.address);
    let config = Config { config_path: hosts(folder.path(), "reg.example", &toml), ..limited() };
    let node = Node::open(folder.path(), config).await;
    tokio::time::timeout(DEADLINE, node.pull("reg.example/app:1")).await.expect("the pull ends").unwrap();
    assert_eq!(server.ranges(&digest_of(&layer)), [Some(700)]);
    node.store.close();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_layer_may_take_longer_than_the_limit() {
    let layer = tar_of(b"x");
    let image = Image::of(&[&layer]);
    let registry = registry(&image, &layer, End::Dribble(20, LIMIT / 16)).await;
    let folder = tempfile::tempdir().unwrap();
    let node = Node::open(folder.path(), limited()).await;
    let begun = Instant::now();
    node.pull(&format!("{}/app:1", registry.address)).await.unwrap();
    assert!(begun.elapsed() > LIMIT, "{:?}", begun.elapsed());
    assert_eq!(registry.ranges(&digest_of(&layer)), [None]);
    node.store.close();
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_limit_a_pause_is_no_failure() {
    let layer = tar_of(b"x");
    let image = Image::of(&[&layer]);
    let registry = registry(&image, &layer, End::Dribble(2, Duration::from_millis(400))).await;
    let folder = tempfile::tempdir().unwrap();
    let node = Node::open(folder.path(), Config { progress_timeout: None, ..quick() }).await;
    node.pull(&format!("{}/app:1", registry.address)).await.unwrap();
    assert_eq!(registry.ranges(&digest_of(&layer)), [None]);
    node.store.close();
}
