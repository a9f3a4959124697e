//! Registries that lie, never end or lead astray: each gives a clear error of the right kind and leaves nothing.

use runtime_core::error::ErrorKind::{self, *};

use super::image::{Image, TAR, descriptor, digest_of, part, tar_of};
use super::node::Node;
use super::scripted::{Answer, End, Request, Scripted};
use super::{DEADLINE, quick, text};

type Script = Box<dyn Fn(&Request) -> Answer + Send + Sync>;

/// What is done, what the error says, and its kind.
struct Case(&'static str, Script, &'static str, ErrorKind);

fn layer() -> Vec<u8> {
    tar_of(b"x")
}

fn image() -> Image {
    Image::of(&[&layer()])
}

/// A good registry but for what `instead` answers.
fn but(instead: impl Fn(&Request) -> Option<Answer> + Send + Sync + 'static) -> Script {
    let image = image();
    Box::new(move |request| instead(request).unwrap_or_else(|| image.answer(request)))
}

/// A good registry but for its blob of these bytes.
fn but_blob(good: &[u8], answer: impl Fn() -> Answer + Send + Sync + 'static) -> Script {
    let digest = digest_of(good);
    but(move |request| request.path.contains(&digest).then(&answer))
}

fn but_config(answer: impl Fn() -> Answer + Send + Sync + 'static) -> Script {
    but_blob(image().config.as_bytes(), answer)
}

fn but_layer(answer: impl Fn() -> Answer + Send + Sync + 'static) -> Script {
    but_blob(&layer(), answer)
}

/// A good registry whose manifest is this text, under its right digest.
fn but_manifest(manifest: String) -> Script {
    let image = Image { manifest, ..image() };
    Box::new(move |request| image.answer(request))
}

/// A good registry with one layer of these bytes, whatever they are.
fn but_bytes(bytes: &'static [u8]) -> Script {
    let image = Image::packed(&[(TAR, bytes.to_vec(), bytes)]);
    Box::new(move |request| image.answer(request))
}

fn ok(bytes: &[u8]) -> Answer {
    Answer::new("200 OK", bytes)
}

fn redirect(target: &'static str) -> impl Fn() -> Answer {
    move || Answer::new(&format!("307 Temporary Redirect\r\nlocation: {target}"), b"")
}

/// A manifest with this configuration's descriptor and these layers'.
fn manifest(config: &str, layers: &str) -> String {
    format!(r#"{{"schemaVersion":2,"config":{config},"layers":[{layers}]}}"#)
}

fn answers() -> Vec<Case> {
    let manifests = |answer: fn() -> Answer| {
        but(move |request| (request.path.contains("/manifests/") && request.method == "GET").then(answer))
    };
    let changed = |bytes: &[u8]| {
        let mut bytes = bytes.to_vec();
        *bytes.last_mut().unwrap() ^= 1;
        bytes
    };
    let (other_config, other_layer) = (changed(image().config.as_bytes()), changed(&layer()));
    vec![
        Case("other manifest", manifests(|| ok(b"{}")), "instead of", DataLoss),
        Case(
            "endless manifest",
            manifests(|| ok(&[b' '; 4096]).ending(End::Endless)),
            "more than the",
            ResourceExhausted,
        ),
        Case("half a manifest", manifests(|| ok(&[b' '; 99]).ending(End::Close(50))), "instead of", DataLoss),
        Case(
            "cut manifest",
            manifests(|| ok(&[b' '; 99]).ending(End::Reset(50))),
            "broke off its answer",
            Unavailable,
        ),
        Case(
            "endless error",
            manifests(|| Answer::new("500 No", &[b' '; 4096]).ending(End::Endless)),
            "answered 500",
            Unavailable,
        ),
        Case("other configuration", but_config(move || ok(&other_config)), "digest", DataLoss),
        Case(
            "endless configuration",
            but_config(|| ok(&[b' '; 4096]).ending(End::Endless)),
            "bytes, expected",
            DataLoss,
        ),
        Case("other layer", but_layer(move || ok(&other_layer)), "digest", DataLoss),
        Case("short layer", but_layer(|| ok(&layer()[..99])), "99 bytes, expected 2048", DataLoss),
        Case(
            "cut layer",
            but_layer(|| part(&layer(), None).ending(End::Close(99))),
            "after 99 of 2048 bytes",
            Unavailable,
        ),
        Case(
            "endless layer",
            but_layer(|| ok(&layer()).ending(End::Endless)),
            "bytes, expected 2048",
            DataLoss,
        ),
        Case(
            "a part unasked",
            but_layer(|| Answer::new("206 Part", &layer())),
            "answered 206",
            FailedPrecondition,
        ),
        Case("redirect in a circle", but_layer(redirect("")), "too many", FailedPrecondition),
        Case(
            "redirect to a file",
            but_layer(redirect("file:///etc/passwd")),
            "other than http",
            FailedPrecondition,
        ),
        Case("redirect to nowhere", but_layer(redirect("http://[")), "not valid", FailedPrecondition),
        Case("layer forbidden", but_layer(|| Answer::new("403 No", b"")), "answered 403", PermissionDenied),
        Case("layer missing", but_layer(|| Answer::new("404 No", b"")), "answered 404", NotFound),
    ]
}

fn documents() -> Vec<Case> {
    let (image, layer) = (image(), layer());
    let config = descriptor("c", image.config.as_bytes());
    let one = descriptor(TAR, &layer);
    let sized = |size: &str| {
        let digest = digest_of(&layer);
        manifest(&config, &format!(r#"{{"mediaType":"{TAR}","digest":"{digest}","size":{size}}}"#))
    };
    let big_config = config.replace(&format!(r#""size":{}"#, image.config.len()), r#""size":4194305"#);
    let index = |entry: &str| format!(r#"{{"schemaVersion":2,"manifests":[{entry}]}}"#);
    let itself = |manifest: &str| descriptor("m", manifest.as_bytes());
    let small = itself("{}").replace(&digest_of(b"{}"), &image.digest());
    // The index is at its own digest, the manifest below at its.
    let (below, above) = (image.clone(), Image { manifest: index(&small), ..image.clone() });
    let lying_index: Script = Box::new(move |request| {
        if request.path.contains(&below.digest()) { below.answer(request) } else { above.answer(request) }
    });
    vec![
        Case("neither", but_manifest("{}".into()), "schema 0", Unimplemented),
        Case("no JSON", but_manifest("<html>".into()), "is not valid", DataLoss),
        Case(
            "schema 1",
            but_manifest(r#"{"schemaVersion":1,"fsLayers":[]}"#.into()),
            "schema 1",
            Unimplemented,
        ),
        Case(
            "manifest and index",
            but_manifest(manifest(&config, &one).replace(r#""layers""#, r#""manifests":[],"layers""#)),
            "ambiguous",
            DataLoss,
        ),
        Case(
            "other media type",
            but_manifest(
                manifest(&config, &one).replace(r#""config""#, r#""mediaType":"text/html","config""#),
            ),
            "unsupported media type",
            Unimplemented,
        ),
        Case("no layers", but_manifest(manifest(&config, "")), "0 layers but", DataLoss),
        Case(
            "a layer too many",
            but_manifest(manifest(&config, &format!("{one},{one}"))),
            "2 layers but",
            DataLoss,
        ),
        Case(
            "10 000 layers",
            but_manifest(manifest(&config, &vec![one.as_str(); 10_000].join(","))),
            "10000 layers, more than the supported 500",
            ResourceExhausted,
        ),
        Case("layer said too small", but_manifest(sized("99")), "expected 99", DataLoss),
        Case(
            "layer said too large",
            but_manifest(sized("1152921504606846976")),
            "2048 bytes, expected",
            DataLoss,
        ),
        Case("negative size", but_manifest(sized("-1")), "is not valid", DataLoss),
        Case("size that is none", but_manifest(sized("1e999")), "is not valid", DataLoss),
        Case(
            "huge configuration",
            but_manifest(manifest(&big_config, &one)),
            "more than the 4194304",
            ResourceExhausted,
        ),
        Case(
            "digest with a path",
            but_manifest(manifest(&config, &one.replace(&digest_of(&layer), "sha256:../../etc"))),
            "is not valid",
            DataLoss,
        ),
        Case("index with a wrong size", lying_index, "its index says 2", DataLoss),
        Case("empty index", but_manifest(index("")), "has no image for linux/", NotFound),
        Case("no archive", but_bytes(b"plain text that is not a tar"), "cannot be unpacked", DataLoss),
        Case("bzip2", but_bytes(b"BZh91AY&SY"), "compression bzip2 is not supported", Unimplemented),
        Case("broken gzip", but_bytes(b"\x1f\x8b????????????"), "cannot be unpacked", DataLoss),
        Case("broken zstd", but_bytes(b"\x28\xb5\x2f\xfd????????????"), "cannot be unpacked", DataLoss),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn lies_are_named_and_leave_nothing() {
    for Case(name, script, said, kind) in answers().into_iter().chain(documents()) {
        let registry = Scripted::start(script).await;
        let folder = tempfile::tempdir().unwrap();
        let node = Node::open(folder.path(), quick()).await;
        let pulled = tokio::time::timeout(DEADLINE, node.pull(&format!("{}/app:1", registry.address))).await;
        let Err(error) = pulled.unwrap_or_else(|_| panic!("{name}: does not end")) else {
            panic!("{name}: is pulled");
        };
        let message = text(&error);
        assert!(message.contains(said) && message.contains("/app:1"), "{name}: {message}");
        assert_eq!(error.kind(), kind, "{name}: {message}");
        assert_eq!(node.service.list(None).unwrap(), [], "{name}");
        let kept = node.leftovers().await;
        // Only what can be gone on with stays, until it is too old.
        assert!(kept.iter().all(|path| path.contains("/ingest/")), "{name}: {kept:?}");
        assert!(kept.is_empty() || message.contains("after 99 of"), "{name}: {kept:?}");
        node.store.close();
    }
}
