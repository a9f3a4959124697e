//! containerd's own services, one plugin of type `io.containerd.grpc.v1` each, under containerd's ids.

use std::sync::Arc;

use runtime_api::{
    ContainersApi, ContentApi, EventsApi, GrpcService, HealthApi, ImagesApi, LeasesApi, NamespacesApi,
    SnapshotsApi, VersionApi,
};
use runtime_core::clock;
use runtime_core::container::Containers;
use runtime_core::content::Content;
use runtime_core::events::Exchange;
use runtime_core::gc::Gc;
use runtime_core::image::Images;
use runtime_core::lease::Leases;
use runtime_core::namespace::Namespaces;
use runtime_core::plugin::{Exports, InitContext, InitError, Registration, kinds};
use runtime_core::snapshot::Snapshotter;
use runtime_core::store::SharedStore;

/// Makes one service of what the plugins before it have made.
type Make = fn(&InitContext) -> Result<Arc<dyn GrpcService>, InitError>;

pub(crate) fn registrations() -> Vec<Registration> {
    let service = |id: &'static str, requires: &'static [&'static str], make: Make| {
        Registration::new(kinds::GRPC, id, requires, move |context: InitContext, _: toml::Table| async move {
            Ok(Exports::of(make(&context)?))
        })
    };
    vec![
        service("version", &[], |_| Ok(Arc::new(VersionApi))),
        service("healthcheck", &[], |context| Ok(Arc::new(HealthApi { tasks: context.tasks.clone() }))),
        service("namespaces", &[kinds::METADATA], |context| {
            let store = context.require::<SharedStore>(kinds::METADATA)?;
            Ok(Arc::new(NamespacesApi { namespaces: Namespaces::new(store) }))
        }),
        service("containers", &[kinds::METADATA], |context| {
            let store = context.require::<SharedStore>(kinds::METADATA)?;
            Ok(Arc::new(ContainersApi { containers: Containers::new(store, clock::system()) }))
        }),
        service("images", &[kinds::METADATA, kinds::GC], |context| {
            let store = context.require::<SharedStore>(kinds::METADATA)?;
            let images = Images::new(store, clock::system());
            Ok(Arc::new(ImagesApi { images, gc: context.require::<Gc>(kinds::GC)? }))
        }),
        service("leases", &[kinds::LEASE, kinds::GC], |context| {
            let leases = context.require::<Leases>(kinds::LEASE)?;
            Ok(Arc::new(LeasesApi { leases, gc: context.require::<Gc>(kinds::GC)? }))
        }),
        service("content", &[kinds::CONTENT], |context| {
            let content = context.require::<Arc<dyn Content>>(kinds::CONTENT)?;
            Ok(Arc::new(ContentApi { content, tasks: context.tasks.clone() }))
        }),
        service("snapshots", &[kinds::SNAPSHOTTER], |context| {
            let snapshotters = context.require_all::<Arc<dyn Snapshotter>>(kinds::SNAPSHOTTER);
            Ok(Arc::new(SnapshotsApi { snapshotters }))
        }),
        service("events", &[kinds::EVENT], |context| {
            let exchange = context.require::<Exchange>(kinds::EVENT)?;
            Ok(Arc::new(EventsApi { exchange, tasks: context.tasks.clone() }))
        }),
    ]
}
