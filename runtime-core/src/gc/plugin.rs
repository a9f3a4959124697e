//! `io.containerd.gc.v1.scheduler`: garbage collection over everything that stores bytes.

use std::sync::Arc;

use super::{Gc, Roots};
use crate::clock;
use crate::content::Content;
use crate::plugin::{Exports, InitContext, InitError, Registration, kinds};
use crate::record::ContainerRoots;
use crate::snapshot::Snapshotter;
use crate::store::SharedStore;

pub fn registration() -> Registration {
    let requires = &[kinds::METADATA, kinds::CONTENT, kinds::SNAPSHOTTER];
    Registration::new(kinds::GC, "scheduler", requires, |context: InitContext, _: toml::Table| async move {
        init(&context)
    })
}

fn init(context: &InitContext) -> Result<Exports, InitError> {
    let roots: Vec<Arc<dyn Roots>> = vec![Arc::new(ContainerRoots)];
    let gc = Gc::new(
        context.require::<SharedStore>(kinds::METADATA)?,
        clock::system(),
        context.require::<Arc<dyn Content>>(kinds::CONTENT)?,
        context.require_all::<Arc<dyn Snapshotter>>(kinds::SNAPSHOTTER),
        roots,
    );
    Ok(Exports::of(gc))
}
