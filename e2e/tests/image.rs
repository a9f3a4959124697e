//! Images: pulled through mirrors, named as Kubernetes expects. Those that are refused are in `bad_input/`.

use e2e::images::{self, INDEX};
use e2e::node::{BUSYBOX, Node};
use e2e::pod::container;
use e2e::registry::{MIRRORED, free_address};
use serde_json::json;
use tonic::Code;

#[test]
fn images_come_through_the_mirrors_of_every_registry() {
    let mut node = Node::bare();
    for host in MIRRORED {
        let image = images::busybox(host);
        let repository = if host == "docker.io" { "library/mirrored" } else { "group/mirrored" };
        let (reference, id) = node.provide(host, repository, "v1", &image);
        let listed = node.cri().image(&reference).unwrap().expect("a pulled image is there");
        assert_eq!(id, image.id());
        assert_eq!(listed.id, id);
        assert_eq!(listed.repo_tags, [reference.as_str()]);
        assert_eq!(listed.repo_digests, [format!("{host}/{repository}@{}", image.manifest().digest)]);
        assert!(listed.size > 100_000, "size {}", listed.size);
    }
    let listed = |node: &Node| {
        let mut images = node.cri().images().unwrap();
        images.sort_by(|one, other| one.id.cmp(&other.id));
        images
    };
    let before = listed(&node);
    assert_eq!(before.len(), MIRRORED.len());
    node.restart_daemon();
    assert_eq!(listed(&node), before);
}

#[test]
fn an_index_gives_the_image_of_this_platform() {
    let mut node = Node::bare();
    let (image, decoy) = (images::busybox("mine"), images::busybox("decoy"));
    node.registry().push("library/multi", "amd64", &image);
    node.registry().push("library/multi", "s390x", &decoy);
    let index = images::index_of(&image, &decoy);
    node.registry().push_manifest("library/multi", "latest", INDEX, &index);

    assert_eq!(node.cri().pull("multi").unwrap(), image.id());
    let listed = node.cri().image("docker.io/library/multi:latest").unwrap().expect("the image is there");
    assert_eq!(listed.repo_tags, ["docker.io/library/multi:latest"]);
    assert_eq!(listed.repo_digests, [format!("docker.io/library/multi@{}", index.digest)]);
}

#[test]
fn all_kinds_of_references_name_one_image() {
    let mut node = Node::bare();
    let image = images::busybox("kinds");
    node.registry().push("library/kinds", "one", &image);
    node.registry().push("library/kinds", "two", &image);
    let cri = node.cri();
    cri.pull("docker.io/library/kinds:one").unwrap();
    cri.pull("kinds:two").unwrap();
    let by_digest = format!("docker.io/library/kinds@{}", image.manifest().digest);

    let listed = cri.images().unwrap();
    assert_eq!(listed.len(), 1);
    let mut tags = listed[0].repo_tags.clone();
    tags.sort();
    assert_eq!(tags, ["docker.io/library/kinds:one", "docker.io/library/kinds:two"]);
    assert_eq!(listed[0].repo_digests, [by_digest.as_str()]);
    let bare_id = image.id().trim_start_matches("sha256:");
    for reference in
        ["kinds:one", "docker.io/library/kinds:two", &by_digest, image.id(), bare_id, &bare_id[..12]]
    {
        assert_eq!(cri.image(reference).unwrap().as_ref(), listed.first(), "{reference}");
    }
    assert_eq!(cri.image("docker.io/library/kinds:three").unwrap(), None);

    cri.remove_image_named(image.id()).unwrap();
    assert_eq!(cri.images().unwrap(), vec![]);
    assert_eq!(cri.image("kinds:one").unwrap(), None);
}

#[test]
fn an_image_pulled_by_digest_has_no_tag() {
    let mut node = Node::bare();
    let image = images::busybox("digest");
    node.registry().push("library/pinned", "any", &image);
    let reference = format!("docker.io/library/pinned@{}", image.manifest().digest);
    assert_eq!(node.cri().pull(&reference).unwrap(), image.id());
    let listed = node.cri().image(&reference).unwrap().expect("the image is there");
    assert_eq!(listed.repo_tags, Vec::<String>::new());
    assert_eq!(listed.repo_digests, [reference]);
}

#[test]
fn one_id_names_an_image_in_every_call() {
    let node = Node::start();
    let cri = node.cri();
    let id = cri.pull(BUSYBOX).unwrap();
    let pod = node.run_pod("ids");
    let by_name = pod.create(&container("by-name", &["true"])).unwrap();
    let mut config = container("by-id", &["true"]);
    config.image = Some(e2e::client::image_spec(&id));
    let by_id = pod.create(&config).unwrap();

    assert_eq!(cri.images().unwrap()[0].id, id);
    assert_eq!(cri.image(BUSYBOX).unwrap().map(|image| image.id), Some(id.clone()));
    for container in [by_name, by_id] {
        let status = cri.container(&container).unwrap();
        assert_eq!(status.image_id, id);
        assert!(!status.image_ref.is_empty());
        let listed = cri.containers().unwrap().into_iter().find(|item| item.id == container);
        assert_eq!(listed.expect("a created container is listed").image_id, id);
    }
}

#[test]
fn the_users_of_images_are_reported() {
    let node = Node::bare();
    let users = [("1002", Some(1002), ""), ("www-data", None, "www-data"), ("1003:1004", Some(1003), "")];
    for (number, (user, uid, username)) in users.into_iter().enumerate() {
        let image = images::busybox_with(&format!("user-{number}"), &json!({"User": user, "Cmd": ["sh"]}));
        let (reference, _) = node.provide("gcr.io", &format!("users/{number}"), "1", &image);
        let listed = node.cri().image(&reference).unwrap().expect("the image is there");
        assert_eq!(listed.uid.map(|value| value.value), uid, "{user}");
        assert_eq!(listed.username, username, "{user}");
    }
}

#[test]
fn upper_layers_remove_replace_and_hide_what_is_below() {
    let node = Node::start();
    let (reference, _) = node.provide("docker.io", "library/whiteouts", "1", &images::whiteouts());
    let pod = node.run_pod("whiteouts");
    let mut config = container(
        "look",
        &["sh", "-c", "cd /data; find . -type f | sort; cat replaced; stat -c '%u %g %a' owned"],
    );
    config.image = Some(e2e::client::image_spec(&reference));
    let id = pod.start(&config);
    let status = e2e::pod::wait_exited(&node.cri(), &id);
    let lines: Vec<String> =
        pod.log("look").lines().filter_map(|line| Some(line.splitn(4, ' ').nth(3)?.to_owned())).collect();
    assert_eq!(lines, ["./hidden/above", "./kept", "./owned", "./replaced", "new", "1000 1000 640"]);
    assert_eq!(status.exit_code, 0);
}

#[test]
fn image_file_systems_are_measured() {
    let node = Node::start();
    let info = node.cri().image_fs_info(Default::default()).unwrap();
    let usage = info.image_filesystems.first().expect("one image file system");
    assert!(usage.used_bytes.is_some_and(|bytes| bytes.value > 1_000_000), "{usage:?}");
    assert!(usage.inodes_used.is_some_and(|inodes| inodes.value > 10), "{usage:?}");
    let mountpoint = &usage.fs_id.as_ref().expect("a file system has an id").mountpoint;
    assert!(std::path::Path::new(mountpoint).starts_with(node.folder()), "{mountpoint}");
    assert!(usage.timestamp > 0);
    assert_eq!(info.container_filesystems.len(), 1);
}

#[test]
fn removing_an_image_twice_is_no_error_and_frees_its_data() {
    let node = Node::start();
    let cri = node.cri();
    let id = cri.pull(BUSYBOX).unwrap();
    cri.remove_image_named(BUSYBOX).unwrap();
    cri.remove_image_named(BUSYBOX).unwrap();
    cri.remove_image_named(&id).unwrap();
    assert_eq!(cri.images().unwrap(), vec![]);
    let blobs = node.folder().join("root/io.containerd.content.v1.content/blobs/sha256");
    e2e::wait::until("the blobs are gone", || std::fs::read_dir(&blobs).map_or(0, Iterator::count) == 0);
    assert_eq!(cri.pull(BUSYBOX).unwrap(), id, "it can be pulled again");
}

#[test]
fn an_unknown_image_is_not_found() {
    let node = Node::start();
    for reference in ["docker.io/library/busybox:nowhere", "gcr.io/no/such:1"] {
        let status = node.cri().pull(reference).unwrap_err();
        assert_eq!(status.code(), Code::NotFound, "{status}");
        assert!(status.message().contains(reference), "{status}");
    }
}

#[test]
fn a_registry_that_is_down_is_named_and_the_pull_can_be_tried_again() {
    let mut node = Node::bare();
    let image = images::busybox("down");
    node.registry().push("library/down", "1", &image);
    let address = node.registry().address().to_string();
    node.registry().stop();
    let status = node.cri().pull("docker.io/library/down:1").unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "{status}");
    assert!(status.message().contains("docker.io/library/down:1"), "{status}");
    assert!(status.message().contains(&address), "{status}");
    assert_eq!(node.cri().images().unwrap(), vec![]);

    node.registry().resume();
    assert_eq!(node.cri().pull("docker.io/library/down:1").unwrap(), image.id());
}

#[test]
fn a_layer_with_other_bytes_than_its_digest_is_refused() {
    let mut node = Node::bare();
    let image = images::busybox("corrupt");
    let layer = images::own_layer("corrupt");
    node.registry().push("library/corrupt", "1", &image);
    node.registry().corrupt(layer.blob());
    let status = node.cri().pull("docker.io/library/corrupt:1").expect_err("the pull is refused");
    assert_eq!(status.code(), Code::DataLoss, "{status}");
    assert!(status.message().contains(&layer.blob().digest), "{status}");
    assert_eq!(node.cri().images().unwrap(), vec![]);
}

#[test]
fn a_second_mirror_serves_when_the_first_is_down() {
    let mut node = Node::bare();
    let image = images::busybox("second");
    node.registry().push("library/second", "1", &image);
    let (dead, alive) = (free_address(), node.registry().address());
    let text = format!("[host.\"http://{dead}\"]\n[host.\"http://{alive}\"]\n");
    e2e::fixture::write(&node.folder().join("certs.d/docker.io/hosts.toml"), text);
    assert_eq!(node.cri().pull("docker.io/library/second:1").unwrap(), image.id());
}
