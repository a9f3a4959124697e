//! The effective configuration, as typed values for the plugins and as text for people.

use super::resolve::{Config, LogFormat};
use super::root::{RawConfig, RawDebug, RawGrpc, VERSION};
use super::schema::{Schema, check};
use super::{IMAGES_PLUGIN, ImagesConfig, RUNTIME_PLUGIN, RuntimeConfig};

impl Config {
    pub fn images(&self) -> ImagesConfig {
        self.typed(IMAGES_PLUGIN)
    }

    pub fn runtime(&self) -> RuntimeConfig {
        self.typed(RUNTIME_PLUGIN)
    }

    /// The table was checked by `load`, so nothing is left to complain of.
    fn typed<C: Schema>(&self, uri: &str) -> C {
        check(self.plugins.get(uri).cloned().unwrap_or_default()).0
    }

    /// A file of the current version that says the same.
    pub fn dump(&self) -> String {
        let text = |path: &std::path::Path| path.to_string_lossy().into_owned();
        let raw = RawConfig {
            version: VERSION,
            root: text(&self.root),
            state: text(&self.state),
            disabled_plugins: self.disabled_plugins.iter().cloned().collect(),
            required_plugins: self.required_plugins.iter().cloned().collect(),
            grpc: RawGrpc { address: text(&self.address) },
            debug: RawDebug {
                level: self.log_level.to_string(),
                format: match self.log_format {
                    LogFormat::Text => "text",
                    LogFormat::Json => "json",
                }
                .to_owned(),
            },
            plugins: self.plugins.clone(),
        };
        toml::to_string(&raw).expect("strings, numbers and tables with string keys are valid TOML")
    }
}
