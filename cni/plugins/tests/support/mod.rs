//! Tests of plugins in a node of their own: a fresh network and mount namespace stands for the host, so that bridges,
//! rules and pins are the test's alone. The test starts itself again inside; needs root.

#![allow(dead_code, reason = "each test binary uses its part")]

pub(crate) mod node;
pub(crate) mod observe;
pub(crate) mod process;

use std::path::PathBuf;

use self::node::Node;

/// Tells the test inside which plugins it uses, and where to write what it saw.
const PLUGINS: &str = "ORLOP_CNI_TEST_PLUGINS";
const OBSERVED: &str = "ORLOP_CNI_TEST_OBSERVED";

/// Whose plugins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Set {
    Reference,
    Ours,
}

impl Set {
    fn name(self) -> &'static str {
        match self {
            Self::Reference => "reference",
            Self::Ours => "ours",
        }
    }

    /// The folder of the reference plugins; of ours, the binary.
    pub(crate) fn path(self) -> PathBuf {
        let ours = PathBuf::from(env!("CARGO_BIN_EXE_orlop-cni"));
        match self {
            Self::Ours => ours,
            Self::Reference => {
                let target = ours.ancestors().nth(2).expect("the binary lies in target/<profile>");
                let folder = target.join("tools/cni");
                assert!(folder.join("bridge").exists(), "{} is missing: make tools", folder.display());
                folder
            }
        }
    }
}

/// Runs the body on a node with the reference plugins and on one with ours, and compares what they observed.
pub(crate) fn compare(test: &str, body: fn(&mut Node)) {
    if let Some(set) = inside() {
        return run(set, body);
    }
    let [reference, ours] = [Set::Reference, Set::Ours].map(|set| isolated(test, set));
    assert!(
        reference == ours,
        "the reference plugins (-) and ours (+) differ:\n{}",
        difference(&reference, &ours)
    );
}

fn difference(reference: &str, ours: &str) -> String {
    let folder = tempfile::tempdir().expect("make a folder");
    let files = ["reference", "ours"].map(|name| folder.path().join(name));
    process::write(&files[0], reference.as_bytes());
    process::write(&files[1], ours.as_bytes());
    process::text(&process::output(process::command("diff").arg("-U4").args(files)).stdout)
}

/// Runs the body on a node with our plugins.
pub(crate) fn ours(test: &str, body: fn(&mut Node)) {
    match inside() {
        Some(set) => run(set, body),
        None => drop(isolated(test, Set::Ours)),
    }
}

fn inside() -> Option<Set> {
    match std::env::var(PLUGINS).ok()?.as_str() {
        "reference" => Some(Set::Reference),
        _ => Some(Set::Ours),
    }
}

fn run(set: Set, body: fn(&mut Node)) {
    let mut node = Node::new(set);
    body(&mut node);
    if let Ok(path) = std::env::var(OBSERVED) {
        process::write(path.as_ref(), node.observed().as_bytes());
    }
}

/// Starts this test again in namespaces of its own; gives what it observed.
fn isolated(test: &str, set: Set) -> String {
    assert!(rustix::process::geteuid().is_root(), "tests of plugins make namespaces: run them as root");
    let folder = tempfile::tempdir().expect("make a folder");
    let observed = folder.path().join("observed");
    let this = std::env::current_exe().expect("a test knows its binary");
    let mut command = process::command("unshare");
    command.args(["--net", "--mount", "--propagation", "private"]).arg(this);
    command.args(["--exact", test, "--nocapture"]).env(PLUGINS, set.name()).env(OBSERVED, &observed);
    let output = process::output(&mut command);
    assert!(
        output.status.success(),
        "with the plugins {set:?}:\n{}\n{}",
        process::text(&output.stdout),
        process::text(&output.stderr)
    );
    std::fs::read_to_string(&observed).unwrap_or_else(|error| panic!("{test} observed nothing: {error}"))
}
