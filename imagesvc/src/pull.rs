//! Pulling: resolve, fetch, unpack, record. `jobs` shares running pulls, `fetch` brings blobs in, `layers` makes
//! snapshots of them.
//!
//! Everything that a pull brings is held by a lease until the image records exist; on failure or cancel the
//! lease goes and the collector takes the rest. Nothing is recorded halfway.

mod error;
mod fetch;
mod jobs;
mod layers;
mod once;

use std::collections::BTreeMap;
use std::sync::Arc;

use runtime_core::content::{ContentError, Descriptor};
use runtime_core::ids::{Digest, LeaseId, Namespace, SnapshotKey};
use runtime_core::image::NewImage;
use runtime_core::labels::{LabelChange, Labels};
use tokio_util::sync::CancellationToken;

pub use error::PullError;
pub(crate) use jobs::Jobs;

use crate::document::{self, ConfigDocument, Document, DocumentError, Manifest};
use crate::image::{ImageId, PINNED_LABEL};
use crate::reference::{Reference, Version};
use crate::registry::{Clients, RegistryError, Session};
use crate::service::{Config, Parts, PullRequest};
use once::Once;

/// Marks the leases of pulls, so that a restarted daemon finds those of the one before.
pub(crate) const PULL_LEASE: &str = "io.orlop.pull";
/// Marks images that the CRI has pulled, as containerd does.
const MANAGED_LABEL: (&str, &str) = ("io.cri-containerd.image", "managed");
const PINNED_VALUE: &str = "pinned";
const MAX_INDEX_DEPTH: usize = 3;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PulledImage {
    pub id: ImageId,
}

/// What all pulls share.
pub(crate) struct Puller {
    namespace: Namespace,
    parts: Parts,
    config: Config,
    clients: Arc<Clients>,
    /// One fetch of a blob and one unpacking of a chain at a time, whoever asks.
    once: Once,
}

/// One pull.
struct Pull<'a> {
    puller: &'a Puller,
    session: Session,
    /// The reference, as errors name it.
    image: String,
    lease: LeaseId,
    cancel: CancellationToken,
}

impl Puller {
    pub(crate) fn new(namespace: Namespace, parts: Parts, config: Config) -> Self {
        let clients = Arc::new(Clients::new(config.progress_timeout));
        Self { namespace, parts, config, clients, once: Once::default() }
    }

    /// Pulls under a lease that is given up whatever happens. Never dropped midway: it ends by `cancel`.
    async fn pull(
        &self,
        reference: Reference,
        request: PullRequest,
        cancel: CancellationToken,
    ) -> Result<PulledImage, PullError> {
        let image = reference.to_string();
        let hosts = crate::registry::endpoints(&self.config.config_path, reference.host());
        let hosts = hosts.map_err(|source| PullError::Hosts { image: image.clone(), source })?;
        let session =
            Session::new(reference, hosts, Arc::clone(&self.clients), request.auth, self.config.retry);
        let lease = self.lease(&image).await?;
        let pull = Pull { puller: self, session, image, lease, cancel };
        let outcome = pull.run().await;
        let given_up = self.parts.leases.delete(&self.namespace, &pull.lease).await;
        let given_up = given_up.map_err(|source| PullError::Lease { image: pull.image.clone(), source });
        if outcome.is_err() {
            // The error that counts is the pull's own; what stays is found at the next collection.
            if let Err(error) = self.parts.gc.collect(&self.namespace).await {
                tracing::warn!(image = pull.image, error = &error as &dyn std::error::Error, "garbage stays");
            }
        }
        let pulled = outcome?;
        given_up?;
        Ok(pulled)
    }

    async fn lease(&self, image: &str) -> Result<LeaseId, PullError> {
        let id = LeaseId::parse(format!("pull-{}", random())).expect("digits and letters are an identifier");
        let labels = Labels::from([(PULL_LEASE.to_owned(), image.to_owned())]);
        let made = self.parts.leases.create(&self.namespace, id.clone(), labels, None).await;
        made.map_err(|source| PullError::Lease { image: image.to_owned(), source })?;
        Ok(id)
    }
}

/// Sixteen hex digits that nobody has used before.
fn random() -> String {
    runtime_core::ids::ContainerId::random().as_str()[..16].to_owned()
}

impl Pull<'_> {
    async fn run(&self) -> Result<PulledImage, PullError> {
        let digest = self.until_cancelled(self.session.resolve()).await?;
        let digest = digest.map_err(|source| self.registry(source))?;
        let (target, manifest) = self.manifest(&digest).await?;
        let config = self.config(&manifest).await?;
        self.fetch_and_unpack(&manifest, &config).await?;
        self.connect(&target, &manifest, &config).await?;
        self.record(target, &manifest).await
    }

    fn registry(&self, source: RegistryError) -> PullError {
        PullError::Registry { image: self.image.clone(), source }
    }

    fn document(&self, source: DocumentError) -> PullError {
        PullError::Document { image: self.image.clone(), source }
    }

    fn content(&self, source: ContentError) -> PullError {
        PullError::Content { image: self.image.clone(), source }
    }

    fn cancelled(&self) -> PullError {
        PullError::Cancelled { image: self.image.clone() }
    }

    async fn until_cancelled<T>(&self, future: impl Future<Output = T>) -> Result<T, PullError> {
        self.cancel.run_until_cancelled(future).await.ok_or_else(|| self.cancelled())
    }

    /// Fetches what the reference names, and the manifest for this host if that is an index.
    async fn manifest(&self, digest: &Digest) -> Result<(Descriptor, PulledManifest), PullError> {
        let (mut digest, mut expected) = (digest.clone(), None);
        let mut way = Vec::new();
        for _ in 0..MAX_INDEX_DEPTH {
            let bytes = self.fetch_manifest(&digest).await?;
            let size = bytes.len() as u64;
            if let Some(expected) = expected.filter(|expected| *expected != size) {
                return Err(self.document(DocumentError::Size { digest, expected, size }));
            }
            match document::parse(&digest, &bytes).map_err(|source| self.document(source))? {
                Document::Index(entries) => {
                    let next = document::select(&digest, entries).map_err(|source| self.document(source))?;
                    let media_type = document::media::OCI_INDEX.to_owned();
                    way.push(Descriptor { media_type, digest, size });
                    (digest, expected) = (next.digest, Some(next.size));
                }
                Document::Manifest(manifest) => {
                    let own = Descriptor { media_type: manifest.media_type.clone(), digest, size };
                    let target = way.first().cloned().unwrap_or_else(|| own.clone());
                    return Ok((target, PulledManifest { own, way, manifest }));
                }
            }
        }
        Err(self.document(DocumentError::Depth { digest }))
    }

    async fn config(&self, manifest: &PulledManifest) -> Result<ConfigDocument, PullError> {
        let (own, config) = (&manifest.own.digest, &manifest.manifest.config);
        if config.size > document::MAX_DOCUMENT {
            let (digest, size) = (config.digest.clone(), config.size);
            return Err(self.content(ContentError::TooLarge { digest, size, limit: document::MAX_DOCUMENT }));
        }
        self.fetch_blob(config).await?;
        let parts = &self.puller.parts;
        let bytes = runtime_core::content::read_document(
            &*parts.content,
            &self.puller.namespace,
            &config.digest,
            document::MAX_DOCUMENT,
        );
        let bytes = bytes.map_err(|source| self.content(source))?;
        let parsed =
            document::parse_config(&config.digest, &bytes).map_err(|source| self.document(source))?;
        let (layers, diff_ids) = (manifest.manifest.layers.len(), parsed.diff_ids.len());
        if layers != diff_ids {
            return Err(self.document(DocumentError::LayerCount { digest: own.clone(), layers, diff_ids }));
        }
        Ok(parsed)
    }

    /// Draws the edges that the collector follows: index → manifest → configuration → snapshots, layers.
    async fn connect(
        &self,
        target: &Descriptor,
        manifest: &PulledManifest,
        config: &ConfigDocument,
    ) -> Result<(), PullError> {
        let parts = &self.puller.parts;
        let label = async |digest: &Digest, labels: Labels| {
            let labelled =
                parts.content.label(&self.puller.namespace, digest, LabelChange::Merge(labels)).await;
            labelled.map(drop).map_err(|source| self.content(source))
        };
        debug_assert!(manifest.way.first().is_none_or(|first| first == target));
        let below = manifest.way.iter().skip(1).chain([&manifest.own]);
        for (index, next) in manifest.way.iter().zip(below) {
            let edge = ("containerd.io/gc.ref.content.m.0".to_owned(), next.digest.to_string());
            label(&index.digest, Labels::from([edge])).await?;
        }
        let mut edges = Labels::from([(
            "containerd.io/gc.ref.content.config".to_owned(),
            manifest.manifest.config.digest.to_string(),
        )]);
        for (number, layer) in manifest.manifest.layers.iter().enumerate() {
            edges.insert(format!("containerd.io/gc.ref.content.l.{number}"), layer.digest.to_string());
        }
        label(&manifest.own.digest, edges).await?;
        if let Some(chain) = document::chain_ids(&config.diff_ids).pop() {
            let snapshots = format!("containerd.io/gc.ref.snapshot.{}", parts.snapshotter.name());
            let edge = Labels::from([(snapshots, SnapshotKey::from(chain).to_string())]);
            label(&manifest.manifest.config.digest, edge).await?;
        }
        Ok(())
    }

    /// The names of the image, all or none: as asked for, by digest, by id.
    async fn record(&self, target: Descriptor, manifest: &PulledManifest) -> Result<PulledImage, PullError> {
        if self.cancel.is_cancelled() {
            return Err(self.cancelled());
        }
        let reference = self.session.reference();
        let id = ImageId(manifest.manifest.config.digest.clone());
        let mut names = vec![reference.with_digest(&target.digest).to_string(), id.to_string()];
        if matches!(reference.version(), Version::Tag(_)) {
            names.push(reference.to_string());
        }
        let mut labels = BTreeMap::from([(MANAGED_LABEL.0.to_owned(), MANAGED_LABEL.1.to_owned())]);
        let is_this = |pinned: &String| Reference::parse(pinned).is_ok_and(|pinned| pinned == *reference);
        if self.puller.config.pinned.iter().any(is_this) {
            labels.insert(PINNED_LABEL.to_owned(), PINNED_VALUE.to_owned());
        }
        let image = |name| NewImage { name, target: target.clone(), labels: labels.clone() };
        let images = names.into_iter().map(image).collect();
        let put = self.puller.parts.images.put_all(&self.puller.namespace, images).await;
        put.map_err(|source| PullError::Record { image: self.image.clone(), source })?;
        Ok(PulledImage { id })
    }
}

/// A manifest with the indexes that led to it.
struct PulledManifest {
    own: Descriptor,
    way: Vec<Descriptor>,
    manifest: Manifest,
}
