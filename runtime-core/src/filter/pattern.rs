//! Regular expressions in Go's syntax (RE2), run by the `regex` crate.
//!
//! Both engines take linear time and agree on what most expressions mean, but not on all: `\d`, `\w`, `\s` and `\b`
//! are ASCII in Go, `{` and `[` may stand for themselves, `&&` in a class means nothing, `\Q…\E` quotes. So an
//! expression is first rewritten. What is left of differences: `a**` passes here and not in Go; a repetition right
//! behind flags (`a(?i)*`), surrogates and what compiles to more than [`COMPILED_BYTES`] pass only there; the
//! Unicode tables are of the versions that either library has.

mod class;
mod rewrite;

use regex::{Regex, RegexBuilder};

/// Longest expression; it is folded and compiled while the client waits.
pub(super) const MAX_BYTES: usize = 4096;
/// Largest compiled form, and largest cache of each thread that runs it.
pub(super) const COMPILED_BYTES: usize = 256 << 10;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    #[error("it has {bytes} bytes, more than the {MAX_BYTES} that an expression may have")]
    TooLong { bytes: usize },
    #[error("compiled it is larger than {COMPILED_BYTES} bytes")]
    TooLarge,
    #[error("{0} is no escape")]
    Escape(String),
    #[error("a group starts with {0}, expected (, (?:, (?P<name> or flags of i, m, s and U")]
    Group(String),
    #[error("expected ] at the end of a character class")]
    UnclosedClass,
    #[error("{0} is no class of characters")]
    UnknownClass(String),
    #[error("{0} is no range: its end comes before its start")]
    Range(String),
    #[error("{0} repeats more than 1000 times or less often than it says")]
    Repeat(String),
    #[error("{0}")]
    Syntax(String),
}

/// A compiled expression; equal to another when the texts are.
#[derive(Clone, Debug)]
pub struct Pattern {
    text: String,
    compiled: Regex,
}

impl Pattern {
    pub fn new(text: String) -> Result<Self, PatternError> {
        if text.len() > MAX_BYTES {
            return Err(PatternError::TooLong { bytes: text.len() });
        }
        let compiled = RegexBuilder::new(&rewrite::rewrite(&text)?)
            .size_limit(COMPILED_BYTES)
            .dfa_size_limit(COMPILED_BYTES)
            .build()
            .map_err(|error| match error {
                regex::Error::CompiledTooBig(_) => PatternError::TooLarge,
                // Several lines that draw the rewritten expression; the last one says what is wrong.
                other => {
                    let text = other.to_string();
                    let reason = text.lines().next_back().unwrap_or_default();
                    PatternError::Syntax(reason.trim_start_matches("error: ").to_owned())
                }
            })?;
        Ok(Self { text, compiled })
    }

    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether it matches anywhere in `value`.
    pub fn is_match(&self, value: &str) -> bool {
        self.compiled.is_match(value)
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Pattern {}
