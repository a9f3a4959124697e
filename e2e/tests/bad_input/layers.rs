//! Layers that reach out of their root, are no archives, or unfold into far more than they are.

use e2e::images::{BuiltLayer, Image, base, own_layer};
use e2e::layer::{EntryType, Layer, gzip};
use e2e::node::Node;
use e2e::pod::container;
use serde_json::json;
use tonic::Code;

use super::Outcome::{Contained, Refused};
use super::pulls::{self, Pull};
use super::{Outcome, bounds};

/// A megabyte of gzip unfolds into at most this.
const GZIP_BOMB: usize = 256 << 20;
/// Blocks of 128 KiB in the zstd bomb, which cost it 4 bytes each: 8 GiB.
const ZSTD_BLOCKS: usize = 64 << 10;
/// What stays as it is.
const UNTOUCHED: &str = "untouched";

#[test]
fn layers_stay_in_their_root_and_are_bounded() {
    let node = Node::bare();
    let victim = node.folder().join("victim/file");
    e2e::fixture::write(&victim, UNTOUCHED);
    let outside = node.folder().join("victim").to_string_lossy().into_owned();
    let table = escapes(&outside).into_iter().chain(bytes());
    pulls::run(&node, table.collect());
    assert_eq!(e2e::fixture::read(&victim), UNTOUCHED);
    let there = std::fs::read_dir(node.folder().join("victim")).expect("the folder is there").count();
    assert_eq!(there, 1, "something was written outside");
}

fn layer(name: &'static str, layer: Layer, outcome: Outcome) -> Pull {
    let layers = vec![own_layer(name), BuiltLayer::new(&layer)];
    Pull::image(name, Image::new(layers, &json!({"Cmd": ["sh"]})), outcome)
}

/// `outside` is a folder of the node with one file.
fn escapes(outside: &str) -> Vec<Pull> {
    let refused = |word| Refused(Code::DataLoss, word);
    let file = EntryType::Regular;
    let door = || Layer::new().symlink("door", outside);
    let upwards = format!("../../../../../../../../../..{outside}/file");
    let sparse = Layer::new().record("GNU.sparse.map", b"0,1");
    let overlay = Layer::new().record("SCHILY.xattr.trusted.overlay.redirect", b"/etc");
    vec![
        layer("a path upwards", Layer::new().raw(file, "../../../file", ""), refused("leads upwards")),
        layer("a path that comes back", Layer::new().raw(file, "a/../file", ""), refused("leads upwards")),
        layer("an absolute path", Layer::new().raw(file, &format!("{outside}/new"), ""), Contained),
        layer("a file through a link", door().file("door/file", 0o644, "taken over"), Contained),
        layer("a folder over a link", door().folder("door", 0o777).file("door/new", 0o644, ""), Contained),
        layer("a link to upwards", Layer::new().symlink("up", &upwards).raw(file, "up", ""), Contained),
        layer(
            "a hard link to outside",
            Layer::new().raw(EntryType::Link, "link", &upwards),
            refused("hard link to outside"),
        ),
        layer(
            "a hard link through a link",
            door().raw(EntryType::Link, "link", "door/file"),
            refused("not in the layer"),
        ),
        layer("a whiteout of what is outside", door().whiteout("door/file"), Contained),
        layer(
            "a whiteout that hides upwards",
            Layer::new().raw(file, ".wh...", ""),
            refused("hides nothing"),
        ),
        layer("a whiteout of nothing", Layer::new().raw(file, "etc/.wh.", ""), refused("hides nothing")),
        layer("a folder outside made opaque", door().file("door/.wh..wh..opq", 0o644, ""), Contained),
        layer("a file as the root", Layer::new().raw(file, "./", ""), Contained),
        layer("a link as the root", Layer::new().raw(EntryType::Symlink, ".", outside), refused("root")),
        layer("attributes of overlayfs", overlay.file("etc/x", 0o644, ""), refused("overlayfs")),
        layer(
            "a type that nobody knows",
            Layer::new().raw(EntryType::new(b'Z'), "file", ""),
            refused("not known"),
        ),
        layer(
            "a path of 2047 folders",
            Layer::new().record("path", "d/".repeat(2047).as_bytes()).raw(EntryType::Directory, "d", ""),
            refused("deeper than the supported"),
        ),
        layer("a sparse file", sparse.file("file", 0o644, ""), refused("sparse")),
    ]
}

/// A layer of these bytes, which are said to be the archive `tar`.
fn packed(name: &'static str, bytes: Vec<u8>, tar: &[u8], outcome: Outcome) -> Pull {
    Pull::image(name, Image::new(vec![BuiltLayer::packed(bytes, tar)], &json!({})), outcome)
}

fn bytes() -> Vec<Pull> {
    let plain = |name, bytes: &[u8], code, word| packed(name, bytes.to_vec(), bytes, Refused(code, word));
    let zeros = Layer::new().file("zeros", 0o644, vec![0; GZIP_BOMB]).tar();
    // A name so long that it stands in front of its entry: a quarter of a gigabyte.
    let name = Layer::new().raw(EntryType::GNULongName, "name", "").tar();
    let name = [&with_size(&name[..512], GZIP_BOMB), &vec![b'x'; GZIP_BOMB][..], &[0; 1024]].concat();
    vec![
        plain("no archive", b"plain text that is not an archive", Code::DataLoss, "cannot be unpacked"),
        plain("broken gzip", b"\x1f\x8b????????????", Code::DataLoss, "cannot be unpacked"),
        plain("broken zstd", b"\x28\xb5\x2f\xfd????????????", Code::DataLoss, "cannot be unpacked"),
        plain("bzip2", b"BZh91AY&SY", Code::Unimplemented, "compression bzip2"),
        packed("half an archive", gzip(&zeros[..4096]), &zeros[..4096], Refused(Code::DataLoss, "unpacked")),
        packed("a gzip bomb", gzip(&zeros), &zeros, Contained),
        packed("a gzip bomb in a name", gzip(&name), &name, Refused(Code::ResourceExhausted, "headers")),
        packed("a zstd bomb", zstd_bomb(), b"", Refused(Code::ResourceExhausted, "more than the supported")),
    ]
}

/// A header of a file of another size.
fn with_size(header: &[u8], size: usize) -> Vec<u8> {
    let mut header = tar_header(header);
    header.set_size(size as u64);
    header.set_cksum();
    header.as_bytes().to_vec()
}

fn tar_header(bytes: &[u8]) -> e2e::layer::Header {
    let mut header = e2e::layer::Header::new_gnu();
    header.as_mut_bytes().copy_from_slice(bytes);
    header
}

/// One frame: the header of a file of 8 GiB as it is, and its zeros as blocks of one repeated byte (RFC 8878, 3.1.1).
fn zstd_bomb() -> Vec<u8> {
    const BLOCK: usize = 128 << 10;
    const RAW: u32 = 0;
    const REPEATED: u32 = 1;
    let block = |kind: u32, size: usize, last: u32| {
        let size = u32::try_from(size).expect("a block is small");
        (size << 3 | kind << 1 | last).to_le_bytes()[..3].to_vec()
    };
    let header = Layer::new().raw(EntryType::Regular, "zeros", "").tar();
    let header = with_size(&header[..512], ZSTD_BLOCKS * BLOCK);
    // The magic number, a frame without sizes, and a window of 128 KiB.
    let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x38];
    frame.extend(block(RAW, header.len(), 0));
    frame.extend(header);
    for _ in 0..ZSTD_BLOCKS {
        frame.extend(block(REPEATED, BLOCK, 0));
        frame.push(0);
    }
    frame.extend(block(RAW, 0, 1));
    frame
}

/// Devices are ordinary in layers; that a container may not open them is what counts.
#[test]
fn device_nodes_of_an_image_cannot_be_opened() {
    let node = Node::start();
    let devices = Layer::new()
        .device(EntryType::Char, "memory", (1, 1))
        .device(EntryType::Char, "kernel-log", (1, 11))
        .device(EntryType::Block, "disk", (254, 0))
        .device(EntryType::Char, "unknown", (4095, 1_048_575));
    let image = Image::new(vec![base().clone(), BuiltLayer::new(&devices)], &json!({"Env": ["PATH=/bin"]}));
    let (reference, _) = node.provide("docker.io", "library/devices", "1", &image);
    let pod = node.run_pod("devices");
    let probe =
        "cd /; for it in memory kernel-log disk unknown; do head -c 1 $it 2>&1; echo; done; ls -l disk";
    let mut config = container("probe", &["sh", "-c", probe]);
    config.image = Some(e2e::client::image_spec(&reference));
    let id = pod.start(&config);
    e2e::pod::wait_exited(&bounds::client(&node), &id);
    let log = pod.log("probe");
    assert_eq!(log.matches("Operation not permitted").count(), 4, "{log}");
    assert!(log.contains("254"), "the node is there: {log}");
}
