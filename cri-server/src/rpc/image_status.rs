//! ListImages, ImageStatus, RemoveImage and ImageFsInfo.

use cri_proto::v1;
use tonic::Status;

use crate::convert::image;
use crate::cri::Cri;
use crate::status::status;

pub(crate) fn list(cri: &Cri, request: v1::ListImagesRequest) -> Result<v1::ListImagesResponse, Status> {
    let wanted = request.filter.and_then(|filter| filter.image).map(|image| image.image);
    let wanted = wanted.as_deref().filter(|name| !name.is_empty());
    let images = cri.images.list(wanted).map_err(status)?;
    Ok(v1::ListImagesResponse { images: images.iter().map(image::image).collect() })
}

/// An image that is not here is an answer without an image, not an error.
pub(crate) fn show(cri: &Cri, request: v1::ImageStatusRequest) -> Result<v1::ImageStatusResponse, Status> {
    let name = named(request.image)?;
    let found = cri.images.status(&name).map_err(status)?;
    let info = match &found {
        Some(_) if request.verbose => image::info(cri.images.resolve(&name).map_err(status)?),
        Some(_) | None => Default::default(),
    };
    Ok(v1::ImageStatusResponse { image: found.as_ref().map(image::image), info })
}

pub(crate) async fn remove(
    cri: Cri,
    request: v1::RemoveImageRequest,
) -> Result<v1::RemoveImageResponse, Status> {
    let name = named(request.image)?;
    cri.images.remove(&name).await.map_err(status)?;
    Ok(v1::RemoveImageResponse {})
}

pub(crate) async fn fs_info(cri: &Cri) -> Result<v1::ImageFsInfoResponse, Status> {
    let usage = image::filesystem(&cri.images.fs_info().await.map_err(status)?);
    // Images and containers share one filesystem.
    Ok(v1::ImageFsInfoResponse { image_filesystems: vec![usage.clone()], container_filesystems: vec![usage] })
}

fn named(image: Option<v1::ImageSpec>) -> Result<String, Status> {
    image
        .map(|image| image.image)
        .filter(|name| !name.is_empty())
        .ok_or_else(|| Status::invalid_argument("no image is named"))
}
