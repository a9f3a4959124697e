//! A CNI plugin that fails as it is told: `<control>/<COMMAND>.mode` says how, and without it the plugin behaves.
//!
//! `control` is a folder in its configuration; what the plugin was last told at a command, and of which
//! pod, lies there in `<COMMAND>.last`, and each call adds a byte to `<COMMAND>.calls`. With `delegate`, it calls that plugin as if it were not there, and
//! stops before and after at the FIFOs `<control>/cni-<command>-<delegate>.before` and `.after` (see `src/fault.rs`). Without,
//! it passes the previous result on.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use serde_json::{Value, json};

/// What a plugin exits with when it says why on stdout, and when it does not.
const REFUSED: u8 = 1;
const SILENT: u8 = 3;
/// First of the error codes that are a plugin's own (CNI specification, "Error").
const OWN_CODE: u32 = 100;

fn main() -> ExitCode {
    let command = variable("CNI_COMMAND");
    let mut input = Vec::new();
    std::io::stdin().read_to_end(&mut input).expect("the configuration comes on stdin");
    let config: Value = serde_json::from_slice(&input).expect("the configuration is JSON");
    let control =
        PathBuf::from(config["control"].as_str().expect("the configuration names a control folder"));
    let delegate = config["delegate"].as_str().map(|plugin| format!("-{plugin}")).unwrap_or_default();
    let stage = format!("cni-{}{delegate}", command.to_lowercase());
    let told = json!({"pod": std::env::var("CNI_CONTAINERID").ok(), "config": config});
    std::fs::File::create(control.join(format!("{command}.last")))
        .and_then(|mut file| file.write_all(told.to_string().as_bytes()))
        .expect("keep what it was told");
    std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(control.join(format!("{command}.calls")))
        .and_then(|mut file| file.write_all(b"."))
        .expect("count the call");

    stop_at(&control.join(format!("{stage}.before")));
    let mode = std::fs::read_to_string(control.join(format!("{command}.mode"))).unwrap_or_default();
    let ended = match mode.as_str() {
        "" => behave(&command, config),
        "second-address" => add_second_address(config),
        "answer" => {
            print(&std::fs::read(control.join(format!("{command}.answer"))).expect("the answer is there"));
            ExitCode::SUCCESS
        }
        fault => misbehave(&command, fault),
    };
    stop_at(&control.join(format!("{stage}.after")));
    ended
}

fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set"))
}

fn behave(command: &str, config: Value) -> ExitCode {
    if config["delegate"].is_string() {
        return delegate(config);
    }
    match command {
        "ADD" => say(&config["prevResult"]),
        "VERSION" => {
            say(&json!({"cniVersion": "1.1.0", "supportedVersions": ["0.3.1", "0.4.0", "1.0.0", "1.1.0"]}))
        }
        _ => {}
    }
    ExitCode::SUCCESS
}

fn add_second_address(mut config: Value) -> ExitCode {
    let mut result = config["prevResult"].take();
    let ips = result["ips"].as_array_mut().expect("the previous result has addresses");
    ips.push(json!({"address": "fd00:6f72::7/64", "interface": ips[0]["interface"]}));
    say(&result);
    ExitCode::SUCCESS
}

fn delegate(mut config: Value) -> ExitCode {
    let plugin = config["delegate"].take().as_str().expect("the delegate is a name").to_owned();
    let folders = variable("CNI_PATH");
    let mut candidates = std::env::split_paths(&folders).map(|folder| folder.join(&plugin));
    let program = candidates.find(|path| path.exists()).expect("the delegate is in CNI_PATH");
    config["type"] = plugin.into();
    let fields = config.as_object_mut().expect("the configuration is an object");
    fields.remove("delegate");
    fields.remove("control");
    let mut child =
        inheriting(&program).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("start it");
    let mut stdin = child.stdin.take().expect("stdin is a pipe");
    stdin.write_all(config.to_string().as_bytes()).expect("pass the configuration on");
    drop(stdin);
    let answer = child.wait_with_output().expect("wait for the delegate");
    print(&answer.stdout);
    ExitCode::from(answer.status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(SILENT))
}

#[expect(clippy::disallowed_methods, reason = "a plugin passes its environment on")]
fn inheriting(program: &Path) -> Command {
    Command::new(program)
}

fn misbehave(command: &str, mode: &str) -> ExitCode {
    match mode {
        "fail" => {
            let details = format!("{command} of {}", variable("CNI_CONTAINERID"));
            say(&json!({"cniVersion": "1.0.0", "code": OWN_CODE, "msg": "told to fail", "details": details}));
            return ExitCode::from(REFUSED);
        }
        "silent" => {
            eprintln!("fault plugin: no answer but this line");
            return ExitCode::from(SILENT);
        }
        "hang" => hang(),
        "crash" => std::process::abort(),
        "babble" => babble(),
        "garbage" => print(b"\x1b[31mthis is no JSON\n{"),
        "empty" => {}
        other => panic!("there is no mode {other}"),
    }
    ExitCode::SUCCESS
}

/// Waits for ever, and for a child that ignores SIGTERM and holds stdout.
fn hang() {
    let mut child =
        inheriting("sh".as_ref()).args(["-c", "trap '' TERM; sleep 3600; :"]).spawn().expect("start a shell");
    let _ = child.wait();
}

/// Writes until nobody reads any more.
fn babble() {
    let line = [b'x'; 4096];
    let mut stdout = std::io::stdout().lock();
    while stdout.write_all(&line).is_ok() {}
}

fn say(answer: &Value) {
    print(answer.to_string().as_bytes());
}

/// The caller may be gone.
fn print(bytes: &[u8]) {
    let mut stdout = std::io::stdout().lock();
    let _ = stdout.write_all(bytes).and_then(|()| stdout.flush());
}

fn stop_at(barrier: &Path) {
    if let Ok(mut fifo) = std::fs::File::open(barrier) {
        // Only the end of the stream matters: the test closed its side.
        let _ = fifo.read_to_end(&mut Vec::new());
    }
}
