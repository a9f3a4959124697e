//! `io.containerd.grpc.v1.cri`: the CRI services on the daemon's socket.

use std::sync::Arc;

use cri_proto::v1::image_service_server::ImageServiceServer;
use cri_proto::v1::runtime_service_server::RuntimeServiceServer;
use imagesvc::ImageService;
use pod_sandbox::PodService;
use runtime_core::plugin::{Exports, InitContext, InitError, Registration, kinds};
use tonic::service::Routes;

use crate::cri::Cri;
use crate::serve::GrpcService;

/// What a kubelet sends and takes at most, in bytes.
const MAX_MESSAGE: usize = 16 * 1024 * 1024;

pub(crate) fn registration() -> Registration {
    Registration::new(kinds::GRPC, "cri", &[kinds::CRI], |context: InitContext, _: toml::Table| async move {
        init(&context)
    })
}

fn init(context: &InitContext) -> Result<Exports, InitError> {
    let cri = Cri {
        pods: context.require::<PodService>(kinds::CRI)?,
        images: context.require::<ImageService>(kinds::CRI)?,
        node: context.node.clone(),
        tasks: context.tasks.clone(),
    };
    let service: Arc<dyn GrpcService> = Arc::new(cri);
    Ok(Exports::of(service))
}

impl GrpcService for Cri {
    fn add_to(&self, routes: Routes) -> Routes {
        let runtime = RuntimeServiceServer::new(self.clone())
            .max_decoding_message_size(MAX_MESSAGE)
            .max_encoding_message_size(usize::MAX);
        let images = ImageServiceServer::new(self.clone())
            .max_decoding_message_size(MAX_MESSAGE)
            .max_encoding_message_size(usize::MAX);
        routes.add_service(runtime).add_service(images)
    }
}
