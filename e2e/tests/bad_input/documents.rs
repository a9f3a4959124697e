//! Manifests, indexes and configurations that are not what they seem: each under its right digest.

use e2e::images::{Blob, INDEX, Image, MANIFEST, own_layer};
use e2e::node::Node;
use serde_json::{Value, json};
use tonic::Code;

use super::Outcome::Refused;
use super::pulls::{self, Pull};

#[test]
fn documents_that_cannot_be_used_are_refused() {
    let node = Node::bare();
    let table = manifests().into_iter().chain(configurations());
    pulls::run(&node, table.collect());
}

/// A small image whose manifest is changed.
fn changed(name: &'static str, change: fn(&mut Value), code: Code, word: &'static str) -> Pull {
    let image = pulls::small(name);
    let mut manifest = serde_json::from_slice(&image.manifest().bytes).expect("a manifest is JSON");
    change(&mut manifest);
    Pull::image(name, image.with_manifest(manifest.to_string()), Refused(code, word))
}

/// A small image with any bytes as its manifest.
fn replaced(name: &'static str, manifest: &str, code: Code, word: &'static str) -> Pull {
    Pull::image(name, pulls::small(name).with_manifest(manifest), Refused(code, word))
}

fn manifests() -> Vec<Pull> {
    use Code::{DataLoss, NotFound, ResourceExhausted, Unimplemented};
    let empty_index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": []}).to_string();
    let deep = "[".repeat(100_000);
    vec![
        replaced("no JSON", "<html>", DataLoss, "is not valid"),
        replaced("cut JSON", r#"{"schemaVersion": 2, "mediaType": "app"#, DataLoss, "is not valid"),
        replaced("a list", "[]", DataLoss, "is not valid"),
        replaced("brackets without end", &deep, DataLoss, "is not valid"),
        replaced("nothing in it", "{}", Unimplemented, "schema 0"),
        replaced("the first schema", r#"{"schemaVersion":1,"fsLayers":[]}"#, Unimplemented, "schema 1"),
        replaced("an index of nothing", &empty_index, NotFound, "has no image for"),
        changed("manifest and index at once", |it| it["manifests"] = json!([]), DataLoss, "ambiguous"),
        changed(
            "another media type",
            |it| it["mediaType"] = json!("text/html"),
            Unimplemented,
            "unsupported media type",
        ),
        changed("no layer for a diff id", |it| it["layers"] = json!([]), DataLoss, "0 layers but"),
        changed(
            "10 000 layers",
            |it| it["layers"] = json!(vec![it["layers"][0].clone(); 10_000]),
            ResourceExhausted,
            "10000 layers, more than the supported 500",
        ),
        changed(
            "layer said to be smaller",
            |it| it["layers"][0]["size"] = json!(9),
            DataLoss,
            "bytes, expected 9",
        ),
        changed(
            "layer said to be of an exbibyte",
            |it| it["layers"][0]["size"] = json!(1_u64 << 60),
            DataLoss,
            "bytes, expected 1152921504606846976",
        ),
        changed(
            "layer of less than nothing",
            |it| it["layers"][0]["size"] = json!(-1),
            DataLoss,
            "not valid",
        ),
        changed(
            "digest that is a path",
            |it| it["layers"][0]["digest"] = json!("sha256:../../../../etc/passwd"),
            DataLoss,
            "not valid",
        ),
        changed(
            "configuration said to be of 5 MiB",
            |it| it["config"]["size"] = json!(5 << 20),
            ResourceExhausted,
            "more than the 4194304",
        ),
        changed(
            "an index with a manifest of another size",
            |it| {
                let (digest, size) = (Blob::new(it.to_string().into_bytes()).digest, 2);
                let entry = json!({"mediaType": MANIFEST, "digest": digest, "size": size});
                *it = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry]});
            },
            DataLoss,
            "instead of",
        ),
    ]
}

/// An image whose configuration is this.
fn configured(name: &'static str, config: impl Into<Vec<u8>>, word: &'static str) -> Pull {
    let image = Image::from_config(vec![own_layer(name)], Blob::new(config.into()));
    Pull::image(name, image, Refused(Code::DataLoss, word))
}

fn configurations() -> Vec<Pull> {
    let typed = |part: Value| json!({"os": "linux", "architecture": "amd64", "config": part}).to_string();
    let wrong_diff = vec![own_layer("wrong-diff").with_wrong_diff_id()];
    vec![
        configured("a configuration that is text", "this is no JSON", "configuration sha256:"),
        configured("an environment that is a number", typed(json!({"Env": 7})), "is not valid"),
        configured("a command that is an object", typed(json!({"Cmd": {}})), "is not valid"),
        configured("a configuration without diff ids", typed(json!({})), "rootfs"),
        Pull::image(
            "another diff id",
            Image::new(wrong_diff, &json!({})),
            Refused(Code::DataLoss, "the image configuration says"),
        ),
    ]
}
