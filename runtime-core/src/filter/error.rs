//! What is wrong with a filter: the place in its text and what would be right there.

use std::fmt;

use super::pattern::PatternError;
use super::{MAX_BYTES, MAX_FILTERS, MAX_PATTERNS, MAX_SELECTORS};
use crate::error::ErrorKind;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FilterError {
    #[error("{count} filters are more than the {MAX_FILTERS} that one request may have")]
    TooMany { count: usize },
    #[error("{bytes} bytes of filters are more than the {MAX_BYTES} that one request may have")]
    TooLong { bytes: usize },
    #[error("the filters have more than the {MAX_SELECTORS} selectors that one request may have")]
    TooManySelectors,
    #[error("the filters have more than the {MAX_PATTERNS} regular expressions that one request may have")]
    TooManyPatterns,
    #[error("filter {place}: {problem}")]
    Syntax { place: Place, problem: Problem },
    #[error("filter {place}: not a regular expression")]
    Pattern {
        place: Place,
        #[source]
        source: PatternError,
    },
}

impl FilterError {
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::TooMany { .. }
            | Self::TooLong { .. }
            | Self::TooManySelectors
            | Self::TooManyPatterns
            | Self::Syntax { .. }
            | Self::Pattern { .. } => ErrorKind::InvalidArgument,
        }
    }
}

/// What was expected where the text has something else.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    #[error("expected a field: letters, digits and underscores, or a name in double quotes")]
    Field,
    #[error("expected ==, != or ~=, or a comma or the end behind the field")]
    Operator,
    #[error("there is no operator {0:?}, expected ==, != or ~=")]
    UnknownOperator(String),
    #[error("expected a value; one that starts with . , = ! or ~ goes in double quotes")]
    Value,
    #[error("expected a comma or the end")]
    End,
    #[error("{0} quotes only the values of ~=, expected double quotes around what contains it")]
    QuoteNotHere(char),
    #[error("expected {0} at the end of what it opens, in the same line")]
    Unclosed(char),
    #[error("expected one of Go's escapes behind the backslash, or two backslashes for one")]
    Escape,
    #[error("the escapes do not spell UTF-8")]
    NotUtf8,
    #[error("the characters U+0000 and U+FFFD must be written as escapes in a quoted part")]
    Character,
}

/// Bytes of a filter that an error repeats on either side of the place.
const CONTEXT: usize = 64;

/// A byte in a filter's text, shown with what is around it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Counted from 0; the length of the filter when something is missing at its end.
    pub position: usize,
    around: String,
}

impl Place {
    pub(super) fn of(text: &str, position: usize) -> Self {
        let from = text.floor_char_boundary(position.saturating_sub(CONTEXT));
        let to = text.ceil_char_boundary(position.saturating_add(CONTEXT).min(text.len()));
        let dots = |cut: bool| if cut { "…" } else { "" };
        let part = text.get(from..to).unwrap_or_default();
        Self { position, around: format!("{}{part}{}", dots(from > 0), dots(to < text.len())) }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} at byte {}", self.around, self.position)
    }
}
