//! The ImageService of the CRI: one line an RPC.

use cri_proto::v1;
use cri_proto::v1::image_service_server::ImageService;
use tonic::{Request, Response, Status};

use crate::cri::{Cri, report};
use crate::rpc::{image_pull, image_status};
use crate::runtime_service::{Never, unimplemented};

#[tonic::async_trait]
impl ImageService for Cri {
    type StreamImagesStream = Never<v1::StreamImagesResponse>;

    async fn list_images(
        &self,
        request: Request<v1::ListImagesRequest>,
    ) -> Result<Response<v1::ListImagesResponse>, Status> {
        image_status::list(self, request.into_inner()).map(Response::new)
    }

    async fn stream_images(
        &self,
        _request: Request<v1::StreamImagesRequest>,
    ) -> Result<Response<Self::StreamImagesStream>, Status> {
        unimplemented("StreamImages")
    }

    async fn image_status(
        &self,
        request: Request<v1::ImageStatusRequest>,
    ) -> Result<Response<v1::ImageStatusResponse>, Status> {
        image_status::show(self, request.into_inner()).map(Response::new)
    }

    async fn pull_image(
        &self,
        request: Request<v1::PullImageRequest>,
    ) -> Result<Response<v1::PullImageResponse>, Status> {
        image_pull::pull(self, request.into_inner())
            .await
            .map(Response::new)
            .inspect_err(|s| report("PullImage", s))
    }

    async fn remove_image(
        &self,
        request: Request<v1::RemoveImageRequest>,
    ) -> Result<Response<v1::RemoveImageResponse>, Status> {
        self.detached("RemoveImage", image_status::remove(self.clone(), request.into_inner())).await
    }

    async fn image_fs_info(
        &self,
        _request: Request<v1::ImageFsInfoRequest>,
    ) -> Result<Response<v1::ImageFsInfoResponse>, Status> {
        image_status::fs_info(self).await.map(Response::new)
    }
}
