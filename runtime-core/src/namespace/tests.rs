//! Namespaces with and without a record of their own, on a real store.

use std::sync::Arc;

use super::*;
use crate::store::RedbStore;

struct World {
    _folder: tempfile::TempDir,
    store: SharedStore,
    namespaces: Namespaces,
}

fn world() -> World {
    let folder = tempfile::tempdir().unwrap();
    let store: SharedStore = Arc::new(RedbStore::open(&folder.path().join("meta.redb")).unwrap());
    World { _folder: folder, namespaces: Namespaces::new(store.clone()), store }
}

impl World {
    async fn put(&self, namespace: &str, bucket: &str) {
        let bucket = Bucket::in_namespace(&name(namespace), bucket);
        let write = self.store.write(move |to| {
            to.put(&bucket, "key", b"value".to_vec());
            Ok::<_, StoreError>(())
        });
        write.await.unwrap();
    }

    async fn remove(&self, namespace: &str, bucket: &str) {
        let bucket = Bucket::in_namespace(&name(namespace), bucket);
        let write = self.store.write(move |to| {
            to.delete(&bucket, "key");
            Ok::<_, StoreError>(())
        });
        write.await.unwrap();
    }

    fn names(&self) -> Vec<String> {
        self.namespaces.list().unwrap().records.into_iter().map(|record| record.name.into()).collect()
    }
}

fn name(text: &str) -> Namespace {
    Namespace::parse(text).unwrap()
}

fn labels(pairs: &[(&str, &str)]) -> Labels {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

#[tokio::test]
async fn a_created_namespace_is_there_with_its_labels_and_only_once() {
    let world = world();
    let given = labels(&[(labels::DEFAULT_RUNTIME, "io.containerd.runc.v2"), ("gone", "")]);
    world.namespaces.create(&name("a"), given).await.unwrap();
    let kept = labels(&[(labels::DEFAULT_RUNTIME, "io.containerd.runc.v2")]);
    assert_eq!(world.namespaces.labels(&name("a")).unwrap(), kept);
    let record = NamespaceRecord { name: name("a"), labels: kept };
    assert_eq!(world.namespaces.get(&name("a")).unwrap(), Some(record));
    let again = world.namespaces.create(&name("a"), Labels::new()).await.unwrap_err();
    assert_eq!(again.kind(), ErrorKind::AlreadyExists);
    let long = labels(&[("key", &"v".repeat(4096))]);
    assert_eq!(
        world.namespaces.create(&name("b"), long).await.unwrap_err().kind(),
        ErrorKind::InvalidArgument
    );
    assert_eq!(world.names(), ["a"]);
}

#[tokio::test]
async fn a_namespace_is_there_once_something_is_written_in_it() {
    let world = world();
    assert_eq!(world.namespaces.get(&name("k8s.io")).unwrap(), None);
    assert_eq!(world.namespaces.labels(&name("k8s.io")).unwrap(), Labels::new());
    world.put("k8s.io", "images").await;
    world.namespaces.create(&name("a"), Labels::new()).await.unwrap();
    assert_eq!(world.names(), ["a", "k8s.io"]);
    let again = world.namespaces.create(&name("k8s.io"), Labels::new()).await.unwrap_err();
    assert_eq!(again.kind(), ErrorKind::AlreadyExists);
    world.remove("k8s.io", "images").await;
    assert_eq!(world.names(), ["a"]);
}

#[tokio::test]
async fn an_ensured_namespace_stays_and_keeps_its_labels() {
    let world = world();
    let ours = labels(&[(labels::SHAREABLE, "true")]);
    world.namespaces.ensure(&name("a")).await.unwrap();
    world.namespaces.update(&name("a"), LabelChange::Replace(ours.clone())).await.unwrap();
    world.namespaces.ensure(&name("a")).await.unwrap();
    assert_eq!(world.namespaces.labels(&name("a")).unwrap(), ours);
}

#[tokio::test]
async fn labels_are_set_taken_away_and_replaced() {
    let world = world();
    world.put("a", "content").await;
    let table = [
        (LabelChange::Merge(labels(&[("x", "1"), ("y", "2")])), labels(&[("x", "1"), ("y", "2")])),
        (LabelChange::Merge(labels(&[("x", ""), ("z", "3")])), labels(&[("y", "2"), ("z", "3")])),
        (LabelChange::Replace(labels(&[("w", "4"), ("v", "")])), labels(&[("w", "4")])),
        (LabelChange::Replace(Labels::new()), Labels::new()),
    ];
    for (change, expected) in table {
        assert_eq!(world.namespaces.update(&name("a"), change.clone()).await.unwrap(), expected);
        assert_eq!(world.namespaces.labels(&name("a")).unwrap(), expected, "{change:?}");
    }
    let long = LabelChange::Merge(labels(&[("key", &"v".repeat(4096))]));
    assert_eq!(
        world.namespaces.update(&name("a"), long).await.unwrap_err().kind(),
        ErrorKind::InvalidArgument
    );
    let unknown = world.namespaces.update(&name("b"), LabelChange::Merge(Labels::new())).await;
    assert_eq!(unknown.unwrap_err().kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn only_an_empty_namespace_is_deleted() {
    let world = world();
    world.namespaces.create(&name("a"), Labels::new()).await.unwrap();
    // Its name starts with the same letters.
    world.put("a-b", "images").await;
    let buckets = ["content", "images", "leases", "snapshots/overlayfs"];
    for bucket in buckets {
        world.put("a", bucket).await;
    }
    let error = world.namespaces.delete(&name("a")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::FailedPrecondition);
    assert_eq!(
        error.to_string(),
        "namespace a must be empty, but it still has blobs, images, \
            snapshots on \"overlayfs\" snapshotter"
    );
    for bucket in buckets.into_iter().filter(|bucket| *bucket != "leases") {
        world.remove("a", bucket).await;
    }
    // A lease keeps nothing that is not there: it goes with its namespace.
    world.namespaces.delete(&name("a")).await.unwrap();
    assert_eq!(world.names(), ["a-b"]);
    let gone = world.namespaces.delete(&name("a")).await.unwrap_err();
    assert_eq!(gone.kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn a_record_that_cannot_be_read_is_reported_beside_the_others() {
    let world = world();
    world.namespaces.create(&name("a"), Labels::new()).await.unwrap();
    let write = world.store.write(|to| {
        to.put(&Bucket::of_node(NamespaceRecord::BUCKET), "broken", b"???".to_vec());
        Ok::<_, StoreError>(())
    });
    write.await.unwrap();
    assert_eq!(world.names(), ["a"]);
    assert_eq!(world.namespaces.list().unwrap().corrupt.len(), 1);
    world.namespaces.delete(&name("broken")).await.unwrap();
    assert!(world.namespaces.list().unwrap().corrupt.is_empty());
}
