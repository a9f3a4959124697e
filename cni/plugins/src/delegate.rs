//! Calls of another plugin for addresses, when `ipam.type` names one that is not in this binary.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;
use thiserror::Error;

use crate::call::{Call, input_for_delegate};
use crate::error::Code;
use crate::program::{self, ProgramError};
use crate::result::{CniResult, ResultError};

/// Characters of the other plugin's own message that are told.
const SHOWN: usize = 1024;

/// The other plugin did not answer well.
#[derive(Debug, Error)]
pub(crate) enum DelegateError {
    #[error("{0:?} is no name of a plugin")]
    Name(String),
    #[error("plugin {plugin} is not in CNI_PATH ({searched:?})")]
    NotFound { plugin: String, searched: Vec<PathBuf> },
    #[error("plugin {plugin}")]
    Run {
        plugin: String,
        #[source]
        source: ProgramError,
    },
    #[error("plugin {plugin} failed: {message}")]
    Failed { plugin: String, code: u32, message: String },
    #[error("plugin {plugin} answered with no result")]
    Garbage {
        plugin: String,
        #[source]
        source: ResultError,
    },
}

impl DelegateError {
    pub(crate) fn code(&self) -> u32 {
        match self {
            Self::Failed { code, .. } => *code,
            Self::Name(_) => Code::InvalidConfig.number(),
            Self::NotFound { .. } | Self::Run { .. } | Self::Garbage { .. } => Code::Internal.number(),
        }
    }
}

/// The specification's error object.
#[derive(Deserialize)]
struct Complaint {
    code: u32,
    #[serde(default)]
    msg: String,
}

/// Calls the plugin with this call's environment and configuration; gives the result of ADD.
pub(crate) fn call(plugin: &str, call: &Call) -> Result<Option<CniResult>, DelegateError> {
    run(plugin, call, &[])
}

/// Has the plugin take back what an ADD of this call got.
pub(crate) fn undo(plugin: &str, call: &Call) -> Result<(), DelegateError> {
    run(plugin, call, &[("CNI_COMMAND", "DEL")]).map(drop)
}

fn run(plugin: &str, call: &Call, variables: &[(&str, &str)]) -> Result<Option<CniResult>, DelegateError> {
    let path = find(plugin, call)?;
    let plugin = plugin.to_owned();
    let output = match program::run_with(&path, &[], &input_for_delegate(call), variables) {
        Ok(output) => output,
        Err(source) => return Err(DelegateError::Run { plugin, source }),
    };
    if !output.success {
        let complaint: Option<Complaint> = serde_json::from_slice(&output.stdout).ok();
        let (code, message) = match complaint {
            Some(complaint) => (complaint.code, complaint.msg),
            None => (Code::Internal.number(), output.stderr),
        };
        return Err(DelegateError::Failed { plugin, code, message: message.chars().take(SHOWN).collect() });
    }
    let what = "the result";
    let parse = |bytes: &[u8]| -> Result<CniResult, ResultError> {
        let raw: Value =
            serde_json::from_slice(bytes).map_err(|source| ResultError::Shape { what, source })?;
        CniResult::parse(what, &raw)
    };
    if output.stdout.iter().all(u8::is_ascii_whitespace) {
        return Ok(None);
    }
    parse(&output.stdout).map(Some).map_err(|source| DelegateError::Garbage { plugin, source })
}

/// A name only: a path would run any program of the host as root (CVE-2021-20206).
fn find(plugin: &str, call: &Call) -> Result<PathBuf, DelegateError> {
    let is_name = Path::new(plugin).file_name().is_some_and(|name| name == plugin) && !plugin.contains('\0');
    if !is_name {
        return Err(DelegateError::Name(plugin.chars().take(80).collect()));
    }
    let mut files = call.path.iter().map(|folder| folder.join(plugin));
    files
        .find(|file| program::is_program(file))
        .ok_or_else(|| DelegateError::NotFound { plugin: plugin.to_owned(), searched: call.path.clone() })
}
