//! The suite of all snapshotters, and what is overlayfs' own: folders, mounts, cleaning up.

use std::fs::Permissions;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use super::super::testsuite;
use super::*;
use crate::clock;
use crate::labels::Labels;
use crate::store::RedbStore;

fn open_at(root: &Path, store: &SharedStore) -> Arc<Overlayfs> {
    let tasks = TaskGroup::new();
    Arc::new(Overlayfs::open(&root.join("overlayfs"), store.clone(), clock::system(), tasks).unwrap())
}

fn open() -> (tempfile::TempDir, Arc<Overlayfs>, SharedStore) {
    let root = tempfile::tempdir().unwrap();
    let store: SharedStore = Arc::new(RedbStore::open(&root.path().join("meta.redb")).unwrap());
    let snapshotter = open_at(root.path(), &store);
    (root, snapshotter, store)
}

fn key(name: &str) -> SnapshotKey {
    SnapshotKey::parse(name).unwrap()
}

fn new(name: &str, parent: Option<&str>) -> NewSnapshot {
    NewSnapshot { key: key(name), parent: parent.map(key), labels: Labels::new(), lease: None }
}

#[tokio::test(flavor = "multi_thread")]
async fn overlayfs_passes_the_suite() {
    testsuite::run(|| async {
        let (root, snapshotter, _store) = open();
        (root, snapshotter as Arc<dyn Snapshotter>)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mounts_follow_the_number_of_parents() {
    let (_root, snapshotter, _store) = open();
    let namespace = Namespace::k8s();
    let bottom = snapshotter.prepare(&namespace, new("x a", None)).await.unwrap();
    assert_eq!(
        (bottom[0].kind.as_str(), bottom[0].options.as_slice()),
        ("bind", &["rw", "rbind"].map(String::from)[..])
    );
    snapshotter.commit(&namespace, &key("x a"), Commit::as_name(key("a"))).await.unwrap();
    let upper = snapshotter.prepare(&namespace, new("x b", Some("a"))).await.unwrap();
    let starts: Vec<&str> = upper[0].options.iter().map(|o| o.split('=').next().unwrap()).collect();
    assert_eq!(
        (upper[0].kind.as_str(), starts),
        ("overlay", vec!["index", "workdir", "upperdir", "lowerdir"])
    );
    snapshotter.commit(&namespace, &key("x b"), Commit::as_name(key("b"))).await.unwrap();
    let one = snapshotter.view(&namespace, new("v a", Some("a"))).await.unwrap();
    assert_eq!((one[0].kind.as_str(), &one[0].source), ("bind", &bottom[0].source));
    let two = snapshotter.view(&namespace, new("v b", Some("b"))).await.unwrap();
    let lower = two[0].options[1].strip_prefix("lowerdir=").unwrap();
    assert_eq!(lower.split(':').count(), 2);
    assert!(lower.ends_with(&bottom[0].source), "the lowest layer is last: {lower}");
    assert_eq!(snapshotter.mounts(&namespace, &key("v b")).unwrap(), two);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_root_of_a_layer_is_like_the_one_below() {
    let (_root, snapshotter, _store) = open();
    let namespace = Namespace::k8s();
    let bottom = snapshotter.prepare(&namespace, new("x", None)).await.unwrap();
    std::fs::set_permissions(&bottom[0].source, Permissions::from_mode(0o1700)).unwrap();
    snapshotter.commit(&namespace, &key("x"), Commit::as_name(key("a"))).await.unwrap();
    let upper = snapshotter.prepare(&namespace, new("y", Some("a"))).await.unwrap();
    let folder = upper[0].options[2].strip_prefix("upperdir=").unwrap();
    assert_eq!(std::fs::metadata(folder).unwrap().mode() & 0o7777, 0o1700);
}

#[tokio::test(flavor = "multi_thread")]
async fn folders_without_a_record_are_cleaned_up_and_ids_stay_unique() {
    let (root, snapshotter, store) = open();
    let namespace = Namespace::k8s();
    snapshotter.prepare(&namespace, new("kept", None)).await.unwrap();
    let kept = snapshotter.stat(&namespace, &key("kept")).unwrap().id;
    let folders = root.path().join("overlayfs/snapshots");
    std::fs::create_dir_all(folders.join("900/fs/deep")).unwrap();
    drop(snapshotter);
    let snapshotter = open_at(root.path(), &store);
    snapshotter.cleanup().await.unwrap();
    assert!(snapshotter.tasks.stop(std::time::Duration::from_secs(10)).await);
    assert!(!folders.join("900").exists() && folders.join(kept.to_string()).exists());
    snapshotter.prepare(&namespace, new("next", None)).await.unwrap();
    assert!(snapshotter.stat(&namespace, &key("next")).unwrap().id > 900, "a garbage id is not used again");
}

#[tokio::test(flavor = "multi_thread")]
async fn usage_counts_a_layer_alone_and_hard_links_once() {
    let (_root, snapshotter, _store) = open();
    let namespace = Namespace::k8s();
    let mounts = snapshotter.prepare(&namespace, new("x", None)).await.unwrap();
    let file = Path::new(&mounts[0].source).join("file");
    std::io::Write::write_all(&mut std::fs::File::create(&file).unwrap(), &[1; 100_000]).unwrap();
    std::fs::hard_link(&file, file.with_extension("again")).unwrap();
    snapshotter.commit(&namespace, &key("x"), Commit::as_name(key("a"))).await.unwrap();
    let usage = snapshotter.usage(&namespace, &key("a")).await.unwrap().unwrap().usage;
    assert_eq!(usage.inodes, 2);
    assert!((100_000..150_000).contains(&usage.bytes), "{usage:?}");
    assert_eq!(snapshotter.total_usage().await.unwrap(), usage);
}

#[tokio::test(flavor = "multi_thread")]
async fn figures_of_what_is_written_to_are_kept_as_long_as_the_snapshot() {
    let (_root, snapshotter, _store) = open();
    let namespace = Namespace::k8s();
    let usage = async |name: &str| snapshotter.usage(&namespace, &key(name)).await;
    for name in ["removed", "committed", "kept"] {
        snapshotter.prepare(&namespace, new(name, None)).await.unwrap();
        assert_eq!(usage(name).await.unwrap().unwrap().usage.inodes, 1);
    }
    let first = usage("kept").await.unwrap();
    assert_eq!(usage("kept").await.unwrap(), first, "the same walk, with its time");
    snapshotter.total_usage().await.unwrap();
    assert_eq!(snapshotter.recent.len(), 3);
    snapshotter.remove(&namespace, &key("removed")).await.unwrap();
    snapshotter.commit(&namespace, &key("committed"), Commit::as_name(key("frozen"))).await.unwrap();
    assert_eq!(snapshotter.recent.len(), 1);
    assert!(matches!(usage("removed").await, Err(SnapshotError::NotFound { .. })));
    assert_eq!(usage("frozen").await.unwrap().unwrap().usage.inodes, 1);
    assert_eq!(snapshotter.recent.len(), 1);
}
