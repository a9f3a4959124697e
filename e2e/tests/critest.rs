//! critest: its Conformance on each set of CNI plugins, one run each, and the specs beyond it that we promise.
//!
//! `critest/*.txt` says exactly what passes. A listed spec that fails or is gone fails the test, and so does one that
//! is listed as missing and passes: the lists only grow.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use e2e::critest::{self, Spec};
use e2e::fixture;
use e2e::network::Plugins;
use e2e::node::Node;

/// How many specs critest has in Conformance, and how many of them passed when this was last raised.
const CONFORMANCE: usize = 50;
const FLOOR: usize = 49;

/// The lines of a list that are not comments.
fn lines(list: &str) -> Vec<String> {
    let text = fixture::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("critest").join(list));
    let lines = text.lines().map(str::trim).filter(|line| !line.starts_with('#') && !line.is_empty());
    lines.map(str::to_owned).collect()
}

/// What does not pass, by name, and why.
fn missing() -> BTreeMap<String, String> {
    let split = |line: String| {
        let (name, reason) = line.split_once(" | ").unwrap_or_else(|| panic!("no reason: {line}"));
        (name.to_owned(), reason.to_owned())
    };
    lines("missing.txt").into_iter().map(split).collect()
}

/// What is wrong with a run, one line each: nothing, when it is as the lists say.
fn surprises(ran: &[Spec], passing: &[String], missing: &BTreeMap<String, String>) -> Vec<String> {
    let states: BTreeMap<&str, &Spec> = ran.iter().map(|spec| (spec.name.as_str(), spec)).collect();
    let expected = passing.iter().filter_map(|name| match states.get(name.as_str()) {
        Some(spec) if spec.state == "passed" => None,
        Some(spec) => Some(format!("{name}: {}: {}", spec.state, spec.why)),
        None => Some(format!("{name}: did not run")),
    });
    let unexpected = missing.keys().filter_map(|name| match states.get(name.as_str()) {
        Some(spec) if spec.state == "passed" => Some(format!("{name}: passes; move it to passing.txt")),
        Some(_) => None,
        None => Some(format!("{name}: is listed as missing and did not run")),
    });
    let unknown =
        ran.iter().filter(|spec| !passing.contains(&spec.name) && !missing.contains_key(&spec.name));
    let unknown = unknown.map(|spec| format!("{}: {}, and is in no list", spec.name, spec.state));
    expected.chain(unexpected).chain(unknown).collect()
}

fn assert_as_listed(ran: &[Spec], passing: &[String], missing: &BTreeMap<String, String>) {
    let surprises = surprises(ran, passing, missing);
    assert!(surprises.is_empty(), "critest is not as listed:\n  {}", surprises.join("\n  "));
}

fn assert_conformance(plugins: Plugins) {
    let mut node = Node::bare_with(plugins);
    let ran = critest::run(&mut node, &[critest::pattern("[Conformance]")]);
    assert_as_listed(&ran, &lines("passing.txt"), &missing());
}

#[test]
fn conformance_is_listed_as_a_whole() {
    let (passing, missing) = (lines("passing.txt"), missing());
    assert!(passing.len() >= FLOOR, "{} specs pass, {FLOOR} did before", passing.len());
    let all: BTreeSet<&String> = passing.iter().chain(missing.keys()).collect();
    assert_eq!(all.len(), CONFORMANCE);
    assert_eq!(passing.len() + missing.len(), CONFORMANCE, "a spec is in both lists, or twice in one");
    assert!(all.iter().all(|name| name.contains("[Conformance]")), "{all:?}");
}

#[test]
fn conformance_passes_on_the_reference_plugins() {
    assert_conformance(Plugins::Reference);
}

#[test]
fn conformance_passes_on_our_plugins() {
    assert_conformance(Plugins::Own);
}

#[test]
fn specs_beyond_conformance_pass() {
    let passing = lines("beyond.txt");
    let patterns: Vec<String> = passing.iter().map(|name| format!("{}$", critest::pattern(name))).collect();
    let mut node = Node::bare();
    assert_as_listed(&critest::run(&mut node, &patterns), &passing, &BTreeMap::new());
}

#[test]
fn a_spec_that_fails_is_gone_or_passes_unexpectedly_is_told() {
    let spec = |name: &str, state: &str| Spec { name: name.into(), state: state.into(), why: String::new() };
    let passing = ["a".to_owned(), "b".to_owned(), "c".to_owned()];
    let missing = BTreeMap::from(["d", "e", "f"].map(|name| (name.to_owned(), "why".to_owned())));
    let ran = [("a", "passed"), ("b", "failed"), ("d", "passed"), ("e", "skipped"), ("g", "passed")];
    let told = surprises(&ran.map(|(name, state)| spec(name, state)), &passing, &missing);
    let names: Vec<&str> = told.iter().map(|line| &line[..1]).collect();
    assert_eq!(names, ["b", "c", "d", "f", "g"], "{told:?}");
}
