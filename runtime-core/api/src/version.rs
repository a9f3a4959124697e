//! `containerd.services.version.v1`: which containerd this API is that of, and which orlop serves it.

use runtime_proto::services::version::v1::VersionResponse;
use runtime_proto::services::version::v1::version_server::{Version, VersionServer};
use tonic::{Request, Response, Status};

use crate::grpc_service;

/// Clients decide by it what they may ask for.
const CONTAINERD: &str = "2.4.2";

#[derive(Clone)]
pub struct VersionApi;

grpc_service!(VersionApi, VersionServer);

#[tonic::async_trait]
impl Version for VersionApi {
    async fn version(&self, _request: Request<()>) -> Result<Response<VersionResponse>, Status> {
        Ok(Response::new(VersionResponse {
            version: CONTAINERD.to_owned(),
            revision: concat!("orlop-", env!("CARGO_PKG_VERSION")).to_owned(),
        }))
    }
}
