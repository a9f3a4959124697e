//! Garbage collection: what no image, lease or other root reaches goes.
//!
//! Edges are containerd's labels (`containerd.io/gc.ref.…`) and the parents of snapshots. Marking runs on a view
//! without holding anything up; when it finds garbage, the change that deletes the records marks once more on
//! what it sees, so that nothing taken up meanwhile is lost. Bytes are freed after that commit.

pub mod plugin;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::clock::{SharedClock, Timestamp};
use crate::content::{BlobRecord, Content, ContentError, Labels};
use crate::error::ErrorKind;
use crate::ids::{Digest, Namespace, SnapshotKey};
use crate::image::ImageRecord;
use crate::lease::{LeaseRecord, Resource};
use crate::snapshot::{self, SnapshotError, SnapshotRecord, Snapshotter};
use crate::store::record::{Record, Table};
use crate::store::{Read, SharedStore, StoreError, Write};

const CONTENT_EDGE: &str = "containerd.io/gc.ref.content";
const SNAPSHOT_EDGE: &str = "containerd.io/gc.ref.snapshot.";
const ROOT_LABEL: &str = "containerd.io/gc.root";

/// Names what an owner needs, such as the snapshots of the containers of a namespace. It runs on the writer
/// thread too: it only reads.
pub trait Roots: Send + Sync + 'static {
    fn roots(&self, namespace: &Namespace, from: &dyn Read) -> Result<Vec<Resource>, StoreError>;
}

#[derive(Debug, thiserror::Error)]
pub enum GcError {
    #[error("metadata while collecting garbage in {namespace}")]
    Store {
        namespace: Namespace,
        #[source]
        source: StoreError,
    },
    #[error("failed to free content of {namespace}")]
    Content {
        namespace: Namespace,
        #[source]
        source: ContentError,
    },
    #[error("failed to free snapshots of {namespace}")]
    Snapshot {
        namespace: Namespace,
        #[source]
        source: SnapshotError,
    },
}

impl GcError {
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Store { source, .. } => source.kind(),
            Self::Content { source, .. } => source.kind(),
            Self::Snapshot { source, .. } => source.kind(),
        }
    }
}

/// What one collection took away.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Collected {
    pub blobs: Vec<Digest>,
    /// By snapshotter.
    pub snapshots: Vec<(String, SnapshotKey)>,
}

/// The collector.
#[derive(Clone)]
pub struct Gc {
    store: SharedStore,
    clock: SharedClock,
    content: Arc<dyn Content>,
    snapshotters: Vec<Arc<dyn Snapshotter>>,
    roots: Vec<Arc<dyn Roots>>,
}

impl Gc {
    /// `roots` must name everything beside images and leases that keeps objects alive: containers, for one.
    pub fn new(
        store: SharedStore,
        clock: SharedClock,
        content: Arc<dyn Content>,
        snapshotters: Vec<Arc<dyn Snapshotter>>,
        roots: Vec<Arc<dyn Roots>>,
    ) -> Self {
        Self { store, clock, content, snapshotters, roots }
    }

    /// Collects in one namespace; the records are gone when this returns.
    pub async fn collect(&self, namespace: &Namespace) -> Result<Collected, GcError> {
        let store_failed = |source| GcError::Store { namespace: namespace.clone(), source };
        let mark = Mark {
            namespace: namespace.clone(),
            now: self.clock.now(),
            snapshotters: self.snapshotters.iter().map(|each| each.name().to_owned()).collect(),
            roots: self.roots.clone(),
        };
        let first = {
            let view = self.store.view().map_err(store_failed)?;
            mark.garbage(&*view).map_err(store_failed)?
        };
        if first == Collected::default() {
            return Ok(first);
        }
        let collected = self.store.write(move |change| mark.sweep(change)).await.map_err(store_failed)?;
        self.content
            .sweep(collected.blobs.clone())
            .await
            .map_err(|source| GcError::Content { namespace: namespace.clone(), source })?;
        for snapshotter in &self.snapshotters {
            if collected.snapshots.iter().any(|(name, _)| name == snapshotter.name()) {
                snapshotter
                    .cleanup()
                    .await
                    .map_err(|source| GcError::Snapshot { namespace: namespace.clone(), source })?;
            }
        }
        Ok(collected)
    }
}

/// Everything one marking needs; it goes to the writer thread as a whole.
struct Mark {
    namespace: Namespace,
    now: Timestamp,
    snapshotters: Vec<String>,
    roots: Vec<Arc<dyn Roots>>,
}

/// The objects of a namespace with their outgoing edges.
#[derive(Default)]
struct Graph {
    edges: HashMap<Resource, Vec<Resource>>,
    labelled_roots: Vec<Resource>,
}

impl Mark {
    /// A record that cannot be read might name anything: then nothing is collected.
    fn all<R: Record>(table: &Table<R>, from: &(impl Read + ?Sized)) -> Result<Vec<R>, StoreError> {
        let listing = table.list(from)?;
        match listing.corrupt.into_iter().next() {
            Some(corrupt) => Err(corrupt),
            None => Ok(listing.records),
        }
    }

    fn graph(&self, from: &(impl Read + ?Sized)) -> Result<Graph, StoreError> {
        let mut graph = Graph::default();
        for blob in Self::all(&Table::<BlobRecord>::new(&self.namespace), from)? {
            graph.add(Resource::Content(blob.digest), &blob.labels, None);
        }
        for snapshotter in &self.snapshotters {
            for record in Self::all(&snapshot::table(&self.namespace, snapshotter), from)? {
                let SnapshotRecord { key, parent, labels, .. } = record;
                let node = |key| Resource::Snapshot { snapshotter: snapshotter.clone(), key };
                graph.add(node(key), &labels, parent.map(node));
            }
        }
        Ok(graph)
    }

    fn reached(&self, graph: &Graph, from: &dyn Read) -> Result<HashSet<Resource>, StoreError> {
        let mut pending = graph.labelled_roots.clone();
        // Every image is a root, so that a lease on one adds nothing.
        for image in Self::all(&Table::<ImageRecord>::new(&self.namespace), from)? {
            pending.push(Resource::Content(image.target.digest));
            pending.extend(edges_of(&image.labels));
        }
        for lease in Self::all(&Table::<LeaseRecord>::new(&self.namespace), from)? {
            if lease.expires_at.is_none_or(|expiry| expiry > self.now) {
                pending.extend(lease.resources);
            }
        }
        for source in &self.roots {
            pending.extend(source.roots(&self.namespace, from)?);
        }
        let mut reached = HashSet::new();
        while let Some(node) = pending.pop() {
            if let Some(edges) = graph.edges.get(&node)
                && reached.insert(node)
            {
                pending.extend(edges.iter().cloned());
            }
        }
        Ok(reached)
    }

    fn garbage(&self, from: &dyn Read) -> Result<Collected, StoreError> {
        let graph = self.graph(from)?;
        let reached = self.reached(&graph, from)?;
        let mut garbage = Collected::default();
        for node in graph.edges.into_keys().filter(|node| !reached.contains(node)) {
            match node {
                Resource::Content(digest) => garbage.blobs.push(digest),
                Resource::Snapshot { snapshotter, key } => garbage.snapshots.push((snapshotter, key)),
                // Never nodes of the graph: images are roots, ingests end by their age.
                Resource::Image(_) | Resource::Ingest(_) => {}
            }
        }
        Ok(garbage)
    }

    fn sweep(&self, change: &mut dyn Write) -> Result<Collected, StoreError> {
        let garbage = self.garbage(change)?;
        let blobs = Table::<BlobRecord>::new(&self.namespace);
        for digest in &garbage.blobs {
            blobs.delete(change, digest.as_str());
        }
        let mut orphaned: HashMap<(&str, SnapshotKey), u32> = HashMap::new();
        for (snapshotter, key) in &garbage.snapshots {
            let table = snapshot::table(&self.namespace, snapshotter);
            let record = table.get(change, key.as_str())?;
            if let Some(parent) = record.and_then(|record| record.parent) {
                *orphaned.entry((snapshotter, parent)).or_default() += 1;
            }
            table.delete(change, key.as_str());
        }
        for ((snapshotter, key), lost) in orphaned {
            let table = snapshot::table(&self.namespace, snapshotter);
            if let Some(parent) = table.get(change, key.as_str())? {
                let children = parent.children.saturating_sub(lost);
                table.put(change, &SnapshotRecord { children, ..parent })?;
            }
        }
        Ok(garbage)
    }
}

impl Graph {
    fn add(&mut self, node: Resource, labels: &Labels, parent: Option<Resource>) {
        if labels.contains_key(ROOT_LABEL) {
            self.labelled_roots.push(node.clone());
        }
        let edges = edges_of(labels).chain(parent).collect();
        self.edges.insert(node, edges);
    }
}

/// The edges that labels draw. Each prefix may be followed by a suffix that only keeps the labels apart:
/// `gc.ref.content.<any>`, `gc.ref.snapshot.<snapshotter>/<any>`.
fn edges_of(labels: &Labels) -> impl Iterator<Item = Resource> + '_ {
    labels.iter().filter_map(|(label, value)| {
        if let Some(rest) = label.strip_prefix(CONTENT_EDGE) {
            let separated = rest.is_empty() || rest.starts_with(['.', '/']);
            return Digest::parse(value.as_str()).ok().filter(|_| separated).map(Resource::Content);
        }
        let snapshotter = label.strip_prefix(SNAPSHOT_EDGE)?.split('/').next()?.to_owned();
        SnapshotKey::parse(value.as_str()).ok().map(|key| Resource::Snapshot { snapshotter, key })
    })
}

#[cfg(test)]
mod tests;
