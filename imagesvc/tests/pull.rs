//! Images from a real registry: pulled, unpacked, listed, removed. Needs root and Debian's docker-registry.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/image.rs"]
mod image;
#[path = "support/node.rs"]
mod node;
#[path = "support/registry.rs"]
mod registry;

use imagesvc::{Auth, Config, PullRequest};
use node::Node;
use registry::Registry;
use runtime_core::error::ErrorKind;
use runtime_core::ids::{Namespace, SnapshotKey};

const CONFIG: &str = r#"{"User":"1003:1004","Env":["PATH=/bin","A=b"],"Cmd":["sh","-c","true"],"Entrypoint":null,"WorkingDir":"/w","Labels":{"l":"v"},"StopSignal":"SIGINT","Volumes":{"/data":{}}}"#;

fn two_layers() -> [Vec<u8>; 2] {
    [
        image::layer(&[("etc/", ""), ("etc/old", "old"), ("etc/kept", "kept"), ("w/", "")]),
        image::layer(&[("etc/.wh.old", ""), ("bin/", ""), ("bin/tool", "#!")]),
    ]
}

/// The error with its causes, as a person reads it.
fn text(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text += &format!(": {cause}");
        source = cause.source();
    }
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_is_pulled_listed_resolved_and_removed() {
    let (registry, folder) = (Registry::start(None).await, tempfile::tempdir().unwrap());
    let built = image::push(&registry, "team/app:1", &two_layers(), CONFIG).await;
    let node = Node::open(folder.path(), Config::default()).await;
    let name = format!("{}/team/app:1", registry.address);

    let id = node.pull(&name).await.unwrap();
    assert_eq!(id, built.config_digest);
    let by_digest = format!("{}/team/app@{}", registry.address, built.manifest_digest);
    let hex = id.strip_prefix("sha256:").unwrap();
    let expected = node.service.status(&name).unwrap().unwrap();
    assert_eq!(expected.repo_tags, std::slice::from_ref(&name));
    assert_eq!(expected.repo_digests, std::slice::from_ref(&by_digest));
    assert_eq!((expected.uid, expected.username.as_str()), (Some(1003), ""));
    assert!(expected.size > built.manifest.len() as u64);
    for reference in [&by_digest, &id, hex, &hex[..12]] {
        assert_eq!(node.service.status(reference).unwrap().as_ref(), Some(&expected), "{reference}");
    }
    assert_eq!(node.service.list(None).unwrap(), std::slice::from_ref(&expected));
    assert_eq!(node.service.list(Some("nothing:here")).unwrap(), []);

    let resolved = node.service.resolve(&id).unwrap();
    assert_eq!(resolved.config.cmd, ["sh", "-c", "true"]);
    assert_eq!(resolved.config.env, ["PATH=/bin", "A=b"]);
    assert_eq!((resolved.config.user.as_str(), resolved.config.working_dir.as_str()), ("1003:1004", "/w"));
    assert_eq!((resolved.config.stop_signal.as_str(), resolved.config.volumes.len()), ("SIGINT", 1));
    let chain: SnapshotKey = resolved.chain_id.unwrap().into();
    let top = node.parts.snapshotter.stat(&Namespace::k8s(), &chain).unwrap();
    assert!(top.parent.is_some());
    let usage = node.service.fs_info().await.unwrap();
    assert!(usage.bytes > 0 && usage.inodes >= 8, "{usage:?}");

    assert_eq!(node.pull(&name).await.unwrap(), id, "a second pull is the same image");
    node.service.remove(&id).await.unwrap();
    node.service.remove(&id).await.unwrap();
    assert_eq!(node.service.status(&name).unwrap(), None);
    assert_eq!(node.leftovers().await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn layers_are_merged_with_whiteouts_by_overlayfs() {
    let (registry, folder) = (Registry::start(None).await, tempfile::tempdir().unwrap());
    image::push(&registry, "app:1", &two_layers(), CONFIG).await;
    let node = Node::open(folder.path(), Config::default()).await;
    node.pull(&format!("{}/app:1", registry.address)).await.unwrap();
    let resolved = node.service.resolve(&format!("{}/app:1", registry.address)).unwrap();
    let new = runtime_core::snapshot::NewSnapshot {
        key: SnapshotKey::parse("container").unwrap(),
        parent: resolved.chain_id.map(Into::into),
        labels: Default::default(),
        lease: None,
    };
    let mounts = node.parts.snapshotter.prepare(&Namespace::k8s(), new).await.unwrap();
    let root = tempfile::tempdir().unwrap();
    let options = std::ffi::CString::new(mounts[0].options.join(",")).unwrap();
    rustix::mount::mount(
        "overlay",
        root.path(),
        "overlay",
        rustix::mount::MountFlags::empty(),
        options.as_c_str(),
    )
    .unwrap();
    let content = |name: &str| std::fs::read_to_string(root.path().join(name));
    let seen = (content("etc/kept").ok(), content("bin/tool").ok(), content("etc/old").is_err());
    rustix::mount::unmount(root.path(), rustix::mount::UnmountFlags::empty()).unwrap();
    assert_eq!(seen, (Some("kept".to_owned()), Some("#!".to_owned()), true));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_leads_to_the_image_of_this_host() {
    let (registry, folder) = (Registry::start(None).await, tempfile::tempdir().unwrap());
    let built = image::push(&registry, "app:amd64", &two_layers(), CONFIG).await;
    let entry = |arch: &str, digest: &str, size: usize| {
        format!(
            r#"{{"mediaType":"{}","digest":"{digest}","size":{size},"platform":{{"os":"linux","architecture":"{arch}"}}}}"#,
            image::MANIFEST
        )
    };
    let host = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    let other = image::push(&registry, "app:other", &two_layers()[..1], CONFIG).await;
    let index = format!(
        r#"{{"schemaVersion":2,"mediaType":"{}","manifests":[{},{}]}}"#,
        image::INDEX,
        entry("s390x", &other.manifest_digest, other.manifest.len()),
        entry(host, &built.manifest_digest, built.manifest.len())
    );
    let digest = registry.push_manifest("app", "multi", image::INDEX, &index).await;
    let node = Node::open(folder.path(), Config::default()).await;
    let id = node.pull(&format!("{}/app:multi", registry.address)).await.unwrap();
    assert_eq!(id, built.config_digest);
    let image = node.service.status(&id).unwrap().unwrap();
    assert_eq!(image.repo_digests, [format!("{}/app@{digest}", registry.address)]);
    // Everything below the index is held by labels alone.
    node.parts.gc.collect(&Namespace::k8s()).await.unwrap();
    assert!(node.service.resolve(&id).is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn names_of_one_image_are_one_image() {
    let (registry, folder) = (Registry::start(None).await, tempfile::tempdir().unwrap());
    image::push(&registry, "app:1", &two_layers(), CONFIG).await;
    image::push(&registry, "app:2", &two_layers(), CONFIG).await;
    let hosts = folder.path().join("certs.d/_default");
    std::fs::create_dir_all(&hosts).unwrap();
    let text = format!("server = \"http://127.0.0.1:1\"\n[host.\"http://{}\"]\n", registry.address);
    std::io::Write::write_all(&mut std::fs::File::create(hosts.join("hosts.toml")).unwrap(), text.as_bytes())
        .unwrap();
    let config = Config { config_path: vec![folder.path().join("certs.d")], ..Config::default() };
    let node = Node::open(folder.path(), config).await;
    for name in ["registry.k8s.io/app:1", "registry.k8s.io/app:2", "k8s.gcr.io/app:1"] {
        node.pull(name).await.unwrap();
    }
    let images = node.service.list(None).unwrap();
    assert_eq!(images.len(), 1);
    assert_eq!(images[0].repo_tags, ["k8s.gcr.io/app:1", "registry.k8s.io/app:1", "registry.k8s.io/app:2"]);
    node.service.remove("registry.k8s.io/app:2").await.unwrap();
    assert_eq!(node.service.list(None).unwrap(), []);
}

async fn failing(node: &Node, reference: &str) -> (ErrorKind, String) {
    let error = node.pull(reference).await.unwrap_err();
    (error.kind(), text(&error))
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_input_is_named_and_leaves_nothing() {
    let (registry, folder) = (Registry::start(None).await, tempfile::tempdir().unwrap());
    let node = Node::open(folder.path(), Config::default()).await;
    let address = registry.address.clone();

    let (kind, message) = failing(&node, &format!("{address}/no/such:tag")).await;
    assert_eq!(kind, ErrorKind::NotFound, "{message}");
    assert!(
        message.contains("/no/such:tag") && message.contains("404") && message.contains(&address),
        "{message}"
    );

    let (kind, message) = failing(&node, "Not/A/Reference").await;
    assert_eq!(kind, ErrorKind::InvalidArgument, "{message}");

    let (kind, message) = failing(&node, "127.0.0.1:1/app:1").await;
    assert_eq!(kind, ErrorKind::Unavailable, "{message}");
    assert!(message.contains("127.0.0.1:1") && message.contains("cannot be reached"), "{message}");

    let wrong = image::push(&registry, "wrong:digest", &two_layers(), CONFIG).await;
    registry.corrupt(&wrong.layer_digests[1], &image::gzip(b"something else"));
    let (kind, message) = failing(&node, &format!("{address}/wrong:digest")).await;
    assert_eq!(kind, ErrorKind::DataLoss, "{message}");
    assert!(message.contains(&wrong.layer_digests[1]), "{message}");

    let layers = [image::layer(&[("file", "other content")])];
    let lie = vec![registry::digest_of(b"not this")];
    let lying = image::push_with_diff_ids(&registry, "wrong:diffid", &layers, "{}", &lie).await;
    let (kind, message) = failing(&node, &format!("{address}/wrong:diffid")).await;
    assert_eq!(kind, ErrorKind::DataLoss, "{message}");
    assert!(message.contains("diff id") && message.contains(&lying.layer_digests[0]), "{message}");

    let broken = image::push(&registry, "broken:manifest", &layers, "{}").await;
    registry.corrupt(&broken.manifest_digest, b"{\"schemaVersion\":2,");
    let (kind, message) = failing(&node, &format!("{address}/broken:manifest")).await;
    assert!(message.contains("broken:manifest"), "{kind:?} {message}");

    assert_eq!(node.service.list(None).unwrap(), []);
    assert_eq!(node.leftovers().await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_pull_can_be_repeated() {
    let (registry, folder) = (Registry::start(None).await, tempfile::tempdir().unwrap());
    let layers = two_layers();
    let built = image::push(&registry, "app:1", &layers, CONFIG).await;
    registry.corrupt(&built.layer_digests[1], b"short");
    let node = Node::open(folder.path(), Config::default()).await;
    let name = format!("{}/app:1", registry.address);
    node.pull(&name).await.unwrap_err();
    registry.corrupt(&built.layer_digests[1], &image::gzip(&layers[1]));
    assert_eq!(node.pull(&name).await.unwrap(), built.config_digest);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_opens_the_registry_and_nothing_else_does() {
    let folder = tempfile::tempdir().unwrap();
    let registry = Registry::start(Some(registry::PASSWORDS)).await;
    let built = image::push(&registry, "app:1", &two_layers(), CONFIG).await;
    let node = Node::open(folder.path(), Config::default()).await;
    let reference = format!("{}/app:1", registry.address);
    let user = |password: &str, server: &str| Auth {
        username: "user".to_owned(),
        password: password.to_owned(),
        server_address: server.to_owned(),
        ..Auth::default()
    };
    let encoded = Auth { auth: "dXNlcjpzZWNyZXQ=".to_owned(), ..Auth::default() };
    let cases = [
        (Some(user("secret", "")), true),
        (Some(user("secret", &registry.address)), true),
        (Some(encoded), true),
        (Some(user("guess", "")), false),
        (Some(user("secret", "other.example")), false),
        (None, false),
    ];
    for (auth, opens) in cases {
        let name = format!("{auth:?}");
        let pulled = node.service.pull(PullRequest { reference: reference.clone(), auth }).await;
        match pulled {
            Ok(pulled) => assert!(opens && pulled.id.to_string() == built.config_digest, "{name}"),
            Err(error) => assert!(!opens && error.kind() == ErrorKind::PermissionDenied, "{name}: {error}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_zstd_layer_that_was_begun_is_finished_by_a_real_registry() {
    let (registry, folder) = (Registry::start(None).await, tempfile::tempdir().unwrap());
    let layer = image::layer(&[("etc/", ""), ("etc/file", &"text ".repeat(1000))]);
    let packed = zstd::encode_all(layer.as_slice(), 3).unwrap();
    let config =
        format!(r#"{{"rootfs":{{"type":"layers","diff_ids":["{}"]}}}}"#, registry::digest_of(&layer));
    let config_digest = registry.push_blob("app", config.as_bytes()).await;
    let layer_digest = registry.push_blob("app", &packed).await;
    let manifest = format!(
        r#"{{"schemaVersion":2,"mediaType":"{}","config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{config_digest}","size":{}}},"layers":[{{"mediaType":"application/vnd.oci.image.layer.v1.tar+zstd","digest":"{layer_digest}","size":{}}}]}}"#,
        image::MANIFEST,
        config.len(),
        packed.len()
    );
    registry.push_manifest("app", "1", image::MANIFEST, &manifest).await;
    let node = Node::open(folder.path(), Config::default()).await;
    let mut begun = node
        .parts
        .content
        .ingest(runtime_core::content::NewContent::new(&Namespace::k8s(), &format!("layer-{layer_digest}")))
        .unwrap();
    begun.write(&packed[..packed.len() / 2]).unwrap();
    drop(begun);
    assert_eq!(node.pull(&format!("{}/app:1", registry.address)).await.unwrap(), config_digest);
    node.service.remove(&config_digest).await.unwrap();
    assert_eq!(node.leftovers().await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_pulls_of_one_image_share_their_work() {
    let (registry, folder) = (Registry::start(None).await, tempfile::tempdir().unwrap());
    let built = image::push(&registry, "app:1", &two_layers(), CONFIG).await;
    image::push(&registry, "app:2", &two_layers(), CONFIG).await;
    let node = Node::open(folder.path(), Config::default()).await;
    let names: Vec<String> = (0..8).map(|n| format!("{}/app:{}", registry.address, 1 + n % 2)).collect();
    let pulls = futures_util::future::join_all(names.iter().map(|name| node.pull(name))).await;
    for pulled in pulls {
        assert_eq!(pulled.unwrap(), built.config_digest);
    }
    let snapshots = node.parts.snapshotter.list(&Namespace::k8s()).unwrap();
    assert_eq!(snapshots.len(), 2, "each layer was unpacked once");
    let removals = (0..5).map(|_| node.service.remove(&built.config_digest));
    for removed in futures_util::future::join_all(removals).await {
        removed.unwrap();
    }
    assert_eq!(node.service.list(None).unwrap(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_pull_leaves_nothing_and_can_be_repeated() {
    let (registry, folder) = (Registry::start(None).await, tempfile::tempdir().unwrap());
    let built = image::push(&registry, "app:1", &two_layers(), CONFIG).await;
    let node = Node::open(folder.path(), Config::default()).await;
    let name = format!("{}/app:1", registry.address);
    let cut = tokio::time::timeout(std::time::Duration::from_millis(1), node.pull(&name)).await;
    assert!(cut.is_err());
    assert_eq!(node.service.status(&name).unwrap(), None);
    assert_eq!(node.pull(&name).await.unwrap(), built.config_digest);
    node.service.remove(&name).await.unwrap();
    assert_eq!(node.leftovers().await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn images_survive_a_restart() {
    let (registry, folder) = (Registry::start(None).await, tempfile::tempdir().unwrap());
    image::push(&registry, "app:1", &two_layers(), CONFIG).await;
    let node = Node::open(folder.path(), Config::default()).await;
    let name = format!("{}/app:1", registry.address);
    node.pull(&name).await.unwrap();
    let before = node.service.list(None).unwrap();
    node.store.close();
    drop(node);
    let node = Node::open(folder.path(), Config::default()).await;
    assert_eq!(node.service.list(None).unwrap(), before);
    assert!(node.service.resolve(&name).is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn records_that_cannot_be_read_stop_neither_start_nor_other_images() {
    use runtime_core::store::{Bucket, SharedStore, StoreError};
    let (registry, folder) = (Registry::start(None).await, tempfile::tempdir().unwrap());
    image::push(&registry, "app:1", &two_layers(), CONFIG).await;
    let node = Node::open(folder.path(), Config::default()).await;
    let name = format!("{}/app:1", registry.address);
    node.pull(&name).await.unwrap();
    let before = node.service.list(None).unwrap();
    let store: SharedStore = node.store.clone();
    store
        .write::<_, StoreError, _>(|change| {
            for bucket in ["images", "snapshots/overlayfs", "content"] {
                change.put(&Bucket::in_namespace(&Namespace::k8s(), bucket), "broken", b"???".to_vec());
            }
            Ok(())
        })
        .await
        .unwrap();
    node.store.close();
    drop((node, store));
    let node = Node::open(folder.path(), Config::default()).await;
    assert_eq!(node.service.list(None).unwrap(), before);
    assert!(node.service.resolve(&name).is_ok());
    assert_eq!(node.pull(&name).await.unwrap(), before[0].id.to_string());
}
