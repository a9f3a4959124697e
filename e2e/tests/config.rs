//! The binary's configuration as an operator meets it: checked before the start, refused by what is wrong with it.

use std::path::Path;
use std::process::Output;

use e2e::{fixture, process};

/// Runs `orlop` with a configuration text and more arguments.
fn orlop(folder: &Path, text: &str, arguments: &[&str]) -> Output {
    let config = folder.join("config.toml");
    fixture::write(&config, text);
    let mut command = process::command(process::built("debug/orlop"));
    process::output(command.arg("--config").arg(&config).args(arguments))
}

fn all_it_said(output: &Output) -> String {
    process::text(&output.stdout) + &process::text(&output.stderr)
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("make a folder in /tmp")
}

#[test]
fn the_defaults_are_a_file_that_passes_the_check() {
    let folder = folder();
    let mut command = process::command(process::built("debug/orlop"));
    let defaults = process::run(command.args(["config", "default"]));
    assert!(defaults.contains("/run/orlop/orlop.sock") && defaults.contains("/var/lib/orlop"), "{defaults}");
    let checked = orlop(folder.path(), &defaults, &["config", "check"]);
    assert!(checked.status.success(), "{}", all_it_said(&checked));
}

#[test]
fn an_unknown_key_fails_the_check_with_file_and_name() {
    let folder = folder();
    let text =
        "version = 3\nroot = \"/tmp/unused\"\nbogus_key = 1\n\n[grpc]\nadress = \"/tmp/unused.sock\"\n";
    let checked = orlop(folder.path(), text, &["config", "check"]);
    let said = all_it_said(&checked);
    assert!(!checked.status.success(), "{said}");
    for word in ["bogus_key", "adress", "config.toml"] {
        assert!(said.contains(word), "{word} is not in: {said}");
    }
    assert!(said.contains(":3") || said.contains("line 3"), "the line is not in: {said}");
}

#[test]
fn all_mistakes_are_told_at_once_and_the_daemon_does_not_start() {
    let folder = folder();
    let text = "version = 3\nroot = 7\nstate = \"relative/path\"\n";
    for arguments in [&["config", "check"][..], &[]] {
        let output = orlop(folder.path(), text, arguments);
        let said = all_it_said(&output);
        assert!(!output.status.success(), "{said}");
        assert!(said.contains("root") && said.contains("state"), "{said}");
    }
}

#[test]
fn a_file_of_version_1_is_refused_by_its_version() {
    let folder = folder();
    for text in ["version = 1\n", "root = \"/tmp/unused\"\n"] {
        let output = orlop(folder.path(), text, &["config", "check"]);
        let said = all_it_said(&output);
        assert!(!output.status.success() && said.contains("version"), "{said}");
    }
}

#[test]
fn a_file_that_was_named_and_is_not_there_is_an_error() {
    let mut command = process::command(process::built("debug/orlop"));
    let output = process::output(command.args(["--config", "/nonexistent/config.toml"]));
    assert!(!output.status.success());
    assert!(all_it_said(&output).contains("/nonexistent/config.toml"), "{}", all_it_said(&output));
}

#[test]
fn the_binary_tells_its_version() {
    let mut command = process::command(process::built("debug/orlop"));
    assert_eq!(process::run(command.arg("version")), format!("orlop {}\n", env!("CARGO_PKG_VERSION")));
}
