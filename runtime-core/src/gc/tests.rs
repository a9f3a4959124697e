//! What is reached stays, what is not goes; doubt keeps everything.

use super::*;
use crate::clock;
use crate::content::{Descriptor, LocalContent, NewContent};
use crate::ids::LeaseId;
use crate::image::{Images, NewImage};
use crate::lease::Leases;
use crate::snapshot::{Commit, NewSnapshot, Overlayfs};
use crate::store::{Bucket, RedbStore};
use crate::tasks::TaskGroup;

struct World {
    _folder: tempfile::TempDir,
    store: SharedStore,
    content: Arc<LocalContent>,
    snapshotter: Arc<Overlayfs>,
    images: Images,
    leases: Leases,
    gc: Gc,
    namespace: Namespace,
}

struct Fixed(Vec<Resource>);

impl Roots for Fixed {
    fn roots(&self, _: &Namespace, _: &dyn Read) -> Result<Vec<Resource>, StoreError> {
        Ok(self.0.clone())
    }
}

fn world(roots: Vec<Resource>) -> World {
    let folder = tempfile::tempdir().unwrap();
    let store: SharedStore = Arc::new(RedbStore::open(&folder.path().join("meta.redb")).unwrap());
    let clock = clock::system();
    let content =
        Arc::new(LocalContent::open(&folder.path().join("c"), store.clone(), clock.clone()).unwrap());
    let snapshotter =
        Overlayfs::open(&folder.path().join("s"), store.clone(), clock.clone(), TaskGroup::new()).unwrap();
    let snapshotter = Arc::new(snapshotter);
    let gc = Gc::new(
        store.clone(),
        clock.clone(),
        content.clone(),
        vec![snapshotter.clone()],
        vec![Arc::new(Fixed(roots))],
    );
    World {
        images: Images::new(store.clone(), clock.clone()),
        leases: Leases::new(store.clone(), clock),
        namespace: Namespace::k8s(),
        _folder: folder,
        store,
        content,
        snapshotter,
        gc,
    }
}

fn key(name: &str) -> SnapshotKey {
    SnapshotKey::parse(name).unwrap()
}

fn snapshot(name: &str) -> Resource {
    Resource::Snapshot { snapshotter: "overlayfs".to_owned(), key: key(name) }
}

impl World {
    fn blob(&self, bytes: &str, labels: &[(&str, &str)]) -> Digest {
        use sha2::Digest as _;
        let digest = Digest::from_sha256(&sha2::Sha256::digest(bytes));
        let mut ingest = self.content.ingest(NewContent::new(&self.namespace, bytes)).unwrap();
        ingest.write(bytes.as_bytes()).unwrap();
        let labels = labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        ingest.commit(&digest, None, labels).unwrap();
        digest
    }

    async fn layers(&self, names: &[&str]) {
        let mut parent = None;
        for name in names {
            let active = key(&format!("extract {name}"));
            let new = NewSnapshot { key: active.clone(), parent, labels: Labels::new(), lease: None };
            self.snapshotter.prepare(&self.namespace, new).await.unwrap();
            self.snapshotter.commit(&self.namespace, &active, Commit::as_name(key(name))).await.unwrap();
            parent = Some(key(name));
        }
    }

    async fn image(&self, name: &str, digest: &Digest) {
        let target = Descriptor { media_type: String::new(), digest: digest.clone(), size: 1 };
        let image = NewImage { name: name.to_owned(), target, labels: Labels::new() };
        self.images.create(&self.namespace, image, None).await.unwrap();
    }

    async fn collect(&self) -> (usize, usize) {
        let collected = self.gc.collect(&self.namespace).await.unwrap();
        (collected.blobs.len(), collected.snapshots.len())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_keeps_what_its_labels_lead_to() {
    let world = world(Vec::new());
    world.layers(&["base", "top"]).await;
    let config = world.blob("config", &[("containerd.io/gc.ref.snapshot.overlayfs", "top")]);
    let layer = world.blob("layer", &[]);
    let manifest = world.blob(
        "manifest",
        &[
            ("containerd.io/gc.ref.content.config", config.as_str()),
            ("containerd.io/gc.ref.content.l.0", layer.as_str()),
        ],
    );
    let stray = world.blob("stray", &[]);
    world.image("docker.io/library/a:1", &manifest).await;
    assert_eq!(world.collect().await, (1, 0));
    assert!(world.content.open(&world.namespace, &stray).is_err());
    world.images.delete_all(&world.namespace, vec!["docker.io/library/a:1".to_owned()]).await.unwrap();
    assert_eq!(world.collect().await, (3, 2));
    assert!(world.snapshotter.list(&world.namespace).unwrap().is_empty());
    assert_eq!(world.collect().await, (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn leases_and_owners_keep_things_and_children_are_counted() {
    let world = world(vec![snapshot("container")]);
    world.layers(&["base"]).await;
    for name in ["container", "stray"] {
        let new =
            NewSnapshot { key: key(name), parent: Some(key("base")), labels: Labels::new(), lease: None };
        world.snapshotter.prepare(&world.namespace, new).await.unwrap();
    }
    let leased = world.blob("leased", &[]);
    let id = LeaseId::parse("lease").unwrap();
    world.leases.create(&world.namespace, id.clone(), Labels::new(), None).await.unwrap();
    world.leases.add(&world.namespace, &id, vec![Resource::Content(leased)]).await.unwrap();
    assert_eq!(world.collect().await, (0, 1));
    assert_eq!(world.snapshotter.stat(&world.namespace, &key("base")).unwrap().children, 1);
    world.leases.delete(&world.namespace, &id).await.unwrap();
    assert_eq!(world.collect().await, (1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_lease_holds_nothing_and_a_root_label_does() {
    let world = world(Vec::new());
    let leased = world.blob("leased", &[]);
    world.blob("root", &[("containerd.io/gc.root", "2026")]);
    let id = LeaseId::parse("lease").unwrap();
    let past = Some(crate::clock::Timestamp(1));
    world.leases.create(&world.namespace, id.clone(), Labels::new(), past).await.unwrap();
    world.leases.add(&world.namespace, &id, vec![Resource::Content(leased)]).await.unwrap();
    assert_eq!(world.collect().await, (1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_cannot_be_read_stops_the_collection() {
    let world = world(Vec::new());
    let blob = world.blob("needed by the image that cannot be read", &[]);
    let bucket = Bucket::in_namespace(&world.namespace, ImageRecord::BUCKET);
    world
        .store
        .write::<_, StoreError, _>(move |change| {
            change.put(&bucket, "broken", b"???".to_vec());
            Ok(())
        })
        .await
        .unwrap();
    let refused = world.gc.collect(&world.namespace).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::DataLoss);
    assert!(world.content.open(&world.namespace, &blob).is_ok());
}
