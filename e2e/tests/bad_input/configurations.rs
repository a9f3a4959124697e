//! Images whose configuration is hostile: what it says of user, environment, volumes and labels is the image's wish.

use e2e::images::{Image, base, own_layer};
use e2e::node::Node;
use e2e::pod::{Pod, container, wait_exited};
use serde_json::{Value, json};
use tonic::{Code, Status};

use super::Outcome::{Contained, Refused};
use super::bounds::{self, Bounds};
use super::{Outcome, assert_none};

/// A configuration, and what becomes of a container of it that runs the image's own command.
struct Case(&'static str, Value, Outcome);

fn table() -> Vec<Case> {
    let invalid = |word| Refused(Code::InvalidArgument, word);
    // What only the OCI runtime finds out is its word against ours.
    let failed = |word| Refused(Code::Internal, word);
    let runs = |mut config: Value, line: &str| {
        config["Env"] = config["Env"].as_array().cloned().unwrap_or_default().into();
        config["Cmd"] = json!(["/bin/sh", "-c", line]);
        config
    };
    let user = |user: &str| json!({"User": user, "Cmd": ["/bin/true"]});
    vec![
        Case("a user that is not there", user("nobody-knows"), invalid("\"nobody-knows\" is not in")),
        Case("a group that is not there", user("0:nobody-knows"), invalid("\"nobody-knows\" is not in")),
        Case("the user that is none", user("4294967295"), invalid("no id")),
        Case("a user of no name", user(":0"), invalid("empty name")),
        Case("a user of two lines", user("root\nroot:x:0:0"), invalid("/etc/passwd")),
        Case("a user of a megabyte", user(&"x".repeat(1 << 20)), invalid("/etc/passwd")),
        Case(
            "an environment with a zero byte",
            json!({"Env": ["A=\0"], "Cmd": ["/bin/true"]}),
            invalid("environment variable"),
        ),
        Case("a variable without a value", runs(json!({"Env": ["ALONE"]}), "true"), invalid("\"ALONE\"")),
        Case(
            "a variable without a name",
            runs(json!({"Env": ["=nameless"]}), "true"),
            invalid("\"=nameless\""),
        ),
        Case(
            "environment variables of all kinds",
            runs(json!({"Env": ["EMPTY=", "TWICE=1", "TWICE=2=3", "LD_PRELOAD=/none"]}), "true"),
            Contained,
        ),
        Case(
            "an environment of a megabyte",
            runs(json!({"Env": [large()]}), "true"),
            failed("argument list too long"),
        ),
        Case("no command", json!({}), invalid("command")),
        Case("a command of nothing", json!({"Entrypoint": [""], "Cmd": [""]}), invalid("command")),
        Case("a command with a zero byte", json!({"Cmd": ["/bin/true\0"]}), invalid("argument")),
        Case("a command that is not there", json!({"Cmd": ["/no/such"]}), failed("/no/such")),
        Case("a command that is a folder", json!({"Cmd": ["/etc"]}), failed("/etc")),
        Case(
            "a directory upwards",
            runs(json!({"WorkingDir": "../../../../etc"}), "test -f /etc/image-directory && test -f passwd"),
            Contained,
        ),
        Case(
            "a directory that is a file",
            json!({"WorkingDir": "/etc/passwd", "Cmd": ["/bin/true"]}),
            failed("/etc/passwd"),
        ),
        Case(
            "volumes outside",
            runs(json!({"Volumes": {"../../../etc": {}, "/proc": {}, "": {}, "/\u{1b}[31m": {}}}), "true"),
            Contained,
        ),
        Case("labels of the node's own", runs(json!({"Labels": labels()}), "true"), Contained),
        Case("a signal of no number", runs(json!({"StopSignal": "SIGBOGUS"}), "true"), Contained),
    ]
}

fn large() -> String {
    format!("LARGE={}", "x".repeat(1 << 20))
}

/// What the kubelet, and a runtime itself, would take for their own.
fn labels() -> Value {
    json!({
        "io.kubernetes.pod.uid": "stolen", "io.kubernetes.container.name": "stolen",
        "io.cri-containerd.pinned": "pinned", "io.cri-containerd.image": "managed",
        "control": "\u{1b}[31m\n\u{7}", "large": "x".repeat(1 << 20),
    })
}

/// Pulls an image of this configuration, and runs a container of it to its end.
fn attempt(node: &Node, pod: &Pod, index: usize, config: &Value) -> Result<(), Status> {
    let cri = bounds::client(node);
    let layers = vec![base().clone(), own_layer("directory"), own_layer(&index.to_string())];
    let repository = format!("library/hostile-{index}");
    node.push(&repository, "1", &Image::new(layers, config));
    let reference = format!("docker.io/{repository}:1");
    cri.pull(&reference)?;
    let listed = cri.image(&reference)?.ok_or_else(|| Status::internal("the image is not listed"))?;
    let name = format!("c{index}");
    let mut wish = container(&name, &[]);
    wish.image = Some(e2e::client::image_spec(&reference));
    let id = pod.create(&wish)?;
    let status = cri.container(&id)?;
    let clean = !listed.pinned && status.labels.is_empty() && status.annotations.is_empty();
    let ran = cri.start(&id).and_then(|()| match wait_exited(&cri, &id).exit_code {
        0 if clean => Ok(()),
        0 => Err(Status::internal(format!("labels of the image took effect: {listed:?} {status:?}"))),
        code => Err(Status::internal(format!("it ended with {code}: {}", pod.log(&name).trim()))),
    });
    cri.remove(&id)?;
    ran
}

#[test]
fn what_an_image_wishes_is_checked() {
    let node = Node::start();
    let (pod, bounds) = (node.run_pod("hostile"), Bounds::of(&node));
    let mut wrong = Vec::new();
    for (index, Case(name, config, outcome)) in table().into_iter().enumerate() {
        wrong.extend(outcome.check(name, attempt(&node, &pod, index, &config)).err());
        wrong.extend(bounds.check(name));
    }
    assert_eq!(node.cri().containers().expect("containers are listed"), vec![]);
    assert_none(wrong);
}

/// Some tools publish those: there is nothing to run in them.
#[test]
fn an_image_of_no_layers_has_nothing_to_run() {
    let node = Node::start();
    let (reference, _) =
        node.provide("docker.io", "library/empty", "1", &Image::new(vec![], &json!({"Cmd": ["sh"]})));
    let pod = node.run_pod("empty");
    let mut config = container("empty", &["true"]);
    config.image = Some(e2e::client::image_spec(&reference));
    let refused = Refused(Code::InvalidArgument, "has no layers");
    assert_none(refused.check("no layers", pod.create(&config).map(drop)).err().into_iter().collect());
}
