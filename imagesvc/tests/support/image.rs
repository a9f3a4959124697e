//! Small images, built from entries.

use std::io::Write;

use super::registry::{Registry, digest_of};

pub(crate) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// One layer: a list of (path, content); a path with `/` at its end is a folder.
pub(crate) fn layer(files: &[(&str, &str)]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (path, content) in files {
        let mut header = tar::Header::new_ustar();
        header.set_size(content.len() as u64);
        header.set_mtime(1_700_000_000);
        header.set_uid(0);
        header.set_gid(0);
        let folder = path.ends_with('/');
        header.set_mode(if folder { 0o755 } else { 0o644 });
        header.set_entry_type(if folder { tar::EntryType::Directory } else { tar::EntryType::Regular });
        tar.append_data(&mut header, path, content.as_bytes()).unwrap();
    }
    tar.into_inner().unwrap()
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub(crate) struct Built {
    pub(crate) manifest: String,
    pub(crate) manifest_digest: String,
    pub(crate) config_digest: String,
    pub(crate) layer_digests: Vec<String>,
}

/// Pushes an image of `layers` (plain tars, pushed gzipped). `config` is the inner `config` object.
pub(crate) async fn push(registry: &Registry, name: &str, layers: &[Vec<u8>], config: &str) -> Built {
    let diff_ids: Vec<String> = layers.iter().map(|layer| digest_of(layer)).collect();
    push_with_diff_ids(registry, name, layers, config, &diff_ids).await
}

pub(crate) async fn push_with_diff_ids(
    registry: &Registry,
    name: &str,
    layers: &[Vec<u8>],
    config: &str,
    diff_ids: &[String],
) -> Built {
    let (repository, tag) = name.split_once(':').unwrap();
    let config = format!(
        r#"{{"architecture":"amd64","os":"linux","config":{config},"rootfs":{{"type":"layers","diff_ids":{}}}}}"#,
        serde_json::to_string(diff_ids).unwrap()
    );
    let config_digest = registry.push_blob(repository, config.as_bytes()).await;
    let (mut layer_digests, mut descriptors) = (Vec::new(), Vec::new());
    for layer in layers {
        let packed = gzip(layer);
        let digest = registry.push_blob(repository, &packed).await;
        descriptors.push(format!(
            r#"{{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip","digest":"{digest}","size":{}}}"#,
            packed.len()
        ));
        layer_digests.push(digest);
    }
    let manifest = format!(
        r#"{{"schemaVersion":2,"mediaType":"{MANIFEST}","config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{config_digest}","size":{}}},"layers":[{}]}}"#,
        config.len(),
        descriptors.join(",")
    );
    let manifest_digest = registry.push_manifest(repository, tag, MANIFEST, &manifest).await;
    Built { manifest, manifest_digest, config_digest, layer_digests }
}
