//! One configuration file: read with a size cap, parsed, and every key's line remembered.

use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::finding::{Finding, Severity};

/// No node's configuration comes near this; a larger file is not one.
const MAX_BYTES: u64 = 4 << 20;

#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("cannot read the configuration {}", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the configuration {} is larger than {MAX_BYTES} bytes", path.display())]
    TooLarge { path: PathBuf },
    #[error("the configuration has {} to be put right:\n{}", count(findings), list(findings))]
    Mistakes { findings: Vec<Finding> },
}

fn count(findings: &[Finding]) -> String {
    match findings.len() {
        1 => "one mistake".to_owned(),
        n => format!("{n} mistakes"),
    }
}

fn list(findings: &[Finding]) -> String {
    findings.iter().map(|finding| format!("  {finding}")).collect::<Vec<_>>().join("\n")
}

/// A parsed file, or the defaults when there is none.
pub(super) struct Document {
    pub(super) path: Option<PathBuf>,
    pub(super) table: toml::Table,
    text: String,
}

impl Document {
    /// The configuration without a file.
    pub(super) fn empty() -> Self {
        Self { path: None, table: toml::Table::new(), text: String::new() }
    }

    /// `Ok(None)` when there is no such file.
    pub(super) fn read(path: &Path) -> Result<Option<Self>, ConfigError> {
        let read_error = |source| ConfigError::Read { path: path.to_owned(), source };
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(read_error(source)),
        };
        let mut text = String::new();
        file.take(MAX_BYTES + 1).read_to_string(&mut text).map_err(read_error)?;
        if text.len() as u64 > MAX_BYTES {
            return Err(ConfigError::TooLarge { path: path.to_owned() });
        }
        Self::parse(path, text).map(Some)
    }

    /// All syntax errors at once.
    pub(super) fn parse(path: &Path, text: String) -> Result<Self, ConfigError> {
        let (_, errors) = DeTable::parse_recoverable(&text);
        let finding = |error: &toml::de::Error| Finding {
            severity: Severity::Mistake,
            file: Some(path.to_owned()),
            line: error.span().map(|span| line_at(&text, span.start)),
            key: "syntax".to_owned(),
            message: error.message().to_owned(),
        };
        match text.parse::<toml::Table>() {
            Ok(table) if errors.is_empty() => Ok(Self { path: Some(path.to_owned()), table, text }),
            Ok(_) => Err(ConfigError::Mistakes { findings: errors.iter().map(finding).collect() }),
            Err(_) if !errors.is_empty() => {
                Err(ConfigError::Mistakes { findings: errors.iter().map(finding).collect() })
            }
            Err(error) => Err(ConfigError::Mistakes { findings: vec![finding(&error)] }),
        }
    }

    /// The line of `key`, or of the innermost table around it that the file has.
    pub(super) fn line(&self, key: &[String]) -> Option<usize> {
        let (root, _) = DeTable::parse_recoverable(&self.text);
        let mut found: Option<Range<usize>> = None;
        let mut table = root.get_ref();
        for part in key {
            let Some((name, value)) = entry(table, part) else {
                break;
            };
            found = Some(name.span());
            let DeValue::Table(inner) = value.get_ref() else {
                break;
            };
            table = inner;
        }
        found.map(|span| line_at(&self.text, span.start))
    }
}

fn entry<'t, 'i>(
    table: &'t DeTable<'i>,
    part: &str,
) -> Option<(&'t Spanned<std::borrow::Cow<'i, str>>, &'t Spanned<DeValue<'i>>)> {
    table.iter().find(|(name, _)| name.get_ref() == part)
}

fn line_at(text: &str, offset: usize) -> usize {
    1 + text.bytes().take(offset).filter(|byte| *byte == b'\n').count()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "version = 3\n\n[plugins.\"io.x\"]\nkey = 1\n\n[plugins.\"io.x\".inner]\nother = 2\n";

    fn key(parts: &[&str]) -> Vec<String> {
        parts.iter().map(|part| (*part).to_owned()).collect()
    }

    #[test]
    fn keys_have_lines_and_absent_ones_their_tables() {
        let document = Document::parse(Path::new("c.toml"), TEXT.to_owned()).expect("valid");
        let table = [
            (key(&["version"]), Some(1)),
            (key(&["plugins", "io.x", "key"]), Some(4)),
            (key(&["plugins", "io.x", "inner", "other"]), Some(7)),
            (key(&["plugins", "io.x", "inner", "absent"]), Some(6)),
            (key(&["nothing"]), None),
        ];
        for (key, line) in table {
            assert_eq!(document.line(&key), line, "{key:?}");
        }
    }

    #[test]
    fn every_syntax_error_is_reported_with_its_line() {
        let text = "version = 3\nroot = \nstate = \"/run\"\naddress == 1\n".to_owned();
        let Err(ConfigError::Mistakes { findings }) = Document::parse(Path::new("c.toml"), text) else {
            panic!("accepted");
        };
        let lines: Vec<_> = findings.iter().filter_map(|it| it.line).collect();
        assert!(lines.contains(&2) && lines.contains(&4), "{findings:?}");
    }

    #[test]
    fn an_absent_file_is_none_and_a_folder_is_an_error() {
        let folder = tempfile::tempdir().expect("temporary folder");
        assert!(Document::read(&folder.path().join("none")).expect("absent").is_none());
        assert!(matches!(Document::read(folder.path()), Err(ConfigError::Read { .. })));
    }
}
