//! Registries that refuse, lie, break off, never end, or lead elsewhere.

use e2e::images::Image;
use e2e::liar::{Answer, Liar, Request};
use e2e::node::Node;
use tonic::Code;

use super::Outcome::{self, Refused};
use super::pulls::{self, Pull};

/// What registries say beside the status, here with what a terminal would obey.
const SAID: &str = "{\"errors\":[{\"code\":\"DENIED\",\"message\":\"no\\u001b[31m entry\\n\"}]}";

#[test]
fn registries_that_lie_are_named_and_leave_nothing() {
    let node = Node::bare();
    pulls::run(&node, table());
}

fn table() -> Vec<Pull> {
    vec![
        status("no password", 401, Refused(Code::PermissionDenied, "401")),
        status("forbidden", 403, Refused(Code::PermissionDenied, "403")),
        status("too many requests", 429, Refused(Code::Unavailable, "429")),
        status("broken", 500, Refused(Code::Unavailable, "500")),
        status("a teapot", 418, Refused(Code::FailedPrecondition, "418")),
        manifest("another manifest", |_| Answer::new(200, "{}"), Refused(Code::DataLoss, "instead of")),
        manifest("endless manifest", |_| endless(), Refused(Code::ResourceExhausted, "more than the")),
        manifest(
            "manifest that is cut off",
            |image| Answer::new(200, image.manifest().bytes.clone()).cut(50),
            Refused(Code::Unavailable, "broke off"),
        ),
        manifest(
            "half a manifest",
            |image| Answer::new(200, image.manifest().bytes.clone()).closed(50),
            Refused(Code::DataLoss, "instead of"),
        ),
        config("configuration of other bytes", |it| Answer::new(200, flipped(it)), "digest"),
        config("endless configuration", |_| endless(), "bytes, expected"),
        config("half a configuration", |it| Answer::new(200, it[..50].to_vec()), "50 bytes, expected"),
        layer("layer of other bytes", |it| Answer::new(200, flipped(it)), Refused(Code::DataLoss, "digest")),
        layer("endless layer", |_| endless(), Refused(Code::DataLoss, "bytes, expected")),
        layer(
            "half a layer",
            |it| Answer::new(200, it[..50].to_vec()),
            Refused(Code::DataLoss, "50 bytes, expected"),
        ),
        layer(
            "forbidden layer, with control characters",
            |_| Answer::new(403, SAID),
            Refused(Code::PermissionDenied, "403: DENIED no[31m entry"),
        ),
        layer("layer that is gone", |_| Answer::new(404, "{}"), Refused(Code::NotFound, "404")),
        layer("redirect to a file", |_| redirect("file:///etc/passwd"), refused_redirect("other than http")),
        layer("redirect in a circle", |_| redirect("again"), refused_redirect("too many")),
        layer("redirect to nowhere", |_| redirect("http://["), refused_redirect("not valid")),
    ]
}

/// Answers everything with a status.
fn status(name: &'static str, status: u16, outcome: Outcome) -> Pull {
    Pull::but(name, move |_, _| Some(Answer::new(status, SAID).with("retry-after", "0")), outcome)
}

fn manifest(name: &'static str, answer: fn(&Image) -> Answer, outcome: Outcome) -> Pull {
    let instead = move |image: &Image, request: &Request| {
        (request.is_manifest() && request.method == "GET").then(|| answer(image))
    };
    Pull::but(name, instead, outcome)
}

fn config(name: &'static str, answer: fn(Vec<u8>) -> Answer, word: &'static str) -> Pull {
    let instead = move |image: &Image, request: &Request| {
        let config = image.config();
        request.path.ends_with(&config.digest).then(|| answer(config.bytes.clone()))
    };
    Pull::but(name, instead, Refused(Code::DataLoss, word))
}

fn layer(name: &'static str, answer: fn(Vec<u8>) -> Answer, outcome: Outcome) -> Pull {
    let instead = move |image: &Image, request: &Request| {
        if request.is_manifest() || request.path.ends_with(image.id()) {
            return None;
        }
        image.blobs().next().map(|layer| answer(layer.bytes.clone()))
    };
    Pull::but(name, instead, outcome)
}

fn endless() -> Answer {
    Answer::new(200, vec![b' '; 64 << 10]).endless()
}

fn redirect(target: &str) -> Answer {
    Answer::new(307, "").with("location", target)
}

fn refused_redirect(word: &'static str) -> Outcome {
    Refused(Code::FailedPrecondition, word)
}

fn flipped(mut bytes: Vec<u8>) -> Vec<u8> {
    *bytes.last_mut().expect("a blob is not empty") ^= 1;
    bytes
}

/// A registry may keep its blobs elsewhere, and the other host must not learn the password.
#[test]
fn a_redirect_to_another_host_takes_no_password_along() {
    let node = Node::bare();
    let image = pulls::small("elsewhere");
    let blobs = image.clone();
    let other = Liar::start(move |request| Answer::honest(&blobs, request));
    // A name of the same machine, so that it is another host.
    let place = format!("http://localhost:{}", other.address().port());
    let asks = move |request: &Request| {
        if request.authorization.is_none() {
            return Answer::new(401, "{}").with("www-authenticate", "Basic realm=\"here\"");
        }
        if request.is_manifest() {
            return Answer::honest(&image, request);
        }
        redirect(&format!("{place}{}", request.path))
    };
    let registry = Liar::start(asks);
    let auth = cri_proto::v1::AuthConfig {
        username: "user".to_owned(),
        password: "secret".to_owned(),
        ..Default::default()
    };
    let request = cri_proto::v1::PullImageRequest {
        image: Some(e2e::client::image_spec(&format!("{}/elsewhere:1", registry.address()))),
        auth: Some(auth),
        sandbox_config: None,
    };
    node.cri().pull_image(request).expect("the image is pulled");
    assert!(registry.asked().iter().any(|request| request.authorization.is_some()), "{:?}", registry.asked());
    let followed = other.asked();
    assert!(!followed.is_empty(), "the redirect is followed");
    assert!(followed.iter().all(|request| request.authorization.is_none()), "{followed:?}");
}
