//! What is to be said about a configuration file: where, how bad, and what would be right.

use std::fmt;
use std::path::PathBuf;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The daemon does not start with it.
    Mistake,
    /// A key nobody knows: a warning at start, an error of `config check`.
    Unknown,
    /// A key of containerd's that orlop accepts and does not obey: told by `config check`.
    NotUsed,
}

/// One remark on one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub severity: Severity,
    /// `None` when the value came from a flag.
    pub file: Option<PathBuf>,
    /// Counted from 1; the nearest enclosing table's when the key itself is not in the file.
    pub line: Option<usize>,
    /// As one would write it in the file.
    pub key: String,
    pub message: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.file, self.line) {
            (Some(file), Some(line)) => write!(f, "{}:{line}: ", file.display())?,
            (Some(file), None) => write!(f, "{}: ", file.display())?,
            (None, _) => {}
        }
        write!(f, "{}: {}", self.key, self.message)
    }
}

/// The parts of a key as one key: parts that need it are quoted.
pub(super) fn dotted(path: &[String]) -> String {
    let bare = |part: &str| {
        !part.is_empty() && part.bytes().all(|c| c.is_ascii_alphanumeric() || matches!(c, b'_' | b'-'))
    };
    let parts = path.iter().map(|part| if bare(part) { part.clone() } else { format!("{part:?}") });
    parts.collect::<Vec<_>>().join(".")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_quoted_where_toml_wants_it() {
        let key = ["plugins", "io.containerd.cri.v1.runtime", "enable_selinux"].map(str::to_owned);
        assert_eq!(dotted(&key), r#"plugins."io.containerd.cri.v1.runtime".enable_selinux"#);
    }

    #[test]
    fn a_finding_names_file_line_and_key() {
        let finding = Finding {
            severity: Severity::Mistake,
            file: Some("/etc/orlop/config.toml".into()),
            line: Some(3),
            key: "root".into(),
            message: "is not absolute".into(),
        };
        assert_eq!(finding.to_string(), "/etc/orlop/config.toml:3: root: is not absolute");
    }
}
