//! `io.containerd.event.v1.exchange`.

use super::Exchange;
use crate::clock;
use crate::plugin::{Exports, InitContext, InitError, Registration, kinds};

pub fn registration() -> Registration {
    Registration::new(kinds::EVENT, "exchange", &[], |_: InitContext, _: toml::Table| async move {
        Ok::<_, InitError>(Exports::of(Exchange::new(clock::system())))
    })
}
