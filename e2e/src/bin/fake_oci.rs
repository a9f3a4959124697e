//! Stands in for the OCI runtime or the shim: stops at barriers, then runs the real one as if it were not there.
//!
//! It is copied as `<folder>/<tool>-wrapper` beside the link `<folder>/<tool>-real`. When the FIFO
//! `<folder>/control/<tool>-<subcommand>.before` or `.after` exists, it opens it for reading and goes on at its end:
//! see `src/fault.rs`. Without an `after` it becomes the real program, so that pids and signals are the real ones.

use std::ffi::OsString;
use std::fs::File;
use std::io::Read;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Command, ExitCode};

/// Options of runc and of a shim that stand before the subcommand and take a value in the next word.
const VALUED: [&str; 9] = [
    "--root",
    "--log",
    "--log-format",
    "--criu",
    "--rootless",
    "-namespace",
    "-address",
    "-publish-binary",
    "-id",
];

fn main() -> ExitCode {
    let own = std::env::current_exe().expect("a program knows its path");
    let folder = own.parent().expect("a file has a folder");
    let name = own.file_name().and_then(|name| name.to_str()).expect("the wrapper's name is text");
    let tool = name.strip_suffix("-wrapper").expect("the wrapper is called <tool>-wrapper");
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    let stage = format!("{tool}-{}", subcommand(&arguments));

    stop_at(&folder.join("control").join(format!("{stage}.before")));
    let real = folder.join(format!("{tool}-real"));
    let after = folder.join("control").join(format!("{stage}.after"));
    #[expect(clippy::disallowed_methods, reason = "the wrapper has to pass on all it has inherited")]
    let mut command = Command::new(&real);
    command.args(&arguments);
    if !after.exists() {
        let error = command.exec();
        eprintln!("{}: {error}", real.display());
        return ExitCode::from(127);
    }
    let ended = command.status();
    stop_at(&after);
    match ended {
        Ok(status) => {
            let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(1);
            ExitCode::from(u8::try_from(code).unwrap_or(1))
        }
        Err(error) => {
            eprintln!("{}: {error}", real.display());
            ExitCode::from(127)
        }
    }
}

fn subcommand(arguments: &[OsString]) -> String {
    let mut words = arguments.iter().map(|word| word.to_string_lossy());
    while let Some(word) = words.next() {
        if VALUED.contains(&word.as_ref()) {
            words.next();
        } else if !word.starts_with('-') {
            return word.into_owned();
        }
    }
    "none".to_owned()
}

fn stop_at(barrier: &Path) {
    if let Ok(mut fifo) = File::open(barrier) {
        // Only the end of the stream matters: the test closed its side.
        let _ = fifo.read_to_end(&mut Vec::new());
    }
}
