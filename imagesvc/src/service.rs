//! The image service: what the CRI's image verbs call.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use runtime_core::clock::{SharedClock, Timestamp};
use runtime_core::content::Content;
use runtime_core::gc::Gc;
use runtime_core::ids::Namespace;
use runtime_core::image::Images;
use runtime_core::lease::Leases;
use runtime_core::snapshot::Snapshotter;
use runtime_core::tasks::TaskGroup;

use crate::image::{Image, ImageError, ResolvedImage, Views};
use crate::pull::{Jobs, PULL_LEASE, PullError, PulledImage, Puller};
use crate::registry::{Auth, Retry};

/// The services that images are made of.
#[derive(Clone)]
pub struct Parts {
    pub content: Arc<dyn Content>,
    pub snapshotter: Arc<dyn Snapshotter>,
    pub images: Images,
    pub leases: Leases,
    pub gc: Gc,
    pub clock: SharedClock,
    pub tasks: TaskGroup,
}

#[derive(Clone, Debug)]
pub struct Config {
    /// Folders with `<host>/hosts.toml`, the first that has one for a host counts.
    pub config_path: Vec<PathBuf>,
    /// Layers of one image that are fetched at a time; 0 is all of them.
    pub max_concurrent_downloads: usize,
    /// A host that sends nothing for so long has failed; `None` waits for ever.
    pub progress_timeout: Option<Duration>,
    pub retry: Retry,
    /// Names whose images the kubelet must not remove.
    pub pinned: Vec<String>,
}

impl Default for Config {
    /// containerd's defaults.
    fn default() -> Self {
        Self {
            config_path: Vec::new(),
            max_concurrent_downloads: 3,
            progress_timeout: Some(Duration::from_secs(5 * 60)),
            retry: Retry::default(),
            pinned: Vec::new(),
        }
    }
}

#[derive(Clone, Debug)]
pub struct PullRequest {
    pub reference: String,
    pub auth: Option<Auth>,
}

/// What the images' file system holds.
#[derive(Clone, Debug)]
pub struct FsInfo {
    pub mountpoint: PathBuf,
    pub bytes: u64,
    pub inodes: u64,
    pub timestamp: Timestamp,
}

/// Images of one namespace. Clones share everything.
#[derive(Clone)]
pub struct ImageService {
    namespace: Namespace,
    parts: Parts,
    views: Arc<Views>,
    jobs: Arc<Jobs>,
}

impl ImageService {
    pub fn new(namespace: Namespace, parts: Parts, config: Config) -> Self {
        let views = Arc::new(Views::new(namespace.clone(), &parts, &config.pinned));
        let jobs = Arc::new(Jobs::new(Puller::new(namespace.clone(), parts.clone(), config)));
        Self { namespace, parts, views, jobs }
    }

    /// Drops what pulls of a daemon that died have left. Once, before the first call.
    pub async fn recover(&self) -> Result<(), ImageError> {
        self.parts.leases.delete_labelled(&self.namespace, PULL_LEASE).await?;
        self.parts.content.sweep_orphans().await.map_err(|source| ImageError::Content { source })?;
        // A record that cannot be read keeps all garbage where it is; the images beside it still serve.
        if let Err(error) = self.parts.gc.collect(&self.namespace).await {
            tracing::warn!(error = &error as &dyn std::error::Error, "garbage of images stays");
        }
        if let Err(error) = self.parts.snapshotter.cleanup().await {
            tracing::warn!(error = &error as &dyn std::error::Error, "garbage of snapshots stays");
        }
        Ok(())
    }

    /// Pulls and unpacks. The registry is asked even when the image is here (KEP-2535). Dropping the future
    /// cancels the pull unless someone else waits for it.
    pub async fn pull(&self, request: PullRequest) -> Result<PulledImage, Arc<PullError>> {
        self.jobs.pull(request).await
    }

    /// The image that `reference` means: an id, a prefix of one, a tag, a digest.
    pub fn status(&self, reference: &str) -> Result<Option<Image>, ImageError> {
        self.views.status(reference)
    }

    /// All images, or the one that `filter` means.
    pub fn list(&self, filter: Option<&str>) -> Result<Vec<Image>, ImageError> {
        self.views.list(filter)
    }

    /// What is needed to make a container of the image.
    pub fn resolve(&self, reference: &str) -> Result<ResolvedImage, ImageError> {
        self.views.resolve(reference)
    }

    /// Removes every name of the image that `reference` means, then what nothing else needs. An absent image is
    /// removed already.
    pub async fn remove(&self, reference: &str) -> Result<(), ImageError> {
        let names = self.views.names_of(reference)?;
        if names.is_empty() {
            return Ok(());
        }
        self.parts.images.delete_all(&self.namespace, names).await?;
        let collected = self.parts.gc.collect(&self.namespace).await?;
        self.views.forget(&collected.blobs);
        Ok(())
    }

    pub async fn fs_info(&self) -> Result<FsInfo, ImageError> {
        let usage =
            self.parts.snapshotter.total_usage().await.map_err(|source| ImageError::Snapshot { source })?;
        Ok(FsInfo {
            mountpoint: self.parts.snapshotter.root(),
            bytes: usage.bytes,
            inodes: usage.inodes,
            timestamp: self.parts.clock.now(),
        })
    }
}
