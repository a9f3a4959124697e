//! Taking a typed value out of a table: every bad key is named, replaced by its default, and the rest goes on.

use std::collections::BTreeMap;

use runtime_core::plugin::ConfigProblem;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{CRI_PLUGIN, IMAGES_PLUGIN, ImagesConfig, RUNTIME_PLUGIN, RuntimeConfig, StreamsConfig};

/// What is wrong with one key, relative to the table that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub key: Vec<String>,
    pub kind: ProblemKind,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProblemKind {
    Unknown,
    Invalid { message: String },
}

impl Problem {
    pub fn unknown(key: Vec<String>) -> Self {
        Self { key, kind: ProblemKind::Unknown }
    }

    pub fn invalid(key: &[&str], message: impl Into<String>) -> Self {
        let key = key.iter().map(|part| (*part).to_owned()).collect();
        Self { key, kind: ProblemKind::Invalid { message: message.into() } }
    }
}

impl From<ConfigProblem> for Problem {
    fn from(problem: ConfigProblem) -> Self {
        match problem {
            ConfigProblem::UnknownKey { key } => Self::unknown(key.split('.').map(str::to_owned).collect()),
            ConfigProblem::Invalid { message } => Self::invalid(&[], message),
        }
    }
}

/// A table's type: every key has a default; what types alone cannot say is in `mistakes`.
pub trait Schema: DeserializeOwned + Serialize + Default {
    fn mistakes(&self) -> Vec<Problem> {
        Vec::new()
    }
}

/// The typed form of `table` and everything that is wrong with it.
pub fn check<C: Schema>(mut table: toml::Table) -> (C, Vec<Problem>) {
    let mut problems = Vec::new();
    loop {
        let mut unknown = Vec::new();
        match attempt::<C>(table.clone(), &mut unknown) {
            Ok(value) => {
                problems.extend(unknown.into_iter().map(Problem::unknown));
                problems.extend(value.mistakes());
                return (value, problems);
            }
            Err((key, message)) => {
                let removed = remove(&mut table, &key);
                problems.push(Problem { key, kind: ProblemKind::Invalid { message } });
                if !removed {
                    return (C::default(), problems);
                }
            }
        }
    }
}

type Invalid = (Vec<String>, String);

fn attempt<C: Schema>(table: toml::Table, unknown: &mut Vec<Vec<String>>) -> Result<C, Invalid> {
    let mut track = serde_path_to_error::Track::new();
    let value = toml::Value::Table(table);
    let tracked = serde_path_to_error::Deserializer::new(value, &mut track);
    let result = serde_ignored::deserialize(tracked, |path| unknown.push(ignored_key(&path)));
    result.map_err(|error: toml::de::Error| (failed_key(&track.path()), error.message().to_owned()))
}

fn failed_key(path: &serde_path_to_error::Path) -> Vec<String> {
    use serde_path_to_error::Segment;
    let parts = path.iter().map_while(|segment| match segment {
        Segment::Map { key } => Some(key.clone()),
        // An element stands on its list's line, or near it.
        Segment::Seq { .. } | Segment::Enum { .. } | Segment::Unknown => None,
    });
    parts.collect()
}

fn ignored_key(path: &serde_ignored::Path<'_>) -> Vec<String> {
    use serde_ignored::Path;
    match path {
        Path::Root => Vec::new(),
        Path::Map { parent, key } => {
            let mut parts = ignored_key(parent);
            parts.push(key.clone());
            parts
        }
        Path::Seq { parent, .. }
        | Path::Some { parent }
        | Path::NewtypeStruct { parent }
        | Path::NewtypeVariant { parent } => ignored_key(parent),
    }
}

/// Takes `key` away; false when it isn't there, so that nobody tries for ever.
fn remove(table: &mut toml::Table, key: &[String]) -> bool {
    match key {
        [] => false,
        [last] => table.remove(last).is_some(),
        [first, rest @ ..] => {
            table.get_mut(first).and_then(toml::Value::as_table_mut).is_some_and(|inner| remove(inner, rest))
        }
    }
}

type Check = Box<dyn Fn(toml::Table) -> (toml::Table, Vec<Problem>) + Send + Sync>;

/// The plugins whose tables can be checked, by `<type>.<id>`.
pub struct Schemas {
    checks: BTreeMap<String, Check>,
}

impl Schemas {
    /// Those whose types live in this module.
    pub fn builtin() -> Self {
        let mut schemas = Self { checks: BTreeMap::new() };
        schemas.add(IMAGES_PLUGIN, effective::<ImagesConfig>);
        schemas.add(RUNTIME_PLUGIN, effective::<RuntimeConfig>);
        schemas.add(CRI_PLUGIN, effective::<StreamsConfig>);
        schemas
    }

    /// `check` answers with the effective table, defaults filled in, and what is wrong.
    pub fn add<F>(&mut self, uri: &str, check: F)
    where
        F: Fn(toml::Table) -> (toml::Table, Vec<Problem>) + Send + Sync + 'static,
    {
        self.checks.insert(uri.to_owned(), Box::new(check));
    }

    /// Whether the plugin's table is checked already.
    pub fn knows(&self, uri: &str) -> bool {
        self.checks.contains_key(uri)
    }

    /// Every known plugin with its effective table; `tables` are the user's.
    pub(super) fn check_all(
        &self,
        tables: &BTreeMap<String, toml::Table>,
    ) -> BTreeMap<String, (toml::Table, Vec<Problem>)> {
        let table = |uri: &String| tables.get(uri).cloned().unwrap_or_default();
        self.checks.iter().map(|(uri, check)| (uri.clone(), check(table(uri)))).collect()
    }
}

fn effective<C: Schema>(table: toml::Table) -> (toml::Table, Vec<Problem>) {
    let (value, problems) = check::<C>(table);
    (toml::Table::try_from(value).expect("a configuration type is a table of plain values"), problems)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, serde::Deserialize, Serialize)]
    #[serde(default)]
    struct Sample {
        depth: u32,
        name: String,
        inner: BTreeMap<String, Inner>,
    }

    #[derive(Debug, Default, PartialEq, serde::Deserialize, Serialize)]
    #[serde(default)]
    struct Inner {
        on: bool,
    }

    impl Default for Sample {
        fn default() -> Self {
            Self { depth: 3, name: "sample".into(), inner: BTreeMap::new() }
        }
    }

    impl Schema for Sample {
        fn mistakes(&self) -> Vec<Problem> {
            if self.depth > 9 { vec![Problem::invalid(&["depth"], "is more than 9")] } else { Vec::new() }
        }
    }

    fn keys(problems: &[Problem]) -> Vec<String> {
        problems.iter().map(|it| it.key.join("/")).collect()
    }

    #[test]
    fn all_problems_come_at_once_and_good_keys_stay() {
        let text = "depth = -1\nname = 7\nwidth = 1\n[inner.a]\non = 'yes'\noff = 1\n[inner.b]\non = true";
        let (value, problems) = check::<Sample>(text.parse().expect("valid toml"));
        let mut found = keys(&problems);
        found.sort();
        assert_eq!(found, ["depth", "inner/a/off", "inner/a/on", "name", "width"]);
        assert_eq!(value.depth, 3);
        assert!(value.inner["b"].on && !value.inner["a"].on);
    }

    #[test]
    fn a_value_of_the_right_type_may_still_be_a_mistake() {
        let (_, problems) = check::<Sample>("depth = 10".parse().expect("valid toml"));
        assert_eq!(problems, [Problem::invalid(&["depth"], "is more than 9")]);
    }

    #[test]
    fn the_default_of_every_builtin_is_sound() {
        for (uri, (_, problems)) in Schemas::builtin().check_all(&BTreeMap::new()) {
            assert!(problems.is_empty(), "{uri}: {problems:?}");
        }
    }
}
