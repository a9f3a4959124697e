//! Layers to snapshots: fetched some at a time, unpacked from the lowest up as they arrive, each under its chain
//! id. A chain that is there already is neither fetched nor unpacked.

use std::sync::{Arc, OnceLock};

use futures_util::stream::{self, StreamExt};
use runtime_core::content::Descriptor;
use runtime_core::ids::{ChainId, Digest, SnapshotKey};
use runtime_core::labels::{LabelChange, Labels};
use runtime_core::lease::Resource;
use runtime_core::snapshot::{Commit, Kind, NewSnapshot, SnapshotError};
use tokio::sync::mpsc;

use super::{Pull, PullError, PulledManifest, random};
use crate::document::{ConfigDocument, chain_ids};
use crate::unpack::{self, Limits, Target, UnpackError};

const UNCOMPRESSED_LABEL: &str = "containerd.io/uncompressed";
const SNAPSHOT_REF_LABEL: &str = "containerd.io/snapshot.ref";

/// One layer on its way to a snapshot.
struct Step<'a> {
    layer: &'a Descriptor,
    diff_id: &'a Digest,
    chain: &'a ChainId,
    parent: Option<SnapshotKey>,
}

impl Pull<'_> {
    pub(super) async fn fetch_and_unpack(
        &self,
        manifest: &PulledManifest,
        config: &ConfigDocument,
    ) -> Result<(), PullError> {
        let chains = chain_ids(&config.diff_ids);
        self.hold_all(manifest, &chains).await?;
        let layers = &manifest.manifest.layers;
        let parallel = match self.puller.config.max_concurrent_downloads {
            0 => layers.len().max(1),
            limit => limit,
        };
        // Fetching goes on while a layer is unpacked: what has arrived waits on disk, so the channel has room for all.
        let (sender, mut receiver) = mpsc::channel(layers.len().max(1));
        let first_error = OnceLock::new();
        let fail = |error| {
            // What fails later fails because of the first.
            drop(first_error.set(error));
            self.cancel.cancel();
        };
        let fetch = async {
            let sender = sender;
            let mut fetched =
                stream::iter(0..layers.len()).map(|at| self.fetch_blob(&layers[at])).buffered(parallel);
            // After an error only the fetches that run are waited for, so that none writes behind our back.
            while let Some(next) = fetched.next().await {
                match next {
                    Ok(()) => drop(sender.send(()).await),
                    Err(error) => fail(error),
                }
            }
        };
        let unpack = async {
            for (at, layer) in layers.iter().enumerate() {
                let Some(()) = receiver.recv().await else { return };
                let parent = at.checked_sub(1).map(|below| SnapshotKey::from(chains[below].clone()));
                let (diff_id, chain) = (&config.diff_ids[at], &chains[at]);
                if let Err(error) = self.unpack(&Step { layer, diff_id, chain, parent }).await {
                    return fail(error);
                }
            }
        };
        tokio::join!(fetch, unpack);
        first_error.into_inner().map_or(Ok(()), Err)
    }

    /// One record of the lease for all of it.
    async fn hold_all(&self, manifest: &PulledManifest, chains: &[ChainId]) -> Result<(), PullError> {
        let snapshotter = self.puller.parts.snapshotter.name().to_owned();
        let blobs = manifest.manifest.layers.iter().map(|layer| Resource::Content(layer.digest.clone()));
        let snapshots = chains
            .iter()
            .map(|chain| Resource::Snapshot { snapshotter: snapshotter.clone(), key: chain.clone().into() });
        self.hold(blobs.chain(snapshots).collect()).await
    }

    fn snapshot_error(&self, step: &Step<'_>, source: SnapshotError) -> PullError {
        PullError::Snapshot { image: self.image.clone(), layer: step.layer.digest.clone(), source }
    }

    fn unpack_error(&self, step: &Step<'_>, source: UnpackError) -> PullError {
        if matches!(source, UnpackError::Cancelled) {
            return self.cancelled();
        }
        PullError::Unpack { image: self.image.clone(), layer: step.layer.digest.clone(), source }
    }

    async fn unpack(&self, step: &Step<'_>) -> Result<(), PullError> {
        let _turn = self.until_cancelled(self.puller.once.chain(step.chain)).await?;
        let (snapshotter, namespace) = (&self.puller.parts.snapshotter, &self.puller.namespace);
        match snapshotter.stat(namespace, &step.chain.clone().into()) {
            Ok(record) if record.kind == Kind::Committed => return Ok(()),
            Ok(_) | Err(SnapshotError::NotFound { .. }) => {}
            Err(error) => return Err(self.snapshot_error(step, error)),
        }
        let key = self.extract_key(step);
        let resource = Resource::Snapshot { snapshotter: snapshotter.name().to_owned(), key: key.clone() };
        self.hold(vec![resource]).await?;
        let labels = Labels::from([(SNAPSHOT_REF_LABEL.to_owned(), step.chain.to_string())]);
        let new = NewSnapshot { key: key.clone(), parent: step.parent.clone(), labels, lease: None };
        let mounts = snapshotter.prepare(namespace, new).await;
        let mounts = mounts.map_err(|source| self.snapshot_error(step, source))?;
        let target = Target::of_mounts(&mounts).map_err(|source| self.unpack_error(step, source))?;
        let made = match self.apply(step, target).await {
            Ok(()) => self.commit(step, &key).await,
            Err(error) => Err(error),
        };
        if made.is_err() {
            // The collector would find it too; removing it now frees the space for a retry.
            if let Err(error) = snapshotter.remove(namespace, &key).await {
                tracing::warn!(%key, error = &error as &dyn std::error::Error, "a failed layer stays");
            }
        }
        made
    }

    /// containerd's form of the name of a snapshot that is being unpacked.
    fn extract_key(&self, step: &Step<'_>) -> SnapshotKey {
        let now = self.puller.parts.clock.now().nanos();
        let key = format!("extract-{now}-{} {}", random(), step.chain);
        SnapshotKey::parse(key).expect("digits, letters and a chain id are a snapshot key")
    }

    async fn apply(&self, step: &Step<'_>, target: Target) -> Result<(), PullError> {
        let (content, namespace) = (Arc::clone(&self.puller.parts.content), self.puller.namespace.clone());
        let (digest, diff_id) = (step.layer.digest.clone(), step.diff_id.clone());
        let cancel = self.cancel.clone();
        let applied = self
            .blocking(move || {
                let blob = content.open(&namespace, &digest).map_err(Ok)?;
                unpack::apply(blob.file, &target, &diff_id, Limits::default(), &cancel).map_err(Err)
            })
            .await?;
        applied.map_err(|error| match error {
            Ok(content) => self.content(content),
            Err(unpack) => self.unpack_error(step, unpack),
        })
    }

    async fn commit(&self, step: &Step<'_>, key: &SnapshotKey) -> Result<(), PullError> {
        let (snapshotter, namespace) = (&self.puller.parts.snapshotter, &self.puller.namespace);
        let labels = Labels::from([(SNAPSHOT_REF_LABEL.to_owned(), step.chain.to_string())]);
        let commit = Commit { name: step.chain.clone().into(), labels, lease: None };
        let committed = snapshotter.commit(namespace, key, commit).await;
        committed.map_err(|source| self.snapshot_error(step, source))?;
        let uncompressed =
            LabelChange::Merge([(UNCOMPRESSED_LABEL.to_owned(), step.diff_id.to_string())].into());
        let labelled = self.puller.parts.content.label(namespace, &step.layer.digest, uncompressed).await;
        labelled.map(drop).map_err(|source| self.content(source))
    }
}
