//! `io.containerd.lease.v1.manager`.

use super::Leases;
use crate::clock;
use crate::plugin::{Exports, InitContext, InitError, Registration, kinds};
use crate::store::SharedStore;

pub fn registration() -> Registration {
    let requires = &[kinds::METADATA];
    Registration::new(kinds::LEASE, "manager", requires, |context: InitContext, _: toml::Table| async move {
        init(&context)
    })
}

fn init(context: &InitContext) -> Result<Exports, InitError> {
    let store = context.require::<SharedStore>(kinds::METADATA)?;
    Ok(Exports::of(Leases::new(store, clock::system())))
}
