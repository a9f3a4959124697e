//! The image half of a daemon in a temporary folder.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use imagesvc::{Config, ImageService, Parts, PullRequest};
use runtime_core::clock;
use runtime_core::content::{Content, LocalContent};
use runtime_core::gc::Gc;
use runtime_core::ids::Namespace;
use runtime_core::image::Images;
use runtime_core::lease::Leases;
use runtime_core::snapshot::{Overlayfs, Snapshotter};
use runtime_core::store::{RedbStore, SharedStore, StoreError};
use runtime_core::tasks::TaskGroup;

pub(crate) struct Node {
    pub(crate) parts: Parts,
    pub(crate) service: ImageService,
    pub(crate) root: PathBuf,
    pub(crate) store: Arc<RedbStore>,
}

impl Node {
    pub(crate) async fn open(root: &Path, config: Config) -> Self {
        assert!(
            rustix::process::geteuid().is_root(),
            "this test makes device nodes and overlay layers: run it as root"
        );
        let store = Arc::new(open_store(&root.join("meta/meta.redb")).await);
        let shared: SharedStore = store.clone();
        let (clock, tasks) = (clock::system(), TaskGroup::new());
        let content: Arc<dyn Content> =
            Arc::new(LocalContent::open(&root.join("content"), shared.clone(), clock.clone()).unwrap());
        let snapshots =
            Overlayfs::open(&root.join("overlayfs"), shared.clone(), clock.clone(), tasks.clone());
        let snapshotter: Arc<dyn Snapshotter> = Arc::new(snapshots.unwrap());
        let gc = Gc::new(shared.clone(), clock.clone(), content.clone(), vec![snapshotter.clone()], vec![]);
        let parts = Parts {
            content,
            snapshotter,
            images: Images::new(shared.clone(), clock.clone()),
            leases: Leases::new(shared, clock.clone()),
            gc,
            clock,
            tasks,
        };
        let service = ImageService::new(Namespace::k8s(), parts.clone(), config);
        service.recover().await.unwrap();
        Self { parts, service, root: root.to_owned(), store }
    }

    pub(crate) async fn pull(&self, reference: &str) -> Result<String, Arc<imagesvc::PullError>> {
        let request = PullRequest { reference: reference.to_owned(), auth: None };
        self.service.pull(request).await.map(|pulled| pulled.id.to_string())
    }

    /// Waits for deletions in the background, then lists every blob, ingest and snapshot folder.
    pub(crate) async fn leftovers(&self) -> Vec<String> {
        self.parts.tasks.stop(Duration::from_secs(10)).await;
        let mut found = Vec::new();
        for folder in ["content/blobs/sha256", "content/ingest", "content/deleted", "overlayfs/snapshots"] {
            for entry in std::fs::read_dir(self.root.join(folder)).unwrap() {
                found.push(entry.unwrap().path().display().to_string());
            }
        }
        found
            .extend(self.parts.leases.list(&Namespace::k8s()).unwrap().into_iter().map(|l| l.id.to_string()));
        let blobs = self.parts.content.list(&Namespace::k8s()).unwrap();
        found.extend(blobs.into_iter().map(|blob| blob.digest.to_string()));
        found
    }
}

/// A child that another test forks at this moment holds an old lock until it runs its program.
async fn open_store(path: &Path) -> RedbStore {
    let give_up = Instant::now() + Duration::from_secs(10);
    loop {
        match RedbStore::open(path) {
            Err(StoreError::Locked { .. }) if Instant::now() < give_up => tokio::task::yield_now().await,
            opened => return opened.unwrap(),
        }
    }
}
