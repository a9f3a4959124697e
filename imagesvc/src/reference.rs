//! Image references, as people type them and as they are stored.
//!
//! Familiar names are completed the way every Docker-compatible tool does: `busybox` is
//! `docker.io/library/busybox:latest`. A name with tag and digest is its digest: the tag is dropped.

use std::fmt;

use runtime_core::ids::{Digest, IdError};

const DEFAULT_HOST: &str = "docker.io";
/// The name Docker Hub had before; still written in old configurations.
const OLD_DEFAULT_HOST: &str = "index.docker.io";
const DEFAULT_FOLDER: &str = "library";
const DEFAULT_TAG: &str = "latest";
/// Limits of the distribution specification's grammar.
const MAX_NAME: usize = 255;
const MAX_TAG: usize = 128;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    #[error("image reference is empty")]
    Empty,
    #[error("image reference {reference:?} has an invalid registry host")]
    Host { reference: String },
    #[error("image reference {reference:?} has an invalid repository name")]
    Repository { reference: String },
    #[error("image reference {reference:?} has an invalid tag")]
    Tag { reference: String },
    #[error("image reference {reference:?} has an invalid digest")]
    Digest {
        reference: String,
        #[source]
        source: IdError,
    },
}

/// What stands behind the repository.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Version {
    Tag(String),
    Digest(Digest),
}

/// A complete reference. Displays in its stored form.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Reference {
    host: String,
    repository: String,
    version: Version,
}

impl Reference {
    pub fn parse(text: &str) -> Result<Self, ReferenceError> {
        let shown = || text.chars().take(MAX_NAME).collect::<String>();
        if text.is_empty() {
            return Err(ReferenceError::Empty);
        }
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => {
                let digest = Digest::parse(digest)
                    .map_err(|source| ReferenceError::Digest { reference: shown(), source })?;
                (rest, Some(digest))
            }
            None => (text, None),
        };
        let (name, tag) = match rest.rsplit_once(':') {
            Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
            _ => (rest, None),
        };
        if tag.is_some_and(|tag| !is_tag(tag)) {
            return Err(ReferenceError::Tag { reference: shown() });
        }
        let (host, repository) = split_host(name);
        if !is_host(&host) {
            return Err(ReferenceError::Host { reference: shown() });
        }
        let well_formed = repository.split('/').all(is_component);
        if !well_formed || host.len() + 1 + repository.len() > MAX_NAME {
            return Err(ReferenceError::Repository { reference: shown() });
        }
        let version = match digest {
            Some(digest) => Version::Digest(digest),
            None => Version::Tag(tag.unwrap_or(DEFAULT_TAG).to_owned()),
        };
        Ok(Self { host, repository, version })
    }

    /// The registry, with its port if one was given.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The path within the registry.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    pub fn version(&self) -> &Version {
        &self.version
    }

    /// `host/repository@digest`.
    pub fn with_digest(&self, digest: &Digest) -> Self {
        Self { version: Version::Digest(digest.clone()), ..self.clone() }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.version {
            Version::Tag(tag) => write!(f, "{}/{}:{tag}", self.host, self.repository),
            Version::Digest(digest) => write!(f, "{}/{}@{digest}", self.host, self.repository),
        }
    }
}

/// A first component is a host when it cannot be a folder of Docker Hub.
fn split_host(name: &str) -> (String, String) {
    let (host, repository) = match name.split_once('/') {
        Some((first, rest))
            if first.contains(['.', ':'])
                || first == "localhost"
                || first.bytes().any(|c| c.is_ascii_uppercase()) =>
        {
            (first, rest)
        }
        _ => (DEFAULT_HOST, name),
    };
    let host = if host == OLD_DEFAULT_HOST { DEFAULT_HOST } else { host };
    if host == DEFAULT_HOST && !repository.contains('/') {
        (host.to_owned(), format!("{DEFAULT_FOLDER}/{repository}"))
    } else {
        (host.to_owned(), repository.to_owned())
    }
}

fn is_host(host: &str) -> bool {
    let (name, port) = match host.rsplit_once(':') {
        Some((name, port)) if !port.contains(']') => (name, Some(port)),
        _ => (host, None),
    };
    let port_ok = port.is_none_or(|port| port.parse::<u16>().is_ok());
    if let Some(address) = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')) {
        return port_ok && address.parse::<std::net::Ipv6Addr>().is_ok();
    }
    let label = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-')
    };
    port_ok && name.split('.').all(label)
}

/// Lower-case words, joined by `.`, `_`, `__` or any number of dashes.
fn is_component(component: &str) -> bool {
    let word = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit();
    let bytes = component.as_bytes();
    let ends = bytes.first().copied().is_some_and(word) && bytes.last().copied().is_some_and(word);
    let separators = bytes.split(|c| word(*c)).filter(|gap| !gap.is_empty());
    let mut separators =
        separators.map(|gap| matches!(gap, b"." | b"_" | b"__") || gap.iter().all(|c| *c == b'-'));
    ends && separators.all(|ok| ok)
}

fn is_tag(tag: &str) -> bool {
    let inner = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'_' | b'.' | b'-');
    tag.len() <= MAX_TAG
        && tag.bytes().all(inner)
        && tag.bytes().next().is_some_and(|c| c.is_ascii_alphanumeric() || c == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn familiar_names_are_completed() {
        let digest = format!("sha256:{}", "a".repeat(64));
        let cases = [
            ("busybox", "docker.io/library/busybox:latest".to_owned()),
            ("busybox:1.36", "docker.io/library/busybox:1.36".to_owned()),
            ("user/app", "docker.io/user/app:latest".to_owned()),
            ("docker.io/busybox", "docker.io/library/busybox:latest".to_owned()),
            ("index.docker.io/a/b:c", "docker.io/a/b:c".to_owned()),
            ("localhost/app", "localhost/app:latest".to_owned()),
            ("127.0.0.1:5000/app:x", "127.0.0.1:5000/app:x".to_owned()),
            ("[::1]:5000/app", "[::1]:5000/app:latest".to_owned()),
            (
                "registry.k8s.io/e2e-test-images/busybox:1.29-2",
                "registry.k8s.io/e2e-test-images/busybox:1.29-2".to_owned(),
            ),
            ("gcr.io/a/b__c/d.e---f", "gcr.io/a/b__c/d.e---f:latest".to_owned()),
            (&format!("quay.io/a/b@{digest}"), format!("quay.io/a/b@{digest}")),
            (&format!("quay.io/a/b:tag@{digest}"), format!("quay.io/a/b@{digest}")),
        ];
        for (text, stored) in cases {
            let parsed = Reference::parse(text).unwrap();
            assert_eq!(parsed.to_string(), stored);
            assert_eq!(Reference::parse(&stored).unwrap(), parsed, "the stored form reads back");
        }
    }

    #[test]
    fn malformed_references_are_refused() {
        let long = "a/".repeat(130);
        for text in [
            "",
            "Busybox",
            "a/B",
            "a//b",
            "/a",
            "a/",
            "a/../b",
            "../a",
            "a b",
            "a:",
            "a:-x",
            "a@sha256:12",
            "a@",
            "host.io:99999/a",
            "-x.io/a",
            "a\n",
            "a___b",
            ".a/b",
            "http://host.io/a",
            &long,
        ] {
            assert!(Reference::parse(text).is_err(), "{text:?}");
        }
    }
}
