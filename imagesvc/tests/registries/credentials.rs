//! Where credentials go: to the registry and its token server, and nowhere else. Needs root.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/node.rs"]
mod node;
#[path = "support/scripted.rs"]
mod scripted;

use imagesvc::{Auth, Config, PullRequest};
use node::Node;
use scripted::Scripted;
use sha2::{Digest, Sha256};

const CONFIG: &str =
    r#"{"architecture":"amd64","os":"linux","config":{},"rootfs":{"type":"layers","diff_ids":[]}}"#;

fn digest_of(text: &str) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(text)))
}

fn manifest() -> String {
    let (digest, size) = (digest_of(CONFIG), CONFIG.len());
    format!(
        r#"{{"schemaVersion":2,"config":{{"mediaType":"c","digest":"{digest}","size":{size}}},"layers":[]}}"#
    )
}

fn auth() -> Option<Auth> {
    Some(Auth { username: "user".to_owned(), password: "secret".to_owned(), ..Auth::default() })
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_are_fetched_with_credentials_and_do_not_follow_redirects() {
    let storage = Scripted::start(|_, _| ("200 OK".to_owned(), CONFIG.into())).await;
    let tokens = Scripted::start(|_, authorization| match authorization {
        // base64 of user:secret
        Some("Basic dXNlcjpzZWNyZXQ=") => ("200 OK".to_owned(), br#"{"token":"granted"}"#.to_vec()),
        _ => ("401 Unauthorized".to_owned(), Vec::new()),
    })
    .await;
    let (realm, blobs) = (tokens.address.clone(), storage.address.clone());
    let registry = Scripted::start(move |path, authorization| {
        if authorization != Some("Bearer granted") {
            let challenge = format!("401 Unauthorized\r\nwww-authenticate: Bearer realm=\"http://{realm}/token\",service=\"reg\",scope=\"repository:app:pull\"");
            return (challenge, Vec::new());
        }
        if path.contains("/blobs/") {
            return (format!("307 Temporary Redirect\r\nlocation: http://{blobs}/elsewhere"), Vec::new());
        }
        let digest = digest_of(&manifest());
        (format!("200 OK\r\ndocker-content-digest: {digest}"), manifest().into())
    })
    .await;
    let folder = tempfile::tempdir().unwrap();
    let node = Node::open(folder.path(), Config::default()).await;
    let reference = format!("{}/app:1", registry.address);
    let pulled = node.service.pull(PullRequest { reference: reference.clone(), auth: auth() }).await.unwrap();
    assert_eq!(pulled.id.to_string(), digest_of(CONFIG));
    assert_eq!(node.service.resolve(&reference).unwrap().chain_id, None, "an image without layers");
    let asked = tokens.asked.lock().unwrap().clone();
    assert_eq!(asked.len(), 1, "the token is used again: {asked:?}");
    assert!(
        asked[0].0.contains("service=reg") && asked[0].0.contains("scope=repository%3Aapp%3Apull"),
        "{asked:?}"
    );
    let asked = storage.asked.lock().unwrap().clone();
    assert_eq!(asked, [("/elsewhere".to_owned(), None)], "no token goes to where a redirect leads");

    let refused = node.pull(&reference).await.unwrap_err();
    assert_eq!(refused.kind(), runtime_core::error::ErrorKind::PermissionDenied, "{refused}");
    assert!(node.service.status(&reference).unwrap().is_some(), "a refused pull takes nothing away");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mirror_gets_no_credentials_and_is_told_the_registry() {
    let mirror = Scripted::start(|_, _| {
        ("401 Unauthorized\r\nwww-authenticate: Basic realm=\"phish\"".to_owned(), Vec::new())
    })
    .await;
    let folder = tempfile::tempdir().unwrap();
    let hosts = folder.path().join("certs.d/reg.example");
    std::fs::create_dir_all(&hosts).unwrap();
    let text = format!("server = \"http://127.0.0.1:1\"\n[host.\"http://{}\"]\n", mirror.address);
    std::io::Write::write_all(&mut std::fs::File::create(hosts.join("hosts.toml")).unwrap(), text.as_bytes())
        .unwrap();
    let config = Config { config_path: vec![folder.path().join("certs.d")], ..Config::default() };
    let node = Node::open(folder.path(), config).await;
    let request = PullRequest { reference: "reg.example/app:1".to_owned(), auth: auth() };
    let error = node.service.pull(request).await.unwrap_err();
    let message = std::error::Error::source(&*error).unwrap().to_string();
    assert!(message.contains(&mirror.address) && message.contains("127.0.0.1:1"), "every host: {message}");
    let asked = mirror.asked.lock().unwrap().clone();
    assert_eq!(asked, [("/v2/app/manifests/1?ns=reg.example".to_owned(), None)]);
    assert_eq!(node.leftovers().await, Vec::<String>::new());
    node.store.close();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_challenge_behind_a_redirect_gets_no_credentials() {
    let tokens = Scripted::start(|_, _| ("200 OK".to_owned(), br#"{"token":"granted"}"#.to_vec())).await;
    for scheme in ["Bearer", "Basic"] {
        let realm = format!("http://{}/token", tokens.address);
        let phish = Scripted::start(move |_, _| {
            let challenge = format!("401 Unauthorized\r\nwww-authenticate: {scheme} realm=\"{realm}\"");
            (challenge, Vec::new())
        })
        .await;
        let target = phish.address.clone();
        let registry = Scripted::start(move |path, _| {
            if path.contains("/blobs/") {
                return (format!("307 Temporary Redirect\r\nlocation: http://{target}/x"), Vec::new());
            }
            let digest = digest_of(&manifest());
            (format!("200 OK\r\ndocker-content-digest: {digest}"), manifest().into())
        })
        .await;
        let folder = tempfile::tempdir().unwrap();
        let node = Node::open(folder.path(), Config::default()).await;
        let request = PullRequest { reference: format!("{}/app:1", registry.address), auth: auth() };
        let error = node.service.pull(request).await.unwrap_err();
        assert_eq!(error.kind(), runtime_core::error::ErrorKind::PermissionDenied);
        let message = std::error::Error::source(&*error).unwrap().to_string();
        assert!(message.contains(&phish.address) && message.contains("asks for credentials"), "{message}");
        assert_eq!(*phish.asked.lock().unwrap(), [("/x".to_owned(), None)], "{scheme}");
        node.store.close();
    }
    assert_eq!(*tokens.asked.lock().unwrap(), [], "no token is asked for");
}
