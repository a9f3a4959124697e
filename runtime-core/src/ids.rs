//! Identifiers, parsed where they enter. No bare `String` id crosses a crate.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Longest identifier that containerd accepts; file names and cgroup names are made from ids.
const MAX_ID_LENGTH: usize = 76;
/// Of what clients of containerd make up: long enough for `extract-<nanoseconds>-<random> <chain id>` and for the
/// path of a mount.
const MAX_NAME_LENGTH: usize = 4096;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    #[error("{what} is empty")]
    Empty { what: &'static str },
    #[error("{what} {value:?} is longer than {MAX_ID_LENGTH} characters")]
    TooLong { what: &'static str, value: String },
    #[error(
        "{what} {value:?} has characters other than letters, digits and inner dots, dashes and underscores"
    )]
    Characters { what: &'static str, value: String },
    #[error("{what} {value:?} is not of the form sha256:<64 hex digits>")]
    Digest { what: &'static str, value: String },
}

/// The rule of containerd's identifiers: alphanumeric words joined by single `.`, `-` or `_`.
pub(crate) fn check_identifier(what: &'static str, value: &str) -> Result<(), IdError> {
    if value.is_empty() {
        return Err(IdError::Empty { what });
    }
    if value.len() > MAX_ID_LENGTH {
        return Err(IdError::TooLong { what, value: value.chars().take(MAX_ID_LENGTH).collect() });
    }
    let word = |c: u8| c.is_ascii_alphanumeric();
    let bytes = value.as_bytes();
    let inner = bytes
        .windows(2)
        .all(|pair| word(pair[0]) || (matches!(pair[0], b'.' | b'-' | b'_') && word(pair[1])));
    let ends = bytes.first().copied().is_some_and(word) && bytes.last().copied().is_some_and(word);
    if inner && ends { Ok(()) } else { Err(IdError::Characters { what, value: value.to_owned() }) }
}

macro_rules! identifier {
    ($(#[$doc:meta])* $name:ident, $what:literal, $check:path) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            pub fn parse(value: impl Into<String>) -> Result<Self, IdError> {
                let value = value.into();
                $check($what, &value)?;
                Ok(Self(value))
            }

            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl FromStr for $name {
            type Err = IdError;
            fn from_str(value: &str) -> Result<Self, IdError> {
                Self::parse(value)
            }
        }

        impl TryFrom<String> for $name {
            type Error = IdError;
            fn try_from(value: String) -> Result<Self, IdError> {
                Self::parse(value)
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }
    };
}

identifier!(
    /// A pod sandbox: 64 hex digits when we made it.
    SandboxId, "pod sandbox id", check_identifier
);
identifier!(
    /// A container: 64 hex digits when we made it.
    ContainerId, "container id", check_identifier
);
identifier!(
    /// One exec in a container.
    ExecId, "exec id", check_identifier
);
identifier!(
    /// A containerd namespace; the CRI lives in [`Namespace::k8s`].
    Namespace, "namespace", check_identifier
);
identifier!(
    /// A lease, with any name (`ctr images mount` takes the path): what keeps objects alive while nothing else names them.
    LeaseId, "lease id", check_name
);
identifier!(
    /// The name of a snapshot in its snapshotter; unpacking uses spaces in it, as containerd does.
    SnapshotKey, "snapshot key", check_name
);
identifier!(
    /// The content address of a blob, `sha256:<64 hex>`.
    Digest, "digest", check_digest
);
identifier!(
    /// The name of an unpacked chain of layers, `sha256:<64 hex>` (OCI image-spec, "Layer ChainID").
    ChainId, "chain id", check_digest
);

/// The containerd namespace of everything the CRI makes.
const K8S_NAMESPACE: &str = "k8s.io";

impl Namespace {
    pub fn k8s() -> Self {
        Self(K8S_NAMESPACE.to_owned())
    }
}

/// Snapshot keys and lease ids are any text: they reach no path, only records and logs.
fn check_name(what: &'static str, value: &str) -> Result<(), IdError> {
    if value.is_empty() {
        return Err(IdError::Empty { what });
    }
    if value.len() > MAX_NAME_LENGTH {
        return Err(IdError::TooLong { what, value: value.chars().take(MAX_ID_LENGTH).collect() });
    }
    if value.chars().any(char::is_control) {
        return Err(IdError::Characters { what, value: value.to_owned() });
    }
    Ok(())
}

impl SnapshotKey {
    /// The root filesystem of a container is named after it.
    pub fn of_container(id: &ContainerId) -> Self {
        Self(id.0.clone())
    }
}

impl From<ChainId> for SnapshotKey {
    fn from(chain: ChainId) -> Self {
        Self(chain.0)
    }
}

fn check_digest(what: &'static str, value: &str) -> Result<(), IdError> {
    let well_formed = value
        .strip_prefix("sha256:")
        .is_some_and(|hex| hex.len() == 64 && hex.bytes().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f')));
    if well_formed { Ok(()) } else { Err(IdError::Digest { what, value: value.chars().take(128).collect() }) }
}

impl Digest {
    /// The 64 hex digits behind the algorithm.
    pub fn hex(&self) -> &str {
        self.0.split_once(':').map_or("", |(_, hex)| hex)
    }

    /// The algorithm in front of the colon.
    pub fn algorithm(&self) -> &str {
        self.0.split_once(':').map_or("", |(algorithm, _)| algorithm)
    }

    /// From a finished SHA-256.
    pub fn from_sha256(hash: &[u8]) -> Self {
        Self(format!("sha256:{}", hex::encode(hash)))
    }
}

impl From<Digest> for ChainId {
    fn from(digest: Digest) -> Self {
        Self(digest.0)
    }
}

/// Bytes of kernel randomness behind a new id: 256 bits, as containerd's 64 hex digits.
const RANDOM_ID_BYTES: usize = 32;

/// Sixty-four hex digits that nobody has used before.
fn random_hex() -> String {
    let mut bytes = [0u8; RANDOM_ID_BYTES];
    let mut filled = 0;
    while filled < bytes.len() {
        match rustix::rand::getrandom(&mut bytes[filled..], rustix::rand::GetRandomFlags::empty()) {
            Ok(n) => filled += n,
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => unreachable!("getrandom fails only before the kernel's pool is set up: {error}"),
        }
    }
    hex::encode(bytes)
}

impl SandboxId {
    pub fn random() -> Self {
        Self(random_hex())
    }
}

impl ContainerId {
    pub fn random() -> Self {
        Self(random_hex())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_follow_the_rule() {
        for good in ["a", "abc-1.2_3", &"f".repeat(64), "k8s.io"] {
            assert!(ContainerId::parse(good).is_ok(), "{good}");
        }
        for bad in ["", "-a", "a-", "a..b", "a/b", "../x", "a\n", &"f".repeat(77)] {
            assert!(ContainerId::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn digests_are_sha256_in_lower_case_hex() {
        assert!(Digest::parse(format!("sha256:{}", "a".repeat(64))).is_ok());
        for bad in ["sha256:", "sha512:00", &format!("sha256:{}", "A".repeat(64)), "../../etc"] {
            assert!(Digest::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn random_ids_differ_and_are_64_hex_digits() {
        let (one, two) = (SandboxId::random(), SandboxId::random());
        assert_ne!(one, two);
        assert_eq!(one.as_str().len(), 64);
    }
}
