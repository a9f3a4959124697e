//! `io.containerd.snapshotter.v1.overlayfs`.

use std::sync::Arc;

use super::{Overlayfs, Snapshotter};
use crate::clock;
use crate::plugin::{Exports, InitContext, InitError, Registration, kinds};
use crate::store::SharedStore;

pub fn overlayfs() -> Registration {
    let requires = &[kinds::METADATA];
    Registration::new(
        kinds::SNAPSHOTTER,
        "overlayfs",
        requires,
        |context: InitContext, _: toml::Table| async move { init(&context) },
    )
}

fn init(context: &InitContext) -> Result<Exports, InitError> {
    let store = context.require::<SharedStore>(kinds::METADATA)?;
    let overlayfs = Overlayfs::open(&context.root, store, clock::system(), context.tasks.clone())?;
    let snapshotter: Arc<dyn Snapshotter> = Arc::new(overlayfs);
    Ok(Exports::of(snapshotter).telling("root", context.root.to_string_lossy()).of_host_platform())
}
