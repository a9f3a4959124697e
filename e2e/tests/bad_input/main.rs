//! Bad requests and images on a real daemon, as tables: each is refused with the right code and a word that names the
//! thing, or does no harm; memory and time stay bounded, and nothing is left.
//!
//! `imagesvc/tests/registries/` has the registry's lies in more shapes, without a daemon.

mod bounds;
mod configurations;
mod documents;
mod layers;
mod networks;
mod pulls;
mod registries;
mod requests;

use tonic::{Code, Status};

/// What must become of a case.
enum Outcome {
    /// An error of this code that says this.
    Refused(Code, &'static str),
    /// It works, and does no harm.
    Contained,
}

impl Outcome {
    /// Compares with an answer; the error says what differs.
    fn check(&self, name: &str, answer: Result<(), Status>) -> Result<(), String> {
        match (self, answer) {
            (Self::Contained, Ok(())) => Ok(()),
            (Self::Contained, Err(status)) => Err(format!("{name}: is refused: {status}")),
            (Self::Refused(..), Ok(())) => Err(format!("{name}: is accepted")),
            (Self::Refused(code, word), Err(status)) => {
                let message = status.message();
                let clean = !message.chars().any(char::is_control) && message.len() < 4096;
                let told = status.code() == *code && message.contains(word) && clean;
                told.then_some(())
                    .ok_or_else(|| format!("{name}: {:?} {message:?}, not {code:?} {word:?}", status.code()))
            }
        }
    }
}

/// Panics with all that went wrong in a table.
fn assert_none(wrong: Vec<String>) {
    assert!(wrong.is_empty(), "{} cases went wrong:\n  {}", wrong.len(), wrong.join("\n  "));
}
