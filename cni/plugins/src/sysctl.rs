//! Kernel parameters of the network, in the namespace of the calling thread.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::PathBuf;

use thiserror::Error;

/// A parameter could not be set.
#[derive(Debug, Error)]
#[error("cannot set {path} to {value}")]
pub(crate) struct SysctlError {
    path: PathBuf,
    value: &'static str,
    #[source]
    source: io::Error,
}

/// Sets a parameter below `/proc/sys/net`, by its path: names of interfaces may hold dots.
pub(crate) fn set(name: &str, value: &'static str) -> Result<(), SysctlError> {
    let path = PathBuf::from(format!("/proc/sys/net/{name}"));
    let written =
        OpenOptions::new().write(true).open(&path).and_then(|mut file| file.write_all(value.as_bytes()));
    written.map_err(|source| SysctlError { path, value, source })
}

/// Sets it unless it is so already: a file system that cannot be written is then no matter.
pub(crate) fn ensure(name: &str, value: &'static str) -> Result<(), SysctlError> {
    match get(name) {
        Some(now) if now == value => Ok(()),
        _ => set(name, value),
    }
}

/// A parameter's value; none when there is no such parameter.
pub(crate) fn get(name: &str) -> Option<String> {
    fs::read_to_string(format!("/proc/sys/net/{name}")).ok().map(|text| text.trim().to_owned())
}
