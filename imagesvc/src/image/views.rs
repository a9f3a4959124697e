//! Records and blobs read together: which images there are, and which one a reference means.
//!
//! The cache of parsed documents is behind a short lock; it only holds what cannot change.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use runtime_core::content::{Content, read_document};
use runtime_core::ids::{ChainId, Digest, Namespace};
use runtime_core::image::{ImageRecord, Images};

use super::{Image, ImageError, ImageId, PINNED_LABEL, ResolvedImage};
use crate::document::{self, Document, DocumentError, ImageConfig, MAX_DOCUMENT};
use crate::reference::{Reference, Version};
use crate::service::Parts;

/// An index may lead to an index, but not for ever.
const MAX_INDEX_DEPTH: usize = 3;
/// Fewer digits than this mean a name, as with Docker.
const MIN_ID_PREFIX: usize = 4;

/// What the blobs behind a descriptor say; immutable, as they are.
struct Parsed {
    id: ImageId,
    size: u64,
    config: ImageConfig,
    chain_id: Option<ChainId>,
}

/// Reads images of one namespace. Parsed documents are kept: lists are asked for twice a minute and more.
pub(crate) struct Views {
    namespace: Namespace,
    content: Arc<dyn Content>,
    images: Images,
    pinned: Vec<String>,
    parsed: Mutex<HashMap<Digest, Arc<Parsed>>>,
}

struct Group {
    parsed: Arc<Parsed>,
    records: Vec<ImageRecord>,
}

impl Views {
    pub(crate) fn new(namespace: Namespace, parts: &Parts, pinned: &[String]) -> Self {
        let complete = |name: &String| Reference::parse(name).map_or(name.clone(), |name| name.to_string());
        Self {
            namespace,
            content: Arc::clone(&parts.content),
            images: parts.images.clone(),
            pinned: pinned.iter().map(complete).collect(),
            parsed: Mutex::default(),
        }
    }

    /// Drops what was parsed from blobs that are gone.
    pub(crate) fn forget(&self, blobs: &[Digest]) {
        let mut parsed = self.parsed.lock().unwrap_or_else(PoisonError::into_inner);
        blobs.iter().for_each(|digest| drop(parsed.remove(digest)));
    }

    fn parsed(&self, record: &ImageRecord) -> Result<Arc<Parsed>, ImageError> {
        let digest = &record.target.digest;
        if let Some(parsed) = self.parsed.lock().unwrap_or_else(PoisonError::into_inner).get(digest) {
            return Ok(Arc::clone(parsed));
        }
        let parsed = Arc::new(self.parse(&record.name, digest)?);
        let mut cache = self.parsed.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(Arc::clone(cache.entry(digest.clone()).or_insert(parsed)))
    }

    fn parse(&self, name: &str, target: &Digest) -> Result<Parsed, ImageError> {
        let unreadable = |source| ImageError::Document { name: name.to_owned(), source };
        let mut digest = target.clone();
        for _ in 0..MAX_INDEX_DEPTH {
            let bytes = self.blob(name, &digest)?;
            let manifest = match document::parse(&digest, &bytes).map_err(unreadable)? {
                Document::Index(entries) => {
                    digest = document::select(&digest, entries).map_err(unreadable)?.digest;
                    continue;
                }
                Document::Manifest(manifest) => manifest,
            };
            let config_digest = &manifest.config.digest;
            let config = document::parse_config(config_digest, &self.blob(name, config_digest)?)
                .map_err(unreadable)?;
            let layers: u64 = manifest.layers.iter().map(|layer| layer.size).fold(0, u64::saturating_add);
            return Ok(Parsed {
                id: ImageId(config_digest.clone()),
                size: layers.saturating_add(manifest.config.size).saturating_add(bytes.len() as u64),
                chain_id: document::chain_ids(&config.diff_ids).pop(),
                config: config.config,
            });
        }
        Err(unreadable(DocumentError::Depth { digest: target.clone() }))
    }

    fn blob(&self, name: &str, digest: &Digest) -> Result<Vec<u8>, ImageError> {
        read_document(&*self.content, &self.namespace, digest, MAX_DOCUMENT)
            .map_err(|source| ImageError::Blob { name: name.to_owned(), source })
    }

    /// All images by id. Records that cannot be read are logged and left out: they hide no other.
    fn groups(&self) -> Result<BTreeMap<ImageId, Group>, ImageError> {
        let listing = self.images.list(&self.namespace)?;
        for corrupt in &listing.corrupt {
            tracing::warn!(error = corrupt as &dyn std::error::Error, "an image record is left out");
        }
        let mut groups: BTreeMap<ImageId, Group> = BTreeMap::new();
        for record in listing.records {
            match self.parsed(&record) {
                Ok(parsed) => {
                    let group = groups.entry(parsed.id.clone());
                    group.or_insert_with(|| Group { parsed, records: Vec::new() }).records.push(record);
                }
                Err(error) => {
                    tracing::debug!(error = &error as &dyn std::error::Error, "an image is left out");
                }
            }
        }
        Ok(groups)
    }

    /// The group that `reference` means, and the name it was found by.
    fn find(&self, reference: &str) -> Result<Option<(Group, String)>, ImageError> {
        let complete = Reference::parse(reference).ok().map(|name| name.to_string());
        let by_name = match &complete {
            Some(name) => self.images.get(&self.namespace, name)?,
            None => None,
        };
        // Names that other clients gave are not always complete references.
        let by_name = match by_name {
            Some(record) => Some(record),
            None => self.images.get(&self.namespace, reference)?,
        };
        if let Some(record) = by_name {
            let parsed = self.parsed(&record)?;
            let name = record.name.clone();
            let records = self.images.list(&self.namespace)?.records;
            let same = |record: &ImageRecord| self.parsed(record).is_ok_and(|other| other.id == parsed.id);
            let records = records.into_iter().filter(same).collect();
            return Ok(Some((Group { parsed, records }, name)));
        }
        let Some(prefix) = id_prefix(reference) else {
            return Ok(None);
        };
        let mut matching = self
            .groups()?
            .into_iter()
            .filter(|(id, _)| id.0.hex().starts_with(prefix))
            .map(|(_, group)| group);
        // A prefix of two ids means neither.
        match (matching.next(), matching.next()) {
            (Some(group), None) => {
                let name = group.parsed.id.to_string();
                Ok(Some((group, name)))
            }
            _ => Ok(None),
        }
    }

    fn view(&self, group: &Group) -> Image {
        let (mut repo_tags, mut repo_digests, mut pinned) = (Vec::new(), Vec::new(), false);
        for record in &group.records {
            pinned = pinned || record.labels.contains_key(PINNED_LABEL) || self.pinned.contains(&record.name);
            // The record named after the id is none of its names.
            let Ok(name) = Reference::parse(&record.name) else {
                continue;
            };
            if record.name == group.parsed.id.to_string() {
                continue;
            }
            match name.version() {
                Version::Tag(_) => repo_tags.push(record.name.clone()),
                Version::Digest(_) => repo_digests.push(record.name.clone()),
            }
        }
        let (uid, username) = user(&group.parsed.config.user);
        Image {
            id: group.parsed.id.clone(),
            repo_tags,
            repo_digests,
            size: group.parsed.size,
            uid,
            username,
            pinned,
        }
    }

    pub(crate) fn status(&self, reference: &str) -> Result<Option<Image>, ImageError> {
        Ok(self.find(reference)?.map(|(group, _)| self.view(&group)))
    }

    pub(crate) fn list(&self, filter: Option<&str>) -> Result<Vec<Image>, ImageError> {
        match filter.filter(|filter| !filter.is_empty()) {
            Some(reference) => Ok(self.status(reference)?.into_iter().collect()),
            None => Ok(self.groups()?.values().map(|group| self.view(group)).collect()),
        }
    }

    pub(crate) fn resolve(&self, reference: &str) -> Result<ResolvedImage, ImageError> {
        let Some((group, name)) = self.find(reference)? else {
            return Err(ImageError::NotFound { reference: reference.chars().take(512).collect() });
        };
        let parsed = &group.parsed;
        Ok(ResolvedImage {
            id: parsed.id.clone(),
            name,
            chain_id: parsed.chain_id.clone(),
            config: parsed.config.clone(),
        })
    }

    /// Every record of the image that `reference` means. A record whose content is unreadable is found by its
    /// own name, so that it can be removed.
    pub(crate) fn names_of(&self, reference: &str) -> Result<Vec<String>, ImageError> {
        match self.find(reference) {
            Ok(Some((group, _))) => Ok(group.records.into_iter().map(|record| record.name).collect()),
            Ok(None) => Ok(Vec::new()),
            Err(ImageError::Document { name, .. } | ImageError::Blob { name, .. }) => Ok(vec![name]),
            Err(error) => Err(error),
        }
    }
}

/// The hex digits of an id or of a beginning of one.
fn id_prefix(reference: &str) -> Option<&str> {
    let digits = reference.strip_prefix("sha256:").unwrap_or(reference);
    let hex = digits.bytes().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f'));
    (hex && digits.len() >= MIN_ID_PREFIX).then_some(digits)
}

/// The user of a configuration without its group. A number that is no uid stays a name, which the kubelet
/// cannot take for a user other than root (CVE-2024-40635).
fn user(configured: &str) -> (Option<u32>, String) {
    let user = configured.split(':').next().unwrap_or_default();
    match user.parse::<u32>() {
        Ok(uid) if user.bytes().all(|c| c.is_ascii_digit()) => (Some(uid), String::new()),
        _ => (None, user.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_split_as_the_kubelet_wants_them() {
        for (configured, expected) in [
            ("", (None, "")),
            ("1002", (Some(1002), "")),
            ("www-data", (None, "www-data")),
            ("1003:1004", (Some(1003), "")),
            ("www-data:1004", (None, "www-data")),
            ("4294967296", (None, "4294967296")),
            ("+5", (None, "+5")),
        ] {
            assert_eq!(user(configured), (expected.0, expected.1.to_owned()), "{configured:?}");
        }
    }

    #[test]
    fn id_prefixes_are_hex() {
        assert_eq!(id_prefix("sha256:abcd"), Some("abcd"));
        assert_eq!(id_prefix("0123abcd"), Some("0123abcd"));
        for other in ["abc", "busybox", "sha256:xyz1", ""] {
            assert_eq!(id_prefix(other), None, "{other}");
        }
    }
}
