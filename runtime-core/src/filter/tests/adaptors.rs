//! The fields of everything that is listed, by containerd's names.

use super::super::*;
use crate::clock::Timestamp;
use crate::content::{BlobRecord, Descriptor, Labels};
use crate::ids::{Digest, LeaseId, SnapshotKey};
use crate::image::ImageRecord;
use crate::lease::LeaseRecord;
use crate::plugin::{Status, StatusState};
use crate::record::{ContainerRecord, RuntimeInfo, SandboxRecord, TypedValue};
use crate::snapshot::{Kind, SnapshotRecord};

const NOW: Timestamp = Timestamp(1);

fn labels() -> Labels {
    [("app", "x"), ("io.example/zone", "a")].map(|(k, v)| (k.to_owned(), v.to_owned())).into()
}

fn digest() -> Digest {
    Digest::parse(format!("sha256:{}", "a".repeat(64))).unwrap()
}

/// All of `matching` match and none of `others`.
fn check(thing: &dyn Adaptor, matching: &[&str], others: &[&str]) {
    for text in matching {
        assert!(Filter::parse(text).unwrap().matches(thing), "{text}");
    }
    for text in others {
        assert!(!Filter::parse(text).unwrap().matches(thing), "{text}");
    }
}

const LABELLED: [&str; 3] = ["labels.app==x", "labels.io.\"example/zone\"==a", "labels.\"io.example/zone\""];

#[test]
fn images() {
    let image = ImageRecord {
        name: "docker.io/library/web:1".to_owned(),
        target: Descriptor { media_type: "application/x".to_owned(), digest: digest(), size: 7 },
        labels: labels(),
        created_at: NOW,
        updated_at: NOW,
    };
    let own = format!("target.digest=={}", digest());
    check(&image, &LABELLED, &["labels", "labels.zone"]);
    check(&image, &["name~=/web/", &own, "target.mediatype==\"application/x\""], &["target", "target.size"]);
}

#[test]
fn containers_and_sandboxes() {
    let runtime = RuntimeInfo { name: "io.containerd.runc.v2".to_owned(), options: None };
    let container = ContainerRecord {
        id: "web".to_owned(),
        labels: labels(),
        image: String::new(),
        runtime: runtime.clone(),
        spec: TypedValue::default(),
        snapshotter: "overlayfs".to_owned(),
        snapshot_key: "web".to_owned(),
        sandbox_id: "pod".to_owned(),
        extensions: [].into(),
        created_at: NOW,
        updated_at: NOW,
    };
    check(&container, &LABELLED, &["image", "runtime", "snapshotter", "sandbox_id"]);
    check(&container, &["id==web", "runtime.name==io.containerd.runc.v2", "image!=x"], &["id==pod"]);
    let sandbox = SandboxRecord {
        id: "pod".to_owned(),
        labels: labels(),
        runtime,
        spec: TypedValue::default(),
        sandboxer: "shim".to_owned(),
        extensions: [].into(),
        created_at: NOW,
        updated_at: NOW,
    };
    check(&sandbox, &LABELLED, &["runtime.name", "sandboxer"]);
    check(&sandbox, &["id==pod"], &["id==web"]);
}

#[test]
fn content_and_ingests() {
    let blob = BlobRecord { digest: digest(), size: 7, labels: labels(), created_at: NOW, updated_at: NOW };
    check(&blob, &LABELLED, &["size", "size==7"]);
    check(&blob, &[&format!("digest=={}", digest())], &["digest==sha256"]);
    check(&IngestFields { reference: "layer-1" }, &["ref~=^layer-"], &["digest"]);
}

#[test]
fn snapshots() {
    let snapshot = SnapshotRecord {
        key: SnapshotKey::parse("web").unwrap(),
        kind: Kind::Active,
        id: 1,
        parent: None,
        children: 0,
        labels: labels(),
        created_at: NOW,
        updated_at: NOW,
        usage: None,
    };
    check(&snapshot, &LABELLED, &["key", "id"]);
    check(&snapshot, &["name==web,kind==active", "parent", "parent==\"\""], &["kind==view", "parent==base"]);
    let parent = Some(SnapshotKey::parse("base").unwrap());
    let view = SnapshotRecord { kind: Kind::View, parent, ..snapshot.clone() };
    check(&view, &["kind==view,parent==base"], &["kind==active"]);
    check(&SnapshotRecord { kind: Kind::Committed, ..snapshot }, &["kind==committed"], &["kind==active"]);
}

#[test]
fn leases() {
    let lease = LeaseRecord {
        id: LeaseId::parse("pull-1").unwrap(),
        labels: labels(),
        created_at: NOW,
        expires_at: None,
        resources: [].into(),
    };
    check(&lease, &LABELLED, &["created_at", "resources"]);
    check(&lease, &["id==pull-1"], &["id==pull"]);
}

#[test]
fn plugins_and_tasks() {
    let plugin = Status {
        facts: Default::default(),
        kind: "io.containerd.snapshotter.v1",
        id: "overlayfs",
        requires: &[],
        state: StatusState::Started,
    };
    check(&plugin, &["type==io.containerd.snapshotter.v1,id==overlayfs"], &["platforms", "capabilities"]);
    let task = TaskFields { id: "web", namespace: "k8s.io" };
    check(&task, &["id==web,namespace==k8s.io"], &["runtime", "id==db"]);
}
