//! Mirrors: asked in the order of the file, not waited for, each named with what it answered.

use imagesvc::Config;
use runtime_core::error::ErrorKind;

use super::image::{Image, tar_of};
use super::node::Node;
use super::scripted::{Answer, Scripted};
use super::{hosts, quick, text};

async fn always(head: &'static str) -> Scripted {
    Scripted::start(move |_| Answer::new(head, br#"{"errors":[{"code":"SAID","message":"by it"}]}"#)).await
}

/// A node whose registry `reg.example` is served by these, the last one being its server.
async fn node(folder: &std::path::Path, addresses: &[&str]) -> Node {
    let (server, mirrors) = addresses.split_last().unwrap();
    let mut toml = format!("server = \"http://{server}\"\n");
    mirrors.iter().for_each(|mirror| toml += &format!("[host.\"http://{mirror}\"]\n"));
    let config_path = hosts(folder, "reg.example", &toml);
    Node::open(folder, Config { config_path, ..quick() }).await
}

#[tokio::test(flavor = "multi_thread")]
async fn when_all_fail_each_is_named_with_its_answer_in_order() {
    let (missing, broken, denied) = (
        always("404 Not Found").await,
        always("503 Service Unavailable").await,
        always("403 Forbidden").await,
    );
    let folder = tempfile::tempdir().unwrap();
    let addresses = ["127.0.0.1:1", &missing.address, &broken.address, &denied.address];
    let node = node(folder.path(), &addresses).await;
    let error = node.pull("reg.example/app:1").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PermissionDenied, "the registry itself counts");
    let message = text(&error);
    let parts = [
        "reg.example/app:1".to_owned(),
        "127.0.0.1:1 cannot be reached".to_owned(),
        format!("{} answered 404", missing.address),
        format!("{} answered 503", broken.address),
        format!("{} answered 403", denied.address),
    ];
    let places: Vec<_> = parts.iter().map(|part| message.find(part)).collect();
    assert!(places.iter().all(Option::is_some) && places.is_sorted(), "{places:?} {message}");
    for host in [missing, broken, denied] {
        assert_eq!(host.requests().len(), 1, "{}", host.address);
    }
    node.store.close();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mirror_in_trouble_is_not_waited_for_and_each_object_comes_from_the_first_that_has_it() {
    let image = Image::of(&[&tar_of(b"x")]);
    let limited = always("429 Too Many Requests\r\nretry-after: 30").await;
    let documents = image.clone();
    let partial = Scripted::start(move |request| {
        documents.document(&request.path).unwrap_or_else(|| Answer::new("404 Not Found", b""))
    })
    .await;
    let server = Scripted::start(move |request| image.answer(request)).await;
    let folder = tempfile::tempdir().unwrap();
    let node = node(folder.path(), &[&limited.address, &partial.address, &server.address]).await;
    tokio::time::timeout(super::DEADLINE, node.pull("reg.example/app:1")).await.expect("at once").unwrap();
    assert_eq!(limited.requests().len(), 4, "asked once for each object");
    assert_eq!(partial.requests().len(), 4);
    let from_server: Vec<String> = server.requests().into_iter().map(|request| request.path).collect();
    assert!(from_server.len() == 1 && from_server[0].contains("/blobs/"), "{from_server:?}");
    node.store.close();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redirect_that_fails_is_named_with_its_target() {
    let image = Image::of(&[&tar_of(b"x")]);
    let storage = always("403 Forbidden").await;
    for target in [storage.address.clone(), "127.0.0.1:1".to_owned()] {
        let (documents, to) = (image.clone(), target.clone());
        let registry = Scripted::start(move |request| {
            documents.document(&request.path).unwrap_or_else(|| {
                let head = format!("307 Temporary Redirect\r\nlocation: http://{to}/x?signature=secret");
                Answer::new(&head, b"")
            })
        })
        .await;
        let folder = tempfile::tempdir().unwrap();
        let node = Node::open(folder.path(), quick()).await;
        let error = node.pull(&format!("{}/app:1", registry.address)).await.unwrap_err();
        let message = text(&error);
        let said = format!("{} redirects to \"{target}\", which failed", registry.address);
        assert!(message.contains(&said) && !message.contains("secret"), "{message}");
        node.store.close();
    }
}
