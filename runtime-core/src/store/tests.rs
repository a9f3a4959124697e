//! The store against a model, across reopening and panics.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;
use serde::{Deserialize, Serialize};

use super::record::{Record, Table};
use super::*;

fn open(folder: &std::path::Path) -> SharedStore {
    Arc::new(RedbStore::open(&folder.join("meta.redb")).unwrap())
}

fn bucket(name: &str) -> Bucket {
    Bucket::in_namespace(&Namespace::k8s(), name)
}

#[derive(Clone, Debug)]
enum Step {
    Put(u8, u8, Vec<u8>),
    Delete(u8, u8),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0..3_u8, 0..6_u8, prop::collection::vec(any::<u8>(), 0..40))
            .prop_map(|(b, k, v)| Step::Put(b, k, v)),
        (0..3_u8, 0..6_u8).prop_map(|(b, k)| Step::Delete(b, k)),
    ]
}

type Model = BTreeMap<(Bucket, String), Vec<u8>>;

fn apply(steps: &[Step], change: &mut dyn Write) {
    for step in steps {
        match step {
            Step::Put(b, k, v) => change.put(&bucket(&b.to_string()), &k.to_string(), v.clone()),
            Step::Delete(b, k) => change.delete(&bucket(&b.to_string()), &k.to_string()),
        }
    }
}

fn apply_to_model(steps: &[Step], model: &mut Model) {
    for step in steps {
        match step {
            Step::Put(b, k, v) => drop(model.insert((bucket(&b.to_string()), k.to_string()), v.clone())),
            Step::Delete(b, k) => drop(model.remove(&(bucket(&b.to_string()), k.to_string()))),
        }
    }
}

fn contents(from: &(impl Read + ?Sized)) -> Model {
    let mut found = Model::new();
    for bucket in from.buckets("").unwrap() {
        assert_eq!(from.is_empty(&bucket).unwrap(), from.scan(&bucket).unwrap().is_empty());
        for (key, value) in from.scan(&bucket).unwrap() {
            assert_eq!(from.get(&bucket, &key).unwrap().as_ref(), Some(&value));
            found.insert((bucket.clone(), key), value);
        }
    }
    found
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Changes that succeed are all there, those that fail are not, within the change, after it and after reopening.
    #[test]
    fn changes_are_whole_or_nothing(
        changes in prop::collection::vec((prop::collection::vec(step(), 0..8), any::<bool>()), 1..8)
    ) {
        let folder = tempfile::tempdir().unwrap();
        let store = open(folder.path());
        let mut model = Model::new();
        for (steps, keep) in changes {
            let mut expected = model.clone();
            apply_to_model(&steps, &mut expected);
            let inside = store.write_blocking::<_, StoreError, _>(move |change| {
                apply(&steps, change);
                let seen = contents(change);
                if keep { Ok(seen) } else { Err(StoreError::Corrupt { bucket: bucket("x"), key: String::new(), why: format!("{}", seen.len()) }) }
            });
            if keep {
                prop_assert_eq!(inside.unwrap(), expected.clone());
                model = expected;
            } else {
                prop_assert!(inside.is_err());
            }
            prop_assert_eq!(contents(&*store), model.clone());
        }
        drop(store);
        prop_assert_eq!(contents(&*open(folder.path())), model);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_writers_share_commits_and_see_each_other() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let counter = bucket("counter");
    let increments = (0..200).map(|_| {
        let (store, counter) = (store.clone(), counter.clone());
        async move {
            store
                .write::<_, StoreError, _>(move |change| {
                    let old = change.get(&counter, "n")?.map_or(0, |value| value[0]);
                    change.put(&counter, "n", vec![old + 1]);
                    Ok(())
                })
                .await
        }
    });
    let mut running = tokio::task::JoinSet::new();
    increments.for_each(|increment| drop(running.spawn(increment)));
    while let Some(done) = running.join_next().await {
        done.unwrap().unwrap();
    }
    assert_eq!(store.get(&counter, "n").unwrap(), Some(vec![200]));
}

#[tokio::test]
async fn a_view_does_not_move_and_a_dropped_future_undoes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let place = bucket("b");
    let put = |value: u8| {
        let place = place.clone();
        move |change: &mut dyn Write| {
            change.put(&place, "k", vec![value]);
            Ok::<(), StoreError>(())
        }
    };
    store.write(put(1)).await.unwrap();
    let view = store.view().unwrap();
    {
        let mut unwaited = std::pin::pin!(store.write(put(2)));
        // Polled once: the change is queued, nobody waits for it.
        assert!(futures_poll(unwaited.as_mut()).await);
    }
    store.write_blocking(|_| Ok::<(), StoreError>(())).unwrap();
    assert_eq!(store.get(&place, "k").unwrap(), Some(vec![2]));
    assert_eq!(view.get(&place, "k").unwrap(), Some(vec![1]));
}

/// Polls once and says that it did.
async fn futures_poll<F: std::future::Future>(mut future: std::pin::Pin<&mut F>) -> bool {
    std::future::poll_fn(|context| {
        drop(future.as_mut().poll(context));
        std::task::Poll::Ready(true)
    })
    .await
}

#[tokio::test]
async fn a_panicking_change_takes_nobody_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let place = bucket("b");
    let panicking = {
        let place = place.clone();
        store.write::<(), StoreError, _>(move |change| {
            change.put(&place, "lost", vec![]);
            panic!("on purpose")
        })
    };
    assert!(matches!(panicking.await, Err(StoreError::Panicked)));
    let kept = place.clone();
    store
        .write::<_, StoreError, _>(move |change| {
            change.put(&kept, "kept", vec![]);
            Ok(())
        })
        .await
        .unwrap();
    let keys: Vec<String> = store.scan(&place).unwrap().into_iter().map(|(key, _)| key).collect();
    assert_eq!(keys, ["kept"]);
}

#[test]
fn a_closed_store_says_so_and_a_second_opener_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("meta.redb");
    let store = RedbStore::open(&path).unwrap();
    let second = RedbStore::open(&path).map(drop).unwrap_err();
    assert!(second.to_string().contains("meta.redb"), "{second}");
    store.close();
    let store: SharedStore = Arc::new(store);
    let late = store.write_blocking::<(), StoreError, _>(|_| Ok(()));
    assert!(matches!(late, Err(StoreError::Closed)));
}

#[test]
fn a_damaged_file_is_refused_by_name_and_kept() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("meta.redb");
    atomic::write(&path, b"this is no database, whatever it is called", 0o600).unwrap();
    let error = RedbStore::open(&path).map(drop).unwrap_err();
    assert!(error.to_string().contains("meta.redb"), "{error}");
    assert!(std::fs::read(&path).unwrap().starts_with(b"this is no database"));
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Sample {
    name: String,
    value: u32,
}

impl Record for Sample {
    const BUCKET: &'static str = "samples";
    const VERSION: u32 = 2;

    fn key(&self) -> &str {
        &self.name
    }

    fn upgrade(version: u32, value: &[u8]) -> Option<Self> {
        (version == 1).then(|| Self { name: String::from_utf8_lossy(value).into_owned(), value: 0 })
    }
}

#[test]
fn records_that_cannot_be_read_hide_no_others() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let table = Table::<Sample>::new(&Namespace::k8s());
    let good = Sample { name: "good".to_owned(), value: 7 };
    let writer = table.clone();
    store
        .write_blocking::<_, StoreError, _>(move |change| {
            writer.put(change, &good)?;
            let bucket = writer.bucket().clone();
            change.put(&bucket, "old", [&1_u32.to_be_bytes()[..], b"old"].concat());
            change.put(&bucket, "future", [&3_u32.to_be_bytes()[..], b"{}"].concat());
            change.put(&bucket, "torn", vec![0, 0]);
            change.put(&bucket, "other", [&2_u32.to_be_bytes()[..], br#"{"name":"x","value":1}"#].concat());
            Ok(())
        })
        .unwrap();
    let listing = table.list(&*store).unwrap();
    let names: Vec<&str> = listing.records.iter().map(|record| record.name.as_str()).collect();
    assert_eq!(names, ["good", "old"]);
    assert_eq!(listing.corrupt.len(), 3);
    for key in ["future", "torn", "other"] {
        let error = table.get(&*store, key).unwrap_err();
        assert!(matches!(&error, StoreError::Corrupt { key: named, .. } if named == key), "{error}");
    }
    assert_eq!(store.scan(table.bucket()).unwrap().len(), 5, "nothing is deleted on suspicion");
}

#[test]
fn a_file_is_replaced_whole() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state");
    atomic::write(&path, b"one", 0o600).unwrap();
    atomic::write(&path, b"two", 0o640).unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), b"two");
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "no temporary file stays");
    assert!(atomic::write(&folder.path().join("missing/state"), b"", 0o600).is_err());
}
