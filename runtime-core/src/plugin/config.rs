//! A plugin's typed configuration: parsed from its table, with unknown keys reported and not obeyed.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// A configuration type: every key has a default, so an absent table is a valid one.
pub trait PluginConfig: DeserializeOwned + Serialize + Default + Send + 'static {}

impl<T: DeserializeOwned + Serialize + Default + Send + 'static> PluginConfig for T {}

/// One thing that is wrong in a plugin's table.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigProblem {
    #[error("unknown key {key}")]
    UnknownKey { key: String },
    #[error("{message}")]
    Invalid { message: String },
}

/// The typed form of `table`; unknown keys are skipped.
pub(super) fn parse<C: PluginConfig>(table: toml::Table) -> Result<C, ConfigProblem> {
    toml::Value::Table(table)
        .try_into()
        .map_err(|error: toml::de::Error| ConfigProblem::Invalid { message: error.message().to_owned() })
}

/// The effective table (defaults filled in) and every problem found.
pub(super) fn check<C: PluginConfig>(table: toml::Table) -> (toml::Table, Vec<ConfigProblem>) {
    let mut problems = Vec::new();
    let parsed = serde_ignored::deserialize(toml::Value::Table(table), |path| {
        problems.push(ConfigProblem::UnknownKey { key: path.to_string() });
    })
    .unwrap_or_else(|error: toml::de::Error| {
        problems.push(ConfigProblem::Invalid { message: error.message().to_owned() });
        C::default()
    });
    (toml::Table::try_from(parsed).unwrap_or_default(), problems)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(serde::Deserialize, Serialize, Debug, PartialEq)]
    #[serde(default)]
    struct Sample {
        depth: u32,
    }

    impl Default for Sample {
        fn default() -> Self {
            Self { depth: 3 }
        }
    }

    #[test]
    fn defaults_fill_in_and_unknown_keys_are_named() {
        let table: toml::Table = "width = 1".parse().expect("valid toml");
        let (effective, problems) = check::<Sample>(table);
        assert_eq!(effective.get("depth").and_then(toml::Value::as_integer), Some(3));
        assert_eq!(problems, [ConfigProblem::UnknownKey { key: "width".into() }]);
    }

    #[test]
    fn a_bad_value_is_refused() {
        let table: toml::Table = "depth = 'deep'".parse().expect("valid toml");
        assert!(parse::<Sample>(table.clone()).is_err());
        assert_eq!(check::<Sample>(table).1.len(), 1);
    }
}
