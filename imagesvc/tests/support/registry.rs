//! Debian's docker-registry on a free loopback port, with its storage in a temporary folder.

use std::io::Write;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};

const BINARY: &str = "/usr/bin/docker-registry";
/// An htpasswd file: `user` with the password `secret`.
pub(crate) const PASSWORDS: &str = "user:$2b$04$jc6cs1AGQ3nBIUNuxvY5k.LA7tbnvLOSWe8YcPseTiYwRYUUBP6.C\n";
const START_LIMIT: Duration = Duration::from_secs(20);

pub(crate) struct Registry {
    process: Child,
    folder: tempfile::TempDir,
    pub(crate) address: String,
    http: reqwest::Client,
}

impl Drop for Registry {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

pub(crate) fn digest_of(bytes: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(bytes)))
}

/// Pushes as the user whom `PASSWORDS` allows; a registry without passwords does not mind.
fn client() -> reqwest::Client {
    let mut headers = reqwest::header::HeaderMap::new();
    headers.insert("authorization", reqwest::header::HeaderValue::from_static("Basic dXNlcjpzZWNyZXQ="));
    reqwest::Client::builder().default_headers(headers).build().unwrap()
}

impl Registry {
    /// Starts it; `auth` is a line of an htpasswd file (bcrypt).
    #[expect(clippy::disallowed_methods, reason = "a test starts the real registry as a person would")]
    pub(crate) async fn start(auth: Option<&str>) -> Self {
        drop(rustls::crypto::ring::default_provider().install_default());
        assert!(std::path::Path::new(BINARY).exists(), "this test needs Debian's package docker-registry");
        let folder = tempfile::tempdir().unwrap();
        let address = format!("127.0.0.1:{}", free_port());
        let storage = folder.path().join("storage");
        let mut config = format!(
            "version: 0.1\nlog:\n  level: error\nstorage:\n  filesystem:\n    rootdirectory: {}\nhttp:\n  addr: {address}\n",
            storage.display()
        );
        if let Some(line) = auth {
            let passwords = folder.path().join("htpasswd");
            std::fs::File::create(&passwords).unwrap().write_all(line.as_bytes()).unwrap();
            config += &format!("auth:\n  htpasswd:\n    realm: test\n    path: {}\n", passwords.display());
        }
        let path = folder.path().join("config.yml");
        std::fs::File::create(&path).unwrap().write_all(config.as_bytes()).unwrap();
        let process = Command::new(BINARY)
            .arg("serve")
            .arg(&path)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let registry = Self { process, folder, address, http: client() };
        registry.wait_until_it_answers().await;
        registry
    }

    async fn wait_until_it_answers(&self) {
        let deadline = Instant::now() + START_LIMIT;
        while self.http.get(self.url("")).send().await.is_err() {
            assert!(Instant::now() < deadline, "the registry does not answer at {}", self.address);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}/v2/{path}", self.address)
    }

    pub(crate) async fn push_blob(&self, repository: &str, bytes: &[u8]) -> String {
        let digest = digest_of(bytes);
        let begun = self.http.post(self.url(&format!("{repository}/blobs/uploads/"))).send().await.unwrap();
        assert_eq!(begun.status(), 202);
        let location = begun.headers()["location"].to_str().unwrap().to_owned();
        let separator = if location.contains('?') { '&' } else { '?' };
        let put = self.http.put(format!("{location}{separator}digest={digest}")).body(bytes.to_vec());
        assert_eq!(put.send().await.unwrap().status(), 201);
        digest
    }

    pub(crate) async fn push_manifest(
        &self,
        repository: &str,
        tag: &str,
        media_type: &str,
        body: &str,
    ) -> String {
        let url = self.url(&format!("{repository}/manifests/{tag}"));
        let put = self.http.put(url).header("content-type", media_type).body(body.to_owned());
        let answer = put.send().await.unwrap();
        assert_eq!(answer.status(), 201, "{}", answer.text().await.unwrap());
        digest_of(body.as_bytes())
    }

    /// Replaces what the registry stores for a digest: it will serve wrong bytes.
    pub(crate) fn corrupt(&self, digest: &str, bytes: &[u8]) {
        std::fs::File::create(self.blob_path(digest)).unwrap().write_all(bytes).unwrap();
    }

    fn blob_path(&self, digest: &str) -> PathBuf {
        let hex = digest.strip_prefix("sha256:").unwrap();
        let blobs = self.folder.path().join("storage/docker/registry/v2/blobs/sha256");
        blobs.join(&hex[..2]).join(hex).join("data")
    }
}
