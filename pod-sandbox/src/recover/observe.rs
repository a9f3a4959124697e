//! What recovery finds: durable records, journals, exit files, living shims. Reads only, and asks no shim.

use std::collections::BTreeMap;

use runtime_core::ids::{ContainerId, SandboxId};
use runtime_core::record::{ContainerRecord, SandboxRecord};

use crate::container::{self, Extension as ContainerExtension};
use crate::facts::{ContainerExit, Fact};
use crate::journal::{self, Journal, JournalError};
use crate::service::{EXTENSION, Extension};
use crate::services::{Services, StoreFailed};

/// What a pod's journal said.
#[derive(Debug)]
pub(super) enum JournalFound {
    Read(Journal, Vec<Fact>),
    /// There is none of this boot; `new` is ready to be used.
    Absent {
        new: Journal,
        /// The pod was made in this boot, so its set-up never began.
        same_boot: bool,
    },
    /// It is there and cannot be read.
    Unreadable {
        new: Journal,
        why: String,
    },
}

#[derive(Debug)]
pub(super) struct ObservedContainer {
    pub(super) id: ContainerId,
    pub(super) record: ContainerRecord,
    pub(super) extension: ContainerExtension,
    pub(super) exit: Option<ContainerExit>,
}

#[derive(Debug)]
pub(super) struct ObservedPod {
    pub(super) id: SandboxId,
    pub(super) record: SandboxRecord,
    pub(super) extension: Extension,
    pub(super) journal: JournalFound,
    pub(super) shim_alive: bool,
    pub(super) containers: Vec<ObservedContainer>,
}

pub(super) fn observe(services: &Services) -> Result<Vec<ObservedPod>, StoreFailed> {
    let mut containers = containers_by_pod(services)?;
    let listing = Services::sandboxes().list(&*services.store)?;
    for corrupt in &listing.corrupt {
        tracing::error!(error = %runtime_core::error::chain(corrupt), "a pod's record is damaged and left alone");
    }
    let mut pods = Vec::new();
    for record in listing.records {
        let own = containers.remove(&record.id).unwrap_or_default();
        if let Some(pod) = pod(services, record, own) {
            pods.push(pod);
        }
    }
    for orphan in containers.into_values().flatten() {
        tracing::error!(container = %orphan.id, sandbox = orphan.record.sandbox_id, "a container's pod is not recorded");
    }
    drop_strange_journals(services, &pods);
    Ok(pods)
}

fn pod(
    services: &Services,
    record: SandboxRecord,
    containers: Vec<ObservedContainer>,
) -> Option<ObservedPod> {
    let id = SandboxId::parse(record.id.clone()).ok()?;
    let extension = record.extensions.get(EXTENSION).map(|value| value.parse_json::<Extension>());
    let extension = match extension? {
        Ok(extension) => extension,
        Err(error) => {
            tracing::error!(sandbox = %id, %error, "a pod's record cannot be understood and is left alone");
            return None;
        }
    };
    let journal = match journal(services, &id, &extension.boot_id) {
        Ok(journal) => journal,
        Err(error) => {
            tracing::error!(sandbox = %id, error = %runtime_core::error::chain(&error), "no journal for the pod");
            return None;
        }
    };
    let shim_alive = services.shims.is_alive(id.as_str());
    Some(ObservedPod { id, record, extension, journal, shim_alive, containers })
}

fn journal(services: &Services, id: &SandboxId, made_in: &str) -> Result<JournalFound, JournalError> {
    let path = services.paths.journal(id);
    let boot = &services.settings.boot_id;
    match Journal::open(&path, boot) {
        Ok((journal, facts)) => Ok(JournalFound::Read(journal, facts)),
        Err(JournalError::OtherBoot { .. }) => {
            Ok(JournalFound::Absent { new: Journal::create(&path, boot)?, same_boot: false })
        }
        Err(JournalError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
            Ok(JournalFound::Absent { new: Journal::create(&path, boot)?, same_boot: made_in == boot })
        }
        Err(error) => {
            let why = runtime_core::error::chain(&error);
            Ok(JournalFound::Unreadable { new: Journal::create(&path, boot)?, why })
        }
    }
}

fn containers_by_pod(services: &Services) -> Result<BTreeMap<String, Vec<ObservedContainer>>, StoreFailed> {
    let listing = Services::containers().list(&*services.store)?;
    for corrupt in &listing.corrupt {
        tracing::error!(error = %runtime_core::error::chain(corrupt), "a container's record is damaged and left alone");
    }
    let mut by_pod = BTreeMap::<String, Vec<ObservedContainer>>::new();
    for record in listing.records {
        // Containers without our extension are other clients' and none of the CRI's business.
        let Some(value) = record.extensions.get(container::EXTENSION) else {
            continue;
        };
        let Ok(id) = ContainerId::parse(record.id.clone()) else {
            continue;
        };
        match value.parse_json::<ContainerExtension>() {
            Ok(extension) => {
                let exit = container::recorded_exit(services, &id);
                let found = ObservedContainer { id, record, extension, exit };
                by_pod.entry(found.record.sandbox_id.clone()).or_default().push(found);
            }
            Err(error) => {
                tracing::error!(container = %id, %error, "a container's record cannot be understood and is left alone");
            }
        }
    }
    Ok(by_pod)
}

/// A journal without a record is the last thing that a removal leaves for a moment.
fn drop_strange_journals(services: &Services, pods: &[ObservedPod]) {
    let entries = std::fs::read_dir(&services.paths.journals).into_iter().flatten().flatten();
    for entry in entries {
        let name = entry.file_name();
        let known = pods.iter().any(|pod| name.to_str() == Some(pod.id.as_str()));
        let ours = name.to_str().is_some_and(|name| SandboxId::parse(name).is_ok());
        if ours
            && !known
            && Services::sandboxes().get(&*services.store, &name.to_string_lossy()).is_ok_and(|r| r.is_none())
        {
            let _ = journal::remove(&entry.path());
        }
    }
}
