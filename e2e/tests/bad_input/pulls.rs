//! Pulls: one registry plays them all, a repository for each case.

use std::sync::Arc;

use e2e::images::{self, Image};
use e2e::liar::{Answer, Liar, Request};
use e2e::node::Node;
use e2e::registry::write_mirror;
use tonic::Status;

use super::bounds::{self, Bounds};
use super::{Outcome, assert_none};

pub(crate) type Script = Box<dyn Fn(&Request) -> Answer + Send + Sync>;

const HOST: &str = "registry.test";

/// One image that is pulled.
pub(crate) struct Pull {
    pub(crate) name: &'static str,
    pub(crate) script: Script,
    pub(crate) outcome: Outcome,
}

impl Pull {
    /// Of a registry that does everything right with a bad image.
    pub(crate) fn image(name: &'static str, image: Image, outcome: Outcome) -> Self {
        Self { name, script: Box::new(move |request| Answer::honest(&image, request)), outcome }
    }

    /// Of a registry that does everything right but for what `instead` answers.
    pub(crate) fn but(
        name: &'static str,
        instead: impl Fn(&Image, &Request) -> Option<Answer> + Send + Sync + 'static,
        outcome: Outcome,
    ) -> Self {
        let image = small(name);
        let answer = move |request: &Request| {
            instead(&image, request).unwrap_or_else(|| Answer::honest(&image, request))
        };
        Self { name, script: Box::new(answer), outcome }
    }
}

/// An image of one small layer.
pub(crate) fn small(name: &str) -> Image {
    Image::new(vec![images::own_layer(name)], &serde_json::json!({"Cmd": ["sh"]}))
}

/// Where a case's image is.
pub(crate) fn reference(index: usize) -> String {
    format!("{HOST}/case-{index}:1")
}

/// Starts the registry of a table and makes the node know it.
pub(crate) fn serve(node: &Node, scripts: Vec<Script>) -> Liar {
    let scripts = Arc::new(scripts);
    let script = move |request: &Request| {
        let number =
            request.path.strip_prefix("/v2/case-").and_then(|rest| rest.split('/').next()?.parse().ok());
        match number.and_then(|number: usize| scripts.get(number)) {
            Some(script) => script(request),
            None => Answer::new(404, "{}"),
        }
    };
    let liar = Liar::start(script);
    write_mirror(&node.folder().join("certs.d"), HOST, liar.address());
    liar
}

/// Pulls all of a table, one after the other.
pub(crate) fn run(node: &Node, table: Vec<Pull>) {
    let mut scripts = Vec::new();
    let mut cases = Vec::new();
    for Pull { name, script, outcome } in table {
        scripts.push(script);
        cases.push((name, outcome));
    }
    let _registry = serve(node, scripts);
    let (cri, bounds) = (bounds::client(node), Bounds::of(node));
    let mut wrong = Vec::new();
    for (index, (name, outcome)) in cases.iter().enumerate() {
        let reference = reference(index);
        let answer = cri.pull(&reference).map(drop);
        if let Err(status) = &answer
            && !status.message().contains(&reference)
        {
            wrong.push(format!("{name}: the image is not named: {status}"));
        }
        wrong.extend(outcome.check(name, answer).err());
        wrong.extend(bounds.check(name));
        let forgotten = forget(node, &reference, outcome).err();
        wrong.extend(forgotten.map(|status| format!("{name}: {status}")));
    }
    assert_none(wrong);
}

/// Nothing is listed of an image that was refused, and nothing of one that was taken after it was removed.
fn forget(node: &Node, reference: &str, outcome: &Outcome) -> Result<(), Status> {
    let refused = match outcome {
        Outcome::Refused(..) => nothing_is_listed(node),
        Outcome::Contained => Ok(()),
    };
    node.cri().remove_image_named(reference)?;
    refused.and(nothing_is_listed(node))
}

fn nothing_is_listed(node: &Node) -> Result<(), Status> {
    let listed = node.cri().images()?;
    if listed.is_empty() { Ok(()) } else { Err(Status::internal(format!("images are listed: {listed:?}"))) }
}
