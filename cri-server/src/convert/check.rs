//! Checks on text that ends in files, paths and processes.

use std::path::{Component, Path, PathBuf};

use super::ConvertError;

/// Longest path that the kernel takes.
const MAX_PATH: usize = 4096;

/// One line of a generated file: no control characters.
pub(super) fn plain(field: &'static str, value: &str) -> Result<(), ConvertError> {
    if value.chars().any(char::is_control) {
        return Err(ConvertError::invalid(field, value, "has control characters"));
    }
    Ok(())
}

/// One word of a generated file.
pub(super) fn word(field: &'static str, value: &str) -> Result<(), ConvertError> {
    plain(field, value)?;
    if value.is_empty() || value.contains(char::is_whitespace) {
        return Err(ConvertError::invalid(field, value, "is not a single word"));
    }
    Ok(())
}

/// An absolute path that does not climb.
pub(super) fn absolute(field: &'static str, value: &str) -> Result<PathBuf, ConvertError> {
    plain(field, value)?;
    let path = Path::new(value);
    if value.len() > MAX_PATH {
        return Err(ConvertError::invalid(field, &value[..64], "is too long for a path"));
    }
    if !path.is_absolute() {
        return Err(ConvertError::invalid(field, value, "is not an absolute path"));
    }
    if path.components().any(|part| part == Component::ParentDir) {
        return Err(ConvertError::invalid(field, value, "climbs with \"..\""));
    }
    Ok(path.to_owned())
}

/// `relative` below `folder`, and nowhere else.
pub(super) fn inside(field: &'static str, folder: &Path, relative: &str) -> Result<PathBuf, ConvertError> {
    plain(field, relative)?;
    let names_only = Path::new(relative).components().all(|part| matches!(part, Component::Normal(_)));
    if !names_only || relative.len() > MAX_PATH {
        return Err(ConvertError::invalid(field, relative, "does not stay inside the pod's log directory"));
    }
    Ok(folder.join(relative))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_path_stays_inside() {
        let folder = Path::new("/var/log/pods/p");
        assert_eq!(inside("log_path", folder, "c/0.log").ok(), Some("/var/log/pods/p/c/0.log".into()));
        for bad in ["../x", "a/../../x", "/etc/passwd", "a\nb", "."] {
            assert!(inside("log_path", folder, bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn absolute_paths_do_not_climb() {
        assert!(absolute("f", "/a/b").is_ok());
        for bad in ["a", "", "/a/../b", "/a\0b"] {
            assert!(absolute("f", bad).is_err(), "{bad:?}");
        }
    }
}
