//! `containerd.services.leases.v1`: what keeps objects while a client still works on them.

use runtime_core::clock::Timestamp;
use runtime_core::error::ErrorKind;
use runtime_core::filter::Filters;
use runtime_core::gc::Gc;
use runtime_core::ids::{Digest, LeaseId, SnapshotKey};
use runtime_core::labels::Labels;
use runtime_core::lease::{LeaseError, LeaseRecord, Leases, Resource};
use runtime_proto::services::leases::v1 as wire;
use runtime_proto::services::leases::v1::leases_server::{Leases as Service, LeasesServer};
use tonic::{Request, Response, Status};

use crate::convert::time;
use crate::status::{invalid, missing, refuse, status};
use crate::{grpc_service, scope};

/// RFC 3339; a lease past that instant holds nothing.
const EXPIRES: &str = "containerd.io/gc.expire";
const CONTENT: &str = "content";
const SNAPSHOTS: &str = "snapshots/";
const INGESTS: &str = "ingests";
const IMAGES: &str = "images";

#[derive(Clone)]
pub struct LeasesApi {
    pub leases: Leases,
    pub gc: Gc,
}

grpc_service!(LeasesApi, LeasesServer);

fn id(text: String) -> Result<LeaseId, Status> {
    LeaseId::parse(text).map_err(invalid)
}

#[tonic::async_trait]
impl Service for LeasesApi {
    async fn create(
        &self,
        request: Request<wire::CreateRequest>,
    ) -> Result<Response<wire::CreateResponse>, Status> {
        let namespace = scope::namespace(&request)?;
        let wire::CreateRequest { id: text, labels } = request.into_inner();
        let expires_at = expiry(&labels)?;
        let lease = self.leases.create(&namespace, id(text)?, labels, expires_at).await.map_err(status)?;
        Ok(Response::new(wire::CreateResponse { lease: Some(message(lease)) }))
    }

    /// `sync` waits until what only this lease held is gone from the disk.
    async fn delete(&self, request: Request<wire::DeleteRequest>) -> Result<Response<()>, Status> {
        let namespace = scope::namespace(&request)?;
        let wire::DeleteRequest { id: text, sync } = request.into_inner();
        let id = id(text)?;
        if !self.leases.delete(&namespace, &id).await.map_err(status)? {
            return Err(status(LeaseError::NotFound { id }));
        }
        if sync {
            self.gc.collect(&namespace).await.map_err(status)?;
        }
        Ok(Response::new(()))
    }

    async fn list(
        &self,
        request: Request<wire::ListRequest>,
    ) -> Result<Response<wire::ListResponse>, Status> {
        let namespace = scope::namespace(&request)?;
        let filters = Filters::parse_all(&request.get_ref().filters).map_err(status)?;
        let records = self.leases.list(&namespace).map_err(status)?;
        let leases = records.into_iter().filter(|lease| filters.matches(lease)).map(message).collect();
        Ok(Response::new(wire::ListResponse { leases }))
    }

    async fn add_resource(&self, request: Request<wire::AddResourceRequest>) -> Result<Response<()>, Status> {
        let namespace = scope::namespace(&request)?;
        let wire::AddResourceRequest { id: text, resource: sent } = request.into_inner();
        let (id, resource) = (id(text)?, resource(sent)?);
        self.leases.add(&namespace, &id, vec![resource]).await.map_err(status)?;
        Ok(Response::new(()))
    }

    async fn delete_resource(
        &self,
        request: Request<wire::DeleteResourceRequest>,
    ) -> Result<Response<()>, Status> {
        let namespace = scope::namespace(&request)?;
        let wire::DeleteResourceRequest { id: text, resource: sent } = request.into_inner();
        let (id, resource) = (id(text)?, resource(sent)?);
        self.leases.release(&namespace, &id, resource).await.map_err(status)?;
        Ok(Response::new(()))
    }

    async fn list_resources(
        &self,
        request: Request<wire::ListResourcesRequest>,
    ) -> Result<Response<wire::ListResourcesResponse>, Status> {
        let namespace = scope::namespace(&request)?;
        let id = id(request.into_inner().id)?;
        let lease = self.leases.get(&namespace, &id).map_err(status)?;
        let resources = lease.resources.into_iter().map(wire_resource).collect();
        Ok(Response::new(wire::ListResourcesResponse { resources }))
    }
}

fn expiry(labels: &Labels) -> Result<Option<Timestamp>, Status> {
    let Some(text) = labels.get(EXPIRES) else { return Ok(None) };
    let at = humantime::parse_rfc3339_weak(text).map_err(|error| {
        refuse(
            ErrorKind::InvalidArgument,
            format!("label {EXPIRES} {text:?} is not an RFC 3339 time: {error}"),
        )
    })?;
    Ok(Some(Timestamp::from(at)))
}

fn message(lease: LeaseRecord) -> wire::Lease {
    wire::Lease { id: lease.id.into(), created_at: Some(time(lease.created_at)), labels: lease.labels }
}

fn resource(sent: Option<wire::Resource>) -> Result<Resource, Status> {
    let wire::Resource { id, r#type: kind } = sent.ok_or_else(|| missing("the resource"))?;
    if id.is_empty() {
        return Err(missing("the resource's id"));
    }
    match kind.as_str() {
        CONTENT => Digest::parse(id).map(Resource::Content).map_err(invalid),
        INGESTS => Ok(Resource::Ingest(id)),
        IMAGES => Ok(Resource::Image(id)),
        other => match other.strip_prefix(SNAPSHOTS).filter(|name| !name.is_empty()) {
            Some(name) => {
                let key = SnapshotKey::parse(id).map_err(invalid)?;
                Ok(Resource::Snapshot { snapshotter: name.to_owned(), key })
            }
            None => Err(refuse(
                ErrorKind::InvalidArgument,
                format!(
                    "resource type {other:?} is none of {CONTENT}, {SNAPSHOTS}<snapshotter>, {INGESTS}, {IMAGES}"
                ),
            )),
        },
    }
}

fn wire_resource(resource: Resource) -> wire::Resource {
    let (kind, id) = match resource {
        Resource::Content(digest) => (CONTENT.to_owned(), digest.into()),
        Resource::Snapshot { snapshotter, key } => (format!("{SNAPSHOTS}{snapshotter}"), key.into()),
        Resource::Ingest(reference) => (INGESTS.to_owned(), reference),
        Resource::Image(name) => (IMAGES.to_owned(), name),
    };
    wire::Resource { id, r#type: kind }
}
