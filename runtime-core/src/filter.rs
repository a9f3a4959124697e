//! containerd's filter language: what clients write to choose among listed things.
//!
//! ```text
//! filters   = filter*                          one that matches is enough; none at all matches everything
//! filter    = "" | selector ("," selector)*    all must match; the empty one matches everything
//! selector  = path [("==" | "!=" | "~=") value]       a bare path asks whether the field is there
//! path      = field ("." field)*
//! field     = [A-Za-z0-9_]+ | "…"
//! value     = anything up to a comma or a space | "…" | behind ~= also /…/ and |…|
//! ```
//!
//! A quoted part is one line with Go's escapes. `!=` and `~=` take a field that is absent for an empty one, as
//! containerd does. Everything is parsed once, regular expressions included, and what a client may ask for is
//! bounded here. Which fields a thing has is its [`Adaptor`]'s to say.

mod adaptors;
mod error;
mod parse;
mod pattern;
mod print;
mod quote;

use std::borrow::Cow;

pub use adaptors::{IngestFields, TaskFields};
pub use error::{FilterError, Place, Problem};
pub use pattern::{Pattern, PatternError};

/// Longest list of filters of one request, all together. containerd's clients write some hundred bytes.
pub const MAX_BYTES: usize = 64 << 10;
/// Most filters of one request, and most selectors in all of them: each is looked at for each listed thing.
pub const MAX_FILTERS: usize = 1024;
pub const MAX_SELECTORS: usize = 1024;
/// Most regular expressions of one request: each is compiled and keeps up to [`pattern::COMPILED_BYTES`] twice.
pub const MAX_PATTERNS: usize = 32;

/// How a filter looks into a thing.
pub trait Adaptor {
    /// The value at `path`, which has at least one part; `None` when there is none.
    fn field(&self, path: &[&str]) -> Option<Cow<'_, str>>;
}

/// What has to hold for one field.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Operator {
    Present,
    Equal(String),
    NotEqual(String),
    Matches(Pattern),
}

/// One condition of a filter.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Selector {
    path: Vec<String>,
    operator: Operator,
}

impl Selector {
    fn matches(&self, thing: &dyn Adaptor) -> bool {
        let path: Vec<&str> = self.path.iter().map(String::as_str).collect();
        let value = thing.field(&path);
        let or_empty = value.as_deref().unwrap_or_default();
        match &self.operator {
            Operator::Present => value.is_some(),
            Operator::Equal(wanted) => value.is_some() && or_empty == wanted,
            Operator::NotEqual(unwanted) => or_empty != unwanted,
            Operator::Matches(pattern) => pattern.is_match(or_empty),
        }
    }
}

/// One filter: all of its selectors must match. It prints as text that parses to itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    selectors: Vec<Selector>,
}

impl Filter {
    pub fn parse(text: &str) -> Result<Self, FilterError> {
        check_length(text.len())?;
        parse::filter(text, &mut Budget::default())
    }

    pub fn matches(&self, thing: &dyn Adaptor) -> bool {
        self.selectors.iter().all(|selector| selector.matches(thing))
    }
}

/// The filters of one request: one that matches is enough.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filters(Vec<Filter>);

impl Filters {
    pub fn parse_all<S: AsRef<str>>(texts: &[S]) -> Result<Self, FilterError> {
        if texts.len() > MAX_FILTERS {
            return Err(FilterError::TooMany { count: texts.len() });
        }
        check_length(texts.iter().map(|text| text.as_ref().len()).sum())?;
        let mut budget = Budget::default();
        let filters = texts.iter().map(|text| parse::filter(text.as_ref(), &mut budget));
        filters.collect::<Result<_, _>>().map(Self)
    }

    pub fn matches(&self, thing: &dyn Adaptor) -> bool {
        self.0.is_empty() || self.0.iter().any(|filter| filter.matches(thing))
    }
}

fn check_length(bytes: usize) -> Result<(), FilterError> {
    if bytes > MAX_BYTES { Err(FilterError::TooLong { bytes }) } else { Ok(()) }
}

/// What the rest of a request may still use.
struct Budget {
    selectors: usize,
    patterns: usize,
}

impl Default for Budget {
    fn default() -> Self {
        Self { selectors: MAX_SELECTORS, patterns: MAX_PATTERNS }
    }
}

impl Budget {
    fn take_selector(&mut self) -> Result<(), FilterError> {
        self.selectors = self.selectors.checked_sub(1).ok_or(FilterError::TooManySelectors)?;
        Ok(())
    }

    fn take_pattern(&mut self) -> Result<(), FilterError> {
        self.patterns = self.patterns.checked_sub(1).ok_or(FilterError::TooManyPatterns)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
