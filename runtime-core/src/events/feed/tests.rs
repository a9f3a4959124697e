//! Each kind of record, changed as its owner does: the events that a subscriber gets.

use std::sync::Arc;

use super::*;
use crate::clock;
use crate::content::{Content, Descriptor, LocalContent, NewContent};
use crate::events::Subscription;
use crate::ids::{Digest, SnapshotKey};
use crate::image::{Images, NewImage};
use crate::labels::{LabelChange, Labels};
use crate::namespace::Namespaces;
use crate::snapshot::{Commit, NewSnapshot, Overlayfs, Snapshotter};
use crate::store::{RedbStore, SharedStore};
use crate::tasks::TaskGroup;

struct World {
    folder: tempfile::TempDir,
    store: SharedStore,
    events: Subscription,
    namespace: Namespace,
}

fn world() -> World {
    let folder = tempfile::tempdir().unwrap();
    let exchange = Exchange::new(clock::system());
    let feed = Arc::new(Feed::new(exchange.clone()));
    let store: SharedStore = Arc::new(RedbStore::observed(&folder.path().join("meta.redb"), feed).unwrap());
    let events = exchange.subscribe::<&str>(&[]).unwrap();
    World { folder, store, events, namespace: Namespace::parse("one").unwrap() }
}

impl World {
    /// The next event; a change is told of before its caller hears that it is done.
    async fn next<M: Message + Name + Default>(&mut self) -> (String, M) {
        let envelope = self.events.recv().await.unwrap();
        assert_eq!(envelope.namespace, self.namespace);
        assert_eq!(envelope.event.type_url, M::full_name());
        (envelope.topic.to_string(), M::decode(envelope.event.value.as_slice()).unwrap())
    }
}

fn digest(letter: char) -> Digest {
    Digest::parse(format!("sha256:{}", letter.to_string().repeat(64))).unwrap()
}

#[tokio::test]
async fn images_are_made_changed_and_gone_and_nothing_is_told_of_what_fails() {
    let mut world = world();
    let images = Images::new(world.store.clone(), clock::system());
    let target = Descriptor { media_type: "m".into(), digest: digest('a'), size: 1 };
    let labels = Labels::from([("k".to_owned(), "v".to_owned())]);
    let new = NewImage { name: "name".into(), target, labels: labels.clone() };
    images.create(&world.namespace, new.clone(), None).await.unwrap();
    images.create(&world.namespace, new, None).await.unwrap_err();
    images.edit(&world.namespace, "name", |it| it.labels.clear()).await.unwrap();
    images.delete(&world.namespace, "name", None).await.unwrap();

    let name = "name".to_owned();
    let made = wire::ImageCreate { name: name.clone(), labels };
    assert_eq!(world.next().await, ("/images/create".to_owned(), made));
    let changed = wire::ImageUpdate { name: name.clone(), labels: Labels::new() };
    assert_eq!(world.next().await, ("/images/update".to_owned(), changed));
    assert_eq!(world.next().await, ("/images/delete".to_owned(), wire::ImageDelete { name }));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_of_a_snapshot_is_one_event_and_a_child_none_of_its_parent() {
    let mut world = world();
    let root = world.folder.path().join("s");
    let snapshots = Overlayfs::open(&root, world.store.clone(), clock::system(), TaskGroup::new()).unwrap();
    let key = |name: &str| SnapshotKey::parse(name).unwrap();
    let new = |name: &str, parent: Option<&str>| NewSnapshot {
        key: key(name),
        parent: parent.map(key),
        labels: Labels::new(),
        lease: None,
    };
    snapshots.prepare(&world.namespace, new("work", None)).await.unwrap();
    snapshots.commit(&world.namespace, &key("work"), Commit::as_name(key("layer"))).await.unwrap();
    snapshots.view(&world.namespace, new("look", Some("layer"))).await.unwrap();
    snapshots.remove(&world.namespace, &key("look")).await.unwrap();

    let snapshotter = || "overlayfs".to_owned();
    let prepared =
        wire::SnapshotPrepare { key: "work".into(), snapshotter: snapshotter(), ..Default::default() };
    assert_eq!(world.next().await, ("/snapshot/prepare".to_owned(), prepared));
    let committed =
        wire::SnapshotCommit { key: "work".into(), name: "layer".into(), snapshotter: snapshotter() };
    assert_eq!(world.next().await, ("/snapshot/commit".to_owned(), committed));
    let viewed =
        wire::SnapshotPrepare { key: "look".into(), parent: "layer".into(), snapshotter: snapshotter() };
    assert_eq!(world.next().await, ("/snapshot/prepare".to_owned(), viewed));
    let removed = wire::SnapshotRemove { key: "look".into(), snapshotter: snapshotter() };
    assert_eq!(world.next().await, ("/snapshot/remove".to_owned(), removed));
}

#[tokio::test(flavor = "multi_thread")]
async fn content_comes_and_goes_and_its_labels_are_no_event() {
    let mut world = world();
    let root = world.folder.path().join("c");
    let content = LocalContent::open(&root, world.store.clone(), clock::system()).unwrap();
    let mut ingest = content.ingest(NewContent::new(&world.namespace, "x")).unwrap();
    ingest.write(b"x").unwrap();
    let digest = ingest.digest();
    ingest.commit(&digest, None, Labels::new()).unwrap();
    let labels = LabelChange::Merge([("k".to_owned(), "v".to_owned())].into());
    content.label(&world.namespace, &digest, labels).await.unwrap();
    content.delete(&world.namespace, &digest).await.unwrap();

    let digest = digest.to_string();
    let made = wire::ContentCreate { digest: digest.clone(), size: 1, ..Default::default() };
    assert_eq!(world.next().await, ("/content/create".to_owned(), made));
    assert_eq!(world.next().await, ("/content/delete".to_owned(), wire::ContentDelete { digest }));
}

#[tokio::test]
async fn namespaces_are_told_of_in_themselves() {
    let mut world = world();
    let namespaces = Namespaces::new(world.store.clone());
    namespaces.create(&world.namespace, Labels::new()).await.unwrap();
    namespaces.delete(&world.namespace).await.unwrap();
    let name = "one".to_owned();
    let made = wire::NamespaceCreate { name: name.clone(), labels: Labels::new() };
    assert_eq!(world.next().await, ("/namespaces/create".to_owned(), made));
    assert_eq!(world.next().await, ("/namespaces/delete".to_owned(), wire::NamespaceDelete { name }));
}
