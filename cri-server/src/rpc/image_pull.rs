//! PullImage: the registry is asked every time, also when the image is here (KEP-2535).

use cri_proto::v1;
use imagesvc::PullRequest;
use tonic::Status;

use crate::convert::image;
use crate::cri::Cri;
use crate::status::status;

/// Not detached: a client that gives up wants no image. A pull that others wait for, too, goes on.
pub(crate) async fn pull(cri: &Cri, request: v1::PullImageRequest) -> Result<v1::PullImageResponse, Status> {
    let reference = request.image.map(|image| image.image).unwrap_or_default();
    let auth = request.auth.map(image::auth);
    let pulled = cri.images.pull(PullRequest { reference, auth }).await.map_err(status)?;
    Ok(v1::PullImageResponse { image_ref: pulled.id.to_string() })
}
