//! Where credentials go: to the registry and its token server, and nowhere else.

use imagesvc::{Auth, Config, PullRequest};

use super::hosts;
use super::image::digest_of;
use super::node::Node;
use super::scripted::Scripted;

const CONFIG: &str =
    r#"{"architecture":"amd64","os":"linux","config":{},"rootfs":{"type":"layers","diff_ids":[]}}"#;

fn manifest() -> String {
    let (digest, size) = (digest_of(CONFIG.as_bytes()), CONFIG.len());
    format!(
        r#"{{"schemaVersion":2,"config":{{"mediaType":"c","digest":"{digest}","size":{size}}},"layers":[]}}"#
    )
}

fn auth() -> Option<Auth> {
    Some(Auth { username: "user".to_owned(), password: "secret".to_owned(), ..Auth::default() })
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_are_fetched_with_credentials_and_do_not_follow_redirects() {
    let storage = Scripted::start(|_| ("200 OK".to_owned(), CONFIG.into())).await;
    let tokens = Scripted::start(|request| match request.authorization.as_deref() {
        // base64 of user:secret
        Some("Basic dXNlcjpzZWNyZXQ=") => ("200 OK".to_owned(), br#"{"token":"granted"}"#.to_vec()),
        _ => ("401 Unauthorized".to_owned(), Vec::new()),
    })
    .await;
    let (realm, blobs) = (tokens.address.clone(), storage.address.clone());
    let registry = Scripted::start(move |request| {
        if request.authorization.as_deref() != Some("Bearer granted") {
            let challenge = format!("401 Unauthorized\r\nwww-authenticate: Bearer realm=\"http://{realm}/token\",service=\"reg\",scope=\"repository:app:pull\"");
            return (challenge, Vec::new());
        }
        if request.path.contains("/blobs/") {
            return (format!("307 Temporary Redirect\r\nlocation: http://{blobs}/elsewhere"), Vec::new());
        }
        let digest = digest_of(manifest().as_bytes());
        (format!("200 OK\r\ndocker-content-digest: {digest}"), manifest().into())
    })
    .await;
    let folder = tempfile::tempdir().unwrap();
    let node = Node::open(folder.path(), Config::default()).await;
    let reference = format!("{}/app:1", registry.address);
    let pulled = node.service.pull(PullRequest { reference: reference.clone(), auth: auth() }).await.unwrap();
    assert_eq!(pulled.id.to_string(), digest_of(CONFIG.as_bytes()));
    assert_eq!(node.service.resolve(&reference).unwrap().chain_id, None, "an image without layers");
    let asked = tokens.asked();
    assert_eq!(asked.len(), 1, "the token is used again: {asked:?}");
    assert!(
        asked[0].0.contains("service=reg") && asked[0].0.contains("scope=repository%3Aapp%3Apull"),
        "{asked:?}"
    );
    let asked = storage.asked();
    assert_eq!(asked, [("/elsewhere".to_owned(), None)], "no token goes to where a redirect leads");

    let refused = node.pull(&reference).await.unwrap_err();
    assert_eq!(refused.kind(), runtime_core::error::ErrorKind::PermissionDenied, "{refused}");
    assert!(node.service.status(&reference).unwrap().is_some(), "a refused pull takes nothing away");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mirror_gets_no_credentials_and_is_told_the_registry() {
    let mirror = Scripted::start(|_| {
        ("401 Unauthorized\r\nwww-authenticate: Basic realm=\"phish\"".to_owned(), Vec::new())
    })
    .await;
    let folder = tempfile::tempdir().unwrap();
    let text = format!("server = \"http://127.0.0.1:1\"\n[host.\"http://{}\"]\n", mirror.address);
    let config_path = hosts(folder.path(), "reg.example", &text);
    let config = Config { config_path, ..Config::default() };
    let node = Node::open(folder.path(), config).await;
    let request = PullRequest { reference: "reg.example/app:1".to_owned(), auth: auth() };
    let error = node.service.pull(request).await.unwrap_err();
    let message = std::error::Error::source(&*error).unwrap().to_string();
    assert!(message.contains(&mirror.address) && message.contains("127.0.0.1:1"), "every host: {message}");
    let asked = mirror.asked();
    assert_eq!(asked, [("/v2/app/manifests/1?ns=reg.example".to_owned(), None)]);
    assert_eq!(node.leftovers().await, Vec::<String>::new());
    node.store.close();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_challenge_behind_a_redirect_gets_no_credentials() {
    let tokens = Scripted::start(|_| ("200 OK".to_owned(), br#"{"token":"granted"}"#.to_vec())).await;
    for scheme in ["Bearer", "Basic"] {
        let realm = format!("http://{}/token", tokens.address);
        let phish = Scripted::start(move |_| {
            let challenge = format!("401 Unauthorized\r\nwww-authenticate: {scheme} realm=\"{realm}\"");
            (challenge, Vec::new())
        })
        .await;
        let target = phish.address.clone();
        let registry = Scripted::start(move |request| {
            if request.path.contains("/blobs/") {
                return (format!("307 Temporary Redirect\r\nlocation: http://{target}/x"), Vec::new());
            }
            let digest = digest_of(manifest().as_bytes());
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
        assert_eq!(phish.asked(), [("/x".to_owned(), None)], "{scheme}");
        node.store.close();
    }
    assert_eq!(tokens.asked(), [], "no token is asked for");
}
