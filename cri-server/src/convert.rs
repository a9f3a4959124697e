//! CRI messages to the domain's types and back. This is the only validation: what comes out of here is sound, or
//! was refused by name. What a later version brings is refused as Unimplemented, never ignored.

pub(crate) mod container;
pub(crate) mod filter;
pub(crate) mod image;
pub(crate) mod inspect;
mod network;
pub(crate) mod pod;
pub(crate) mod resources;
mod security;
mod signal;
pub(crate) mod stats;

use std::path::{Component, Path, PathBuf};

use runtime_core::error::ErrorKind;
use runtime_core::task::sysctl::SysctlError;

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ConvertError {
    #[error("{what} is missing")]
    Missing { what: &'static str },
    #[error("{what} {value:?} {why}")]
    Invalid { what: &'static str, value: String, why: &'static str },
    #[error("a sysctl cannot be set")]
    Sysctl(#[source] SysctlError),
    #[error("{what} is not implemented yet")]
    Unimplemented { what: String },
}

impl ConvertError {
    pub(crate) fn kind(&self) -> ErrorKind {
        match self {
            Self::Missing { .. } | Self::Invalid { .. } | Self::Sysctl(_) => ErrorKind::InvalidArgument,
            Self::Unimplemented { .. } => ErrorKind::Unimplemented,
        }
    }
}

/// Longest value that an error repeats.
const SHOWN: usize = 200;

fn invalid(what: &'static str, value: impl ToString, why: &'static str) -> ConvertError {
    ConvertError::Invalid { what, value: value.to_string().chars().take(SHOWN).collect(), why }
}

fn unimplemented<T>(what: impl Into<String>) -> Result<T, ConvertError> {
    Err(ConvertError::Unimplemented { what: what.into() })
}

fn required<T>(what: &'static str, value: Option<T>) -> Result<T, ConvertError> {
    value.ok_or(ConvertError::Missing { what })
}

/// A text that must be there and goes into one line somewhere.
fn name(what: &'static str, value: String) -> Result<String, ConvertError> {
    if value.is_empty() {
        return Err(ConvertError::Missing { what });
    }
    one_line(what, &value)?;
    Ok(value)
}

/// Generated files hold one value a line: a line break in one would be another setting.
fn one_line(what: &'static str, value: &str) -> Result<(), ConvertError> {
    if value.chars().any(char::is_control) {
        return Err(invalid(what, value, "has control characters"));
    }
    Ok(())
}

/// An absolute path that leads where it says, without "..".
fn absolute(what: &'static str, value: &str) -> Result<PathBuf, ConvertError> {
    one_line(what, value)?;
    let path = Path::new(value);
    if !path.is_absolute() {
        return Err(invalid(what, value, "is not an absolute path"));
    }
    if path.components().any(|part| part == Component::ParentDir) {
        return Err(invalid(what, value, "has .. in it"));
    }
    Ok(path.to_owned())
}

/// An id that the kernel takes: (uid_t)-1 means "none" there.
fn kernel_id(what: &'static str, value: i64) -> Result<u32, ConvertError> {
    let id = u32::try_from(value).ok().filter(|id| *id != u32::MAX);
    id.ok_or_else(|| invalid(what, value, "is not a user or group id"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_must_be_absolute_and_straight() {
        assert_eq!(absolute("path", "/a/./b"), Ok(PathBuf::from("/a/./b")));
        for bad in ["", "a", "./a", "/a/../b", "/a\n", "/\u{0}"] {
            assert!(absolute("path", bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn ids_are_what_the_kernel_takes() {
        assert_eq!(kernel_id("uid", 4_294_967_294), Ok(4_294_967_294));
        for bad in [-1, 4_294_967_295, i64::MAX] {
            assert!(kernel_id("uid", bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_long_value_is_not_repeated_whole() {
        let error = invalid("name", "x".repeat(10_000), "is long");
        assert!(error.to_string().len() < 300, "{error}");
    }
}
