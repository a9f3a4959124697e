//! critest's groups, each with the exact list of its specs: all ran, and all passed.
//!
//! `critest-skips.txt` names those that cannot run here, and why.

use std::collections::BTreeSet;
use std::path::Path;

use e2e::node::Node;
use e2e::{critest, fixture};

/// The names in `critest-skips.txt`.
fn skipped() -> Vec<String> {
    let text = fixture::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("critest-skips.txt"));
    let lines = text.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty());
    let name = |line: &str| {
        let (name, reason) = line.split_once(" | ").unwrap_or_default();
        assert!(!name.trim().is_empty() && !reason.trim().is_empty(), "no reason for the skip {line:?}");
        name.trim().to_owned()
    };
    lines.map(name).collect()
}

fn assert_passes(group: &str, specs: &[&str]) {
    let skipped = skipped();
    let expected: BTreeSet<String> =
        specs.iter().map(|spec| format!("{group} {spec}")).filter(|name| !skipped.contains(name)).collect();
    assert!(!expected.is_empty(), "nothing is left of {group}");
    let mut node = Node::bare();
    let ran = critest::run(&mut node, group, &skipped);
    let bad: Vec<_> = ran.iter().filter(|spec| spec.state != "passed").collect();
    assert!(bad.is_empty(), "{group}: {bad:#?}");
    assert_eq!(ran.into_iter().map(|spec| spec.name).collect::<BTreeSet<_>>(), expected);
}

#[test]
fn idempotence() {
    assert_passes(
        "Idempotence",
        &[
            "StopPodSandbox should not return an error if not found",
            "StopPodSandbox should not return an error if already stopped",
            "RemovePodSandbox should not return an error if not found",
            "StopContainer should not return an error if not found",
            "StopContainer should not return an error if already stopped",
            "RemoveContainer should not return an error if not found",
            "RemoveImage should not return an error if not found",
        ],
    );
}

#[test]
fn pod_sandbox() {
    assert_passes(
        "PodSandbox",
        &[
            "runtime should support basic operations on PodSandbox runtime should support running PodSandbox [Conformance]",
            "runtime should support basic operations on PodSandbox runtime should support stopping PodSandbox [Conformance]",
            "runtime should support basic operations on PodSandbox runtime should support removing PodSandbox [Conformance]",
            "runtime should support basic operations on PodSandbox runtime should support preserving PodSandbox \
             attributes [Conformance]",
            "runtime should support sysctls should support safe sysctls",
            "runtime should support sysctls should support unsafe sysctls",
        ],
    );
}

#[test]
fn networking() {
    assert_passes(
        "Networking",
        &[
            "runtime should support networking runtime should support DNS config [Conformance]",
            "runtime should support networking runtime should support set hostname [Conformance]",
            "runtime should support networking runtime should support port mapping with only container port [Conformance]",
            "runtime should support networking runtime should support port mapping with host port and container port \
             [Conformance]",
        ],
    );
}

#[test]
fn streaming() {
    assert_passes(
        "Streaming",
        &[
            "runtime should support streaming interfaces runtime should support exec with tty=false and stdin=false \
             [Conformance]",
            "runtime should support streaming interfaces runtime should support exec with tty=true and stdin=true \
             [Conformance]",
            "runtime should support streaming interfaces runtime should support attach [Conformance]",
            "runtime should support streaming interfaces runtime should support portforward [Conformance]",
            "runtime should support streaming interfaces runtime should support portforward in host network",
        ],
    );
}

#[test]
fn multiple_containers() {
    assert_passes(
        "Multiple Containers [Conformance]",
        &[
            "when running multiple containers in a pod should support network",
            "when running multiple containers in a pod should support container log",
            "when running multiple containers in a pod should support container exec",
        ],
    );
}
