//! `containerd.services.snapshots.v1`: every snapshotter by its name.

use runtime_core::error::ErrorKind;
use std::pin::Pin;
use std::sync::Arc;

use futures_util::{Stream, stream};
use runtime_core::filter::Filters;
use runtime_core::ids::{LeaseId, Namespace, SnapshotKey};
use runtime_core::labels::Labels;
use runtime_core::snapshot::{Commit, Kind, NewSnapshot, SnapshotRecord, Snapshotter};
use runtime_proto::services::snapshots::v1 as wire;
use runtime_proto::services::snapshots::v1::snapshots_server::{Snapshots, SnapshotsServer};
use tonic::{Request, Response, Status};

use crate::convert::{size, time, wire_mounts};
use crate::status::{invalid, missing, refuse, status};
use crate::{grpc_service, mask, scope};

/// Records of one message of a listing.
const LIST_CHUNK: usize = 100;

#[derive(Clone)]
pub struct SnapshotsApi {
    pub snapshotters: Vec<Arc<dyn Snapshotter>>,
}

grpc_service!(SnapshotsApi, SnapshotsServer);

impl SnapshotsApi {
    fn named(&self, name: &str) -> Result<&dyn Snapshotter, Status> {
        if name.is_empty() {
            return Err(missing("the snapshotter"));
        }
        let found = self.snapshotters.iter().find(|snapshotter| snapshotter.name() == name);
        found.map(|snapshotter| &**snapshotter).ok_or_else(|| {
            let shown: String = name.chars().take(64).collect();
            refuse(ErrorKind::InvalidArgument, format!("snapshotter {shown:?} is not loaded"))
        })
    }
}

fn key(text: String) -> Result<SnapshotKey, Status> {
    SnapshotKey::parse(text).map_err(invalid)
}

/// A snapshot to be made; an empty parent is none.
fn new_snapshot(
    text: String,
    parent: String,
    labels: Labels,
    lease: Option<LeaseId>,
) -> Result<NewSnapshot, Status> {
    let parent = if parent.is_empty() { None } else { Some(key(parent)?) };
    Ok(NewSnapshot { key: key(text)?, parent, labels, lease })
}

#[tonic::async_trait]
impl Snapshots for SnapshotsApi {
    type ListStream = Pin<Box<dyn Stream<Item = Result<wire::ListSnapshotsResponse, Status>> + Send>>;

    async fn prepare(
        &self,
        request: Request<wire::PrepareSnapshotRequest>,
    ) -> Result<Response<wire::PrepareSnapshotResponse>, Status> {
        let (namespace, lease) = (scope::namespace(&request)?, scope::lease(&request)?);
        let sent = request.into_inner();
        let snapshotter = self.named(&sent.snapshotter)?;
        let new = new_snapshot(sent.key, sent.parent, sent.labels, lease)?;
        let mounts = wire_mounts(snapshotter.prepare(&namespace, new).await.map_err(status)?);
        Ok(Response::new(wire::PrepareSnapshotResponse { mounts }))
    }

    async fn view(
        &self,
        request: Request<wire::ViewSnapshotRequest>,
    ) -> Result<Response<wire::ViewSnapshotResponse>, Status> {
        let (namespace, lease) = (scope::namespace(&request)?, scope::lease(&request)?);
        let sent = request.into_inner();
        let snapshotter = self.named(&sent.snapshotter)?;
        let new = new_snapshot(sent.key, sent.parent, sent.labels, lease)?;
        let mounts = wire_mounts(snapshotter.view(&namespace, new).await.map_err(status)?);
        Ok(Response::new(wire::ViewSnapshotResponse { mounts }))
    }

    async fn mounts(
        &self,
        request: Request<wire::MountsRequest>,
    ) -> Result<Response<wire::MountsResponse>, Status> {
        let namespace = scope::namespace(&request)?;
        let sent = request.into_inner();
        let mounts = self.named(&sent.snapshotter)?.mounts(&namespace, &key(sent.key)?).map_err(status)?;
        Ok(Response::new(wire::MountsResponse { mounts: wire_mounts(mounts) }))
    }

    async fn commit(&self, request: Request<wire::CommitSnapshotRequest>) -> Result<Response<()>, Status> {
        let (namespace, lease) = (scope::namespace(&request)?, scope::lease(&request)?);
        let sent = request.into_inner();
        if !sent.parent.is_empty() {
            // A rebase; no snapshotter here says that it can.
            return Err(refuse(ErrorKind::Unimplemented, "commit onto another parent"));
        }
        let snapshotter = self.named(&sent.snapshotter)?;
        let commit = Commit { name: key(sent.name)?, labels: sent.labels, lease };
        snapshotter.commit(&namespace, &key(sent.key)?, commit).await.map_err(status)?;
        Ok(Response::new(()))
    }

    async fn remove(&self, request: Request<wire::RemoveSnapshotRequest>) -> Result<Response<()>, Status> {
        let namespace = scope::namespace(&request)?;
        let sent = request.into_inner();
        self.named(&sent.snapshotter)?.remove(&namespace, &key(sent.key)?).await.map_err(status)?;
        Ok(Response::new(()))
    }

    async fn stat(
        &self,
        request: Request<wire::StatSnapshotRequest>,
    ) -> Result<Response<wire::StatSnapshotResponse>, Status> {
        let namespace = scope::namespace(&request)?;
        let sent = request.into_inner();
        let record = self.named(&sent.snapshotter)?.stat(&namespace, &key(sent.key)?).map_err(status)?;
        Ok(Response::new(wire::StatSnapshotResponse { info: Some(message(record)) }))
    }

    async fn update(
        &self,
        request: Request<wire::UpdateSnapshotRequest>,
    ) -> Result<Response<wire::UpdateSnapshotResponse>, Status> {
        let namespace = scope::namespace(&request)?;
        let wire::UpdateSnapshotRequest { snapshotter, info, update_mask } = request.into_inner();
        let info = info.ok_or_else(|| missing("the snapshot's info"))?;
        let change = mask::labels_only(update_mask, &info.labels, "a snapshot")?;
        let snapshotter = self.named(&snapshotter)?;
        let record = snapshotter.relabel(&namespace, &key(info.name)?, change).await.map_err(status)?;
        Ok(Response::new(wire::UpdateSnapshotResponse { info: Some(message(record)) }))
    }

    async fn list(
        &self,
        request: Request<wire::ListSnapshotsRequest>,
    ) -> Result<Response<Self::ListStream>, Status> {
        let namespace = scope::namespace(&request)?;
        let sent = request.into_inner();
        let infos = matching(self.named(&sent.snapshotter)?, &namespace, &sent.filters)?;
        let chunks: Vec<_> = infos
            .chunks(LIST_CHUNK)
            .map(|infos| Ok(wire::ListSnapshotsResponse { info: infos.to_vec() }))
            .collect();
        Ok(Response::new(Box::pin(stream::iter(chunks))))
    }

    async fn usage(
        &self,
        request: Request<wire::UsageRequest>,
    ) -> Result<Response<wire::UsageResponse>, Status> {
        let namespace = scope::namespace(&request)?;
        let sent = request.into_inner();
        let snapshotter = self.named(&sent.snapshotter)?;
        let measured = snapshotter.usage(&namespace, &key(sent.key)?).await.map_err(status)?;
        let usage =
            measured.ok_or_else(|| refuse(ErrorKind::Unavailable, "it is being measured: ask again"))?.usage;
        Ok(Response::new(wire::UsageResponse { size: size(usage.bytes), inodes: size(usage.inodes) }))
    }

    async fn cleanup(&self, request: Request<wire::CleanupRequest>) -> Result<Response<()>, Status> {
        scope::namespace(&request)?;
        self.named(&request.into_inner().snapshotter)?.cleanup().await.map_err(status)?;
        Ok(Response::new(()))
    }
}

fn matching(
    snapshotter: &dyn Snapshotter,
    namespace: &Namespace,
    filters: &[String],
) -> Result<Vec<wire::Info>, Status> {
    let filters = Filters::parse_all(filters).map_err(status)?;
    let records = snapshotter.list(namespace).map_err(status)?;
    Ok(records.into_iter().filter(|record| filters.matches(record)).map(message).collect())
}

fn message(record: SnapshotRecord) -> wire::Info {
    let kind = match record.kind {
        Kind::Active => wire::Kind::Active,
        Kind::View => wire::Kind::View,
        Kind::Committed => wire::Kind::Committed,
    };
    wire::Info {
        name: record.key.into(),
        parent: record.parent.map(String::from).unwrap_or_default(),
        kind: kind.into(),
        created_at: Some(time(record.created_at)),
        updated_at: Some(time(record.updated_at)),
        labels: record.labels,
    }
}
