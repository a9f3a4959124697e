//! `io.containerd.metadata.v1.bolt`: the metadata store. The id is the one that containerd's clients look up;
//! the engine behind it is redb.

use std::sync::Arc;

use super::{RedbStore, SharedStore};
use crate::plugin::{Exports, InitContext, InitError, Registration, kinds};

const FILE: &str = "meta.redb";

pub fn registration() -> Registration {
    Registration::new(
        kinds::METADATA,
        "bolt",
        &[],
        |context: InitContext, _: toml::Table| async move { init(&context) },
    )
}

fn init(context: &InitContext) -> Result<Exports, InitError> {
    let store: SharedStore = Arc::new(RedbStore::open(&context.root.join(FILE))?);
    Ok(Exports::of(store))
}
