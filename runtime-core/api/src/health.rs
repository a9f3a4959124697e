//! `grpc.health.v1`: whoever gets an answer has found a daemon that serves.

use crate::status::refuse;
use runtime_core::error::ErrorKind;
use std::pin::Pin;

use futures_util::{Stream, StreamExt as _, stream};
use runtime_core::tasks::TaskGroup;
use runtime_proto::health::v1::health_check_response::ServingStatus;
use runtime_proto::health::v1::health_server::{Health, HealthServer};
use runtime_proto::health::v1::{
    HealthCheckRequest, HealthCheckResponse, HealthListRequest, HealthListResponse,
};
use tonic::{Request, Response, Status};

use crate::grpc_service;

#[derive(Clone)]
pub struct HealthApi {
    pub tasks: TaskGroup,
}

grpc_service!(HealthApi, HealthServer);

/// Recovery is over before the daemon has a socket.
const SERVING: HealthCheckResponse = HealthCheckResponse { status: ServingStatus::Serving as i32 };

/// The daemon as a whole is the one service that is known.
fn check(service: &str) -> Result<HealthCheckResponse, Status> {
    if service.is_empty() {
        Ok(SERVING)
    } else {
        Err(refuse(ErrorKind::NotFound, "only the daemon as a whole, the empty name, is checked"))
    }
}

#[tonic::async_trait]
impl Health for HealthApi {
    type WatchStream = Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send>>;

    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        check(&request.into_inner().service).map(Response::new)
    }

    async fn list(
        &self,
        _request: Request<HealthListRequest>,
    ) -> Result<Response<HealthListResponse>, Status> {
        Ok(Response::new(HealthListResponse { statuses: [(String::new(), SERVING)].into() }))
    }

    /// One answer, and another when the daemon stops.
    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let first = check(&request.into_inner().service)?;
        let draining = self.tasks.draining();
        let last = async move {
            draining.cancelled().await;
            Ok(HealthCheckResponse { status: ServingStatus::NotServing.into() })
        };
        Ok(Response::new(Box::pin(stream::iter([Ok(first)]).chain(stream::once(last)))))
    }
}
