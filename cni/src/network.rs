//! A network: a name, a version and a chain of plugins, parsed from a configuration list or a single plugin's
//! configuration.
//!
//! Only what decides how plugins are called is looked at; everything else of the document goes to them as it stands.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use thiserror::Error;

use crate::version::Version;

/// Longest network name in bytes: with container id and interface it has to fit a file name of the cache.
const LONGEST_NAME: usize = 100;
/// Most plugins of one chain; each costs a process per pod.
const MOST_PLUGINS: usize = 32;

/// A network that pods can be attached to. Can be stored, so that DEL works once the configuration is gone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Network {
    pub name: String,
    /// The version that plugins are spoken to in: the highest one of those that the configuration allows.
    pub version: Version,
    /// Their configurations, in the order of ADD.
    pub plugins: Vec<Value>,
    /// The file that it was read from.
    pub source: PathBuf,
    /// The configuration says `disableCheck`.
    pub check_disabled: bool,
    /// The configuration says `disableGC`.
    pub gc_disabled: bool,
    /// The document's other fields.
    document: Map<String, Value>,
}

/// A configuration is not one of a network.
#[derive(Debug, Error)]
pub enum NetworkError {
    #[error("not JSON")]
    Json(#[source] serde_json::Error),
    #[error("{what} is not a JSON object")]
    NotAnObject { what: &'static str },
    #[error("`name` is missing or no string")]
    NoName,
    #[error(
        "network name {name:?}: at most 100 letters, digits, `_`, `.` and `-`, beginning with a letter or digit"
    )]
    Name { name: String },
    #[error("`cniVersion` is missing; supported are 0.3.0, 0.3.1, 0.4.0, 1.0.0 and 1.1.0")]
    NoVersion,
    #[error("`cniVersion` {found} is not supported; supported are 0.3.0, 0.3.1, 0.4.0, 1.0.0 and 1.1.0")]
    Version { found: String },
    #[error("`{field}` has the wrong type")]
    Field { field: &'static str },
    #[error("no plugins: `plugins` is missing or empty")]
    NoPlugins,
    #[error("{count} plugins; at most 32 can be chained")]
    TooManyPlugins { count: usize },
    #[error("a plugin has no `type`")]
    NoType,
    #[error("plugin type {name:?} is not a plain file name")]
    Type { name: String },
    #[error("this is a list of plugins: the file has to be named .conflist")]
    ListInPlugin,
}

impl Network {
    /// Parses a configuration list whose plugins are all in it.
    ///
    /// # Errors
    /// Names the field that cannot be used.
    pub fn parse(list: &[u8], source: &Path) -> Result<Self, NetworkError> {
        Self::parse_list(list, source)?.0.complete()
    }

    /// The whole as a configuration list with all plugins in it.
    #[must_use]
    pub fn json(&self) -> Value {
        let mut document = self.document.clone();
        document.insert("name".to_owned(), self.name.clone().into());
        document.insert("cniVersion".to_owned(), self.version.as_str().into());
        document.insert("plugins".to_owned(), self.plugins.clone().into());
        Value::Object(document)
    }

    /// A list, and whether its plugins are also to be looked for in files. May be without plugins until
    /// [`Network::complete`].
    pub(crate) fn parse_list(list: &[u8], source: &Path) -> Result<(Self, MorePlugins), NetworkError> {
        let mut document = object(list, "the configuration list")?;
        let plugins = match document.remove("plugins") {
            None | Some(Value::Null) => Vec::new(),
            Some(Value::Array(plugins)) => plugins,
            Some(_) => return Err(NetworkError::Field { field: "plugins" }),
        };
        let more = match flag(&document, "loadOnlyInlinedPlugins")? {
            true => MorePlugins::None,
            false => MorePlugins::InFolder,
        };
        Ok((Self::new(document, plugins, source)?, more))
    }

    /// A chain of one, from that plugin's own configuration.
    pub(crate) fn parse_plugin(plugin: &[u8], source: &Path) -> Result<Self, NetworkError> {
        let plugin = object(plugin, "the plugin's configuration")?;
        if plugin.contains_key("plugins") && !plugin.contains_key("type") {
            return Err(NetworkError::ListInPlugin);
        }
        let shared = ["name", "cniVersion"];
        let document =
            shared.iter().filter_map(|key| Some(((*key).to_owned(), plugin.get(*key)?.clone()))).collect();
        Self::new(document, vec![Value::Object(plugin)], source)?.complete()
    }

    /// Adds a plugin from a file of its own.
    pub(crate) fn push_plugin(&mut self, plugin: &[u8]) -> Result<(), NetworkError> {
        let plugin = object(plugin, "the plugin's configuration")?;
        self.plugins.push(Value::Object(plugin));
        Ok(())
    }

    /// Checks the chain.
    pub(crate) fn complete(self) -> Result<Self, NetworkError> {
        match self.plugins.len() {
            0 => return Err(NetworkError::NoPlugins),
            count if count > MOST_PLUGINS => return Err(NetworkError::TooManyPlugins { count }),
            _ => {}
        }
        for plugin in &self.plugins {
            plugin_type(plugin)?;
            // Run by the plugin, not by us; older plugins do not look at it themselves (CVE-2021-20206).
            if let Some(Value::String(ipam)) = plugin.get("ipam").and_then(|ipam| ipam.get("type")) {
                plain_file_name(ipam)?;
            }
        }
        Ok(self)
    }

    fn new(document: Map<String, Value>, plugins: Vec<Value>, source: &Path) -> Result<Self, NetworkError> {
        let name = document.get("name").and_then(Value::as_str).ok_or(NetworkError::NoName)?;
        if !is_name(name) || name.len() > LONGEST_NAME {
            return Err(NetworkError::Name { name: name.chars().take(LONGEST_NAME).collect() });
        }
        Ok(Self {
            name: name.to_owned(),
            version: version(&document)?,
            plugins,
            source: source.to_owned(),
            check_disabled: flag(&document, "disableCheck")?,
            gc_disabled: flag(&document, "disableGC")?,
            document,
        })
    }
}

/// Where a list's plugins are, besides in itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MorePlugins {
    None,
    /// Files in the folder that has the network's name (specification 1.1.0).
    InFolder,
}

/// What the specification asks of network names and container ids.
pub(crate) fn is_name(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
    text.bytes().all(plain) && text.as_bytes().first().is_some_and(u8::is_ascii_alphanumeric)
}

/// The file name of a plugin. It is looked up in the plugin folders only: of a path its last part counts.
pub(crate) fn plugin_type(plugin: &Value) -> Result<&str, NetworkError> {
    let plugin = plugin.as_object().ok_or(NetworkError::NotAnObject { what: "a plugin" })?;
    let path = plugin.get("type").and_then(Value::as_str).ok_or(NetworkError::NoType)?;
    let name = path.rsplit_once('/').map_or(path, |(_, name)| name);
    plain_file_name(name)?;
    Ok(name)
}

fn plain_file_name(name: &str) -> Result<(), NetworkError> {
    let path = name.is_empty() || name == "." || name == ".." || name.len() > 255;
    if path || name.chars().any(|letter| letter == '/' || letter.is_control()) {
        return Err(NetworkError::Type { name: name.chars().take(255).collect() });
    }
    Ok(())
}

fn object(bytes: &[u8], what: &'static str) -> Result<Map<String, Value>, NetworkError> {
    match serde_json::from_slice(bytes).map_err(NetworkError::Json)? {
        Value::Object(object) => Ok(object),
        _ => Err(NetworkError::NotAnObject { what }),
    }
}

/// A truth value; also as text, which the reference implementation takes too.
fn flag(document: &Map<String, Value>, field: &'static str) -> Result<bool, NetworkError> {
    match document.get(field) {
        None | Some(Value::Null) => Ok(false),
        Some(Value::Bool(set)) => Ok(*set),
        Some(Value::String(text)) if text.eq_ignore_ascii_case("true") => Ok(true),
        Some(Value::String(text)) if text.eq_ignore_ascii_case("false") => Ok(false),
        Some(_) => Err(NetworkError::Field { field }),
    }
}

/// The highest version that both sides have: `cniVersions` (1.1.0) lists several, `cniVersion` is one more.
fn version(document: &Map<String, Value>) -> Result<Version, NetworkError> {
    let mut offered = Vec::new();
    match document.get("cniVersion") {
        None | Some(Value::Null) => {}
        Some(Value::String(one)) => offered.push(one.as_str()),
        Some(_) => return Err(NetworkError::Field { field: "cniVersion" }),
    }
    match document.get("cniVersions") {
        None | Some(Value::Null) => {}
        Some(Value::Array(many)) => {
            for one in many {
                offered.push(one.as_str().ok_or(NetworkError::Field { field: "cniVersions" })?);
            }
        }
        Some(_) => return Err(NetworkError::Field { field: "cniVersions" }),
    }
    if offered.is_empty() {
        return Err(NetworkError::NoVersion);
    }
    offered
        .iter()
        .filter_map(|text| Version::parse(text))
        .max()
        .ok_or_else(|| NetworkError::Version { found: offered.join(", ").chars().take(200).collect() })
}

#[cfg(test)]
mod tests;
