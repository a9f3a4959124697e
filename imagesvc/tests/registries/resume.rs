//! A layer that breaks off goes on where it stopped, whatever the host thinks of that.

use std::os::unix::fs::MetadataExt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use runtime_core::error::ErrorKind;
use runtime_core::ids::Namespace;

use super::image::{Image, digest_of, part, part_to, tar_of};
use super::node::Node;
use super::scripted::{Answer, End, Request, Scripted};
use super::{DEADLINE, hosts, quick, text};

const SENT: usize = 700;

/// A registry with one layer, whose requests are counted from 0 and answered by `script`.
async fn registry(
    content: &'static [u8],
    script: impl Fn(usize, &[u8], &Request) -> Answer + Send + Sync + 'static,
) -> (Scripted, String) {
    let layer = tar_of(content);
    let (image, digest, count) = (Image::of(&[&layer]), digest_of(&layer), AtomicUsize::new(0));
    let scripted = Scripted::start(move |request| {
        image
            .document(&request.path)
            .unwrap_or_else(|| script(count.fetch_add(1, Ordering::SeqCst), &layer, request))
    })
    .await;
    (scripted, digest)
}

/// From where the layer was asked for in a pull that succeeds.
async fn pulled(registry: &Scripted, digest: &str) -> Vec<Option<usize>> {
    let folder = tempfile::tempdir().unwrap();
    let node = Node::open(folder.path(), quick()).await;
    let reference = format!("{}/app:1", registry.address);
    tokio::time::timeout(DEADLINE, node.pull(&reference)).await.expect("the pull ends").unwrap();
    node.service.remove(&reference).await.unwrap();
    assert_eq!(node.leftovers().await, Vec::<String>::new());
    node.store.close();
    registry.ranges(digest)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reset_in_the_middle_goes_on_where_it_broke_off() {
    let (registry, digest) = registry(b"x", |count, layer, request| match count {
        0 => part(layer, request.from).ending(End::Reset(SENT)),
        1 => part(layer, request.from).ending(End::Reset(100)),
        _ => part(layer, request.from),
    })
    .await;
    let ranges = pulled(&registry, &digest).await;
    assert_eq!(ranges, [None, Some(SENT), Some(SENT + 100)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_ignores_the_range_begins_anew() {
    let (registry, digest) = registry(b"x", |count, layer, _| match count {
        0 => part(layer, None).ending(End::Reset(SENT)),
        _ => part(layer, None),
    })
    .await;
    assert_eq!(pulled(&registry, &digest).await, [None, Some(SENT)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_range_that_cannot_be_had_is_not_asked_for_again() {
    let (registry, digest) = registry(b"x", |count, layer, request| match (count, request.from) {
        (0, _) => part(layer, None).ending(End::Reset(SENT)),
        (_, Some(_)) => Answer::new("416 Range Not Satisfiable", b""),
        (_, None) => part(layer, None),
    })
    .await;
    assert_eq!(pulled(&registry, &digest).await, [None, Some(SENT), None]);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_part_than_asked_for_is_not_taken() {
    let (registry, digest) = registry(b"x", |count, layer, request| match (count, request.from) {
        (_, Some(from)) => part_to(layer, from - 1, layer.len()),
        (0, None) => part(layer, None).ending(End::Cut(SENT)),
        // Once more: a wrong digest would be forgiven only once.
        (1..=2, None) => part(layer, None).ending(End::Cut(SENT + 1)),
        (_, None) => part(layer, None),
    })
    .await;
    let ranges = pulled(&registry, &digest).await;
    assert_eq!(ranges, [None, Some(SENT), None, Some(SENT + 1), None]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_that_is_not_the_rest_is_followed_by_the_next() {
    let (registry, digest) = registry(b"x", |count, layer, request| match (count, request.from) {
        (0, _) => part(layer, None).ending(End::Reset(SENT)),
        (_, Some(from)) => part_to(layer, from, layer.len().min(from + 500)),
        (_, None) => panic!("the parts fit"),
    })
    .await;
    assert_eq!(pulled(&registry, &digest).await, [None, Some(SENT), Some(SENT + 500), Some(SENT + 1000)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_that_nobody_announced_may_be_too_early() {
    let (registry, digest) = registry(b"x", |count, layer, request| match count {
        0 => part(layer, None).ending(End::Close(SENT)),
        _ => part(layer, request.from).ending(End::Close(usize::MAX)),
    })
    .await;
    assert_eq!(pulled(&registry, &digest).await, [None, Some(SENT)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_layer_that_moves_on_survives_any_number_of_breaks() {
    const STEP: usize = 1100 << 10;
    static CONTENT: [u8; 8 << 20] = [7; 8 << 20];
    let (registry, digest) =
        registry(&CONTENT, |_, layer, request| part(layer, request.from).ending(End::Cut(STEP))).await;
    let ranges = pulled(&registry, &digest).await;
    assert!(ranges.len() > quick().retry.times as usize + 1, "{ranges:?}");
    assert!(ranges.windows(2).all(|pair| pair[0] < pair[1]), "{ranges:?}");
}

/// Opening an ingest reads and hashes all that is there, and says anew what it is to become: another file each time.
#[tokio::test(flavor = "multi_thread")]
async fn the_requests_of_one_pull_open_the_ingest_once() {
    let folder = tempfile::tempdir().unwrap();
    let (ingests, seen) = (folder.path().join("content/ingest"), Arc::new(Mutex::new(Vec::new())));
    let opened = seen.clone();
    let (registry, digest) = registry(b"x", move |count, layer, request| {
        let references =
            std::fs::read_dir(&ingests).unwrap().map(|entry| entry.unwrap().path().join("ingest.json"));
        let files = references.filter_map(|path| std::fs::File::open(path).ok());
        // Kept open, so that no other file can have its number.
        opened.lock().unwrap().extend(files.map(|file| (file.metadata().unwrap().ino(), file)));
        match count {
            0..3 => part(layer, request.from).ending(End::Reset(SENT / 2)),
            _ => part(layer, request.from),
        }
    })
    .await;
    let node = Node::open(folder.path(), quick()).await;
    node.pull(&format!("{}/app:1", registry.address)).await.unwrap();
    assert_eq!(registry.ranges(&digest).len(), 4);
    let inodes: Vec<u64> = seen.lock().unwrap().iter().map(|(inode, _)| *inode).collect();
    assert_eq!(inodes.len(), 4);
    assert!(inodes.iter().all(|inode| *inode == inodes[0]), "{inodes:?}");
    node.store.close();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_always_breaks_off_is_given_up_and_the_next_pull_goes_on() {
    let broken = Arc::new(std::sync::atomic::AtomicBool::new(true));
    let is_broken = broken.clone();
    let (registry, digest) = registry(b"x", move |_, layer, request| {
        let broken = is_broken.load(Ordering::SeqCst);
        part(layer, request.from).ending(if broken { End::Reset(100) } else { End::Whole })
    })
    .await;
    let folder = tempfile::tempdir().unwrap();
    let node = Node::open(folder.path(), quick()).await;
    let reference = format!("{}/app:1", registry.address);
    let error = tokio::time::timeout(DEADLINE, node.pull(&reference)).await.expect("it ends").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    let message = text(&error);
    assert!(message.contains(&digest) && message.contains(&registry.address), "{message}");
    assert!(message.contains("broke off its answer"), "{message}");
    let times = quick().retry.times as usize;
    let expected: Vec<Option<usize>> = (0..=times).map(|n| (n > 0).then_some(n * 100)).collect();
    assert_eq!(registry.ranges(&digest), expected);

    broken.store(false, Ordering::SeqCst);
    node.pull(&reference).await.unwrap();
    assert_eq!(registry.ranges(&digest).last(), Some(&Some((times + 1) * 100)));
    node.service.remove(&reference).await.unwrap();
    assert_eq!(node.leftovers().await, Vec::<String>::new());
    node.store.close();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_host_goes_on_with_what_the_first_has_sent() {
    let (mirror, digest) = registry(b"x", |count, layer, request| match count {
        0 => part(layer, request.from).ending(End::Reset(SENT)),
        _ => Answer::new("503 Service Unavailable", b""),
    })
    .await;
    let (server, _) = registry(b"x", |_, layer, request| part(layer, request.from)).await;
    let folder = tempfile::tempdir().unwrap();
    let toml = format!("server = \"http://{}\"\n[host.\"http://{}\"]\n", server.address, mirror.address);
    let config = imagesvc::Config { config_path: hosts(folder.path(), "reg.example", &toml), ..quick() };
    let node = Node::open(folder.path(), config).await;
    node.pull("reg.example/app:1").await.unwrap();
    assert_eq!(mirror.ranges(&digest), [None, Some(SENT)]);
    assert_eq!(server.ranges(&digest), [Some(SENT)]);
    node.store.close();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_beginning_is_fetched_again() {
    let (registry, digest) = registry(b"x", |_, layer, request| part(layer, request.from)).await;
    let folder = tempfile::tempdir().unwrap();
    let node = Node::open(folder.path(), quick()).await;
    let mut ingest = node
        .parts
        .content
        .ingest(runtime_core::content::NewContent::new(&Namespace::k8s(), &format!("layer-{digest}")))
        .unwrap();
    ingest.write(&[b'?'; SENT]).unwrap();
    drop(ingest);
    node.pull(&format!("{}/app:1", registry.address)).await.unwrap();
    assert_eq!(registry.ranges(&digest), [Some(SENT), None], "the rest, then all of it");
    node.store.close();
}
