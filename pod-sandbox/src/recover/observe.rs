//! What recovery finds: durable records, journals, exit files, living shims. Reads only, and asks no shim.

use std::collections::{BTreeMap, BTreeSet};

use runtime_core::ids::{ContainerId, SandboxId};
use runtime_core::record::{ContainerRecord, SandboxRecord};

use crate::container::{self, Extension as ContainerExtension};
use crate::facts::{ContainerExit, Fact};
use crate::journal::{self, Journal, JournalError};
use crate::service::{EXTENSION, Extension};
use crate::services::{Services, StoreFailed};

/// What a pod's journal said. Nothing is made or changed by looking.
#[derive(Debug)]
pub(super) enum JournalFound {
    Read(Journal, Vec<Fact>),
    /// There is none, although the pod was made in this boot: its set-up never began.
    Absent,
    /// It is of an earlier boot of the host.
    OtherBoot,
    /// It is there and cannot be read.
    Unreadable {
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

/// All that recovery has to decide about.
#[derive(Debug, Default)]
pub(super) struct Observed {
    pub(super) pods: Vec<ObservedPod>,
    /// Containers whose pod is certainly gone.
    pub(super) orphans: Vec<ObservedContainer>,
}

pub(super) fn observe(services: &Services) -> Result<Observed, StoreFailed> {
    let mut containers = containers_by_pod(services)?;
    let listing = Services::sandboxes().list(&*services.store)?;
    for corrupt in &listing.corrupt {
        tracing::error!(error = %runtime_core::error::chain(corrupt), "a pod's record is damaged and left alone");
    }
    let known: BTreeSet<String> = listing.records.iter().map(|record| record.id.clone()).collect();
    let mut pods = Vec::new();
    for record in listing.records {
        let own = containers.remove(&record.id).unwrap_or_default();
        if let Some(pod) = pod(services, record, own) {
            pods.push(pod);
        }
    }
    drop_strange_journals(services, &pods);
    // A pod whose record is damaged is there all the same.
    let certain = listing.corrupt.is_empty();
    let (orphans, unclear): (Vec<_>, Vec<_>) = containers
        .into_values()
        .flatten()
        .partition(|found| certain && !known.contains(&found.record.sandbox_id));
    for found in unclear {
        tracing::error!(container = %found.id, sandbox = found.record.sandbox_id, "a container's pod cannot be read");
    }
    Ok(Observed { pods, orphans })
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
    let journal = journal(services, &id, &extension.boot_id);
    let shim_alive = services.shims.is_alive(id.as_str());
    Some(ObservedPod { id, record, extension, journal, shim_alive, containers })
}

fn journal(services: &Services, id: &SandboxId, made_in: &str) -> JournalFound {
    let boot = &services.settings.boot_id;
    match Journal::open(&services.paths.journal(id), boot) {
        Ok((journal, facts)) => JournalFound::Read(journal, facts),
        Err(JournalError::OtherBoot { .. }) => JournalFound::OtherBoot,
        Err(JournalError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
            if made_in == boot { JournalFound::Absent } else { JournalFound::OtherBoot }
        }
        Err(error) => JournalFound::Unreadable { why: runtime_core::error::chain(&error) },
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
        // One that was set aside has an ending, and is there to be looked at.
        let plain = |name: &str| !name.contains('.') && SandboxId::parse(name).is_ok();
        let ours = name.to_str().is_some_and(plain);
        if ours
            && !known
            && Services::sandboxes().get(&*services.store, &name.to_string_lossy()).is_ok_and(|r| r.is_none())
        {
            let _ = journal::remove(&entry.path());
        }
    }
}
