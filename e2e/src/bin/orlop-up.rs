//! `make up` and `make down`: a node on this machine with a first pod, and its end with nothing left.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use e2e::up::{self, Settings};

const USAGE: &str = "usage: orlop-up up|down [--folder FOLDER] [--binaries FOLDER] [--daemon FILE] [--runc FILE] \
                     [--image IMAGE] [--bridge NAME] [--subnet A.B.C.0/24] [--cgroup PATH]";

fn main() -> ExitCode {
    // What it shares with the tests (the registry, the image) reports by panic; people get the sentence alone.
    std::panic::set_hook(Box::new(|panic| {
        eprintln!("orlop-up: {}", panic.payload_as_str().unwrap_or("it cannot go on"));
    }));
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("orlop-up: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let mut words = std::env::args().skip(1);
    let verb = words.next().context(USAGE)?;
    let mut settings = Settings::default();
    while let Some(flag) = words.next() {
        let value = words.next().with_context(|| format!("{flag} needs a value\n{USAGE}"))?;
        match flag.as_str() {
            "--folder" => settings.folder = PathBuf::from(value),
            "--binaries" => settings.binaries = PathBuf::from(value),
            "--daemon" => settings.daemon = Some(PathBuf::from(value)),
            "--runc" => settings.runc = PathBuf::from(value),
            "--image" => settings.image = Some(value).filter(|image| !image.is_empty()),
            "--bridge" => settings.bridge = value,
            "--subnet" => settings.subnet = value,
            "--cgroup" => settings.cgroup = value,
            _ => bail!("{flag} is not known\n{USAGE}"),
        }
    }
    match verb.as_str() {
        "up" => up::up(&settings),
        "down" => up::down(&settings),
        _ => bail!("{verb} is neither up nor down\n{USAGE}"),
    }
}
