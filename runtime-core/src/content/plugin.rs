//! `io.containerd.content.v1.content`: the local content store.

use std::sync::Arc;

use super::{Content, LocalContent};
use crate::clock;
use crate::plugin::{Exports, InitContext, InitError, Registration, kinds};
use crate::store::SharedStore;

pub fn registration() -> Registration {
    let requires = &[kinds::METADATA];
    Registration::new(
        kinds::CONTENT,
        "content",
        requires,
        |context: InitContext, _: toml::Table| async move { init(&context) },
    )
}

fn init(context: &InitContext) -> Result<Exports, InitError> {
    let store = context.require::<SharedStore>(kinds::METADATA)?;
    let content: Arc<dyn Content> = Arc::new(LocalContent::open(&context.root, store, clock::system())?);
    Ok(Exports::of(content).telling("root", context.root.to_string_lossy()))
}
