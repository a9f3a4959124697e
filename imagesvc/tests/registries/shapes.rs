//! What registries may do and real ones seldom do: layers that are not compressed, parts that do not fit. Needs root.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/node.rs"]
mod node;
#[path = "support/scripted.rs"]
mod scripted;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use imagesvc::Config;
use node::Node;
use runtime_core::ids::Namespace;
use scripted::Scripted;
use sha2::{Digest, Sha256};

/// Far above what a pull over loopback needs.
const DEADLINE: Duration = Duration::from_secs(20);

fn digest_of(bytes: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(bytes)))
}

/// A layer of one file.
fn tar_of(content: &[u8]) -> Vec<u8> {
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

/// An image of plain tars: what a registry says about it, by the end of the path.
#[derive(Clone)]
struct Image {
    config: String,
    manifest: String,
}

impl Image {
    fn of(layers: &[&[u8]]) -> Self {
        let quoted: Vec<String> = layers.iter().map(|layer| format!("\"{}\"", digest_of(layer))).collect();
        let config = format!(
            r#"{{"architecture":"amd64","os":"linux","config":{{}},"rootfs":{{"type":"layers","diff_ids":[{}]}}}}"#,
            quoted.join(",")
        );
        let descriptor = |media: &str, bytes: &[u8]| {
            let (digest, size) = (digest_of(bytes), bytes.len());
            format!(r#"{{"mediaType":"{media}","digest":"{digest}","size":{size}}}"#)
        };
        let layers: Vec<String> =
            layers.iter().map(|layer| descriptor("application/vnd.oci.image.layer.v1.tar", layer)).collect();
        let manifest = format!(
            r#"{{"schemaVersion":2,"config":{},"layers":[{}]}}"#,
            descriptor("application/vnd.oci.image.config.v1+json", config.as_bytes()),
            layers.join(",")
        );
        Self { config, manifest }
    }

    /// The answer to everything but layers.
    fn document(&self, path: &str) -> Option<scripted::Answer> {
        let is_config = path.ends_with(&digest_of(self.config.as_bytes()));
        if is_config {
            return Some(("200 OK".to_owned(), self.config.clone().into()));
        }
        let digest = digest_of(self.manifest.as_bytes());
        let head = format!("200 OK\r\ndocker-content-digest: {digest}");
        path.contains("/manifests/").then(|| (head, self.manifest.clone().into()))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plain_layer_that_is_listed_twice_is_pulled() {
    let layer = tar_of(b"x");
    let image = Image::of(&[&layer, &layer]);
    let registry =
        Scripted::start(move |path, _| image.document(path).unwrap_or(("200 OK".to_owned(), layer.clone())))
            .await;
    let folder = tempfile::tempdir().unwrap();
    let node = Node::open(folder.path(), Config::default()).await;
    let reference = format!("{}/app:1", registry.address);
    tokio::time::timeout(DEADLINE, node.pull(&reference)).await.expect("the pull ends").unwrap();
    assert!(node.service.resolve(&reference).unwrap().chain_id.is_some());
    let asked = registry.asked.lock().unwrap().iter().filter(|(path, _)| path.contains("/blobs/")).count();
    assert_eq!(asked, 2, "the configuration and the layer, once");
    node.service.remove(&reference).await.unwrap();
    assert_eq!(node.leftovers().await, Vec::<String>::new());
    node.store.close();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_beginning_is_fetched_again() {
    const KEPT: usize = 700;
    let layer = tar_of(b"x");
    let image = Image::of(&[&layer]);
    let parts = AtomicUsize::new(0);
    let (digest, whole) = (digest_of(&layer), layer.clone());
    let registry = Scripted::start(move |path, _| {
        image.document(path).unwrap_or_else(|| match parts.fetch_add(1, Ordering::SeqCst) {
            0 => ("206 Partial Content".to_owned(), whole[KEPT..].to_vec()),
            _ => ("200 OK".to_owned(), whole.clone()),
        })
    })
    .await;
    let folder = tempfile::tempdir().unwrap();
    let node = Node::open(folder.path(), Config::default()).await;
    let mut ingest = node.parts.content.ingest(&Namespace::k8s(), &format!("layer-{digest}")).unwrap();
    ingest.write(&vec![b'?'; KEPT]).unwrap();
    drop(ingest);
    node.pull(&format!("{}/app:1", registry.address)).await.unwrap();
    let asked = registry.asked.lock().unwrap().iter().filter(|(path, _)| path.ends_with(&digest)).count();
    assert_eq!(asked, 2, "the rest, then all of it");
    node.store.close();
}
