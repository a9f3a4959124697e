//! Events of records: whoever changes one, by whatever way, this tells of it, once it is durable.
//!
//! The change itself says what happened: a record without one before was made, one without anything after is gone.
//! Nobody who writes records has to think of events, and none can be forgotten.

use prost::{Message, Name};
use runtime_proto::events as wire;

use super::Exchange;
use crate::content::BlobRecord;
use crate::ids::Namespace;
use crate::image::ImageRecord;
use crate::namespace::NamespaceRecord;
use crate::record::{ContainerRecord, TypedValue};
use crate::snapshot::{Kind, SnapshotRecord};
use crate::store::record::{Record, Table};
use crate::store::{Bucket, Changed, Observer};

/// Tells the exchange of every change of the store.
pub struct Feed {
    exchange: Exchange,
}

impl Feed {
    pub fn new(exchange: Exchange) -> Self {
        Self { exchange }
    }

    fn tell<M: Message + Name>(&self, namespace: &Namespace, topic: &str, event: M) {
        let event = TypedValue { type_url: M::full_name(), value: event.encode_to_vec() };
        if let Err(error) = self.exchange.publish(namespace, topic, event) {
            tracing::warn!(topic, error = &error as &dyn std::error::Error, "an event was not published");
        }
    }

    fn record(&self, namespace: &Namespace, changed: &Changed, all: &[Changed]) {
        match changed.bucket.name() {
            ImageRecord::BUCKET => self.image(namespace, Happened::of(changed)),
            ContainerRecord::BUCKET => self.container(namespace, Happened::of(changed)),
            BlobRecord::BUCKET => self.content(namespace, Happened::of(changed)),
            other => {
                let snapshotter = other.split_once('/').filter(|(kind, _)| *kind == SnapshotRecord::BUCKET);
                if let Some((_, snapshotter)) = snapshotter {
                    self.snapshot(namespace, snapshotter, Happened::of(changed), all);
                }
            }
        }
    }

    fn image(&self, namespace: &Namespace, happened: Happened<ImageRecord>) {
        match happened {
            Happened::Made(ImageRecord { name, labels, .. }) => {
                self.tell(namespace, "/images/create", wire::ImageCreate { name, labels });
            }
            Happened::Changed(ImageRecord { name, labels, .. }) => {
                self.tell(namespace, "/images/update", wire::ImageUpdate { name, labels });
            }
            Happened::Gone(name) => self.tell(namespace, "/images/delete", wire::ImageDelete { name }),
            Happened::Unreadable => {}
        }
    }

    fn container(&self, namespace: &Namespace, happened: Happened<ContainerRecord>) {
        match happened {
            Happened::Made(ContainerRecord { id, image, runtime, .. }) => {
                let options =
                    runtime.options.map(|it| prost_types::Any { type_url: it.type_url, value: it.value });
                let runtime = Some(wire::container_create::Runtime { name: runtime.name, options });
                self.tell(namespace, "/containers/create", wire::ContainerCreate { id, image, runtime });
            }
            Happened::Changed(ContainerRecord { id, image, labels, snapshot_key, .. }) => {
                let event = wire::ContainerUpdate { id, image, labels, snapshot_key };
                self.tell(namespace, "/containers/update", event);
            }
            Happened::Gone(id) => self.tell(namespace, "/containers/delete", wire::ContainerDelete { id }),
            Happened::Unreadable => {}
        }
    }

    /// New labels of content are no event.
    fn content(&self, namespace: &Namespace, happened: Happened<BlobRecord>) {
        match happened {
            Happened::Made(blob) => {
                let (digest, size) = (blob.digest.into(), i64::try_from(blob.size).unwrap_or(i64::MAX));
                let event = wire::ContentCreate { digest, size, ..Default::default() };
                self.tell(namespace, "/content/create", event);
            }
            Happened::Gone(digest) => self.tell(namespace, "/content/delete", wire::ContentDelete { digest }),
            Happened::Changed(_) | Happened::Unreadable => {}
        }
    }

    /// A commit takes one record away and makes another with the same folder: one event, not two.
    fn snapshot(
        &self,
        namespace: &Namespace,
        snapshotter: &str,
        happened: Happened<SnapshotRecord>,
        all: &[Changed],
    ) {
        let snapshotter = snapshotter.to_owned();
        match happened {
            Happened::Made(SnapshotRecord { key, kind: Kind::Committed, id, .. }) => {
                let before = all.iter().filter_map(gone_snapshot).find(|gone| gone.id == id);
                let event = wire::SnapshotCommit {
                    key: before.map(|gone| gone.key.into()).unwrap_or_default(),
                    name: key.into(),
                    snapshotter,
                };
                self.tell(namespace, "/snapshot/commit", event);
            }
            Happened::Made(SnapshotRecord { key, parent, .. }) => {
                let parent = parent.map(String::from).unwrap_or_default();
                let event = wire::SnapshotPrepare { key: key.into(), parent, snapshotter };
                self.tell(namespace, "/snapshot/prepare", event);
            }
            Happened::Gone(key) => {
                let id = all.iter().filter_map(gone_snapshot).find(|gone| gone.key.as_str() == key);
                let id = id.map(|gone| gone.id);
                if !all.iter().filter_map(made_snapshot).any(|made| Some(made.id) == id) {
                    self.tell(namespace, "/snapshot/remove", wire::SnapshotRemove { key, snapshotter });
                }
            }
            Happened::Changed(_) | Happened::Unreadable => {}
        }
    }

    fn namespace(&self, happened: Happened<NamespaceRecord>) {
        match happened {
            Happened::Made(NamespaceRecord { name, labels }) => {
                let event = wire::NamespaceCreate { name: name.to_string(), labels };
                self.tell(&name, "/namespaces/create", event);
            }
            Happened::Changed(NamespaceRecord { name, labels }) => {
                let event = wire::NamespaceUpdate { name: name.to_string(), labels };
                self.tell(&name, "/namespaces/update", event);
            }
            Happened::Gone(name) => {
                if let Ok(namespace) = Namespace::parse(name.as_str()) {
                    self.tell(&namespace, "/namespaces/delete", wire::NamespaceDelete { name });
                }
            }
            Happened::Unreadable => {}
        }
    }
}

impl Observer for Feed {
    fn wants(&self) -> bool {
        self.exchange.has_subscribers()
    }

    fn committed(&self, change: Vec<Changed>) {
        for changed in &change {
            match changed.bucket.namespace() {
                Some(namespace) => self.record(&namespace, changed, &change),
                None if changed.bucket == Bucket::of_node(NamespaceRecord::BUCKET) => {
                    self.namespace(Happened::of(changed));
                }
                None => {}
            }
        }
    }
}

/// What became of one record.
enum Happened<R> {
    Made(R),
    Changed(R),
    /// Its key.
    Gone(String),
    /// A record of a newer daemon; it is not ours to tell of.
    Unreadable,
}

impl<R: Record> Happened<R> {
    fn of(changed: &Changed) -> Self {
        let Some(after) = &changed.after else { return Self::Gone(changed.key.clone()) };
        match Table::<R>::at(changed.bucket.clone()).decode(&changed.key, after) {
            Ok(record) if changed.before.is_none() => Self::Made(record),
            Ok(record) => Self::Changed(record),
            Err(_) => Self::Unreadable,
        }
    }
}

fn gone_snapshot(changed: &Changed) -> Option<SnapshotRecord> {
    let before = changed.before.as_ref().filter(|_| changed.after.is_none())?;
    Table::<SnapshotRecord>::at(changed.bucket.clone()).decode(&changed.key, before).ok()
}

fn made_snapshot(changed: &Changed) -> Option<SnapshotRecord> {
    let after = changed.after.as_ref().filter(|_| changed.before.is_none())?;
    Table::<SnapshotRecord>::at(changed.bucket.clone()).decode(&changed.key, after).ok()
}

#[cfg(test)]
mod tests;
