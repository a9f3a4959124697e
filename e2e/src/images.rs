//! Test images, built here from packages of the machine: Debian's busybox, its libraries, and a few small files.
//!
//! Applets are hard links, so that a mount over one applet hides that one only. An image is its blobs and a
//! manifest; the registry pushes them. Each variant carries a file with its name, so that no two share an id.

pub mod critest;

use std::collections::BTreeSet;
use std::fs;
use std::sync::OnceLock;

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::layer::{Layer, gzip};
use crate::process;

/// Media type of an OCI manifest.
pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// Media type of an OCI index.
pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// Bytes and their digest.
#[derive(Clone)]
pub struct Blob {
    pub digest: String,
    pub bytes: Vec<u8>,
}

impl Blob {
    /// Bytes with their SHA-256.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self { digest: digest(&bytes), bytes }
    }

    /// The descriptor that names it in a manifest.
    pub fn descriptor(&self, media_type: &str) -> Value {
        json!({"mediaType": media_type, "digest": self.digest, "size": self.bytes.len()})
    }
}

/// A layer in both shapes: compressed for the registry, and its diff ID for the config.
#[derive(Clone)]
pub struct BuiltLayer {
    blob: Blob,
    diff_id: String,
}

impl BuiltLayer {
    /// Builds a layer of entries.
    pub fn new(layer: &Layer) -> Self {
        let tar = layer.tar();
        Self { diff_id: digest(&tar), blob: Blob::new(gzip(&tar)) }
    }

    /// Bytes that the registry gives out for the archive `tar`, whatever they are.
    pub fn packed(bytes: Vec<u8>, tar: &[u8]) -> Self {
        Self { diff_id: digest(tar), blob: Blob::new(bytes) }
    }

    /// The same bytes under a diff ID that is not theirs.
    pub fn with_wrong_diff_id(mut self) -> Self {
        self.diff_id = digest(b"something else");
        self
    }

    /// The blob as the registry has it.
    pub fn blob(&self) -> &Blob {
        &self.blob
    }
}

/// An image ready to be pushed.
#[derive(Clone)]
pub struct Image {
    layers: Vec<BuiltLayer>,
    config: Blob,
    manifest: Blob,
}

impl Image {
    /// An image of layers and the `config` part of its configuration (Env, Cmd, User …).
    pub fn new(layers: Vec<BuiltLayer>, config: &Value) -> Self {
        let diff_ids: Vec<&str> = layers.iter().map(|layer| layer.diff_id.as_str()).collect();
        let config = json!({
            "created": "2024-01-01T00:00:00Z", "architecture": "amd64", "os": "linux",
            "config": config, "rootfs": {"type": "layers", "diff_ids": diff_ids},
        });
        Self::from_config(layers, Blob::new(config.to_string().into_bytes()))
    }

    /// An image whose config is any bytes at all.
    pub fn from_config(layers: Vec<BuiltLayer>, config: Blob) -> Self {
        let descriptors: Vec<Value> = layers.iter().map(|layer| layer.blob.descriptor(LAYER)).collect();
        let manifest = json!({
            "schemaVersion": 2, "mediaType": MANIFEST,
            "config": config.descriptor(CONFIG), "layers": descriptors,
        });
        Self { layers, config, manifest: Blob::new(manifest.to_string().into_bytes()) }
    }

    /// What CRI calls the image's id: the digest of its config.
    pub fn id(&self) -> &str {
        &self.config.digest
    }

    /// The manifest.
    pub fn manifest(&self) -> &Blob {
        &self.manifest
    }

    /// The configuration.
    pub fn config(&self) -> &Blob {
        &self.config
    }

    /// The same blobs under any manifest at all.
    pub fn with_manifest(self, manifest: impl Into<Vec<u8>>) -> Self {
        Self { manifest: Blob::new(manifest.into()), ..self }
    }

    /// All blobs besides the manifest.
    pub fn blobs(&self) -> impl Iterator<Item = &Blob> {
        self.layers.iter().map(BuiltLayer::blob).chain([&self.config])
    }
}

/// An index with this image for the machine the tests run on, and a decoy for one that does not exist.
pub fn index_of(image: &Image, decoy: &Image) -> Blob {
    let entry = |image: &Image, architecture: &str| {
        let mut entry = image.manifest().descriptor(MANIFEST);
        entry["platform"] = json!({"os": "linux", "architecture": architecture});
        entry
    };
    let manifests = [entry(decoy, "s390x"), entry(image, "amd64")];
    Blob::new(
        json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests}).to_string().into_bytes(),
    )
}

/// `sha256:` and the hex digest of bytes.
pub fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(bytes)))
}

/// Busybox with a shell as its default command; `name` makes its id its own.
pub fn busybox(name: &str) -> Image {
    busybox_with(name, &json!({"Env": ["PATH=/bin:/usr/bin", "IMAGE_SAYS=hello"], "Cmd": ["sh"]}))
}

/// Busybox with another configuration.
pub fn busybox_with(name: &str, config: &Value) -> Image {
    Image::new(vec![base().clone(), own_layer(name)], config)
}

/// Three layers in which the upper ones replace, remove and hide what the lower ones have.
pub fn whiteouts() -> Image {
    let lower = Layer::new()
        .folder("data", 0o755)
        .file("data/kept", 0o644, "kept\n")
        .file("data/removed", 0o644, "removed\n")
        .file("data/replaced", 0o644, "old\n")
        .folder("data/hidden", 0o755)
        .file("data/hidden/below", 0o644, "below\n")
        .file_of(1000, "data/owned", 0o640, "owned\n");
    let upper = Layer::new()
        .whiteout("data/removed")
        .file("data/replaced", 0o644, "new\n")
        .opaque("data/hidden")
        .file("data/hidden/above", 0o644, "above\n");
    let layers = vec![base().clone(), BuiltLayer::new(&lower), BuiltLayer::new(&upper)];
    Image::new(layers, &json!({"Env": ["PATH=/bin"], "Cmd": ["sh"]}))
}

/// A layer of one file that makes an image's id its own.
pub fn own_layer(name: &str) -> BuiltLayer {
    BuiltLayer::new(&Layer::new().file(&format!("etc/image-{name}"), 0o644, format!("{name}\n")))
}

/// The busybox layer, built once in a process.
pub fn base() -> &'static BuiltLayer {
    static BASE: OnceLock<BuiltLayer> = OnceLock::new();
    BASE.get_or_init(|| BuiltLayer::new(&base_layer()))
}

const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nwww-data:x:33:33:www-data:/var/www:/bin/sh\n\
    default-user:x:1000:1000::/home/default-user:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/bin/sh\n";
const GROUP: &str =
    "root:x:0:\nwww-data:x:33:\ndefault-user:x:1000:\nextra:x:50000:default-user\nnogroup:x:65534:\n";

fn base_layer() -> Layer {
    const BUSYBOX: &str = "/usr/bin/busybox";
    let folders =
        ["bin", "dev", "etc", "home", "proc", "root", "run", "sys", "usr", "usr/bin", "var", "var/www"];
    let mut layer = folders.iter().fold(Layer::new(), |layer, folder| layer.folder(folder, 0o755));
    layer = layer.folder("tmp", 0o1777).symlink("var/run", "../run").file("etc/passwd", 0o644, PASSWD).file(
        "etc/group",
        0o644,
        GROUP,
    );
    for library in libraries(BUSYBOX) {
        let path = library.trim_start_matches('/').to_owned();
        layer = parents(&path).into_iter().fold(layer, |layer, folder| layer.folder(&folder, 0o755));
        layer = layer.file(&path, 0o755, read(&library));
    }
    layer = layer.file("bin/busybox", 0o755, read(BUSYBOX));
    // Debian's busybox has neither of them.
    layer = layer.file("bin/pgrep", 0o755, "#!/bin/sh\nexec pidof \"$@\"\n").file(
        "bin/ipcs",
        0o755,
        "#!/bin/sh\nexec cat /proc/sysvipc/shm\n",
    );
    let applets = process::run(process::command(BUSYBOX).arg("--list"));
    let links = applets.lines().filter(|name| *name != "busybox" && !name.contains('/'));
    links.fold(layer, |layer, name| layer.hardlink(&format!("bin/{name}"), "bin/busybox"))
}

fn parents(path: &str) -> Vec<String> {
    path.match_indices('/').map(|(at, _)| path[..at].to_owned()).collect()
}

/// The absolute paths that the loader would open for a program.
fn libraries(program: &str) -> BTreeSet<String> {
    let listing = process::run(process::command("ldd").arg(program));
    listing.split_whitespace().filter(|word| word.starts_with('/')).map(str::to_owned).collect()
}

fn read(path: &str) -> Vec<u8> {
    fs::read(path).unwrap_or_else(|error| panic!("read {path} (Debian packages busybox and libc6): {error}"))
}
