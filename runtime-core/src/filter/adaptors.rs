//! Which fields a filter finds in what is listed: containerd's names, and no more of them than containerd has.
//!
//! Filters on namespaces and on mounts are accepted and ignored there; such things have no adaptor. Nor have the
//! sizes of content or the platforms, capabilities and exports of plugins: asking for them finds nothing.

use std::borrow::Cow;

use super::Adaptor;
use crate::content::{BlobRecord, Labels};
use crate::image::ImageRecord;
use crate::lease::LeaseRecord;
use crate::plugin::Status;
use crate::record::{ContainerRecord, SandboxRecord};
use crate::snapshot::{Kind, SnapshotRecord};

/// Most fields count as absent while they are empty.
fn unless_empty(value: &str) -> Option<Cow<'_, str>> {
    (!value.is_empty()).then_some(Cow::Borrowed(value))
}

/// Keys have dots, and so does a path: `labels.a.b`, `labels."a.b"` and `labels.a."b"` are the same label.
pub(crate) fn label<'a>(labels: &'a Labels, path: &[&str]) -> Option<Cow<'a, str>> {
    labels.get(&path.join(".")).map(|value| Cow::Borrowed(value.as_str()))
}

impl Adaptor for ImageRecord {
    fn field(&self, path: &[&str]) -> Option<Cow<'_, str>> {
        match path {
            ["name", ..] => unless_empty(&self.name),
            ["target", "digest", ..] => unless_empty(self.target.digest.as_str()),
            ["target", "mediatype", ..] => unless_empty(&self.target.media_type),
            ["labels", key @ ..] => label(&self.labels, key),
            _ => None,
        }
    }
}

impl Adaptor for ContainerRecord {
    fn field(&self, path: &[&str]) -> Option<Cow<'_, str>> {
        match path {
            ["id", ..] => unless_empty(&self.id),
            ["image", ..] => unless_empty(&self.image),
            ["runtime", "name", ..] => unless_empty(&self.runtime.name),
            ["labels", key @ ..] => label(&self.labels, key),
            _ => None,
        }
    }
}

impl Adaptor for SandboxRecord {
    fn field(&self, path: &[&str]) -> Option<Cow<'_, str>> {
        match path {
            ["id", ..] => Some(Cow::Borrowed(&self.id)),
            ["labels", key @ ..] => label(&self.labels, key),
            _ => None,
        }
    }
}

impl Adaptor for BlobRecord {
    fn field(&self, path: &[&str]) -> Option<Cow<'_, str>> {
        match path {
            ["digest", ..] => Some(Cow::Borrowed(self.digest.as_str())),
            ["labels", key @ ..] => label(&self.labels, key),
            _ => None,
        }
    }
}

impl Adaptor for SnapshotRecord {
    fn field(&self, path: &[&str]) -> Option<Cow<'_, str>> {
        match path {
            ["kind", ..] => Some(Cow::Borrowed(match self.kind {
                Kind::Active => "active",
                Kind::View => "view",
                Kind::Committed => "committed",
            })),
            ["name", ..] => Some(Cow::Borrowed(self.key.as_str())),
            // Present even where there is none.
            ["parent", ..] => {
                Some(Cow::Borrowed(self.parent.as_ref().map(|key| key.as_str()).unwrap_or_default()))
            }
            ["labels", key @ ..] => label(&self.labels, key),
            _ => None,
        }
    }
}

impl Adaptor for LeaseRecord {
    fn field(&self, path: &[&str]) -> Option<Cow<'_, str>> {
        match path {
            ["id", ..] => Some(Cow::Borrowed(self.id.as_str())),
            ["labels", key @ ..] => label(&self.labels, key),
            _ => None,
        }
    }
}

impl Adaptor for Status {
    fn field(&self, path: &[&str]) -> Option<Cow<'_, str>> {
        match path {
            ["type", ..] => Some(Cow::Borrowed(self.kind)),
            ["id", ..] => Some(Cow::Borrowed(self.id)),
            _ => None,
        }
    }
}

/// An ingest that is being written, as `ListStatuses` filters it.
#[derive(Clone, Copy, Debug)]
pub struct IngestFields<'a> {
    pub reference: &'a str,
}

impl Adaptor for IngestFields<'_> {
    fn field(&self, path: &[&str]) -> Option<Cow<'_, str>> {
        match path {
            ["ref", ..] => Some(Cow::Borrowed(self.reference)),
            _ => None,
        }
    }
}

/// A task, as `Metrics` filters it.
#[derive(Clone, Copy, Debug)]
pub struct TaskFields<'a> {
    pub id: &'a str,
    pub namespace: &'a str,
}

impl Adaptor for TaskFields<'_> {
    fn field(&self, path: &[&str]) -> Option<Cow<'_, str>> {
        match path {
            ["id", ..] => Some(Cow::Borrowed(self.id)),
            ["namespace", ..] => Some(Cow::Borrowed(self.namespace)),
            _ => None,
        }
    }
}
