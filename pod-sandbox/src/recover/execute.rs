//! Carrying the plan out: drivers at once, shims attached in the background.

use std::sync::Arc;
use std::time::Duration;

use runtime_core::ids::SandboxId;
use tokio::sync::Semaphore;

use super::plan::{JournalPlan, Plan, PlannedContainer, PlannedPod, ShimPlan};
use crate::container::driver::{Begin as ContainerBegin, ContainerDriver};
use crate::container::teardown;
use crate::facts::Fact;
use crate::journal::{self, Journal, JournalError};
use crate::pod::{Pod, ShimCell, ShimSlot};
use crate::registry::Registry;
use crate::sandbox::driver::{Begin, SandboxDriver};
use crate::services::Services;
use crate::view::ContainerView;

/// Shims attached at once: each costs a connect and one file read, and reads never wait for it.
const ATTACHING: usize = 16;
/// Between two tries; each pause is twice the one before.
const ATTACH_PAUSE: Duration = Duration::from_millis(100);
const ATTACH_LONGEST_PAUSE: Duration = Duration::from_secs(5);

pub(super) fn execute(services: &Arc<Services>, registry: &Arc<Registry>, plan: Plan) {
    for view in plan.orphans {
        services.tasks.spawn_endless("remove orphan", remove_orphan(services.clone(), view));
    }
    let slots = Arc::new(Semaphore::new(ATTACHING));
    for planned in plan.pods {
        revive(services, registry, &slots, planned);
    }
}

fn revive(services: &Arc<Services>, registry: &Arc<Registry>, slots: &Arc<Semaphore>, planned: PlannedPod) {
    // A handler that has left the configuration still has its pods: they are run down with the default one.
    let handlers = &services.handlers;
    let handler = handlers.resolve(&planned.spec.runtime_handler).or_else(|_| handlers.resolve(""));
    let Ok(handler) = handler else {
        tracing::error!(sandbox = %planned.id, "no runtime handler is configured, the pod is left alone");
        return;
    };
    let journal = match journal(services, &planned.id, planned.journal, &planned.learned) {
        Ok(journal) => journal,
        Err(error) => {
            tracing::error!(sandbox = %planned.id, error = %runtime_core::error::chain(&error), "the pod is left alone");
            return;
        }
    };
    let pod = Pod {
        files: services.paths.files(&planned.id),
        id: planned.id,
        spec: planned.spec,
        created_at: planned.created_at,
        journal,
        handler,
        shim: ShimCell::default(),
        network: planned.network,
        holder: Default::default(),
    };
    let pod = Arc::new(pod);
    // Containers first: the pod's driver may begin by ending them.
    for PlannedContainer { view, task_exists } in planned.containers {
        let begin = ContainerBegin { view, task_exists };
        ContainerDriver::revive(services, registry, &pod, begin);
    }
    match planned.shim {
        ShimPlan::Gone => pod.set_shim(ShimSlot::Gone),
        ShimPlan::Attach => {
            services.tasks.spawn_endless("attach shim", attach(services.clone(), pod.clone(), slots.clone()));
        }
    }
    SandboxDriver::spawn(services, registry, pod, Begin::Recovered { facts: planned.facts });
}

/// The pod's journal, with the facts that were learned in it.
fn journal(
    services: &Services,
    id: &SandboxId,
    plan: JournalPlan,
    learned: &[Fact],
) -> Result<Journal, JournalError> {
    let path = services.paths.journal(id);
    let boot_id = &services.settings.boot_id;
    match plan {
        JournalPlan::GoOn(journal) => {
            for fact in learned {
                // It would be learned again: a full disk takes no pod out of sight.
                if let Err(error) = journal.append(fact) {
                    tracing::error!(sandbox = %id, error = %runtime_core::error::chain(&error), "fact not recorded");
                }
            }
            Ok(journal)
        }
        JournalPlan::Begin => Journal::create(&path, boot_id, learned),
        JournalPlan::SetAsideAndBegin => {
            journal::set_aside(&path)?;
            Journal::create(&path, boot_id, learned)
        }
    }
}

/// What a creation left that a removal of its pod overtook. It never ran.
async fn remove_orphan(services: Arc<Services>, view: ContainerView) {
    teardown::remove_in_the_end(&services, &view).await;
    tracing::info!(container = %view.id, sandbox = %view.sandbox, "a container without a pod was removed");
}

/// Connects to a shim for as long as its process lives: that it cannot be reached now, with a daemon that is short of
/// descriptors or a shim that waits for a disk, does not make its containers dead.
async fn attach(services: Arc<Services>, pod: Arc<Pod>, slots: Arc<Semaphore>) {
    let mut pause = ATTACH_PAUSE;
    loop {
        let Ok(slot) = slots.acquire().await else { return };
        match services.shims.attach(pod.id.as_str()).await {
            Ok(shim) => return pod.attached(shim),
            Err(_) if !services.shims.is_alive(pod.id.as_str()) => break,
            Err(error) => {
                tracing::warn!(sandbox = %pod.id, error = %runtime_core::error::chain(&error), "shim not attached yet");
            }
        }
        drop(slot);
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(ATTACH_LONGEST_PAUSE);
    }
    tracing::error!(sandbox = %pod.id, "the pod's shim died before it could be attached");
    pod.set_shim(ShimSlot::Gone);
}
