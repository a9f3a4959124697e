//! What a container record may be, and what of it may change.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::*;
use crate::clock;
use crate::record::{RuntimeInfo, TypedValue};
use crate::store::RedbStore;

fn containers() -> (tempfile::TempDir, Containers) {
    let folder = tempfile::tempdir().unwrap();
    let store: SharedStore = Arc::new(RedbStore::open(&folder.path().join("meta.redb")).unwrap());
    (folder, Containers::new(store, clock::system()))
}

fn value(url: &str) -> TypedValue {
    TypedValue { type_url: url.to_owned(), value: b"{}".to_vec() }
}

fn record(id: &str) -> ContainerRecord {
    ContainerRecord {
        id: id.to_owned(),
        labels: BTreeMap::new(),
        image: "docker.io/library/busybox:1".to_owned(),
        runtime: RuntimeInfo { name: "io.containerd.runc.v2".to_owned(), options: None },
        spec: value("spec"),
        snapshotter: "overlayfs".to_owned(),
        snapshot_key: id.to_owned(),
        sandbox_id: String::new(),
        extensions: BTreeMap::new(),
        created_at: Default::default(),
        updated_at: Default::default(),
    }
}

#[tokio::test]
async fn a_record_is_made_once_listed_changed_and_taken_away_once() {
    let (_folder, containers) = containers();
    let namespace = Namespace::k8s();
    let made = containers.create(&namespace, record("a")).await.unwrap();
    assert!(made.created_at.nanos() > 0);
    let again = containers.create(&namespace, record("a")).await.unwrap_err();
    assert_eq!(again.kind(), ErrorKind::AlreadyExists);

    let changed = containers.update(&namespace, "a", |it| it.labels = [("k".into(), "v".into())].into());
    let changed = changed.await.unwrap();
    assert_eq!(changed.created_at, made.created_at);
    assert_eq!(containers.get(&namespace, "a").unwrap(), changed);
    let other = Namespace::parse("other").unwrap();
    assert_eq!(containers.get(&other, "a").unwrap_err().kind(), ErrorKind::NotFound);

    containers.delete(&namespace, "a").await.unwrap();
    assert_eq!(containers.delete(&namespace, "a").await.unwrap_err().kind(), ErrorKind::NotFound);
    assert!(containers.list(&namespace).unwrap().records.is_empty());
}

type Edit = fn(&mut ContainerRecord);

#[tokio::test]
async fn what_containerd_refuses_is_refused() {
    let (_folder, containers) = containers();
    let namespace = Namespace::k8s();
    let wrong: [(&str, Edit); 7] = [
        ("id", |it| it.id = "../x".into()),
        ("runtime", |it| it.runtime.name.clear()),
        ("spec", |it| it.spec = TypedValue::default()),
        ("snapshotter", |it| it.snapshotter.clear()),
        ("extension", |it| drop(it.extensions.insert(String::new(), value("x")))),
        ("own", |it| drop(it.extensions.insert("io.orlop.cri.container".into(), value("x")))),
        ("4096", |it| drop(it.labels.insert("k".into(), "v".repeat(4096)))),
    ];
    for (word, edit) in wrong {
        let mut it = record("a");
        edit(&mut it);
        let error = containers.create(&namespace, it).await.unwrap_err();
        let text = crate::error::chain(&error);
        assert!(error.kind() == ErrorKind::InvalidArgument && text.contains(word), "{word}: {text}");
    }
    containers.create(&namespace, record("a")).await.unwrap();
    let fixed: [(&str, Edit); 4] = [
        ("id", |it| it.id = "b".into()),
        ("runtime", |it| it.runtime.name = "other".into()),
        ("snapshotter", |it| it.snapshotter = "native".into()),
        ("extension", |it| drop(it.extensions.insert("io.orlop.cri.x".into(), value("x")))),
    ];
    for (word, edit) in fixed {
        let error = containers.update(&namespace, "a", edit).await.unwrap_err();
        assert!(error.kind() == ErrorKind::InvalidArgument && error.to_string().contains(word), "{error}");
    }
    assert_eq!(containers.get(&namespace, "a").unwrap().runtime.name, "io.containerd.runc.v2");
}

#[tokio::test]
async fn a_container_of_a_pod_is_not_deleted_behind_its_back() {
    let (_folder, containers) = containers();
    let namespace = Namespace::k8s();
    let mut owned = record("pod");
    owned.extensions.insert("io.orlop.cri.container".into(), value("x"));
    let table = Table::<ContainerRecord>::new(&namespace);
    let written = containers.store.write(move |change| table.put(change, &owned));
    written.await.unwrap();
    let refused = containers.delete(&namespace, "pod").await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::FailedPrecondition);
    assert!(refused.to_string().contains("crictl rm"), "{refused}");
    // Labels are anybody's.
    containers.update(&namespace, "pod", |it| it.image.clear()).await.unwrap();
}
