//! The pod's folder: hostname, hosts and resolv.conf, bound into every container that brings none of its own.

use std::fs::{DirBuilder, File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::spec::{DnsSpec, PodSpec};

const HOST_HOSTS: &str = "/etc/hosts";
const HOST_RESOLV_CONF: &str = "/etc/resolv.conf";
const FILE_MODE: u32 = 0o644;
/// The most of a host's file that is copied.
const MAX_HOST_FILE: u64 = 1024 * 1024;

#[derive(Debug, thiserror::Error)]
#[error("cannot {action} pod file {path}")]
pub struct FilesError {
    action: &'static str,
    path: PathBuf,
    #[source]
    source: io::Error,
}

/// Makes the folder anew. Returns the hostname written.
pub(crate) fn ensure_files(folder: &Path, spec: &PodSpec) -> Result<String, FilesError> {
    let hostname = if spec.hostname.is_empty() { host_name() } else { spec.hostname.clone() };
    DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(|source| FilesError {
        action: "make the folder of",
        path: folder.to_owned(),
        source,
    })?;
    write(folder, "hostname", format!("{hostname}\n").as_bytes())?;
    write(folder, "hosts", &host_file(HOST_HOSTS)?)?;
    let resolv_conf = match &spec.dns {
        Some(dns) => resolv_conf(dns).into_bytes(),
        None => host_file(HOST_RESOLV_CONF)?,
    };
    write(folder, "resolv.conf", &resolv_conf)?;
    Ok(hostname)
}

/// Takes the folder away; gone already is fine.
pub(crate) fn remove_files(folder: &Path) -> Result<(), FilesError> {
    match std::fs::remove_dir_all(folder) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(FilesError { action: "remove the folder of", path: folder.to_owned(), source })
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

fn host_file(path: &str) -> Result<Vec<u8>, FilesError> {
    use io::Read;
    let mut bytes = Vec::new();
    match File::open(path).and_then(|file| file.take(MAX_HOST_FILE).read_to_end(&mut bytes)) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(FilesError { action: "read the host's", path: path.into(), source })
        }
        Ok(_) | Err(_) => Ok(bytes),
    }
}

fn write(folder: &Path, name: &str, content: &[u8]) -> Result<(), FilesError> {
    let path = folder.join(name);
    let written = File::create(&path).and_then(|mut file| {
        // Readable by every user of the containers, whatever the daemon's umask is.
        file.set_permissions(Permissions::from_mode(FILE_MODE))?;
        file.write_all(content)
    });
    written.map_err(|source| FilesError { action: "write", path, source })
}

/// resolv.conf(5): one `nameserver` a line, one `search` line, one `options` line.
fn resolv_conf(dns: &DnsSpec) -> String {
    let mut text = String::new();
    if !dns.searches.is_empty() {
        text.push_str(&format!("search {}\n", dns.searches.join(" ")));
    }
    for server in &dns.servers {
        text.push_str(&format!("nameserver {server}\n"));
    }
    if !dns.options.is_empty() {
        text.push_str(&format!("options {}\n", dns.options.join(" ")));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolv_conf_has_one_line_a_kind() {
        let dns = DnsSpec {
            servers: vec!["10.10.10.10".into(), "10.0.0.1".into()],
            searches: vec!["google.com".into(), "a.b".into()],
            options: vec!["ndots:8".into()],
        };
        assert_eq!(
            resolv_conf(&dns),
            "search google.com a.b\nnameserver 10.10.10.10\nnameserver 10.0.0.1\noptions ndots:8\n"
        );
    }
}
