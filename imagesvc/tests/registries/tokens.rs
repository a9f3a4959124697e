//! Credentials of every kind, and tokens that end before the pull does.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use imagesvc::{Auth, PullRequest};
use runtime_core::error::ErrorKind;

use super::image::{Image, digest_of, tar_of};
use super::node::Node;
use super::scripted::{Answer, End, Scripted};
use super::{quick, text};

const UNAUTHORIZED: &str = "401 Unauthorized";

/// Gives `token-1`, `token-2`, …
async fn token_server() -> Scripted {
    let given = AtomicUsize::new(0);
    Scripted::start(move |_| {
        let token = format!("{{\"token\":\"token-{}\"}}", 1 + given.fetch_add(1, Ordering::SeqCst));
        Answer::new("200 OK", token.as_bytes())
    })
    .await
}

fn bearer(tokens: &Scripted) -> String {
    format!(
        "{UNAUTHORIZED}\r\nwww-authenticate: Bearer realm=\"http://{}/token\",service=\"reg\"",
        tokens.address
    )
}

fn three_layers() -> Vec<Vec<u8>> {
    (0..3_u8).map(|n| tar_of(&[n; 2000])).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn layers_that_meet_an_expired_token_share_a_new_one() {
    let tokens = token_server().await;
    let layers = three_layers();
    let image = Image::of(&layers.iter().map(Vec::as_slice).collect::<Vec<_>>());
    let config = digest_of(image.config.as_bytes());
    let (challenge, valid) = (bearer(&tokens), AtomicUsize::new(1));
    let registry = Scripted::start(move |request| {
        let wanted = format!("Bearer token-{}", valid.load(Ordering::SeqCst));
        if request.authorization.as_ref() != Some(&wanted) {
            return Answer::new(&challenge, b"");
        }
        if request.path.contains(&config) {
            // From here on the first token is worth nothing.
            valid.store(2, Ordering::SeqCst);
        }
        image.answer(request)
    })
    .await;
    let folder = tempfile::tempdir().unwrap();
    let node = Node::open(folder.path(), quick()).await;
    node.pull(&format!("{}/app:1", registry.address)).await.unwrap();
    assert_eq!(tokens.requests().len(), 2, "one to begin with, one for all three");
    node.store.close();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_expires_in_the_middle_of_a_layer_is_renewed_for_the_rest() {
    let tokens = token_server().await;
    let layer = tar_of(b"x");
    let (image, digest) = (Image::of(&[&layer]), digest_of(&layer));
    let challenge = bearer(&tokens);
    let registry = Scripted::start(move |request| {
        let is_rest = request.from.is_some();
        let wanted = if is_rest { "Bearer token-2" } else { "Bearer token-1" };
        if request.authorization.as_deref() != Some(wanted) {
            return Answer::new(&challenge, b"");
        }
        let end =
            if is_rest || image.document(&request.path).is_some() { End::Whole } else { End::Reset(700) };
        image.answer(request).ending(end)
    })
    .await;
    let folder = tempfile::tempdir().unwrap();
    let node = Node::open(folder.path(), quick()).await;
    node.pull(&format!("{}/app:1", registry.address)).await.unwrap();
    assert_eq!(registry.ranges(&digest), [None, Some(700), Some(700)], "broken, refused, served");
    assert_eq!(tokens.requests().len(), 2);
    node.store.close();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_token_that_is_refused_is_not_renewed_for_ever() {
    let tokens = token_server().await;
    let challenge = bearer(&tokens);
    let registry = Scripted::start(move |_| Answer::new(&challenge, b"")).await;
    let folder = tempfile::tempdir().unwrap();
    let node = Node::open(folder.path(), quick()).await;
    let error = node.pull(&format!("{}/app:1", registry.address)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{}", text(&error));
    assert!(text(&error).contains("answered 401"), "{}", text(&error));
    assert_eq!((tokens.requests().len(), registry.requests().len()), (1, 2));
    node.store.close();
}

/// What of the kubelet's credentials a registry and its token server get to see.
#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_credentials_is_used_as_it_is_meant() {
    /// Scheme of the challenge; ours; what the token server sees; what the registry sees in the end.
    type Case = (&'static str, Option<Auth>, Option<&'static str>, Option<&'static str>);
    const PAIR: &str = "Basic dXNlcjpzZWNyZXQ=";
    let user = || Auth { username: "user".to_owned(), password: "secret".to_owned(), ..Auth::default() };
    let encoded = || Auth { auth: "dXNlcjpzZWNyZXQ=".to_owned(), ..Auth::default() };
    let identity = || Auth { identity_token: "refresh me".to_owned(), ..Auth::default() };
    let ready = || Auth { registry_token: "ready".to_owned(), ..Auth::default() };
    let foreign = || Auth { server_address: "other.example".to_owned(), ..user() };
    let refresh = "grant_type=refresh_token";
    let cases: [Case; 10] = [
        ("Basic", Some(user()), None, Some(PAIR)),
        ("Basic", Some(encoded()), None, Some(PAIR)),
        ("Basic", Some(foreign()), None, None),
        ("Basic", None, None, None),
        ("Bearer", Some(user()), Some(PAIR), Some("Bearer token-1")),
        ("Bearer", Some(encoded()), Some(PAIR), Some("Bearer token-1")),
        ("Bearer", Some(identity()), Some(refresh), Some("Bearer token-1")),
        ("Bearer", Some(ready()), None, Some("Bearer ready")),
        ("Bearer", Some(foreign()), Some(""), Some("Bearer token-1")),
        ("Bearer", None, Some(""), Some("Bearer token-1")),
    ];
    let layer = tar_of(b"x");
    let image = Arc::new(Image::of(&[&layer]));
    for (scheme, auth, to_server, to_registry) in cases {
        let tokens = token_server().await;
        let challenge = bearer(&tokens).replace("Bearer", scheme);
        let (image, name) = (Arc::clone(&image), format!("{scheme} {auth:?}"));
        let registry = Scripted::start(move |request| match request.authorization {
            None => Answer::new(&challenge, b""),
            Some(_) => image.answer(request),
        })
        .await;
        let folder = tempfile::tempdir().unwrap();
        let node = Node::open(folder.path(), quick()).await;
        let request = PullRequest { reference: format!("{}/app:1", registry.address), auth };
        let pulled = node.service.pull(request).await;
        assert_eq!(pulled.is_ok(), to_registry.is_some(), "{name}");
        let shown = registry.requests().last().unwrap().authorization.clone();
        assert_eq!(shown.as_deref(), to_registry, "{name}");
        let seen: Vec<String> = tokens
            .requests()
            .into_iter()
            .map(|request| request.authorization.unwrap_or(request.body))
            .map(|seen| if seen.contains("refresh_token=refresh+me") { refresh.to_owned() } else { seen })
            .collect();
        assert_eq!(seen, to_server.into_iter().collect::<Vec<_>>(), "{name}");
        node.store.close();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_server_in_trouble_is_named_and_asked_again() {
    let cases = [
        ("503 Service Unavailable", ErrorKind::Unavailable, 1 + quick().retry.times as usize),
        ("401 Unauthorized", ErrorKind::PermissionDenied, 1),
        ("200 OK", ErrorKind::PermissionDenied, 1),
    ];
    for (answer, kind, asked) in cases {
        let tokens = Scripted::start(move |_| Answer::new(answer, b"{}")).await;
        let challenge = bearer(&tokens);
        let registry = Scripted::start(move |_| Answer::new(&challenge, b"")).await;
        let folder = tempfile::tempdir().unwrap();
        let node = Node::open(folder.path(), quick()).await;
        let error = node.pull(&format!("{}/app:1", registry.address)).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{}", text(&error));
        let message = text(&error);
        assert!(message.contains(&tokens.address) && message.contains(&registry.address), "{message}");
        assert_eq!(tokens.requests().len(), asked, "{answer}");
        node.store.close();
    }
}
