//! The task service: every container of the shim, and what can be done with one.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::Path;
use std::rc::Rc;

use runtime_shim::layout::Bundle;
use runtime_shim::protocol::task::{
    ConnectRequest, ConnectResponse, CreateTaskRequest, CreateTaskResponse, DeleteRequest, DeleteResponse,
    KillRequest, PidsRequest, PidsResponse, StartRequest, StartResponse, StateRequest, StateResponse,
    WaitRequest, WaitResponse,
};
use runtime_shim::protocol::task_types::{ProcessInfo, Status as TaskStatus};
use runtime_shim::protocol::{Code, from_any, runc, timestamp};
use runtime_shim::stream::Stdin;
use runtime_shim::teardown;
use runtime_shim::ttrpc::server::Status;
use rustix::process::Signal;

use crate::container::{Container, Parts, Phase, Signalled};
use crate::failure;
use crate::io::cri_log::CriLog;
use crate::io::ends::{self, Plan};
use crate::oci_runtime::choice::{self, Choice};
use crate::oci_runtime::{OciRuntime, Runc, Target};
use crate::reaper::Reaper;
use crate::{cgroup, config, log, rootfs};

/// How the daemon names a CRI log as a container's output.
const CRI_SCHEME: &str = "cri://";
/// Longest id, as containerd limits it.
const MAX_ID: usize = 76;

/// Containers by id.
pub(crate) struct Tasks {
    pub(crate) reaper: Rc<Reaper>,
    pub(crate) namespace: String,
    containers: RefCell<BTreeMap<String, Rc<Container>>>,
}

impl Tasks {
    pub(crate) fn new(reaper: Rc<Reaper>, namespace: String) -> Self {
        Self { reaper, namespace, containers: RefCell::default() }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.containers.borrow().is_empty()
    }

    pub(crate) fn all(&self) -> Vec<Rc<Container>> {
        self.containers.borrow().values().cloned().collect()
    }

    pub(crate) fn get(&self, id: &str) -> Result<Rc<Container>, Status> {
        self.containers.borrow().get(id).cloned().ok_or_else(|| failure::unknown(id))
    }

    pub(crate) async fn create(&self, request: CreateTaskRequest) -> Result<CreateTaskResponse, Status> {
        check_id(&request.id)?;
        let container = self.prepare(&request)?;
        let _turn = container.turn.try_lock().map_err(|_| failure::precondition("container is busy"))?;
        if self.containers.borrow().contains_key(&request.id) {
            return Err(Status::new(Code::AlreadyExists, format!("container {} exists", request.id)));
        }
        self.containers.borrow_mut().insert(request.id.clone(), container.clone());
        let made = make(&container, request.rootfs).await;
        if made.is_err() {
            self.containers.borrow_mut().remove(&request.id);
        }
        made?;
        Ok(CreateTaskResponse { pid: container.pid().unwrap_or_default() })
    }

    /// Everything that can be refused before anything is done, except an id that is taken.
    fn prepare(&self, request: &CreateTaskRequest) -> Result<Rc<Container>, Status> {
        if self.containers.borrow().contains_key(&request.id) {
            return Err(Status::new(Code::AlreadyExists, format!("container {} exists", request.id)));
        }
        let bundle = Bundle::at(&request.bundle);
        if !bundle.path().is_absolute() {
            return Err(failure::invalid(format!("bundle {:?} is not an absolute path", request.bundle)));
        }
        let config = config::read(&bundle.config()).map_err(|error| failure::invalid(log::chain(&error)))?;
        if request.terminal && !config.terminal {
            return Err(failure::invalid(format!("{} wants no terminal", bundle.config().display())));
        }
        let stdin = Stdin::from_uri(&request.stdin).ok_or_else(|| {
            Status::new(Code::Unimplemented, format!("input {:?} is none of this shim's", request.stdin))
        })?;
        if !request.checkpoint.is_empty() {
            return Err(Status::new(Code::Unimplemented, "checkpoints are not supported"));
        }
        let log = open_log(&request.stdout)?;
        Ok(Container::new(Parts {
            runtime: self.runtime(request, &bundle)?,
            target: Target { id: request.id.clone(), bundle },
            stdout: request.stdout.clone(),
            config,
            log: log.map(|log| Rc::new(RefCell::new(log))),
            stdin,
            reaper: self.reaper.clone(),
        }))
    }

    fn runtime(&self, request: &CreateTaskRequest, bundle: &Bundle) -> Result<Rc<dyn OciRuntime>, Status> {
        let options: runc::Options = match &request.options {
            Some(any) if !any.type_url.is_empty() => {
                from_any(any).map_err(|error| failure::invalid(log::chain(&error)))?
            }
            _ => runc::Options::default(),
        };
        let choice = Choice::of(&options, bundle, &self.namespace);
        choice::remember(&options, bundle).map_err(|error| failure::internal(&error))?;
        Ok(Rc::new(Runc {
            reaper: self.reaper.clone(),
            binary: choice.binary,
            root: choice.root,
            systemd_cgroup: options.systemd_cgroup,
            no_pivot_root: options.no_pivot_root,
            no_new_keyring: options.no_new_keyring,
        }))
    }

    pub(crate) async fn start(&self, request: StartRequest) -> Result<StartResponse, Status> {
        refuse_exec(&request.exec_id)?;
        let container = self.get(&request.id)?;
        let _turn = container.turn.lock().await;
        if let Some(pid) = container.started.get() {
            return Ok(StartResponse { pid: pid.as_raw_nonzero().get().unsigned_abs() });
        }
        let pid = match container.phase() {
            Phase::Created { pid } => pid,
            Phase::Creating | Phase::Running { .. } | Phase::Stopped { .. } => {
                return Err(failure::precondition(format!(
                    "container {} cannot be started any more",
                    request.id
                )));
            }
        };
        if let Err(error) = container.runtime.start(&container.target, container.new_job()).await {
            // What was created must not stay behind half started.
            if let Err(error) = container.signal(Signal::KILL.as_raw(), false) {
                log::note(&format!("kill container {} after its failed start: {error}", request.id));
            }
            container.exit().await;
            return Err(failure::start_failed(&error));
        }
        container.started.set(Some(pid));
        container.running();
        Ok(StartResponse { pid: pid.as_raw_nonzero().get().unsigned_abs() })
    }

    pub(crate) fn state(&self, request: &StateRequest) -> Result<StateResponse, Status> {
        refuse_exec(&request.exec_id)?;
        let container = self.get(&request.id)?;
        let (status, exit) = match container.phase() {
            Phase::Creating => (TaskStatus::Unknown, None),
            Phase::Created { .. } => (TaskStatus::Created, None),
            Phase::Running { .. } => (TaskStatus::Running, None),
            Phase::Stopped { exit } => (TaskStatus::Stopped, Some(exit)),
        };
        Ok(StateResponse {
            id: request.id.clone(),
            bundle: container.target.bundle.path().display().to_string(),
            pid: container.pid().unwrap_or_default(),
            status: status.into(),
            stdin: container.stdin.uri().into(),
            stdout: container.stdout.clone(),
            terminal: container.config.terminal,
            exit_status: exit.map_or(0, |exit| u32::from(exit.code)),
            exited_at: exit.map(|exit| timestamp(exit.at_unix_nanos)),
            ..Default::default()
        })
    }

    pub(crate) fn kill(&self, request: &KillRequest) -> Result<(), Status> {
        refuse_exec(&request.exec_id)?;
        let container = self.get(&request.id)?;
        let number = i32::try_from(request.signal).ok().filter(|number| (1..=64).contains(number));
        let number = number.ok_or_else(|| failure::invalid(format!("{} is not a signal", request.signal)))?;
        match container.signal(number, request.all) {
            Ok(Signalled::Sent) => Ok(()),
            Ok(Signalled::Exited) => {
                Err(Status::new(Code::NotFound, format!("process of container {} has exited", request.id)))
            }
            Ok(Signalled::TooEarly) => {
                Err(failure::precondition(format!("container {} is still being created", request.id)))
            }
            Err(error) => Err(failure::internal(&error)),
        }
    }

    pub(crate) async fn delete(&self, request: DeleteRequest) -> Result<DeleteResponse, Status> {
        refuse_exec(&request.exec_id)?;
        let container = self.get(&request.id)?;
        if container.phase() == Phase::Creating {
            return Err(failure::precondition(format!("container {} is still being created", request.id)));
        }
        let _turn = container.turn.lock().await;
        // Another Delete may have had the turn before.
        self.get(&request.id)?;
        if let Phase::Running { .. } = container.phase() {
            return Err(failure::precondition(format!("container {} is running", request.id)));
        }
        if let Phase::Created { .. } = container.phase() {
            container.signal(Signal::KILL.as_raw(), false).map_err(|error| failure::internal(&error))?;
        }
        let exit = container.exit().await;
        let deleted = container.runtime.delete(&container.target, container.new_job()).await;
        deleted.map_err(|error| failure::runtime(&error))?;
        unmount(&container).await?;
        self.containers.borrow_mut().remove(&request.id);
        Ok(DeleteResponse {
            pid: exit.pid,
            exit_status: u32::from(exit.code),
            exited_at: Some(timestamp(exit.at_unix_nanos)),
        })
    }

    pub(crate) async fn wait(&self, request: WaitRequest) -> Result<WaitResponse, Status> {
        refuse_exec(&request.exec_id)?;
        let exit = self.get(&request.id)?.exit().await;
        Ok(WaitResponse { exit_status: u32::from(exit.code), exited_at: Some(timestamp(exit.at_unix_nanos)) })
    }

    pub(crate) fn pids(&self, request: &PidsRequest) -> Result<PidsResponse, Status> {
        let container = self.get(&request.id)?;
        let pids = match (container.phase(), container.group()) {
            (Phase::Creating | Phase::Stopped { .. }, _) => Vec::new(),
            (_, Some(group)) => group.processes(),
            (_, None) => container.pid().into_iter().collect(),
        };
        Ok(PidsResponse { processes: pids.into_iter().map(|pid| ProcessInfo { pid, info: None }).collect() })
    }

    pub(crate) fn connect(&self, request: &ConnectRequest) -> Result<ConnectResponse, Status> {
        let task_pid = self.get(&request.id)?.pid().unwrap_or_default();
        Ok(ConnectResponse { shim_pid: std::process::id(), task_pid, version: "3".into() })
    }
}

/// Mounts, creates; undoes everything when that fails.
async fn make(
    container: &Rc<Container>,
    mounts: Vec<runtime_shim::protocol::types::Mount>,
) -> Result<(), Status> {
    let path = container.target.bundle.rootfs();
    if !mounts.is_empty() {
        let mounted = blocking(move || rootfs::mount_all(&mounts, &path)).await?;
        mounted.map_err(|error| failure::internal(&error))?;
    }
    let made = run_create(container).await;
    if let Err(error) = made {
        // Whatever the runtime got done is taken back; a killed runtime cannot do so itself.
        let deleted = container.runtime.delete(&container.target, container.new_job()).await;
        if let Err(error) = deleted {
            log::note(&log::chain(&error));
        }
        if let Some(path) = &container.config.cgroups_path
            && let Err(error) = cgroup::remove_left_over(path, &container.target.id).await
        {
            log::note(&format!("remove cgroup {path}: {error}"));
        }
        unmount(container).await?;
        return Err(error);
    }
    Ok(())
}

async fn run_create(container: &Rc<Container>) -> Result<(), Status> {
    let plan = Plan {
        terminal: container.config.terminal,
        stdin: container.stdin != Stdin::None,
        stdout: true,
        stderr: true,
    };
    let (streams, ends) = ends::make(plan).map_err(|error| failure::internal(&error))?;
    let job = container.job.borrow().clone();
    let init = container.runtime.create(&container.target, streams, job).await;
    let init = init.map_err(|error| failure::start_failed(&error))?;
    let ends = ends.or_terminal(init.terminal).map_err(|error| failure::internal(&error))?;
    container.created(init.running, ends);
    Ok(())
}

async fn unmount(container: &Container) -> Result<(), Status> {
    let bundle = container.target.bundle.clone();
    let unmounted = blocking(move || teardown::rootfs(&bundle)).await?;
    unmounted.map_err(|error| failure::internal(&error))
}

/// Runs what may hang in a thread of its own.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Status> {
    tokio::task::spawn_blocking(work).await.map_err(|error| failure::internal(&error))
}

fn open_log(uri: &str) -> Result<Option<CriLog>, Status> {
    if uri.is_empty() {
        return Ok(None);
    }
    let Some(path) = uri.strip_prefix(CRI_SCHEME).map(Path::new).filter(|path| path.is_absolute()) else {
        return Err(Status::new(Code::Unimplemented, format!("output {uri:?} is not a CRI log")));
    };
    let opened = CriLog::open(path);
    opened
        .map(Some)
        .map_err(|error| Status::new(Code::Internal, format!("open log {}: {error}", path.display())))
}

fn check_id(id: &str) -> Result<(), Status> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    let begins = id.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric());
    if begins && id.len() <= MAX_ID && id.bytes().all(plain) {
        return Ok(());
    }
    Err(failure::invalid(format!("{id:?} is not a container id")))
}

fn refuse_exec(exec_id: &str) -> Result<(), Status> {
    if exec_id.is_empty() {
        return Ok(());
    }
    Err(Status::new(Code::Unimplemented, "exec processes are not supported by the task service yet"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_plain_words() {
        for id in ["a", "0a-b_c.d", &"a".repeat(MAX_ID)] {
            assert!(check_id(id).is_ok(), "{id}");
        }
        for id in ["", ".", "..", "-a", "a/b", "a b", "ä", "a\n", &"a".repeat(MAX_ID + 1)] {
            assert_eq!(check_id(id).unwrap_err().code, Code::InvalidArgument, "{id:?}");
        }
    }
}
