//! The keys of the file itself, as they are written (version 3).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::schema::Schema;

/// The version that is written and understood without migration.
pub(super) const VERSION: i64 = 3;
const ROOT: &str = "/var/lib/orlop";
const STATE: &str = "/run/orlop";
const ADDRESS: &str = "/run/orlop/orlop.sock";
const LEVEL: &str = "info";
const FORMAT: &str = "text";

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct RawConfig {
    pub(super) version: i64,
    pub(super) root: String,
    pub(super) state: String,
    pub(super) disabled_plugins: Vec<String>,
    pub(super) required_plugins: Vec<String>,
    pub(super) grpc: RawGrpc,
    pub(super) debug: RawDebug,
    pub(super) plugins: BTreeMap<String, toml::Table>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct RawGrpc {
    pub(super) address: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct RawDebug {
    pub(super) level: String,
    pub(super) format: String,
}

impl Default for RawConfig {
    fn default() -> Self {
        Self {
            version: VERSION,
            root: ROOT.to_owned(),
            state: STATE.to_owned(),
            disabled_plugins: Vec::new(),
            required_plugins: Vec::new(),
            grpc: RawGrpc::default(),
            debug: RawDebug::default(),
            plugins: BTreeMap::new(),
        }
    }
}

impl Default for RawGrpc {
    fn default() -> Self {
        Self { address: ADDRESS.to_owned() }
    }
}

impl Default for RawDebug {
    fn default() -> Self {
        Self { level: LEVEL.to_owned(), format: FORMAT.to_owned() }
    }
}

impl Schema for RawConfig {}
