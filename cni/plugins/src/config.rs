//! Reading a plugin's part of the configuration: what is wrong is told by the field's name.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use thiserror::Error;

use crate::error::Code;

/// The configuration cannot be used.
#[derive(Debug, Error)]
pub(crate) enum ConfigError {
    #[error("a field of the configuration is not as it should be")]
    Shape(#[source] serde_json::Error),
    #[error("`{field}` in the configuration: {why}")]
    Field { field: String, why: String },
    #[error("`{field}` in the configuration is not supported by this plugin: {why}")]
    Unsupported { field: &'static str, why: &'static str },
}

impl ConfigError {
    pub(crate) fn code(&self) -> Code {
        match self {
            Self::Shape(_) | Self::Field { .. } => Code::InvalidConfig,
            Self::Unsupported { .. } => Code::UnsupportedField,
        }
    }

    pub(crate) fn field(field: impl Into<String>, why: impl Into<String>) -> Self {
        Self::Field { field: field.into(), why: why.into() }
    }
}

/// The configuration as the plugin's type.
pub(crate) fn parse<T: DeserializeOwned>(input: &Value) -> Result<T, ConfigError> {
    // A list would pass for the fields of a struct in their order.
    if !input.is_object() {
        return Err(ConfigError::field("configuration", "it is no JSON object"));
    }
    T::deserialize(input).map_err(ConfigError::Shape)
}

/// Go programs write null for what they leave empty.
pub(crate) fn or_default<'de, T: Default + Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// A value of its text; null and empty text are none.
pub(crate) fn from_text<'de, T, D>(deserializer: D) -> Result<Option<T>, D::Error>
where
    T: std::str::FromStr<Err: std::fmt::Display>,
    D: Deserializer<'de>,
{
    let text = Option::<String>::deserialize(deserializer)?.filter(|text| !text.is_empty());
    let parse = |text: String| {
        text.parse().map_err(|error| serde::de::Error::custom(format!("{text:.80?}: {error}")))
    };
    text.map(parse).transpose()
}
