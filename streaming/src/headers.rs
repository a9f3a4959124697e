//! The headers of a stream, whatever transport brought them.

use std::collections::BTreeMap;

/// Lower-case names, each with its value; a list of values is joined by NUL as SPDY does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Headers(BTreeMap<String, String>);

impl Headers {
    /// False when the name was there already; the first value stays.
    pub(crate) fn insert(&mut self, name: String, value: String) -> bool {
        match self.0.entry(name) {
            std::collections::btree_map::Entry::Vacant(slot) => {
                slot.insert(value);
                true
            }
            std::collections::btree_map::Entry::Occupied(_) => false,
        }
    }

    /// The first value of this header.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).and_then(|values| values.split('\0').next())
    }
}
