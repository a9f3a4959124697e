//! `containerd.services.containers.v1`: container records with opaque spec and extensions.

use futures_util::stream;
use prost_types::FieldMask;
use runtime_core::container::Containers;
use runtime_core::filter::Filters;
use runtime_core::ids::Namespace;
use runtime_core::record::{ContainerRecord, RuntimeInfo};
use runtime_proto::services::containers::v1::containers_server::{Containers as Service, ContainersServer};
use runtime_proto::services::containers::v1::{self as wire, container::Runtime};
use tonic::{Request, Response, Status};

use crate::convert::{any, time, typed};
use crate::status::{missing, status};
use crate::{grpc_service, mask, scope};

const WHAT: &str = "a container";

#[derive(Clone)]
pub struct ContainersApi {
    pub containers: Containers,
}

grpc_service!(ContainersApi, ContainersServer);

impl ContainersApi {
    fn matching(&self, namespace: &Namespace, filters: &[String]) -> Result<Vec<ContainerRecord>, Status> {
        let filters = Filters::parse_all(filters).map_err(status)?;
        let mut records = self.containers.list(namespace).map_err(status)?.records;
        records.retain(|record| filters.matches(record));
        Ok(records)
    }
}

type Listed = stream::Iter<std::vec::IntoIter<Result<wire::ListContainerMessage, Status>>>;

#[tonic::async_trait]
impl Service for ContainersApi {
    type ListStreamStream = Listed;

    async fn get(
        &self,
        request: Request<wire::GetContainerRequest>,
    ) -> Result<Response<wire::GetContainerResponse>, Status> {
        let namespace = scope::namespace(&request)?;
        let record = self.containers.get(&namespace, &request.into_inner().id).map_err(status)?;
        Ok(Response::new(wire::GetContainerResponse { container: Some(message(record)) }))
    }

    async fn list(
        &self,
        request: Request<wire::ListContainersRequest>,
    ) -> Result<Response<wire::ListContainersResponse>, Status> {
        let records = self.matching(&scope::namespace(&request)?, &request.get_ref().filters)?;
        let containers = records.into_iter().map(message).collect();
        Ok(Response::new(wire::ListContainersResponse { containers }))
    }

    async fn list_stream(
        &self,
        request: Request<wire::ListContainersRequest>,
    ) -> Result<Response<Listed>, Status> {
        let records = self.matching(&scope::namespace(&request)?, &request.get_ref().filters)?;
        let one = |record| Ok(wire::ListContainerMessage { container: Some(message(record)) });
        Ok(Response::new(stream::iter(records.into_iter().map(one).collect::<Vec<_>>())))
    }

    async fn create(
        &self,
        request: Request<wire::CreateContainerRequest>,
    ) -> Result<Response<wire::CreateContainerResponse>, Status> {
        let namespace = scope::namespace(&request)?;
        let container = request.into_inner().container.ok_or_else(|| missing("the container"))?;
        let record = self.containers.create(&namespace, record(container)).await.map_err(status)?;
        Ok(Response::new(wire::CreateContainerResponse { container: Some(message(record)) }))
    }

    async fn update(
        &self,
        request: Request<wire::UpdateContainerRequest>,
    ) -> Result<Response<wire::UpdateContainerResponse>, Status> {
        let namespace = scope::namespace(&request)?;
        let wire::UpdateContainerRequest { container, update_mask } = request.into_inner();
        let sent = container.ok_or_else(|| missing("the container"))?;
        if sent.id.is_empty() {
            return Err(missing("the container's id"));
        }
        let id = sent.id.clone();
        let edit = edit(record(sent), update_mask)?;
        let updated = self.containers.update(&namespace, &id, edit).await.map_err(status)?;
        Ok(Response::new(wire::UpdateContainerResponse { container: Some(message(updated)) }))
    }

    async fn delete(&self, request: Request<wire::DeleteContainerRequest>) -> Result<Response<()>, Status> {
        let namespace = scope::namespace(&request)?;
        self.containers.delete(&namespace, &request.into_inner().id).await.map_err(status)?;
        Ok(Response::new(()))
    }
}

type Edit = Box<dyn FnOnce(&mut ContainerRecord) + Send>;

/// What a mask asks for; without one, everything that may change.
fn edit(sent: ContainerRecord, mask: Option<FieldMask>) -> Result<Edit, Status> {
    let paths = mask::paths(mask);
    if paths.is_empty() {
        return Ok(Box::new(move |record| *record = sent));
    }
    let mut edits: Vec<Edit> = Vec::new();
    if let Some(labels) = mask::labels_among(&paths, &sent.labels) {
        edits.push(Box::new(move |record| {
            record.labels = labels.apply(std::mem::take(&mut record.labels));
        }));
    }
    for path in paths.iter().filter(|path| !mask::is_label(path)) {
        let ContainerRecord { spec, image, snapshot_key, extensions, .. } = sent.clone();
        edits.push(match path.as_str() {
            "spec" => Box::new(move |record| record.spec = spec),
            "image" => Box::new(move |record| record.image = image),
            "snapshotkey" => Box::new(move |record| record.snapshot_key = snapshot_key),
            "extensions" => Box::new(move |record| record.extensions = extensions),
            other => extension(other, extensions).ok_or_else(|| mask::refused(other, WHAT))?,
        });
    }
    Ok(Box::new(move |record| edits.into_iter().for_each(|edit| edit(record))))
}

/// `extensions.<name>`: that one as sent, or none any more.
fn extension(
    path: &str,
    mut sent: std::collections::BTreeMap<String, runtime_core::record::TypedValue>,
) -> Option<Edit> {
    let name = path.strip_prefix("extensions.")?.to_owned();
    Some(Box::new(move |record| {
        match sent.remove(&name) {
            Some(value) => record.extensions.insert(name, value),
            None => record.extensions.remove(&name),
        };
    }))
}

fn message(record: ContainerRecord) -> wire::Container {
    wire::Container {
        runtime: Some(Runtime {
            name: record.runtime.name,
            options: record.runtime.options.as_ref().map(any),
        }),
        spec: Some(any(&record.spec)),
        created_at: Some(time(record.created_at)),
        updated_at: Some(time(record.updated_at)),
        extensions: record.extensions.iter().map(|(name, value)| (name.clone(), any(value))).collect(),
        id: record.id,
        labels: record.labels,
        image: record.image,
        snapshotter: record.snapshotter,
        snapshot_key: record.snapshot_key,
        sandbox: record.sandbox_id,
    }
}

/// The record of a message; its times are the store's to say.
fn record(container: wire::Container) -> ContainerRecord {
    let runtime = container.runtime.unwrap_or_default();
    ContainerRecord {
        id: container.id,
        labels: container.labels,
        image: container.image,
        runtime: RuntimeInfo { name: runtime.name, options: runtime.options.map(typed) },
        spec: container.spec.map(typed).unwrap_or_default(),
        snapshotter: container.snapshotter,
        snapshot_key: container.snapshot_key,
        sandbox_id: container.sandbox,
        extensions: container.extensions.into_iter().map(|(name, value)| (name, typed(value))).collect(),
        created_at: Default::default(),
        updated_at: Default::default(),
    }
}
