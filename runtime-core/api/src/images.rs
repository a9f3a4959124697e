//! `containerd.services.images.v1`: names of descriptors. Bytes are the content service's.

use runtime_core::content::Descriptor;
use runtime_core::filter::Filters;
use runtime_core::gc::Gc;
use runtime_core::image::{ImageRecord, ImageRecordError, Images, NewImage};
use runtime_proto::services::images::v1 as wire;
use runtime_proto::services::images::v1::images_server::{Images as Service, ImagesServer};
use runtime_proto::types;
use tonic::{Request, Response, Status};

use crate::convert::{digest, time, unsigned, wire_descriptor};
use crate::status::{missing, status};
use crate::{grpc_service, mask, scope};

const WHAT: &str = "an image";

#[derive(Clone)]
pub struct ImagesApi {
    pub images: Images,
    pub gc: Gc,
}

grpc_service!(ImagesApi, ImagesServer);

#[tonic::async_trait]
impl Service for ImagesApi {
    async fn get(
        &self,
        request: Request<wire::GetImageRequest>,
    ) -> Result<Response<wire::GetImageResponse>, Status> {
        let namespace = scope::namespace(&request)?;
        let name = request.into_inner().name;
        let found = self.images.get(&namespace, &name).map_err(status)?;
        let record = found.ok_or_else(|| status(ImageRecordError::NotFound { name }))?;
        Ok(Response::new(wire::GetImageResponse { image: Some(message(record)) }))
    }

    async fn list(
        &self,
        request: Request<wire::ListImagesRequest>,
    ) -> Result<Response<wire::ListImagesResponse>, Status> {
        let namespace = scope::namespace(&request)?;
        let filters = Filters::parse_all(&request.get_ref().filters).map_err(status)?;
        let records = self.images.list(&namespace).map_err(status)?.records;
        let images = records.into_iter().filter(|record| filters.matches(record)).map(message).collect();
        Ok(Response::new(wire::ListImagesResponse { images }))
    }

    async fn create(
        &self,
        request: Request<wire::CreateImageRequest>,
    ) -> Result<Response<wire::CreateImageResponse>, Status> {
        let namespace = scope::namespace(&request)?;
        let lease = scope::lease(&request)?;
        let sent = request.into_inner().image.ok_or_else(|| missing("the image"))?;
        let record = self.images.create(&namespace, new_image(sent)?, lease).await.map_err(status)?;
        Ok(Response::new(wire::CreateImageResponse { image: Some(message(record)) }))
    }

    async fn update(
        &self,
        request: Request<wire::UpdateImageRequest>,
    ) -> Result<Response<wire::UpdateImageResponse>, Status> {
        let namespace = scope::namespace(&request)?;
        let wire::UpdateImageRequest { image, update_mask, .. } = request.into_inner();
        let sent = image.ok_or_else(|| missing("the image"))?;
        let paths = mask::paths(update_mask);
        let whole = paths.is_empty();
        if let Some(path) = paths.iter().find(|path| *path != "target" && !mask::is_label(path)) {
            return Err(mask::refused(path, WHAT));
        }
        let labels = mask::labels_among(&paths, &sent.labels);
        let with_target = whole || paths.iter().any(|path| path == "target");
        let (name, sent_labels) = (sent.name.clone(), sent.labels.clone());
        let target = if with_target { Some(new_image(sent)?.target) } else { None };
        let edit = move |record: &mut ImageRecord| {
            if let Some(target) = target {
                record.target = target;
            }
            if whole {
                record.labels = sent_labels;
            } else if let Some(change) = labels {
                record.labels = change.apply(std::mem::take(&mut record.labels));
            }
        };
        let record = self.images.edit(&namespace, &name, edit).await.map_err(status)?;
        Ok(Response::new(wire::UpdateImageResponse { image: Some(message(record)) }))
    }

    /// `sync` waits until what only this image held is gone from the disk.
    async fn delete(&self, request: Request<wire::DeleteImageRequest>) -> Result<Response<()>, Status> {
        let namespace = scope::namespace(&request)?;
        let wire::DeleteImageRequest { name, sync, target } = request.into_inner();
        let expected = target.map(|target| digest(&target.digest)).transpose()?;
        self.images.delete(&namespace, &name, expected).await.map_err(status)?;
        if sync {
            self.gc.collect(&namespace).await.map_err(status)?;
        }
        Ok(Response::new(()))
    }
}

fn message(record: ImageRecord) -> wire::Image {
    wire::Image {
        target: Some(wire_descriptor(&record.target)),
        created_at: Some(time(record.created_at)),
        updated_at: Some(time(record.updated_at)),
        name: record.name,
        labels: record.labels,
    }
}

fn new_image(image: wire::Image) -> Result<NewImage, Status> {
    if image.name.is_empty() {
        return Err(missing("the image's name"));
    }
    let types::Descriptor { media_type, digest: text, size, .. } =
        image.target.ok_or_else(|| missing("the image's target"))?;
    if media_type.is_empty() {
        return Err(missing("the media type of the image's target"));
    }
    let size = unsigned("the size of the image's target", size)?;
    if size == 0 {
        return Err(missing("the size of the image's target"));
    }
    let target = Descriptor { media_type, digest: digest(&text)?, size };
    Ok(NewImage { name: image.name, target, labels: image.labels })
}
