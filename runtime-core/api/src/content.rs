//! `containerd.services.content.v1`: blobs by digest, and their way in (`write`) and out (`read`).

mod read;
mod write;

use std::pin::Pin;
use std::sync::Arc;

use futures_util::{Stream, stream};
use runtime_core::content::{BlobRecord, Content as Core, IngestStatus};
use runtime_core::filter::{Filters, IngestFields};
use runtime_core::tasks::TaskGroup;
use runtime_proto::services::content::v1 as wire;
use runtime_proto::services::content::v1::content_server::{Content, ContentServer};
use tonic::{Request, Response, Status, Streaming};

use crate::convert::{digest, size, time};
use crate::status::{missing, status};
use crate::{grpc_service, mask, scope};

/// Records of one message of a listing.
const LIST_CHUNK: usize = 100;

#[derive(Clone)]
pub struct ContentApi {
    pub content: Arc<dyn Core>,
    pub tasks: TaskGroup,
}

grpc_service!(ContentApi, ContentServer);

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl Content for ContentApi {
    type ListStream = Answers<wire::ListContentResponse>;
    type ReadStream = Answers<wire::ReadContentResponse>;
    type WriteStream = Answers<wire::WriteContentResponse>;

    async fn info(
        &self,
        request: Request<wire::InfoRequest>,
    ) -> Result<Response<wire::InfoResponse>, Status> {
        let namespace = scope::namespace(&request)?;
        let digest = digest(&request.into_inner().digest)?;
        let record = self.content.info(&namespace, &digest).map_err(status)?;
        Ok(Response::new(wire::InfoResponse { info: Some(message(record)) }))
    }

    async fn update(
        &self,
        request: Request<wire::UpdateRequest>,
    ) -> Result<Response<wire::UpdateResponse>, Status> {
        let namespace = scope::namespace(&request)?;
        let wire::UpdateRequest { info, update_mask } = request.into_inner();
        let info = info.ok_or_else(|| missing("the content's info"))?;
        let change = mask::labels_only(update_mask, &info.labels, "content")?;
        let record = self.content.label(&namespace, &digest(&info.digest)?, change).await.map_err(status)?;
        Ok(Response::new(wire::UpdateResponse { info: Some(message(record)) }))
    }

    async fn list(
        &self,
        request: Request<wire::ListContentRequest>,
    ) -> Result<Response<Self::ListStream>, Status> {
        let namespace = scope::namespace(&request)?;
        let filters = Filters::parse_all(&request.get_ref().filters).map_err(status)?;
        let mut records = self.content.list(&namespace).map_err(status)?;
        records.retain(|record| filters.matches(record));
        let infos: Vec<wire::Info> = records.into_iter().map(message).collect();
        let chunks: Vec<_> = infos
            .chunks(LIST_CHUNK)
            .map(|infos| Ok(wire::ListContentResponse { info: infos.to_vec() }))
            .collect();
        Ok(Response::new(Box::pin(stream::iter(chunks))))
    }

    async fn delete(&self, request: Request<wire::DeleteContentRequest>) -> Result<Response<()>, Status> {
        let namespace = scope::namespace(&request)?;
        let digest = digest(&request.into_inner().digest)?;
        self.content.delete(&namespace, &digest).await.map_err(status)?;
        Ok(Response::new(()))
    }

    async fn read(
        &self,
        request: Request<wire::ReadContentRequest>,
    ) -> Result<Response<Self::ReadStream>, Status> {
        let namespace = scope::namespace(&request)?;
        let wire::ReadContentRequest { digest: text, offset, size } = request.into_inner();
        let blob = self.content.open(&namespace, &digest(&text)?).map_err(status)?;
        Ok(Response::new(Box::pin(read::stream(blob, offset, size)?)))
    }

    async fn status(
        &self,
        request: Request<wire::StatusRequest>,
    ) -> Result<Response<wire::StatusResponse>, Status> {
        let namespace = scope::namespace(&request)?;
        let found = self.content.ingest_status(&namespace, &request.into_inner().r#ref).map_err(status)?;
        Ok(Response::new(wire::StatusResponse { status: Some(status_message(found)) }))
    }

    async fn list_statuses(
        &self,
        request: Request<wire::ListStatusesRequest>,
    ) -> Result<Response<wire::ListStatusesResponse>, Status> {
        let namespace = scope::namespace(&request)?;
        let filters = Filters::parse_all(&request.get_ref().filters).map_err(status)?;
        let mut found = self.content.ingest_statuses(&namespace).map_err(status)?;
        found.retain(|it| filters.matches(&IngestFields { reference: &it.reference }));
        let statuses = found.into_iter().map(status_message).collect();
        Ok(Response::new(wire::ListStatusesResponse { statuses }))
    }

    async fn write(
        &self,
        request: Request<Streaming<wire::WriteContentRequest>>,
    ) -> Result<Response<Self::WriteStream>, Status> {
        let (namespace, lease) = (scope::namespace(&request)?, scope::lease(&request)?);
        let writer = write::Writer { content: Arc::clone(&self.content), namespace, lease };
        Ok(Response::new(Box::pin(write::session(writer, request.into_inner(), &self.tasks))))
    }

    async fn abort(&self, request: Request<wire::AbortRequest>) -> Result<Response<()>, Status> {
        let namespace = scope::namespace(&request)?;
        self.content.abort(&namespace, &request.into_inner().r#ref).map_err(status)?;
        Ok(Response::new(()))
    }
}

fn message(record: BlobRecord) -> wire::Info {
    wire::Info {
        digest: record.digest.into(),
        size: size(record.size),
        created_at: Some(time(record.created_at)),
        updated_at: Some(time(record.updated_at)),
        labels: record.labels,
    }
}

fn status_message(found: IngestStatus) -> wire::Status {
    wire::Status {
        started_at: Some(time(found.started_at)),
        updated_at: Some(time(found.updated_at)),
        r#ref: found.reference,
        offset: size(found.offset),
        total: size(found.total),
        expected: found.expected.map(String::from).unwrap_or_default(),
    }
}
