//! The sandbox service: the pod's namespaces and shared memory, and the end of everything.
//!
//! Create and Stop take turns; Status and Ping never wait.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use runtime_shim::layout::Bundle;
use runtime_shim::protocol::io::PodNamespaces;
use runtime_shim::protocol::sandbox::{
    CreateSandboxRequest, CreateSandboxResponse, PlatformResponse, SandboxStatusResponse,
    StartSandboxResponse, StopSandboxResponse, WaitSandboxResponse,
};
use runtime_shim::protocol::task::{CreateTaskRequest, CreateTaskResponse, DeleteRequest, DeleteResponse};
use runtime_shim::protocol::types::Platform;
use runtime_shim::protocol::{Code, from_any, timestamp};
use runtime_shim::teardown;
use runtime_shim::ttrpc::server::Status;
use runtime_sys::clock;
use rustix::process::Signal;
use tokio::sync::{Mutex, watch};
use tokio::time::timeout;

use crate::container::Container;
use crate::namespaces::{self, PodPlan};
use crate::tasks::{self, Tasks};
use crate::{failure, holder, log};

/// How long a call of the OCI runtime may go on before stopping the pod aborts it.
const TURN_LIMIT: Duration = Duration::from_secs(5);
/// How long a killed container may take to end.
const EXIT_LIMIT: Duration = Duration::from_secs(20);

/// The pod of this shim, if it has one.
pub(crate) struct Sandbox {
    tasks: Rc<Tasks>,
    turn: Mutex<()>,
    pod: RefCell<Option<Pod>>,
    stopped: watch::Sender<Option<i64>>,
}

#[derive(Clone)]
struct Pod {
    id: String,
    bundle: Bundle,
    namespaces: PodNamespaces,
    created_at: i64,
}

impl Sandbox {
    pub(crate) fn new(tasks: Rc<Tasks>) -> Self {
        Self { tasks, turn: Mutex::new(()), pod: RefCell::default(), stopped: watch::channel(None).0 }
    }

    /// Whether there is a pod that has not been stopped.
    pub(crate) fn is_up(&self) -> bool {
        self.pod.borrow().is_some() && self.stopped.borrow().is_none()
    }

    pub(crate) async fn create(
        &self,
        request: CreateSandboxRequest,
    ) -> Result<CreateSandboxResponse, Status> {
        let namespaces: PodNamespaces = match &request.options {
            Some(any) => from_any(any).map_err(|error| failure::invalid(log::chain(&error)))?,
            None => return Err(failure::invalid("sandbox options are missing")),
        };
        let bundle = Bundle::at(&request.bundle_path);
        if !bundle.path().is_absolute() {
            return Err(failure::invalid(format!(
                "bundle {:?} is not an absolute path",
                request.bundle_path
            )));
        }
        let plan = PodPlan::new(&bundle, &namespaces)?;
        let _turn = self.turn.lock().await;
        if let Some(pod) = &*self.pod.borrow() {
            let same = pod.id == request.sandbox_id && pod.bundle == bundle && pod.namespaces == namespaces;
            return if same && self.is_up() {
                Ok(CreateSandboxResponse {})
            } else {
                Err(Status::new(Code::AlreadyExists, format!("this shim has sandbox {} already", pod.id)))
            };
        }
        let in_thread = bundle.clone();
        tasks::blocking(move || namespaces::set_up(&in_thread, &plan)).await??;
        let created_at = clock::unix_nanos();
        self.pod.replace(Some(Pod { id: request.sandbox_id, bundle, namespaces, created_at }));
        Ok(CreateSandboxResponse {})
    }

    pub(crate) fn start(&self, id: &str) -> Result<StartSandboxResponse, Status> {
        let pod = self.pod(id)?;
        if !self.is_up() {
            return Err(failure::precondition(format!("sandbox {id} is stopped")));
        }
        Ok(StartSandboxResponse { pid: std::process::id(), created_at: Some(timestamp(pod.created_at)) })
    }

    pub(crate) fn status(&self, id: &str) -> Result<SandboxStatusResponse, Status> {
        let pod = self.pod(id)?;
        let stopped = *self.stopped.borrow();
        Ok(SandboxStatusResponse {
            sandbox_id: pod.id,
            pid: std::process::id(),
            state: if stopped.is_none() { "SANDBOX_READY" } else { "SANDBOX_NOTREADY" }.into(),
            info: BTreeMap::new(),
            created_at: Some(timestamp(pod.created_at)),
            exited_at: stopped.map(timestamp),
            extra: None,
        })
    }

    /// Kills and deletes every container, gives the namespaces back. Success when that is done already.
    pub(crate) async fn stop(&self) -> Result<StopSandboxResponse, Status> {
        let _turn = self.turn.lock().await;
        let pod = self.pod.borrow().clone();
        let is_holder = |container: &Container| pod.as_ref().is_some_and(|pod| pod.id == container.target.id);
        let mut containers = self.tasks.all();
        // With the holder, everyone in its pid namespace dies: it is the last.
        containers.sort_by_key(|container| is_holder(container));
        for container in containers {
            self.end(&container).await?;
        }
        if let Some(pod) = pod {
            let torn_down = tasks::blocking(move || teardown::pod(&pod.bundle)).await?;
            torn_down.map_err(|error| failure::internal(&error))?;
            if self.stopped.borrow().is_none() {
                self.stopped.send_replace(Some(clock::unix_nanos()));
            }
        }
        Ok(StopSandboxResponse {})
    }

    pub(crate) async fn wait(&self, id: &str) -> Result<WaitSandboxResponse, Status> {
        self.pod(id)?;
        let mut stopped = self.stopped.subscribe();
        // The sender is ours and stays.
        let at = stopped.wait_for(Option::is_some).await.map(|at| *at).unwrap_or_default();
        Ok(WaitSandboxResponse { exit_status: 0, exited_at: at.map(timestamp) })
    }

    /// Creates a task. The pod's holder gets its pid namespace pinned, for others to join.
    pub(crate) async fn create_task(&self, request: CreateTaskRequest) -> Result<CreateTaskResponse, Status> {
        let id = request.id.clone();
        let answer = self.tasks.create(request).await?;
        let Some(pod) = self.pod_named(&id) else {
            return Ok(answer);
        };
        let container = self.tasks.get(&id)?;
        if let Err(status) = holder::pin(&container, &pod.bundle) {
            self.end(&container).await?;
            return Err(status);
        }
        Ok(answer)
    }

    /// Deletes a task, and with the pod's holder the pin of its pid namespace.
    pub(crate) async fn delete_task(&self, request: DeleteRequest) -> Result<DeleteResponse, Status> {
        let id = request.id.clone();
        let answer = self.tasks.delete(request).await?;
        if let Some(pod) = self.pod_named(&id) {
            holder::unpin(&pod.bundle)?;
        }
        Ok(answer)
    }

    /// The pod, when that is its id, which its holder has as well.
    fn pod_named(&self, id: &str) -> Option<Pod> {
        self.pod.borrow().clone().filter(|pod| pod.id == id)
    }

    async fn end(&self, container: &Rc<Container>) -> Result<(), Status> {
        let id = container.target.id.clone();
        let kill =
            || container.signal(Signal::KILL.as_raw(), true).map_err(|error| failure::internal(&error));
        kill()?;
        // A Create that the signal aborted, a Start or a Delete finds its own end first, unless it hangs.
        if timeout(TURN_LIMIT, container.turn.lock()).await.is_err() {
            container.job.borrow().abort();
            drop(container.turn.lock().await);
        }
        // It may have come to run after the first signal.
        kill()?;
        if self.tasks.get(&id).is_err() {
            return Ok(());
        }
        if timeout(EXIT_LIMIT, container.exit()).await.is_err() {
            return Err(Status::new(Code::DeadlineExceeded, format!("container {id} does not die")));
        }
        match self.delete_task(DeleteRequest { id, exec_id: String::new() }).await {
            Err(status) if status.code == Code::NotFound => Ok(()),
            result => result.map(|_| ()),
        }
    }

    fn pod(&self, id: &str) -> Result<Pod, Status> {
        self.pod_named(id)
            .ok_or_else(|| Status::new(Code::NotFound, format!("sandbox {id} is not known to this shim")))
    }
}

/// Platform of every container.
pub(crate) fn platform() -> PlatformResponse {
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let platform = Platform { os: "linux".into(), architecture: architecture.into(), ..Default::default() };
    PlatformResponse { platform: Some(platform) }
}
