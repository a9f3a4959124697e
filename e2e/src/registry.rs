//! Debian's `docker-registry` on a free loopback port with a private folder, and the mirror files that lead to it.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use crate::images::{Blob, Image, MANIFEST};
use crate::{fixture, http, process, wait};

/// The registries that the tests' nodes know as mirrors of the loopback registry.
pub const MIRRORED: [&str; 4] = ["docker.io", "registry.k8s.io", "gcr.io", "k8s.gcr.io"];

/// Ports that are tried before a registry counts as broken.
const PORT_TRIES: u32 = 5;

/// A running registry; dropping it stops it. Its folder belongs to the node.
pub struct Registry {
    address: SocketAddr,
    folder: PathBuf,
    server: Option<Child>,
}

impl Registry {
    /// Starts a registry that keeps its data in `folder`.
    pub fn start(folder: &Path) -> Self {
        let mut registry = Self { address: free_address(), folder: folder.to_path_buf(), server: None };
        // Another process may take the port before the server does.
        for _ in 0..PORT_TRIES {
            if registry.serves() {
                return registry;
            }
            registry.address = free_address();
        }
        panic!("docker-registry does not start:\n{}", fixture::read(&registry.log_path()));
    }

    /// Starts the server again after [`Self::stop`], at the same address.
    pub fn resume(&mut self) {
        assert!(self.serves(), "docker-registry ended:\n{}", fixture::read(&self.log_path()));
    }

    /// Starts the server and waits until it answers; false when it ended instead.
    fn serves(&mut self) -> bool {
        let config = self.folder.join("config.json");
        let own = self.folder.to_string_lossy().into_owned();
        let settings = serde_json::json!({
            "version": 0.1,
            "log": {"level": "warn", "accesslog": {"disabled": true}},
            "storage": {"filesystem": {"rootdirectory": self.folder.join("data")}, "delete": {"enabled": true}},
            "http": {"addr": self.address.to_string(), "headers": {"X-Folder": [own]}},
        });
        fixture::write(&config, settings.to_string());
        let log = fixture::create(&self.log_path());
        let mut command = process::command("docker-registry");
        command.arg("serve").arg(&config).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let child = command.spawn().unwrap_or_else(|error| panic!("start Debian's docker-registry: {error}"));
        // Kept at once, so that a panic below stops it.
        let (address, server) = (self.address, self.server.insert(child));
        // Another test's registry may have the port: ours says whose it is.
        let is_ours = |answer: http::Answer| answer.status == 200 && answer.header("x-folder") == Some(&own);
        let serves = wait::for_some("the registry answers or ends", || match server.try_wait() {
            Ok(None) => http::request(address, "GET", "/v2/", None).is_ok_and(is_ours).then_some(true),
            Ok(Some(_)) | Err(_) => Some(false),
        });
        if !serves {
            self.stop();
        }
        serves
    }

    fn log_path(&self) -> PathBuf {
        self.folder.join("registry.log")
    }

    /// Kills the server: connections to its address are refused from now on.
    pub fn stop(&mut self) {
        if let Some(mut server) = self.server.take() {
            process::kill_and_reap(&mut server);
        }
    }

    /// The server's process, while it runs.
    pub fn server(&self) -> Option<&Child> {
        self.server.as_ref()
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Pushes all blobs of an image and its manifest under `repository` and `tag`; gives the manifest's digest.
    pub fn push(&self, repository: &str, tag: &str, image: &Image) -> String {
        for blob in image.blobs() {
            self.push_blob(repository, blob);
        }
        self.push_manifest(repository, tag, MANIFEST, image.manifest())
    }

    /// Pushes one manifest or index as it is; gives its digest.
    pub fn push_manifest(&self, repository: &str, tag: &str, media_type: &str, manifest: &Blob) -> String {
        let path = format!("/v2/{repository}/manifests/{tag}");
        self.expect(201, "PUT", &path, Some((media_type, &manifest.bytes)));
        manifest.digest.clone()
    }

    fn push_blob(&self, repository: &str, blob: &Blob) {
        let upload = self.expect(202, "POST", &format!("/v2/{repository}/blobs/uploads/"), None);
        let location = upload.header("location").expect("an upload has a location").to_owned();
        let path = location
            .split_once("//")
            .map_or(location.as_str(), |(_, rest)| &rest[rest.find('/').unwrap_or(0)..]);
        let mark = if path.contains('?') { '&' } else { '?' };
        let target = format!("{path}{mark}digest={}", blob.digest);
        self.expect(201, "PUT", &target, Some(("application/octet-stream", &blob.bytes)));
    }

    fn expect(&self, status: u16, method: &str, path: &str, body: Option<(&str, &[u8])>) -> http::Answer {
        let answer = http::request(self.address, method, path, body)
            .unwrap_or_else(|error| panic!("{method} {path} at the registry: {error}"));
        assert_eq!(answer.status, status, "{method} {path}: {}", process::text(&answer.body));
        answer
    }

    /// Changes the bytes of a stored blob behind the registry's back, keeping its size.
    pub fn corrupt(&self, blob: &Blob) {
        let hex = blob.digest.strip_prefix("sha256:").expect("digests are sha256");
        let path = self.folder.join(format!("data/docker/registry/v2/blobs/sha256/{}/{hex}/data", &hex[..2]));
        let mut bytes = fs::read(&path).unwrap_or_else(|error| panic!("read {}: {error}", path.display()));
        let last = bytes.last_mut().expect("a blob is not empty");
        *last ^= 0xff;
        fixture::write(&path, bytes);
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Writes `<folder>/<host>/hosts.toml` for each mirrored host, all leading to `mirror`.
pub fn write_mirrors(folder: &Path, mirror: SocketAddr) {
    for host in MIRRORED {
        write_mirror(folder, host, mirror);
    }
}

/// Writes the `hosts.toml` of one host. The mirror is also the server of last resort: nothing leaves the machine.
pub fn write_mirror(folder: &Path, host: &str, mirror: SocketAddr) {
    let text = format!(
        "server = \"http://{mirror}\"\n\n[host.\"http://{mirror}\"]\n  capabilities = [\"pull\", \"resolve\"]\n"
    );
    fixture::write(&folder.join(host).join("hosts.toml"), text);
}

/// A loopback address that was free a moment ago.
pub fn free_address() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("bind a free loopback port");
    listener.local_addr().expect("a bound socket has an address")
}
