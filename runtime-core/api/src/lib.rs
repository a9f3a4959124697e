//! containerd's gRPC API: one file a service, each a thin façade over `runtime-core`.
//!
//! A call is read into the core's types (`scope`, `convert`), done by the core, and answered. Nothing is kept
//! here: what a client makes is the same object that the CRI shows. Only `status` knows gRPC codes.

mod containers;
mod content;
mod convert;
mod events;
mod health;
mod images;
mod introspection;
mod leases;
mod mask;
mod namespaces;
mod scope;
mod snapshots;
mod status;
mod version;

use tonic::service::Routes;

pub use containers::ContainersApi;
pub use content::ContentApi;
pub use events::EventsApi;
pub use health::HealthApi;
pub use images::ImagesApi;
pub use introspection::{IntrospectionApi, uuid_of};
pub use leases::LeasesApi;
pub use namespaces::NamespacesApi;
pub use snapshots::SnapshotsApi;
pub use status::answer;
pub use version::VersionApi;

/// Most bytes of one message, either way.
pub const MAX_MESSAGE: usize = 16 << 20;

/// Services of the daemon's socket; plugins of type `io.containerd.grpc.v1` export one.
pub trait GrpcService: Send + Sync + 'static {
    /// Adds the services to those on the daemon's socket.
    fn add_to(&self, routes: Routes) -> Routes;
}

/// A façade that is one generated service: with the message limits that every client of containerd knows.
macro_rules! grpc_service {
    ($api:ty, $server:path) => {
        impl $crate::GrpcService for $api {
            fn add_to(&self, routes: tonic::service::Routes) -> tonic::service::Routes {
                use $server as Server;
                let service = Server::new(self.clone())
                    .max_decoding_message_size($crate::MAX_MESSAGE)
                    .max_encoding_message_size($crate::MAX_MESSAGE);
                routes.add_service(service)
            }
        }
    };
}
use grpc_service;
