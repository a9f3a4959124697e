//! From a path and flags to a configuration, with everything there is to say about it.

use std::path::PathBuf;

use toml::{Table, Value};

use super::file::{ConfigError, Document};
use super::finding::{Finding, Severity, dotted};
use super::migrate::{self, Moves};
use super::resolve::{Config, Misplaced, Overrides, resolve};
use super::root::{RawConfig, VERSION};
use super::schema::{Problem, ProblemKind, Schemas, check};
use super::{DEFAULT_PATH, known};

/// Which file is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConfigPath {
    /// [`DEFAULT_PATH`]; it may be absent.
    Default,
    /// A file that somebody named: it must be there.
    Given(PathBuf),
}

/// A configuration that the daemon can start with.
#[derive(Clone, Debug)]
pub struct Loaded {
    pub config: Config,
    /// `None` when everything is a default.
    pub file: Option<PathBuf>,
    /// Unknown and not used keys, in the order of the file.
    pub findings: Vec<Finding>,
}

/// Reads, checks and completes the configuration; all mistakes come in one error.
pub fn load(path: &ConfigPath, overrides: &Overrides, schemas: &Schemas) -> Result<Loaded, ConfigError> {
    let document = match path {
        ConfigPath::Default => Document::read(DEFAULT_PATH.as_ref())?.unwrap_or_else(Document::empty),
        ConfigPath::Given(path) => Document::read(path)?.ok_or_else(|| ConfigError::Read {
            path: path.clone(),
            source: std::io::ErrorKind::NotFound.into(),
        })?,
    };
    examine(document, overrides, schemas)
}

impl Config {
    /// The configuration of nobody's making.
    pub fn defaults(schemas: &Schemas) -> Self {
        let loaded = examine(Document::empty(), &Overrides::default(), schemas);
        loaded.expect("a test holds every default to its own rules").config
    }
}

pub(super) fn examine(
    document: Document,
    overrides: &Overrides,
    schemas: &Schemas,
) -> Result<Loaded, ConfigError> {
    let mut table = document.table.clone();
    let (moves, version) = to_current_version(&document, &mut table);
    let mut report = Report { document: &document, moves, findings: Vec::new() };
    report.problems(&[], version.into_iter().collect(), known::in_root);

    let (raw, problems) = check::<RawConfig>(table);
    report.problems(&[], problems, known::in_root);
    let (mut config, mistakes) = resolve(&raw, overrides);
    mistakes.into_iter().for_each(|mistake| report.misplaced(mistake));

    let mut checked = schemas.check_all(&raw.plugins);
    for (uri, table) in &raw.plugins {
        let prefix = ["plugins".to_owned(), uri.clone()];
        match checked.get_mut(uri) {
            Some((_, problems)) => {
                report.problems(&prefix, std::mem::take(problems), |key| known::in_plugin(uri, key));
            }
            None if table.is_empty() => {}
            None => report.problems(&prefix, vec![Problem::unknown(Vec::new())], |_| known::is_plugin(uri)),
        }
    }
    config.plugins = checked.into_iter().map(|(uri, (effective, _))| (uri, effective)).collect();

    let mut findings = report.findings;
    findings.sort_by_key(|finding| finding.line);
    if findings.iter().any(|finding| finding.severity == Severity::Mistake) {
        findings.retain(|finding| finding.severity == Severity::Mistake);
        return Err(ConfigError::Mistakes { findings });
    }
    Ok(Loaded { config, file: document.path.clone(), findings })
}

/// Migrates `table` and sets its version; or says what is wrong with that.
fn to_current_version(document: &Document, table: &mut Table) -> (Moves, Option<Problem>) {
    if document.path.is_none() {
        return (Moves::default(), None);
    }
    let right = format!("write version = {VERSION} (2, 3 and 4 are understood)");
    let problem = |message: String| Some(Problem::invalid(&["version"], message));
    let (moves, problem) = match table.get("version") {
        None => (Moves::default(), problem(format!("is missing, which means version 1; {right}"))),
        Some(Value::Integer(2)) => (migrate::from_version_2(table), None),
        Some(Value::Integer(3)) => (Moves::default(), None),
        Some(Value::Integer(4)) => (migrate::from_version_4(table), None),
        Some(other) => (Moves::default(), problem(format!("{other} is not supported; {right}"))),
    };
    table.insert("version".to_owned(), Value::Integer(VERSION));
    (moves, problem)
}

struct Report<'a> {
    document: &'a Document,
    moves: Moves,
    findings: Vec<Finding>,
}

impl Report<'_> {
    fn problems(&mut self, prefix: &[String], problems: Vec<Problem>, is_known: impl Fn(&[String]) -> bool) {
        for Problem { key, kind } in problems {
            let (severity, message) = match kind {
                ProblemKind::Invalid { message } => (Severity::Mistake, message),
                ProblemKind::Unknown if is_known(&key) => (Severity::NotUsed, "is not used yet".to_owned()),
                ProblemKind::Unknown if key.is_empty() => {
                    (Severity::Unknown, "there is no such plugin".to_owned())
                }
                ProblemKind::Unknown => (Severity::Unknown, "is not a known key".to_owned()),
            };
            let place = self.moves.origin(&prefix.iter().chain(&key).cloned().collect::<Vec<_>>());
            let (file, line) = (self.document.path.clone(), self.document.line(&place));
            self.findings.push(Finding { severity, file, line, key: dotted(&place), message });
        }
    }

    fn misplaced(&mut self, Misplaced { problem, flag }: Misplaced) {
        match (flag, problem.kind) {
            (Some(flag), ProblemKind::Invalid { message }) => self.findings.push(Finding {
                severity: Severity::Mistake,
                file: None,
                line: None,
                key: flag.to_owned(),
                message,
            }),
            (_, kind) => self.problems(&[], vec![Problem { key: problem.key, kind }], |_| false),
        }
    }
}

#[cfg(test)]
#[path = "load_tests.rs"]
mod tests;
