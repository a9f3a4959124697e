//! Labels: what clients pin to objects, and the few that the core reads itself.

use std::collections::BTreeMap;

use crate::error::ErrorKind;

pub type Labels = BTreeMap<String, String>;

/// Bytes of one key and its value together, as in containerd.
pub const MAX_LABEL_BYTES: usize = 4096;
/// Characters of a key that an error repeats.
const SHOWN_KEY: usize = 64;

/// On a namespace: what its containers get when the client names no runtime, snapshotter or sandboxer.
pub const DEFAULT_RUNTIME: &str = "containerd.io/defaults/runtime";
pub const DEFAULT_SNAPSHOTTER: &str = "containerd.io/defaults/snapshotter";
pub const DEFAULT_SANDBOXER: &str = "containerd.io/defaults/sandboxer";
/// On a namespace, with the value `true`: others may take its content without having its bytes.
pub const SHAREABLE: &str = "containerd.io/namespace.shareable";

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LabelError {
    #[error(
        "label {key:?} and its value have {bytes} bytes, more than the {MAX_LABEL_BYTES} that both may have"
    )]
    TooLong { key: String, bytes: usize },
}

impl LabelError {
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::TooLong { .. } => ErrorKind::InvalidArgument,
        }
    }
}

/// A change of labels. A label with an empty value is taken away: containerd keeps none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LabelChange {
    /// These and no others.
    Replace(Labels),
    /// These, and the others as they are.
    Merge(Labels),
}

impl LabelChange {
    /// What is sent, to be looked at before it is applied.
    pub fn labels(&self) -> &Labels {
        match self {
            Self::Replace(labels) | Self::Merge(labels) => labels,
        }
    }

    pub fn apply(self, current: Labels) -> Labels {
        let mut labels = match self {
            Self::Replace(labels) => labels,
            Self::Merge(labels) => current.into_iter().chain(labels).collect(),
        };
        labels.retain(|_, value| !value.is_empty());
        labels
    }
}

/// Any text may be a key or a value, as long as it is short.
pub fn validate(labels: &Labels) -> Result<(), LabelError> {
    for (key, value) in labels {
        let bytes = key.len() + value.len();
        if bytes > MAX_LABEL_BYTES {
            return Err(LabelError::TooLong { key: key.chars().take(SHOWN_KEY).collect(), bytes });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_and_its_value_share_4096_bytes() {
        let table = [(1, 4095, true), (4096, 0, true), (0, 4096, true), (1, 4096, false), (4097, 0, false)];
        for (key, value, good) in table {
            let labels = Labels::from([("k".repeat(key), "v".repeat(value))]);
            assert_eq!(validate(&labels).is_ok(), good, "{key} and {value} bytes");
        }
        let error = validate(&[("ü".repeat(4000), String::new())].into()).unwrap_err();
        assert_eq!(error, LabelError::TooLong { key: "ü".repeat(64), bytes: 8000 });
    }
}
