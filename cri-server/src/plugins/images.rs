//! `io.containerd.cri.v1.images`: the images of the namespace `k8s.io`.

use std::sync::Arc;

use imagesvc::{Config, ImageService, Parts};
use runtime_core::clock;
use runtime_core::content::Content;
use runtime_core::gc::Gc;
use runtime_core::ids::Namespace;
use runtime_core::image::Images;
use runtime_core::lease::Leases;
use runtime_core::plugin::{Exports, InitContext, InitError, Registration, kinds};
use runtime_core::snapshot::Snapshotter;
use runtime_core::store::SharedStore;

use crate::config::ImagesConfig;

pub(crate) fn registration() -> Registration {
    let requires = &[kinds::METADATA, kinds::CONTENT, kinds::SNAPSHOTTER, kinds::LEASE, kinds::GC];
    Registration::new(kinds::CRI, "images", requires, init)
}

async fn init(context: InitContext, config: ImagesConfig) -> Result<Exports, InitError> {
    let clock = clock::system();
    let store = context.require::<SharedStore>(kinds::METADATA)?;
    let parts = Parts {
        content: context.require::<Arc<dyn Content>>(kinds::CONTENT)?,
        snapshotter: context.require_id::<Arc<dyn Snapshotter>>(kinds::SNAPSHOTTER, &config.snapshotter)?,
        images: Images::new(store, clock.clone()),
        leases: context.require::<Leases>(kinds::LEASE)?,
        gc: context.require::<Gc>(kinds::GC)?,
        clock,
        tasks: context.tasks.clone(),
    };
    let settings = Config {
        config_path: config.registry.folders(),
        max_concurrent_downloads: usize::try_from(config.max_concurrent_downloads)?,
        progress_timeout: config.progress_timeout().ok_or("image_pull_progress_timeout is not a duration")?,
        ..Config::default()
    };
    let service = ImageService::new(Namespace::k8s(), parts, settings);
    service.recover().await?;
    Ok(Exports::of(service))
}
