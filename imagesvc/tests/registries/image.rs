//! Small images and what a registry says about them.

use sha2::{Digest, Sha256};

use super::scripted::{Answer, Request};

pub(crate) const TAR: &str = "application/vnd.oci.image.layer.v1.tar";

pub(crate) fn digest_of(bytes: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(bytes)))
}

/// A layer of one file.
pub(crate) fn tar_of(content: &[u8]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_ustar();
    header.set_size(content.len() as u64);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    tar.append_data(&mut header, "file", content).unwrap();
    tar.into_inner().unwrap()
}

pub(crate) fn descriptor(media_type: &str, bytes: &[u8]) -> String {
    let (digest, size) = (digest_of(bytes), bytes.len());
    format!(r#"{{"mediaType":"{media_type}","digest":"{digest}","size":{size}}}"#)
}

#[derive(Clone)]
pub(crate) struct Image {
    pub(crate) config: String,
    pub(crate) manifest: String,
    pub(crate) layers: Vec<Vec<u8>>,
}

impl Image {
    /// Of layers that are not compressed.
    pub(crate) fn of(tars: &[&[u8]]) -> Self {
        Self::packed(&tars.iter().map(|tar| (TAR, tar.to_vec(), *tar)).collect::<Vec<_>>())
    }

    /// Of layers by media type, packed, and plain.
    pub(crate) fn packed(layers: &[(&str, Vec<u8>, &[u8])]) -> Self {
        let diff_ids: Vec<String> =
            layers.iter().map(|(.., tar)| format!("\"{}\"", digest_of(tar))).collect();
        let config = format!(
            r#"{{"architecture":"amd64","os":"linux","config":{{}},"rootfs":{{"type":"layers","diff_ids":[{}]}}}}"#,
            diff_ids.join(",")
        );
        let descriptors: Vec<String> =
            layers.iter().map(|(media_type, packed, _)| descriptor(media_type, packed)).collect();
        let manifest = format!(
            r#"{{"schemaVersion":2,"config":{},"layers":[{}]}}"#,
            descriptor("application/vnd.oci.image.config.v1+json", config.as_bytes()),
            descriptors.join(",")
        );
        Self { config, manifest, layers: layers.iter().map(|(_, packed, _)| packed.clone()).collect() }
    }

    pub(crate) fn digest(&self) -> String {
        digest_of(self.manifest.as_bytes())
    }

    /// The answer to everything but layers.
    pub(crate) fn document(&self, path: &str) -> Option<Answer> {
        if path.contains(&digest_of(self.config.as_bytes())) {
            return Some(Answer::new("200 OK", self.config.as_bytes()));
        }
        let head = format!("200 OK\r\ndocker-content-digest: {}", self.digest());
        path.contains("/manifests/").then(|| Answer::new(&head, self.manifest.as_bytes()))
    }

    /// The answer of a registry that does everything right.
    pub(crate) fn answer(&self, request: &Request) -> Answer {
        if let Some(document) = self.document(&request.path) {
            return document;
        }
        match self.layers.iter().find(|layer| request.path.contains(&digest_of(layer))) {
            Some(layer) => part(layer, request.from),
            None => Answer::new("404 Not Found", b""),
        }
    }
}

/// All of it, or from a byte on.
pub(crate) fn part(whole: &[u8], from: Option<usize>) -> Answer {
    match from {
        None => Answer::new("200 OK", whole),
        Some(from) if from < whole.len() => part_to(whole, from, whole.len()),
        Some(_) => Answer::new("416 Range Not Satisfiable", b""),
    }
}

/// The bytes from one up to before another.
pub(crate) fn part_to(whole: &[u8], from: usize, to: usize) -> Answer {
    let range = format!("{from}-{}/{}", to - 1, whole.len());
    Answer::new(&format!("206 Partial Content\r\ncontent-range: bytes {range}"), &whole[from..to])
}
