//! `containerd.services.namespaces.v1`: the one service whose calls need no namespace header.

use runtime_core::ids::Namespace;
use runtime_core::namespace::{NamespaceRecord, Namespaces};
use runtime_proto::services::namespaces::v1 as wire;
use runtime_proto::services::namespaces::v1::namespaces_server::{Namespaces as Service, NamespacesServer};
use tonic::{Request, Response, Status};

use crate::status::{invalid, missing, status};
use crate::{grpc_service, mask};

#[derive(Clone)]
pub struct NamespacesApi {
    pub namespaces: Namespaces,
}

grpc_service!(NamespacesApi, NamespacesServer);

fn name(text: String) -> Result<Namespace, Status> {
    Namespace::parse(text).map_err(invalid)
}

fn message(record: NamespaceRecord) -> wire::Namespace {
    wire::Namespace { name: record.name.into(), labels: record.labels }
}

#[tonic::async_trait]
impl Service for NamespacesApi {
    async fn get(
        &self,
        request: Request<wire::GetNamespaceRequest>,
    ) -> Result<Response<wire::GetNamespaceResponse>, Status> {
        // A name without a record is no error: clients ask for defaults before they write the first object.
        let name = name(request.into_inner().name)?;
        let labels = self.namespaces.labels(&name).map_err(status)?;
        let namespace = Some(message(NamespaceRecord { name, labels }));
        Ok(Response::new(wire::GetNamespaceResponse { namespace }))
    }

    /// containerd ignores the filter as well.
    async fn list(
        &self,
        _request: Request<wire::ListNamespacesRequest>,
    ) -> Result<Response<wire::ListNamespacesResponse>, Status> {
        let records = self.namespaces.list().map_err(status)?.records;
        let namespaces = records.into_iter().map(message).collect();
        Ok(Response::new(wire::ListNamespacesResponse { namespaces }))
    }

    async fn create(
        &self,
        request: Request<wire::CreateNamespaceRequest>,
    ) -> Result<Response<wire::CreateNamespaceResponse>, Status> {
        let sent = request.into_inner().namespace.ok_or_else(|| missing("the namespace"))?;
        let name = name(sent.name)?;
        self.namespaces.create(&name, sent.labels).await.map_err(status)?;
        let labels = self.namespaces.labels(&name).map_err(status)?;
        let namespace = Some(message(NamespaceRecord { name, labels }));
        Ok(Response::new(wire::CreateNamespaceResponse { namespace }))
    }

    async fn update(
        &self,
        request: Request<wire::UpdateNamespaceRequest>,
    ) -> Result<Response<wire::UpdateNamespaceResponse>, Status> {
        let wire::UpdateNamespaceRequest { namespace, update_mask } = request.into_inner();
        let sent = namespace.ok_or_else(|| missing("the namespace"))?;
        let change = mask::labels_only(update_mask, &sent.labels, "a namespace")?;
        let name = name(sent.name)?;
        let labels = self.namespaces.update(&name, change).await.map_err(status)?;
        let namespace = Some(message(NamespaceRecord { name, labels }));
        Ok(Response::new(wire::UpdateNamespaceResponse { namespace }))
    }

    async fn delete(&self, request: Request<wire::DeleteNamespaceRequest>) -> Result<Response<()>, Status> {
        self.namespaces.delete(&name(request.into_inner().name)?).await.map_err(status)?;
        Ok(Response::new(()))
    }
}
