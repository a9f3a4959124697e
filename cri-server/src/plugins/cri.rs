//! `io.containerd.grpc.v1.cri`: the CRI services on the daemon's socket.

use std::sync::Arc;

use cri_proto::v1::image_service_server::ImageServiceServer;
use cri_proto::v1::runtime_service_server::RuntimeServiceServer;
use imagesvc::ImageService;
use pod_sandbox::PodService;
use runtime_api::{GrpcService, MAX_MESSAGE};
use runtime_core::plugin::{Exports, InitContext, InitError, Registration, kinds};
use streaming::Server;
use tonic::service::Routes;

use crate::config::StreamsConfig;
use crate::cri::Cri;
use crate::streams::ContainerStreams;

pub(crate) fn registration() -> Registration {
    Registration::new(kinds::GRPC, "cri", &[kinds::CRI], init)
}

async fn init(context: InitContext, config: StreamsConfig) -> Result<Exports, InitError> {
    let pods = context.require::<PodService>(kinds::CRI)?;
    let cri = Cri {
        streams: Arc::new(streams(&context, &config, &pods).await?),
        pods,
        images: context.require::<ImageService>(kinds::CRI)?,
        node: context.node.clone(),
        tasks: context.tasks.clone(),
    };
    let service: Arc<dyn GrpcService> = Arc::new(cri);
    Ok(Exports::of(service))
}

async fn streams(
    context: &InitContext,
    config: &StreamsConfig,
    pods: &PodService,
) -> Result<Server, InitError> {
    let config = streaming::Config {
        address: config.address().ok_or("stream_server_address or stream_server_port is wrong")?,
        idle_timeout: config.idle_timeout().ok_or("stream_idle_timeout is not a duration")?,
        ..streaming::Config::default()
    };
    let backend = Arc::new(ContainerStreams { pods: pods.clone() });
    let server = Server::bind(config, backend, context.tasks.clone()).await?;
    tracing::info!(address = %server.address(), "serving streams");
    Ok(server)
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
