//! The local store: exclusive, resumable, checked, and free of what nobody names.

use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use super::*;
use crate::clock;
use crate::store::{RedbStore, SharedStore};

fn open() -> (tempfile::TempDir, LocalContent, Namespace) {
    let folder = tempfile::tempdir().unwrap();
    let store: SharedStore = Arc::new(RedbStore::open(&folder.path().join("meta.redb")).unwrap());
    let content = LocalContent::open(&folder.path().join("content"), store, clock::system()).unwrap();
    (folder, content, Namespace::k8s())
}

fn digest(bytes: &[u8]) -> Digest {
    Digest::from_sha256(&Sha256::digest(bytes))
}

fn add(content: &LocalContent, namespace: &Namespace, bytes: &[u8]) -> Digest {
    let mut ingest = content.ingest(namespace, "ref").unwrap();
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
    let mut first = content.ingest(&k8s, "layer").unwrap();
    assert!(matches!(content.ingest(&k8s, "layer").map(drop), Err(ContentError::Busy { .. })));
    first.write(b"half ").unwrap();
    drop(first);
    let mut second = content.ingest(&k8s, "layer").unwrap();
    assert_eq!(second.offset(), 5);
    second.write(b"whole").unwrap();
    let record = second.commit(&digest(b"half whole"), Some(10), Labels::new()).unwrap();
    assert_eq!(record.size, 10);
}

#[test]
fn wrong_bytes_get_no_name_and_are_forgotten() {
    let (folder, content, k8s) = open();
    for (size, expected) in [(Some(4), b"evil"), (Some(9), b"good"), (None, b"evil")] {
        let mut ingest = content.ingest(&k8s, "layer").unwrap();
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
    content.label(&k8s, &blob, set("a", "1")).await.unwrap();
    content.label(&k8s, &blob, set("b", "2")).await.unwrap();
    content.label(&k8s, &blob, set("a", "")).await.unwrap();
    assert_eq!(content.info(&k8s, &blob).unwrap().labels, set("b", "2"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_start_sweeps_what_no_record_names() {
    let (folder, content, k8s) = open();
    let kept = add(&content, &k8s, b"kept");
    let orphan = digest(b"orphan");
    let blobs = folder.path().join("content/blobs/sha256");
    crate::store::atomic::write(&blobs.join(orphan.hex()), b"orphan", 0o444).unwrap();
    let mut fresh = content.ingest(&k8s, "fresh").unwrap();
    fresh.write(b"half").unwrap();
    drop(fresh);
    content.sweep_orphans().await.unwrap();
    assert!(content.open(&k8s, &kept).is_ok());
    assert!(!blobs.join(orphan.hex()).exists());
    assert_eq!(files(&folder, "ingest"), 1, "a fresh ingest can still be resumed");
}
