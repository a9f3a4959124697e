//! Manifests, indexes and image configurations: parsed into types, refused when they could be read in two ways.

use std::collections::BTreeMap;

use runtime_core::content::Descriptor;
use runtime_core::error::ErrorKind;
use runtime_core::ids::{ChainId, Digest};
use serde::{Deserialize, Deserializer};
use sha2::{Digest as _, Sha256};

/// The distribution specification's limit of manifests; configurations get the same.
pub(crate) const MAX_DOCUMENT: u64 = 4 << 20;
/// overlayfs stacks at most 500 lower layers.
const MAX_LAYERS: usize = 500;
const MAX_INDEX_ENTRIES: usize = 4096;

/// Media types that are understood.
pub(crate) mod media {
    pub(crate) const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
    pub(crate) const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
    pub(crate) const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
    pub(crate) const DOCKER_INDEX: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
    pub(crate) const ACCEPTED: [&str; 4] = [OCI_MANIFEST, OCI_INDEX, DOCKER_MANIFEST, DOCKER_INDEX];
}

#[derive(Debug, thiserror::Error)]
pub enum DocumentError {
    #[error("{what} {digest} is not valid")]
    Parse {
        what: &'static str,
        digest: Digest,
        #[source]
        source: serde_json::Error,
    },
    #[error("{digest} is ambiguous: {why}")]
    Ambiguous { digest: Digest, why: &'static str },
    #[error("{digest} has the unsupported media type {media_type:?}")]
    MediaType { digest: Digest, media_type: String },
    #[error("{digest} is of Docker schema {version}, which is no longer supported")]
    Schema { digest: Digest, version: u64 },
    #[error("{digest} has {count} {what}, more than the supported {limit}")]
    TooMany { digest: Digest, what: &'static str, count: usize, limit: usize },
    #[error("manifest {digest} has {size} bytes, its index says {expected}")]
    Size { digest: Digest, expected: u64, size: u64 },
    #[error("index {digest} has no image for {platform}")]
    NoPlatform { digest: Digest, platform: String },
    #[error("index {digest} leads to too many other indexes")]
    Depth { digest: Digest },
    #[error("manifest {digest} has {layers} layers but its configuration has {diff_ids} diff ids")]
    LayerCount { digest: Digest, layers: usize, diff_ids: usize },
}

impl DocumentError {
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NoPlatform { .. } => ErrorKind::NotFound,
            Self::TooMany { .. } | Self::Depth { .. } => ErrorKind::ResourceExhausted,
            Self::MediaType { .. } | Self::Schema { .. } => ErrorKind::Unimplemented,
            Self::Parse { .. } | Self::Ambiguous { .. } | Self::LayerCount { .. } | Self::Size { .. } => {
                ErrorKind::DataLoss
            }
        }
    }
}

#[derive(Clone, Debug, Deserialize)]
struct RawDescriptor {
    #[serde(default, rename = "mediaType")]
    media_type: String,
    digest: Digest,
    size: u64,
    platform: Option<Platform>,
}

impl From<RawDescriptor> for Descriptor {
    fn from(raw: RawDescriptor) -> Self {
        Self { media_type: raw.media_type, digest: raw.digest, size: raw.size }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
struct Platform {
    #[serde(default)]
    architecture: String,
    #[serde(default)]
    os: String,
    #[serde(default)]
    variant: String,
}

#[derive(Deserialize)]
struct RawDocument {
    #[serde(default, rename = "schemaVersion")]
    schema_version: u64,
    #[serde(default, rename = "mediaType")]
    media_type: String,
    config: Option<RawDescriptor>,
    layers: Option<Vec<RawDescriptor>>,
    manifests: Option<Vec<RawDescriptor>>,
    #[serde(rename = "fsLayers")]
    fs_layers: Option<serde_json::Value>,
}

/// What a reference or an index leads to.
#[derive(Debug)]
pub(crate) enum Document {
    Manifest(Manifest),
    Index(Vec<IndexEntry>),
}

#[derive(Debug)]
pub(crate) struct Manifest {
    pub(crate) media_type: String,
    pub(crate) config: Descriptor,
    pub(crate) layers: Vec<Descriptor>,
}

#[derive(Debug)]
pub(crate) struct IndexEntry {
    target: Descriptor,
    platform: Option<Platform>,
}

/// Parses a manifest or index. A document that has the parts of both is refused whatever its type says
/// (CVE-2021-41190).
pub(crate) fn parse(digest: &Digest, bytes: &[u8]) -> Result<Document, DocumentError> {
    let raw: RawDocument = serde_json::from_slice(bytes).map_err(|source| DocumentError::Parse {
        what: "manifest",
        digest: digest.clone(),
        source,
    })?;
    let ambiguous = |why| DocumentError::Ambiguous { digest: digest.clone(), why };
    if raw.schema_version != 2 || raw.fs_layers.is_some() {
        return Err(DocumentError::Schema { digest: digest.clone(), version: raw.schema_version });
    }
    let as_manifest = match raw.media_type.as_str() {
        "" => None,
        media::OCI_MANIFEST | media::DOCKER_MANIFEST => Some(true),
        media::OCI_INDEX | media::DOCKER_INDEX => Some(false),
        other => {
            return Err(DocumentError::MediaType { digest: digest.clone(), media_type: other.to_owned() });
        }
    };
    match (raw.config, raw.layers, raw.manifests) {
        (Some(_), _, Some(_)) | (_, Some(_), Some(_)) => {
            Err(ambiguous("it has the parts of a manifest and of an index"))
        }
        (Some(config), layers, None) if as_manifest != Some(false) => {
            let layers = layers.unwrap_or_default();
            limit(digest, "layers", layers.len(), MAX_LAYERS)?;
            let media_type =
                if raw.media_type.is_empty() { media::OCI_MANIFEST.to_owned() } else { raw.media_type };
            Ok(Document::Manifest(Manifest {
                media_type,
                config: config.into(),
                layers: layers.into_iter().map(Descriptor::from).collect(),
            }))
        }
        (None, None, Some(manifests)) if as_manifest != Some(true) => {
            limit(digest, "manifests", manifests.len(), MAX_INDEX_ENTRIES)?;
            let entry =
                |raw: RawDescriptor| IndexEntry { platform: raw.platform.clone(), target: raw.into() };
            Ok(Document::Index(manifests.into_iter().map(entry).collect()))
        }
        (None, _, None) => Err(ambiguous("it has neither a configuration nor manifests")),
        _ => Err(ambiguous("its parts do not fit its media type")),
    }
}

fn limit(digest: &Digest, what: &'static str, count: usize, limit: usize) -> Result<(), DocumentError> {
    if count > limit {
        return Err(DocumentError::TooMany { digest: digest.clone(), what, count, limit });
    }
    Ok(())
}

/// Go's name for this machine's architecture.
fn host_architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "powerpc64" => "ppc64le",
        other => other,
    }
}

/// The entry of an index for this host: the plain variant before others, an entry without platform as the last
/// resort.
pub(crate) fn select(digest: &Digest, entries: Vec<IndexEntry>) -> Result<Descriptor, DocumentError> {
    let architecture = host_architecture();
    let rank = |entry: &IndexEntry| match &entry.platform {
        Some(platform) if platform.os == "linux" && platform.architecture == architecture => {
            match platform.variant.as_str() {
                "" => Some(0),
                "v8" if architecture == "arm64" => Some(0),
                "v1" if architecture == "amd64" => Some(1),
                // A finer variant may need instructions that this host lacks.
                _ => None,
            }
        }
        Some(_) => None,
        None => Some(2),
    };
    let ranked = entries.into_iter().filter_map(|entry| Some((rank(&entry)?, entry)));
    let best = ranked.min_by_key(|(rank, _)| *rank);
    best.map(|(_, entry)| entry.target).ok_or_else(|| DocumentError::NoPlatform {
        digest: digest.clone(),
        platform: format!("linux/{architecture}"),
    })
}

/// What an image says about how to run it. Every field may be absent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImageConfig {
    pub user: String,
    pub env: Vec<String>,
    pub entrypoint: Vec<String>,
    pub cmd: Vec<String>,
    pub working_dir: String,
    pub labels: BTreeMap<String, String>,
    pub stop_signal: String,
    /// Paths that want a volume.
    pub volumes: Vec<String>,
}

/// A configuration blob: how to run it, and what its layers must be once decompressed.
#[derive(Clone, Debug)]
pub(crate) struct ConfigDocument {
    pub(crate) config: ImageConfig,
    pub(crate) diff_ids: Vec<Digest>,
}

/// Docker writes `null` where it means empty.
fn nullable<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(from: D) -> Result<T, D::Error> {
    Ok(Option::<T>::deserialize(from)?.unwrap_or_default())
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RawImageConfig {
    #[serde(rename = "User", deserialize_with = "nullable")]
    user: String,
    #[serde(rename = "Env", deserialize_with = "nullable")]
    env: Vec<String>,
    #[serde(rename = "Entrypoint", deserialize_with = "nullable")]
    entrypoint: Vec<String>,
    #[serde(rename = "Cmd", deserialize_with = "nullable")]
    cmd: Vec<String>,
    #[serde(rename = "WorkingDir", deserialize_with = "nullable")]
    working_dir: String,
    #[serde(rename = "Labels", deserialize_with = "nullable")]
    labels: BTreeMap<String, String>,
    #[serde(rename = "StopSignal", deserialize_with = "nullable")]
    stop_signal: String,
    #[serde(rename = "Volumes", deserialize_with = "nullable")]
    volumes: BTreeMap<String, serde_json::Value>,
}

#[derive(Deserialize)]
struct RawConfig {
    #[serde(default, deserialize_with = "nullable")]
    config: RawImageConfig,
    rootfs: RawRootfs,
}

#[derive(Deserialize)]
struct RawRootfs {
    #[serde(default, deserialize_with = "nullable")]
    diff_ids: Vec<Digest>,
}

pub(crate) fn parse_config(digest: &Digest, bytes: &[u8]) -> Result<ConfigDocument, DocumentError> {
    let raw: RawConfig = serde_json::from_slice(bytes).map_err(|source| DocumentError::Parse {
        what: "image configuration",
        digest: digest.clone(),
        source,
    })?;
    limit(digest, "diff ids", raw.rootfs.diff_ids.len(), MAX_LAYERS)?;
    let image = raw.config;
    Ok(ConfigDocument {
        config: ImageConfig {
            user: image.user,
            env: image.env,
            entrypoint: image.entrypoint,
            cmd: image.cmd,
            working_dir: image.working_dir,
            labels: image.labels,
            stop_signal: image.stop_signal,
            volumes: image.volumes.into_keys().collect(),
        },
        diff_ids: raw.rootfs.diff_ids,
    })
}

/// The chain ids of the layers, lowest first (OCI image-spec, "Layer ChainID").
pub(crate) fn chain_ids(diff_ids: &[Digest]) -> Vec<ChainId> {
    let mut chain: Vec<ChainId> = Vec::with_capacity(diff_ids.len());
    for diff_id in diff_ids {
        let next = match chain.last() {
            None => diff_id.clone(),
            Some(below) => Digest::from_sha256(&Sha256::digest(format!("{below} {diff_id}"))),
        };
        chain.push(next.into());
    }
    chain
}

#[cfg(test)]
mod tests;
