//! Which hosts serve a registry: `<folder>/<host>/hosts.toml` or `<folder>/_default/hosts.toml`, in containerd's
//! format. Files are read at every pull, so that changes need no restart.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::Url;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use runtime_core::error::ErrorKind;
use serde::Deserialize;
use toml::Spanned;

use super::endpoint::{Endpoint, Transport, host_of};
use super::origin::{DOCKER_HUB, is_loopback, same_registry};

const HOSTS_FILE: &str = "hosts.toml";
const DEFAULT_FOLDER: &str = "_default";
const MAX_HOSTS_FILE: u64 = 1 << 20;

#[derive(Debug, thiserror::Error)]
pub enum HostsError {
    #[error("failed to read {path}")]
    Read {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("{path} is not a valid hosts.toml")]
    Parse {
        path: PathBuf,
        #[source]
        source: toml::de::Error,
    },
    #[error("{path}: {key} {value:?} is not valid: {why}")]
    Value { path: PathBuf, key: &'static str, value: String, why: String },
}

impl HostsError {
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Read { .. } | Self::Parse { .. } | Self::Value { .. } => ErrorKind::FailedPrecondition,
        }
    }
}

#[derive(Deserialize)]
struct HostsFile {
    server: Option<String>,
    #[serde(default)]
    host: BTreeMap<Spanned<String>, HostSettings>,
    #[serde(flatten)]
    settings: HostSettings,
}

/// The keys of one `[host."…"]` table; at the top of the file they are for the server.
#[derive(Default, Deserialize)]
struct HostSettings {
    capabilities: Option<Vec<String>>,
    ca: Option<OneOrMany<String>>,
    client: Option<ClientFiles>,
    #[serde(default)]
    skip_verify: bool,
    #[serde(default)]
    override_path: bool,
    dial_timeout: Option<String>,
    #[serde(default)]
    header: BTreeMap<String, OneOrMany<String>>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany<T> {
    One(T),
    Many(Vec<T>),
}

#[derive(Deserialize)]
#[serde(untagged)]
enum ClientFiles {
    One(String),
    Many(Vec<OneOrMany<String>>),
}

impl<T> OneOrMany<T> {
    fn into_vec(self) -> Vec<T> {
        match self {
            Self::One(one) => vec![one],
            Self::Many(many) => many,
        }
    }
}

/// The hosts to ask about `registry`, in order; the registry itself is last.
pub(crate) fn endpoints(folders: &[PathBuf], registry: &str) -> Result<Vec<Endpoint>, HostsError> {
    match find(folders, registry) {
        Some(path) => read(&path, registry),
        None => Ok(vec![upstream(registry)]),
    }
}

fn find(folders: &[PathBuf], registry: &str) -> Option<PathBuf> {
    let names = [registry.to_owned(), registry.replacen(':', "_", 1) + "_", DEFAULT_FOLDER.to_owned()];
    let paths = folders.iter().flat_map(|folder| names.iter().map(move |name| folder.join(name)));
    paths.map(|path| path.join(HOSTS_FILE)).find(|path| path.is_file())
}

/// The registry as its name says. Plain HTTP only where nobody else can listen in.
fn upstream(registry: &str) -> Endpoint {
    let host = if registry == DOCKER_HUB.0 { DOCKER_HUB.1 } else { registry };
    let scheme = if is_loopback(registry) { "http" } else { "https" };
    let base = Url::parse(&format!("{scheme}://{host}/v2")).expect("a parsed reference has a valid host");
    endpoint(base, registry, HostSettings::default())
}

fn endpoint(base: Url, registry: &str, settings: HostSettings) -> Endpoint {
    let host = host_of(&base);
    let own = host == registry || same_registry(registry, &base);
    let can = |what: &str| {
        settings.capabilities.as_ref().is_none_or(|list| list.iter().any(|capability| capability == what))
    };
    Endpoint {
        namespace: (!own).then(|| registry.to_owned()),
        may_resolve: can("resolve"),
        may_pull: can("pull"),
        host,
        base,
        headers: HeaderMap::new(),
        transport: Transport::default(),
    }
}

fn read(path: &Path, registry: &str) -> Result<Vec<Endpoint>, HostsError> {
    let failed = |source| HostsError::Read { path: path.to_owned(), source };
    let size = std::fs::metadata(path).map_err(failed)?.len();
    if size > MAX_HOSTS_FILE {
        return Err(failed(std::io::Error::from(std::io::ErrorKind::FileTooLarge)));
    }
    let text = std::fs::read_to_string(path).map_err(failed)?;
    let file: HostsFile =
        toml::from_str(&text).map_err(|source| HostsError::Parse { path: path.to_owned(), source })?;
    let mut hosts: Vec<(Spanned<String>, HostSettings)> = file.host.into_iter().collect();
    // The order in the file is the order of asking.
    hosts.sort_by_key(|(name, _)| name.span().start);
    let mut found = Vec::new();
    for (name, settings) in hosts {
        found.push(configured(path, name.get_ref(), registry, settings)?);
    }
    let server = match &file.server {
        Some(server) => configured(path, server, registry, file.settings)?,
        None => upstream(registry),
    };
    if !found.iter().any(|endpoint| endpoint.base == server.base) {
        found.push(server);
    }
    Ok(found)
}

/// The endpoint that a file describes. Paths in it are relative to the file.
fn configured(
    path: &Path,
    name: &str,
    registry: &str,
    mut settings: HostSettings,
) -> Result<Endpoint, HostsError> {
    let invalid = |key, value: &str, why: String| HostsError::Value {
        path: path.to_owned(),
        key,
        value: value.to_owned(),
        why,
    };
    let base = base_url(name, settings.override_path).map_err(|why| invalid("host", name, why))?;
    let beside = |file: &str| path.parent().unwrap_or(Path::new("/")).join(file);
    let mut headers = HeaderMap::new();
    for (header, values) in std::mem::take(&mut settings.header) {
        let key = HeaderName::try_from(&header).map_err(|e| invalid("header", &header, e.to_string()))?;
        for value in values.into_vec() {
            let value =
                HeaderValue::try_from(value).map_err(|e| invalid("header", &header, e.to_string()))?;
            headers.append(key.clone(), value);
        }
    }
    let dial_timeout = match &settings.dial_timeout {
        Some(text) => Some(duration(text).ok_or_else(|| {
            invalid("dial_timeout", text, "wanted a number with ms, s, m or h behind".to_owned())
        })?),
        None => None,
    };
    let transport = Transport {
        authorities: settings
            .ca
            .take()
            .map_or_else(Vec::new, OneOrMany::into_vec)
            .iter()
            .map(|ca| beside(ca))
            .collect(),
        identities: identities(settings.client.take(), beside).map_err(|value| {
            invalid("client", &value, "wanted a file or a [certificate, key] pair".to_owned())
        })?,
        skip_verify: settings.skip_verify,
        dial_timeout,
    };
    Ok(Endpoint { headers, transport, ..endpoint(base, registry, settings) })
}

fn base_url(name: &str, override_path: bool) -> Result<Url, String> {
    let with_scheme = if name.contains("://") { name.to_owned() } else { format!("https://{name}") };
    let mut base = Url::parse(&with_scheme).map_err(|error| error.to_string())?;
    if !matches!(base.scheme(), "http" | "https") || base.host_str().is_none() {
        return Err("wanted http://host or https://host".to_owned());
    }
    if !base.username().is_empty() || base.password().is_some() {
        return Err("credentials do not belong into it".to_owned());
    }
    let path = base.path().trim_end_matches('/').to_owned();
    let path = if override_path || path.ends_with("/v2") { path } else { path + "/v2" };
    base.set_path(&path);
    Ok(base)
}

fn identities(
    files: Option<ClientFiles>,
    beside: impl Fn(&str) -> PathBuf,
) -> Result<Vec<(PathBuf, PathBuf)>, String> {
    let one = |file: &str| (beside(file), beside(file));
    let entries = match files {
        None => return Ok(Vec::new()),
        Some(ClientFiles::One(file)) => return Ok(vec![one(&file)]),
        Some(ClientFiles::Many(entries)) => entries,
    };
    entries
        .into_iter()
        .map(|entry| match entry {
            OneOrMany::One(file) => Ok(one(&file)),
            OneOrMany::Many(pair) => match pair.as_slice() {
                [certificate, key] if key.is_empty() => Ok(one(certificate)),
                [certificate, key] => Ok((beside(certificate), beside(key))),
                other => Err(other.join(", ")),
            },
        })
        .collect()
}

/// The simple half of Go's duration syntax, which the files use.
fn duration(text: &str) -> Option<Duration> {
    let at = text.find(|c: char| c.is_ascii_alphabetic())?;
    let (number, unit) = text.split_at(at);
    let number: f64 = number.parse().ok()?;
    let seconds = match unit {
        "ms" => number / 1000.0,
        "s" => number,
        "m" => number * 60.0,
        "h" => number * 3600.0,
        _ => return None,
    };
    Duration::try_from_secs_f64(seconds).ok()
}

#[cfg(test)]
mod tests;
