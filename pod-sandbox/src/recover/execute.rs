//! Carrying the plan out: drivers at once, shims attached in the background.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;

use super::plan::{PlannedContainer, PlannedPod, ShimPlan};
use crate::container::driver::{Begin as ContainerBegin, ContainerDriver};
use crate::pod::{Pod, ShimCell, ShimSlot};
use crate::registry::Registry;
use crate::sandbox::driver::{Begin, SandboxDriver};
use crate::services::Services;

/// Shims attached at once: each costs a connect and one file read, and reads never wait for it.
const ATTACHING: usize = 16;
/// How often a shim whose process lives is tried.
const ATTACH_TRIES: u32 = 50;
const ATTACH_PAUSE: Duration = Duration::from_millis(100);

pub(super) fn execute(services: &Arc<Services>, registry: &Arc<Registry>, plan: Vec<PlannedPod>) {
    let slots = Arc::new(Semaphore::new(ATTACHING));
    for planned in plan {
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
    let pod = Pod {
        files: services.paths.files(&planned.id),
        id: planned.id,
        spec: planned.spec,
        created_at: planned.created_at,
        journal: planned.journal,
        handler,
        shim: ShimCell::default(),
    };
    for fact in &planned.learned {
        if let Err(error) = pod.record(fact) {
            tracing::error!(sandbox = %pod.id, error = %runtime_core::error::chain(&error), "fact not recorded");
        }
    }
    let pod = Arc::new(pod);
    // Containers first: the pod's driver may begin by ending them.
    for PlannedContainer { view, task_exists, removing } in planned.containers {
        let begin = ContainerBegin { view, task_exists, removing };
        registry.insert_container(ContainerDriver::spawn(services, registry, &pod, begin));
    }
    match planned.shim {
        ShimPlan::Gone => pod.set_shim(ShimSlot::Gone),
        ShimPlan::Attach => {
            services.tasks.spawn_endless("attach shim", attach(services.clone(), pod.clone(), slots.clone()));
        }
    }
    let begin = Begin::Recovered { facts: planned.facts };
    registry.insert_sandbox(SandboxDriver::spawn(services, registry, pod, begin));
}

/// Connects to a shim whose process lives; when it cannot be reached in the end, it counts as gone.
async fn attach(services: Arc<Services>, pod: Arc<Pod>, slots: Arc<Semaphore>) {
    let Ok(_slot) = slots.acquire().await else { return };
    for _ in 0..ATTACH_TRIES {
        match services.shims.attach(pod.id.as_str()).await {
            Ok(shim) => return pod.set_shim(ShimSlot::Up(shim)),
            Err(_) if !services.shims.is_alive(pod.id.as_str()) => break,
            Err(error) => {
                tracing::debug!(sandbox = %pod.id, error = %runtime_core::error::chain(&error), "shim not attached yet");
                tokio::time::sleep(ATTACH_PAUSE).await;
            }
        }
    }
    tracing::error!(sandbox = %pod.id, "the pod's shim cannot be attached");
    pod.set_shim(ShimSlot::Gone);
}
