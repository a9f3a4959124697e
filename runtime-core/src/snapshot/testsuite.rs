//! What every snapshotter must do. An implementation's tests call [`run`] with a fresh instance each.

use std::future::Future;
use std::sync::Arc;

use super::{Commit, Kind, NewSnapshot, SnapshotError, Snapshotter};
use crate::content::Labels;
use crate::ids::{Namespace, SnapshotKey};

fn key(name: &str) -> SnapshotKey {
    SnapshotKey::parse(name).unwrap()
}

fn new(name: &str, parent: Option<&str>) -> NewSnapshot {
    NewSnapshot { key: key(name), parent: parent.map(key), labels: Labels::new(), lease: None }
}

/// Makes and commits `layers`, each the child of the one before.
async fn stack(snapshotter: &dyn Snapshotter, namespace: &Namespace, layers: &[&str]) {
    let mut parent = None;
    for layer in layers {
        let active = format!("extract {layer}");
        snapshotter.prepare(namespace, new(&active, parent)).await.unwrap();
        snapshotter.commit(namespace, &key(&active), Commit::as_name(key(layer))).await.unwrap();
        parent = Some(*layer);
    }
}

pub(super) async fn run<F, Fut>(fresh: F)
where
    F: Fn() -> Fut,
    Fut: Future<Output = (tempfile::TempDir, Arc<dyn Snapshotter>)>,
{
    let namespace = Namespace::k8s();
    let (_root, snapshotter) = fresh().await;
    commit_moves_the_name(&*snapshotter, &namespace).await;
    let (_root, snapshotter) = fresh().await;
    only_committed_snapshots_are_parents(&*snapshotter, &namespace).await;
    let (_root, snapshotter) = fresh().await;
    a_parent_outlives_its_children(&*snapshotter, &namespace).await;
    let (_root, snapshotter) = fresh().await;
    namespaces_do_not_see_each_other(&*snapshotter, &namespace).await;
}

async fn commit_moves_the_name(snapshotter: &dyn Snapshotter, namespace: &Namespace) {
    stack(snapshotter, namespace, &["a", "b"]).await;
    let record = snapshotter.stat(namespace, &key("b")).unwrap();
    assert_eq!((record.kind, record.parent), (Kind::Committed, Some(key("a"))));
    assert!(matches!(snapshotter.stat(namespace, &key("extract b")), Err(SnapshotError::NotFound { .. })));
    assert!(matches!(snapshotter.mounts(namespace, &key("b")), Err(SnapshotError::NotMountable { .. })));
    snapshotter.prepare(namespace, new("again", Some("a"))).await.unwrap();
    let taken = snapshotter.commit(namespace, &key("again"), Commit::as_name(key("b"))).await;
    assert!(matches!(taken, Err(SnapshotError::Exists { .. })), "{taken:?}");
    assert!(snapshotter.stat(namespace, &key("again")).is_ok(), "a refused commit changes nothing");
}

async fn only_committed_snapshots_are_parents(snapshotter: &dyn Snapshotter, namespace: &Namespace) {
    snapshotter.prepare(namespace, new("active", None)).await.unwrap();
    let child = snapshotter.prepare(namespace, new("child", Some("active"))).await;
    assert!(matches!(child, Err(SnapshotError::ParentNotCommitted { .. })), "{child:?}");
    let child = snapshotter.prepare(namespace, new("child", Some("missing"))).await;
    assert!(matches!(child, Err(SnapshotError::NotFound { .. })), "{child:?}");
    let twice = snapshotter.prepare(namespace, new("active", None)).await;
    assert!(matches!(twice, Err(SnapshotError::Exists { .. })), "{twice:?}");
    stack(snapshotter, namespace, &["base"]).await;
    snapshotter.view(namespace, new("view", Some("base"))).await.unwrap();
    let frozen = snapshotter.commit(namespace, &key("view"), Commit::as_name(key("x"))).await;
    assert!(matches!(frozen, Err(SnapshotError::NotActive { .. })), "{frozen:?}");
}

async fn a_parent_outlives_its_children(snapshotter: &dyn Snapshotter, namespace: &Namespace) {
    stack(snapshotter, namespace, &["base"]).await;
    snapshotter.prepare(namespace, new("one", Some("base"))).await.unwrap();
    snapshotter.view(namespace, new("two", Some("base"))).await.unwrap();
    for child in ["one", "two"] {
        let refused = snapshotter.remove(namespace, &key("base")).await;
        assert!(matches!(refused, Err(SnapshotError::HasChildren { .. })), "{refused:?}");
        snapshotter.remove(namespace, &key(child)).await.unwrap();
    }
    snapshotter.remove(namespace, &key("base")).await.unwrap();
    assert!(snapshotter.list(namespace).unwrap().is_empty());
    let gone = snapshotter.remove(namespace, &key("base")).await;
    assert!(matches!(gone, Err(SnapshotError::NotFound { .. })), "{gone:?}");
}

async fn namespaces_do_not_see_each_other(snapshotter: &dyn Snapshotter, namespace: &Namespace) {
    let other = Namespace::parse("other").unwrap();
    let ours = snapshotter.prepare(namespace, new("same", None)).await.unwrap();
    let theirs = snapshotter.prepare(&other, new("same", None)).await.unwrap();
    assert_ne!(ours, theirs);
    snapshotter.remove(&other, &key("same")).await.unwrap();
    assert!(snapshotter.stat(namespace, &key("same")).is_ok());
}
