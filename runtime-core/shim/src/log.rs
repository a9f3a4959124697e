//! What the shim has to say: lines on stderr, which is the bundle's `shim.log`.

use std::error::Error;
use std::fmt::Write as _;
use std::io::Write as _;

use runtime_sys::clock;

use crate::io::cri_log::rfc3339;

/// Notes an event.
pub(crate) fn note(text: &str) {
    let line = format!("{} {text}\n", rfc3339(clock::unix_nanos()));
    // There is nowhere else to say it.
    let _ = std::io::stderr().write_all(line.as_bytes());
}

/// An error and its causes on one line.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        write!(text, ": {cause}").expect("writing to a string does not fail");
        source = cause.source();
    }
    text
}
