//! Images in shapes that docker-registry's tests do not show: layers plain, packed in any way, listed twice.

use std::io::Write;

use imagesvc::Config;

use super::DEADLINE;
use super::image::{Image, TAR, tar_of};
use super::node::Node;
use super::scripted::Scripted;

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plain_layer_that_is_listed_twice_is_pulled() {
    let layer = tar_of(b"x");
    let image = Image::of(&[&layer, &layer]);
    let registry = Scripted::start(move |request| image.answer(request)).await;
    let folder = tempfile::tempdir().unwrap();
    let node = Node::open(folder.path(), Config::default()).await;
    let reference = format!("{}/app:1", registry.address);
    tokio::time::timeout(DEADLINE, node.pull(&reference)).await.expect("the pull ends").unwrap();
    assert!(node.service.resolve(&reference).unwrap().chain_id.is_some());
    let asked = registry.asked().iter().filter(|(path, _)| path.contains("/blobs/")).count();
    assert_eq!(asked, 2, "the configuration and the layer, once");
    node.service.remove(&reference).await.unwrap();
    assert_eq!(node.leftovers().await, Vec::<String>::new());
    node.store.close();
}

/// Each layer's file is of its own, so that none is taken for another.
#[tokio::test(flavor = "multi_thread")]
async fn layers_of_every_media_type_are_unpacked() {
    let tars: Vec<Vec<u8>> = (0..8_u8).map(|n| tar_of(&[b'a' + n; 3000])).collect();
    let zstd = |bytes: &[u8]| zstd::encode_all(bytes, 3).unwrap();
    let frames = |bytes: &[u8]| [zstd(&bytes[..1000]), zstd(&bytes[1000..])].concat();
    let layers: Vec<(&str, Vec<u8>, &[u8])> = vec![
        (TAR, tars[0].clone(), &tars[0]),
        ("application/vnd.oci.image.layer.v1.tar+gzip", gzip(&tars[1]), &tars[1]),
        ("application/vnd.oci.image.layer.v1.tar+zstd", zstd(&tars[2]), &tars[2]),
        ("application/vnd.oci.image.layer.v1.tar+zstd", frames(&tars[3]), &tars[3]),
        ("application/vnd.docker.image.rootfs.diff.tar", tars[4].clone(), &tars[4]),
        ("application/vnd.docker.image.rootfs.diff.tar.gzip", gzip(&tars[5]), &tars[5]),
        ("application/vnd.docker.image.rootfs.diff.tar.zstd", zstd(&tars[6]), &tars[6]),
        // Some tools name what they have not compressed.
        ("application/vnd.docker.image.rootfs.diff.tar.gzip", tars[7].clone(), &tars[7]),
    ];
    let image = Image::packed(&layers);
    let registry = Scripted::start(move |request| image.answer(request)).await;
    let folder = tempfile::tempdir().unwrap();
    let node = Node::open(folder.path(), Config::default()).await;
    let reference = format!("{}/app:1", registry.address);
    tokio::time::timeout(DEADLINE, node.pull(&reference)).await.expect("the pull ends").unwrap();
    let snapshots = node.parts.snapshotter.list(&runtime_core::ids::Namespace::k8s()).unwrap();
    assert_eq!(snapshots.len(), tars.len());
    node.service.remove(&reference).await.unwrap();
    assert_eq!(node.leftovers().await, Vec::<String>::new());
    node.store.close();
}
