//! The local store: exclusive, resumable, checked, and free of what nobody names.

use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use super::*;
use crate::clock;
use crate::lease::{Leases, Resource};
use crate::store::{RedbStore, SharedStore};

fn open_with(store: impl FnOnce(SharedStore)) -> (tempfile::TempDir, LocalContent, Namespace) {
    let folder = tempfile::tempdir().unwrap();
    let shared: SharedStore = Arc::new(RedbStore::open(&folder.path().join("meta.redb")).unwrap());
    store(shared.clone());
    let content = LocalContent::open(&folder.path().join("content"), shared, clock::system()).unwrap();
    (folder, content, Namespace::k8s())
}

fn open() -> (tempfile::TempDir, LocalContent, Namespace) {
    open_with(drop)
}

fn digest(bytes: &[u8]) -> Digest {
    Digest::from_sha256(&Sha256::digest(bytes))
}

fn add(content: &LocalContent, namespace: &Namespace, bytes: &[u8]) -> Digest {
    let mut ingest = content.ingest(NewContent::new(namespace, "ref")).unwrap();
    ingest.write(bytes).unwrap();
    ingest.commit(&digest(bytes), Some(bytes.len() as u64), Labels::new()).unwrap().digest
}

fn files(folder: &tempfile::TempDir, name: &str) -> usize {
    std::fs::read_dir(folder.path().join("content").join(name)).unwrap().count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blob_is_kept_while_any_namespace_names_it() {
    let (folder, content, k8s) = open();
    let other = Namespace::parse("other").unwrap();
    let blob = add(&content, &k8s, b"bytes");
    assert!(matches!(content.info(&other, &blob), Err(ContentError::NotFound { .. })));
    add(&content, &other, b"bytes");
    content.delete(&k8s, &blob).await.unwrap();
    assert_eq!(read_document(&content, &other, &blob, 100).unwrap(), b"bytes");
    assert!(matches!(read_document(&content, &other, &blob, 4), Err(ContentError::TooLarge { .. })));
    content.delete(&other, &blob).await.unwrap();
    assert_eq!(
        (files(&folder, "blobs/sha256"), files(&folder, "deleted"), files(&folder, "ingest")),
        (0, 0, 0)
    );
}

#[test]
fn an_ingest_is_exclusive_and_goes_on_where_it_stopped() {
    let (_folder, content, k8s) = open();
    let mut first = content.ingest(NewContent::new(&k8s, "layer")).unwrap();
    assert!(matches!(
        content.ingest(NewContent::new(&k8s, "layer")).map(drop),
        Err(ContentError::Busy { .. })
    ));
    first.write(b"half ").unwrap();
    drop(first);
    let mut second = content.ingest(NewContent::new(&k8s, "layer")).unwrap();
    assert_eq!(second.offset(), 5);
    second.write(b"whole").unwrap();
    let record = second.commit(&digest(b"half whole"), Some(10), Labels::new()).unwrap();
    assert_eq!(record.size, 10);
}

#[test]
fn wrong_bytes_get_no_name_and_are_forgotten() {
    let (folder, content, k8s) = open();
    for (size, expected) in [(Some(4), b"evil"), (Some(9), b"good"), (None, b"evil")] {
        let mut ingest = content.ingest(NewContent::new(&k8s, "layer")).unwrap();
        assert_eq!(ingest.offset(), 0);
        ingest.write(b"good").unwrap();
        let error = ingest.commit(&digest(expected), size, Labels::new()).unwrap_err();
        assert!(
            matches!(error, ContentError::WrongDigest { .. } | ContentError::WrongSize { .. }),
            "{error}"
        );
    }
    assert_eq!((files(&folder, "blobs/sha256"), files(&folder, "ingest")), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn labels_are_set_and_removed() {
    let (_folder, content, k8s) = open();
    let blob = add(&content, &k8s, b"x");
    let set = |key: &str, value: &str| Labels::from([(key.to_owned(), value.to_owned())]);
    content.label(&k8s, &blob, LabelChange::Merge(set("a", "1"))).await.unwrap();
    content.label(&k8s, &blob, LabelChange::Merge(set("b", "2"))).await.unwrap();
    content.label(&k8s, &blob, LabelChange::Merge(set("a", ""))).await.unwrap();
    assert_eq!(content.info(&k8s, &blob).unwrap().labels, set("b", "2"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_start_sweeps_what_no_record_names() {
    let (folder, content, k8s) = open();
    let kept = add(&content, &k8s, b"kept");
    let orphan = digest(b"orphan");
    let blobs = folder.path().join("content/blobs/sha256");
    crate::store::atomic::write(&blobs.join(orphan.hex()), b"orphan", 0o444).unwrap();
    let mut fresh = content.ingest(NewContent::new(&k8s, "fresh")).unwrap();
    fresh.write(b"half").unwrap();
    drop(fresh);
    content.sweep_orphans().await.unwrap();
    assert!(content.open(&k8s, &kept).is_ok());
    assert!(!blobs.join(orphan.hex()).exists());
    assert_eq!(files(&folder, "ingest"), 1, "a fresh ingest can still be resumed");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ingest_says_how_far_it_is_until_it_is_committed_or_aborted() {
    let (folder, content, k8s) = open();
    let other = Namespace::parse("other").unwrap();
    let new = NewContent { total: 8, expected: Some(digest(b"halfhalf")), ..NewContent::new(&k8s, "layer") };
    let mut ingest = content.ingest(new.clone()).unwrap();
    ingest.write(b"half").unwrap();
    let status = content.ingest_status(&k8s, "layer").unwrap();
    assert_eq!((status.offset, status.total, status.expected.clone()), (4, 8, new.expected.clone()));
    assert_eq!(content.ingest_statuses(&k8s).unwrap(), std::slice::from_ref(&status));
    assert_eq!(content.ingest_statuses(&other).unwrap(), []);
    assert!(matches!(content.ingest_status(&other, "layer"), Err(ContentError::NoIngest { .. })));
    assert!(matches!(content.abort(&k8s, "layer"), Err(ContentError::Busy { .. })));

    drop(ingest);
    let mut again = content.ingest(new).unwrap();
    assert_eq!((again.started_at(), again.offset()), (status.started_at, 4));
    again.write(b"half").unwrap();
    again.commit(&digest(b"halfhalf"), Some(8), Labels::new()).unwrap();
    assert_eq!(content.ingest_statuses(&k8s).unwrap(), []);

    content.ingest(NewContent::new(&k8s, "unwanted")).unwrap().write(b"x").unwrap();
    content.abort(&k8s, "unwanted").unwrap();
    assert!(matches!(content.abort(&k8s, "unwanted"), Err(ContentError::NoIngest { .. })));
    assert_eq!(files(&folder, "ingest"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_another_namespace_has_are_not_written_again() {
    let (folder, content, k8s) = open();
    let other = Namespace::parse("other").unwrap();
    let known = add(&content, &k8s, b"known");
    let expecting = |namespace: &Namespace| NewContent {
        expected: Some(known.clone()),
        ..NewContent::new(namespace, "layer")
    };
    assert!(matches!(content.ingest(expecting(&k8s)).map(drop), Err(ContentError::Exists { .. })));
    let ingest = content.ingest(expecting(&other)).unwrap();
    assert_eq!((ingest.offset(), ingest.digest()), (5, known.clone()));
    ingest.commit(&known, Some(5), Labels::new()).unwrap();
    assert_eq!((content.info(&other, &known).unwrap().size, files(&folder, "ingest")), (5, 0));
    content.delete(&k8s, &known).await.unwrap();
    assert!(content.open(&other, &known).is_ok(), "the bytes stay for who still has them");

    // Who writes all the same gets what was written.
    let lying = NewContent { expected: Some(known.clone()), ..NewContent::new(&k8s, "lie") };
    let mut ingest = content.ingest(lying).unwrap();
    ingest.write(b"other").unwrap();
    assert!(matches!(ingest.commit(&known, None, Labels::new()), Err(ContentError::WrongDigest { .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_holds_content_in_the_change_that_makes_it() {
    let mut leases = None;
    let (folder, content, k8s) = open_with(|store| leases = Some(Leases::new(store, clock::system())));
    let leases = leases.unwrap();
    let id = LeaseId::parse("lease").unwrap();
    let leased = || NewContent { lease: Some(id.clone()), ..NewContent::new(&k8s, "layer") };
    let mut ingest = content.ingest(leased()).unwrap();
    ingest.write(b"x").unwrap();
    let lost = ingest.commit(&digest(b"x"), None, Labels::new()).unwrap_err();
    assert_eq!(lost.kind(), crate::error::ErrorKind::NotFound, "{lost}: there is no such lease");
    assert!(content.list(&k8s).unwrap().is_empty());

    leases.create(&k8s, id.clone(), Labels::new(), None).await.unwrap();
    content.ingest(leased()).unwrap().commit(&digest(b"x"), Some(1), Labels::new()).unwrap();
    let held = leases.get(&k8s, &id).unwrap().resources;
    assert_eq!(held.into_iter().collect::<Vec<_>>(), [Resource::Content(digest(b"x"))]);
    assert_eq!(files(&folder, "ingest"), 0);
}
