//! The real `critest` (cri-tools), run once against a node for the specs of some patterns, and what its report says.
//!
//! critest has fixed names of pods and fixed ports, so that only one runs on the machine at a time: whoever holds an
//! abstract socket may. Ginkgo counts a focus that matches nothing as success: the caller compares names.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;

use crate::node::Node;
use crate::{fixture, images, process, wait};

/// For one run; all of Conformance takes two minutes on an idle machine.
const LIMIT: Duration = Duration::from_secs(900);
/// How long others may take that were first.
const TURN: Duration = Duration::from_secs(1500);
const PREFIX: &str = "[k8s.io] ";

/// One spec that ran.
#[derive(Debug)]
pub struct Spec {
    /// Its whole text, without the prefix that all have.
    pub name: String,
    pub state: String,
    pub why: String,
}

/// Runs the specs on a node whose names match one of the regular expressions, one at a time, and gives all that ran.
pub fn run(node: &mut Node, patterns: &[String]) -> Vec<Spec> {
    let _turn = take_turn();
    images::critest::push(node.registry());
    let folder = node.folder().join("critest");
    let report = folder.join("report.json");
    let log = fixture::create(&folder.join("log"));
    let endpoint = format!("unix://{}", node.socket().display());
    let mut command = process::command(process::built("tools/bin/critest"));
    command.args(["-runtime-endpoint", &endpoint, "-image-endpoint", &endpoint]);
    command.args(patterns.iter().map(|pattern| format!("-ginkgo.focus={pattern}")));
    command.arg(format!("-ginkgo.json-report={}", report.display()));
    command.args(["-ginkgo.no-color", "-ginkgo.v"]).arg(format!("-ginkgo.timeout={}s", LIMIT.as_secs()));
    command.env("HOME", &folder).env("TMPDIR", &folder).current_dir(&folder);
    command.stdin(Stdio::null()).stdout(log.try_clone().expect("duplicate the log's descriptor")).stderr(log);
    let mut child = command.spawn().unwrap_or_else(|error| panic!("start critest: {error}"));
    let ended = wait::within(LIMIT + Duration::from_secs(30), || child.try_wait().ok().flatten());
    process::kill_and_reap(&mut child);
    let log = fixture::read(&folder.join("log"));
    assert!(ended.is_some(), "critest does not end:\n{log}");
    assert!(report.exists(), "critest ended without a report:\n{log}");
    let specs = read(&fixture::read(&report));
    if specs.iter().any(|spec| spec.state != "passed") {
        println!("{log}");
    }
    specs
}

fn take_turn() -> UnixListener {
    let address = SocketAddr::from_abstract_name("orlop-e2e-critest").expect("a short name is an address");
    wait::within(TURN, || UnixListener::bind_addr(&address).ok()).expect("another critest never ends")
}

/// A regular expression that matches a text.
pub fn pattern(text: &str) -> String {
    let special = |character: char| r"\.+*?()|[]{}^$".contains(character);
    text.chars().flat_map(|one| special(one).then_some('\\').into_iter().chain([one])).collect()
}

fn read(report: &str) -> Vec<Spec> {
    let report: Value = serde_json::from_str(report).expect("the report is JSON");
    let reports = report[0]["SpecReports"].as_array().expect("the report lists specs");
    let spec = |report: &Value| {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let folders = report["ContainerHierarchyTexts"].as_array().into_iter().flatten().map(text);
        let name = folders.chain([text(&report["LeafNodeText"])]).collect::<Vec<_>>().join(" ");
        Spec {
            name: name.strip_prefix(PREFIX).unwrap_or(&name).to_owned(),
            state: text(&report["State"]),
            why: text(&report["Failure"]["Message"]),
        }
    };
    // Specs out of focus are listed as skipped without a reason; those that skip themselves say why. What stands
    // around the specs counts when it failed.
    let counts = |report: &&Value| {
        let skipped =
            report["State"] == "skipped" && report["Failure"]["Message"].as_str().is_none_or(str::is_empty);
        let around = report["LeafNodeType"] != "It" && report["State"] == "passed";
        !skipped && !around
    };
    reports.iter().filter(counts).map(spec).collect()
}
