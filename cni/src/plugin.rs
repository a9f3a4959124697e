//! One call of one plugin: finding it, the environment and input it gets, and what its answer means.

mod process;

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::time::Duration;

use runtime_sys::pidfd::Exit;
use serde::Deserialize;
use serde_json::{Value, json};

use self::process::{End, Program, Run};
use crate::attachment::Attachment;
use crate::error::{CniError, Command, Stream, beginning, ending, one_line};
use crate::network::{Network, plugin_type};
use crate::result::{CniResult, ResultError, in_version};

/// Where programs are looked up when the daemon has no `PATH`; plugins run `iptables` and the like.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Characters of a plugin's own message, and of its details, that are told.
const SHOWN: usize = 1024;

/// What ADD gave.
#[derive(Clone, Debug, PartialEq)]
pub struct Addition {
    /// The last plugin's result in the network's version: to be kept for CHECK and DEL.
    pub raw: Value,
    pub result: CniResult,
}

/// Where plugins are and how long they may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plugins<'a> {
    pub(crate) bin_dirs: &'a [PathBuf],
    pub(crate) limit: Duration,
}

/// A call of one plugin of a network.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Call<'a> {
    pub(crate) command: Command,
    pub(crate) network: &'a Network,
    /// Its configuration.
    pub(crate) plugin: &'a Value,
    /// None for the verbs that are about the whole network.
    pub(crate) attachment: Option<&'a Attachment>,
    /// The result so far, or that of ADD.
    pub(crate) previous: Option<&'a Value>,
    /// For GC: pairs of container id and interface that are in use.
    pub(crate) valid: &'a [(String, String)],
}

/// The specification's error object.
#[derive(Deserialize)]
struct Complaint {
    code: u64,
    #[serde(default)]
    msg: String,
    #[serde(default)]
    details: String,
}

impl Plugins<'_> {
    /// Makes the call; for ADD, gives the result in the network's version.
    pub(crate) async fn call(&self, call: &Call<'_>) -> Result<Option<Addition>, CniError> {
        let name = plugin_type(call.plugin)
            .map_err(|source| CniError::Network { network: call.network.name.clone(), source })?;
        let path = self.find(name)?;
        let program = Program {
            path,
            environment: self.environment(call),
            input: call.input().to_string().into_bytes(),
            limit: self.limit,
        };
        let run = process::run(program).await.map_err(|source| CniError::Spawn {
            plugin: name.to_owned(),
            command: call.command,
            source,
        })?;
        let stderr = ending(&run.stderr);
        let (command, network, container) =
            (call.command, &call.network.name, call.attachment.map(|at| &at.container_id));
        tracing::debug!(plugin = name, %command, network, container, stderr, "called");
        match run.end {
            End::Exit(Exit::Code(0)) if call.command == Command::Add => call.result(name, &run).map(Some),
            End::Exit(Exit::Code(0)) => Ok(None),
            End::Exit(exit) => Err(call.failure(name, exit, &run)),
            End::Timeout => {
                let (plugin, command) = (name.to_owned(), call.command);
                Err(CniError::Timeout { plugin, command, limit: self.limit, stderr })
            }
            End::TooMuch(stream) => {
                let limit = match stream {
                    Stream::Stdout => process::MAX_STDOUT,
                    Stream::Stderr => process::MAX_STDERR,
                };
                Err(CniError::TooMuchOutput { plugin: name.to_owned(), command: call.command, stream, limit })
            }
        }
    }

    /// The first file of this name in the folders.
    fn find(&self, name: &str) -> Result<PathBuf, CniError> {
        let mut candidates = self.bin_dirs.iter().map(|folder| folder.join(name));
        candidates
            .find(|path| path.is_file())
            .ok_or_else(|| CniError::NotFound { plugin: name.to_owned(), searched: self.bin_dirs.to_vec() })
    }

    /// The daemon's own environment, which the reference implementation passes on, with the variables of the call.
    fn environment(&self, call: &Call<'_>) -> Vec<(OsString, OsString)> {
        let own = |name: &OsStr| name.as_encoded_bytes().starts_with(b"CNI_");
        let mut environment: Vec<_> = std::env::vars_os().filter(|(name, _)| !own(name)).collect();
        if !environment.iter().any(|(name, _)| name == "PATH") {
            environment.push(("PATH".into(), PATH.into()));
        }
        let folders: Vec<&OsStr> = self.bin_dirs.iter().map(|folder| folder.as_os_str()).collect();
        environment.push(("CNI_COMMAND".into(), call.command.as_str().into()));
        environment.push(("CNI_PATH".into(), folders.join(OsStr::new(":"))));
        if let Some(at) = call.attachment {
            let netns = at.netns.as_deref().unwrap_or(Path::new(""));
            environment.push(("CNI_CONTAINERID".into(), (&at.container_id).into()));
            environment.push(("CNI_NETNS".into(), netns.into()));
            environment.push(("CNI_IFNAME".into(), (&at.if_name).into()));
            environment.push(("CNI_ARGS".into(), at.joined_args().into()));
        }
        environment
    }
}

impl Call<'_> {
    /// The plugin's configuration, made whole as the specification's "deriving execution configuration" says.
    fn input(&self) -> Value {
        let mut input = self.plugin.as_object().cloned().unwrap_or_default();
        let declared = input.remove("capabilities");
        input.remove("prevResult");
        input.insert("name".to_owned(), self.network.name.as_str().into());
        input.insert("cniVersion".to_owned(), self.network.version.as_str().into());
        if let Some(previous) = self.previous {
            input.insert("prevResult".to_owned(), previous.clone());
        }
        if let Some(at) = self.attachment {
            let wanted =
                |name: &str| declared.as_ref().is_some_and(|all| all.get(name) == Some(&true.into()));
            let given = at.capabilities.iter().filter(|(name, _)| wanted(name));
            let values: serde_json::Map<_, _> =
                given.map(|(name, value)| (name.clone(), value.clone())).collect();
            if !values.is_empty() {
                input.insert("runtimeConfig".to_owned(), values.into());
            }
        }
        if self.command == Command::Gc {
            let valid: Vec<_> =
                self.valid.iter().map(|(id, name)| json!({ "containerID": id, "ifname": name })).collect();
            input.insert("cni.dev/valid-attachments".to_owned(), valid.into());
        }
        Value::Object(input)
    }

    fn result(&self, name: &str, run: &Run) -> Result<Addition, CniError> {
        let parse = || {
            let raw: Value = serde_json::from_slice(&run.stdout).map_err(ResultError::Json)?;
            let raw = in_version(&raw, self.network.version)?;
            Ok(Addition { result: CniResult::parse(&raw)?, raw })
        };
        parse().map_err(|source| CniError::Garbage {
            plugin: name.to_owned(),
            command: self.command,
            stdout: beginning(&run.stdout),
            stderr: ending(&run.stderr),
            source,
        })
    }

    fn failure(&self, name: &str, exit: Exit, run: &Run) -> CniError {
        let (plugin, command, stderr) = (name.to_owned(), self.command, ending(&run.stderr));
        match serde_json::from_slice(&run.stdout) {
            Ok(Complaint { code, msg, details }) => {
                let (msg, details) = (one_line(&msg, SHOWN), one_line(&details, SHOWN));
                CniError::Failed { plugin, command, code, msg, details, stderr }
            }
            Err(_) => {
                let stdout = beginning(&run.stdout);
                CniError::Crashed { plugin, command, exit, stdout, stderr }
            }
        }
    }
}
