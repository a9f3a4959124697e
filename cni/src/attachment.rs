//! One interface of one container, as plugins are told of it. Checked before anything is run: these strings become
//! environment variables, file names and network devices.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use thiserror::Error;

use crate::network::is_name;

/// Longest container id in bytes, see the cache's file names.
const LONGEST_ID: usize = 128;
/// The kernel's longest interface name.
const LONGEST_INTERFACE: usize = 15;

/// What is to be attached to a network, or is.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub struct Attachment {
    pub container_id: String,
    /// The network namespace; `None` when DEL comes after it is gone.
    pub netns: Option<PathBuf>,
    /// The name that the interface gets in the namespace.
    pub if_name: String,
    /// `CNI_ARGS`, in this order.
    pub args: Vec<(String, String)>,
    /// Values for the capabilities that plugins may declare: `portMappings`, `bandwidth`, `dns`, `ips`, `mac`, …
    pub capabilities: BTreeMap<String, Value>,
}

/// Plugins cannot be told of this attachment.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum AttachmentError {
    #[error(
        "container id {id:?}: at most 128 letters, digits, `_`, `.` and `-`, beginning with a letter or digit"
    )]
    ContainerId { id: String },
    #[error("interface name {name:?} is not one that Linux takes")]
    Interface { name: String },
    #[error("network namespace {netns:?} is not an absolute path")]
    NamespacePath { netns: PathBuf },
    #[error("there is no network namespace")]
    NoNamespace,
    #[error("CNI argument {key:?} or its value has `;`, `=` or a control character, or the key is empty")]
    Argument { key: String },
}

impl Attachment {
    /// Checks all that goes to plugins, but for the presence of the namespace.
    pub(crate) fn check(&self) -> Result<(), AttachmentError> {
        check_ids(&self.container_id, &self.if_name)?;
        if let Some(netns) = &self.netns {
            let plain = netns.to_str().is_some_and(|path| !path.chars().any(char::is_control));
            if !plain || !netns.is_absolute() {
                return Err(AttachmentError::NamespacePath { netns: netns.clone() });
            }
        }
        let odd = |text: &str| text.chars().any(|c| matches!(c, ';' | '=') || c.is_control());
        match self.args.iter().find(|(key, value)| key.is_empty() || odd(key) || odd(value)) {
            Some((key, _)) => Err(AttachmentError::Argument { key: key.clone() }),
            None => Ok(()),
        }
    }

    /// The value of `CNI_ARGS`.
    pub(crate) fn joined_args(&self) -> String {
        let pairs: Vec<String> = self.args.iter().map(|(key, value)| format!("{key}={value}")).collect();
        pairs.join(";")
    }
}

/// Checks what identifies an attachment.
pub(crate) fn check_ids(container_id: &str, if_name: &str) -> Result<(), AttachmentError> {
    if !is_name(container_id) || container_id.len() > LONGEST_ID {
        return Err(AttachmentError::ContainerId { id: container_id.chars().take(LONGEST_ID).collect() });
    }
    let length = (1..=LONGEST_INTERFACE).contains(&if_name.len());
    let odd = |c: char| matches!(c, '/' | ':') || c.is_whitespace() || c.is_control();
    if !length || if_name == "." || if_name == ".." || if_name.chars().any(odd) {
        return Err(AttachmentError::Interface { name: if_name.chars().take(LONGEST_ID).collect() });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attachment() -> Attachment {
        Attachment {
            container_id: "4f2c".to_owned(),
            netns: Some("/var/run/netns/a".into()),
            if_name: "eth0".to_owned(),
            args: vec![
                ("K8S_POD_NAME".to_owned(), "web".to_owned()),
                ("IgnoreUnknown".to_owned(), "1".to_owned()),
            ],
            capabilities: BTreeMap::new(),
        }
    }

    #[test]
    fn arguments_are_joined_in_order() {
        assert_eq!(attachment().check(), Ok(()));
        assert_eq!(attachment().joined_args(), "K8S_POD_NAME=web;IgnoreUnknown=1");
    }

    #[test]
    fn nothing_can_be_smuggled_into_the_arguments() {
        for (key, value) in
            [("", "a"), ("A", "b;C=d"), ("A", "b=c"), ("A", "b\nc"), ("A", "b\0"), ("A;B", "c")]
        {
            let at = Attachment { args: vec![(key.to_owned(), value.to_owned())], ..attachment() };
            assert_eq!(
                at.check(),
                Err(AttachmentError::Argument { key: key.to_owned() }),
                "{key:?} {value:?}"
            );
        }
    }

    #[test]
    fn ids_and_interfaces_that_are_paths_or_too_long_are_refused() {
        for id in ["", "../x", "a/b", "-a", ".a", "a b", "ä", &"a".repeat(129)] {
            assert!(check_ids(id, "eth0").is_err(), "{id:?}");
        }
        for name in ["", ".", "..", "a/b", "a:1", "a b", "0123456789abcdef", "a\n"] {
            assert!(check_ids("a", name).is_err(), "{name:?}");
        }
        assert_eq!(check_ids("a", "0123456789abcde"), Ok(()));
    }

    #[test]
    fn a_namespace_is_an_absolute_path() {
        for netns in ["", "netns/a", "/a\0b"] {
            let at = Attachment { netns: Some(netns.into()), ..attachment() };
            assert!(at.check().is_err(), "{netns:?}");
        }
    }
}
