//! Which method does what: the services' names, decoded requests, encoded answers.

use std::rc::Rc;

use prost::Message;
use runtime_shim::protocol::io::{ExecRequest, ReopenLogRequest, ReopenLogResponse};
use runtime_shim::protocol::sandbox::{
    PingResponse, ShutdownSandboxResponse, StartSandboxRequest, WaitSandboxRequest,
};
use runtime_shim::protocol::{Code, IO, SANDBOX, TASK_V2, TASK_V3, sandbox as wire};
use runtime_shim::ttrpc::server::{CallFuture, Handler, Outgoing, Reply, Status};
use tokio::sync::Notify;

use crate::exec::one_shot;
use crate::failure;
use crate::io::cri_log;
use crate::reaper::Reaper;
use crate::sandbox::{self, Sandbox};
use crate::tasks::{self, Tasks};
use crate::update;

/// Everything that the shim serves.
pub(crate) struct Services {
    pub(crate) tasks: Rc<Tasks>,
    sandbox: Sandbox,
    /// Told when the process may end.
    pub(crate) over: Rc<Notify>,
}

impl Services {
    pub(crate) fn new(reaper: Rc<Reaper>, namespace: String) -> Self {
        let tasks = Rc::new(Tasks::new(reaper, namespace));
        Self { sandbox: Sandbox::new(tasks.clone()), tasks, over: Rc::default() }
    }

    async fn task(&self, method: &str, payload: &[u8]) -> Result<Vec<u8>, Status> {
        match method {
            "Create" => encode(&self.sandbox.create_task(decode(payload)?).await?),
            "Start" => encode(&self.tasks.start(decode(payload)?).await?),
            "State" => encode(&self.tasks.state(&decode(payload)?)?),
            "Kill" => encode(&self.tasks.kill(&decode(payload)?)?),
            "Delete" => encode(&self.sandbox.delete_task(decode(payload)?).await?),
            "Wait" => encode(&self.tasks.wait(decode(payload)?).await?),
            "Update" => encode(&update::update(&self.tasks, decode(payload)?).await?),
            "Pids" => encode(&self.tasks.pids(&decode(payload)?)?),
            "Connect" => encode(&self.tasks.connect(&decode(payload)?)?),
            "Shutdown" => {
                if self.tasks.is_empty() && !self.sandbox.is_up() {
                    self.over.notify_one();
                }
                encode(&())
            }
            _ => Err(unimplemented("task", method)),
        }
    }

    async fn sandbox(&self, method: &str, payload: &[u8]) -> Result<Vec<u8>, Status> {
        match method {
            "CreateSandbox" => encode(&self.sandbox.create(decode(payload)?).await?),
            "StartSandbox" => {
                encode(&self.sandbox.start(&decode::<StartSandboxRequest>(payload)?.sandbox_id)?)
            }
            "Platform" => encode(&sandbox::platform()),
            "StopSandbox" => encode(&self.sandbox.stop().await?),
            "WaitSandbox" => {
                encode(&self.sandbox.wait(&decode::<WaitSandboxRequest>(payload)?.sandbox_id).await?)
            }
            "SandboxStatus" => {
                encode(&self.sandbox.status(&decode::<wire::SandboxStatusRequest>(payload)?.sandbox_id)?)
            }
            "PingSandbox" => encode(&PingResponse {}),
            "ShutdownSandbox" => {
                self.sandbox.stop().await?;
                self.over.notify_one();
                encode(&ShutdownSandboxResponse {})
            }
            _ => Err(unimplemented("sandbox", method)),
        }
    }

    async fn io(&self, method: &str, payload: &[u8], outgoing: Outgoing) -> Result<Reply, Status> {
        match method {
            "Exec" => {
                one_shot::run(&self.tasks, decode::<ExecRequest>(payload)?, outgoing).await?;
                Ok(Reply::StreamEnd)
            }
            "ReopenLog" => {
                self.reopen_log(&decode::<ReopenLogRequest>(payload)?.container).await?;
                encode(&ReopenLogResponse {}).map(Reply::Message)
            }
            _ => Err(unimplemented("io", method)),
        }
    }

    async fn reopen_log(&self, id: &str) -> Result<(), Status> {
        let container = self.tasks.get(id)?;
        let Some(log) = &container.log else {
            return Err(failure::precondition(format!("container {id} has no log")));
        };
        let path = log.borrow().path().to_path_buf();
        let opened = tasks::blocking(move || cri_log::open_file(&path)).await?;
        let file = opened.map_err(|error| failure::internal(&error))?;
        log.borrow_mut().replace(file);
        Ok(())
    }
}

impl Handler for Services {
    fn call(self: Rc<Self>, service: &str, method: &str, payload: Vec<u8>, outgoing: Outgoing) -> CallFuture {
        let (service, method) = (service.to_owned(), method.to_owned());
        Box::pin(async move {
            match service.as_str() {
                TASK_V2 | TASK_V3 => self.task(&method, &payload).await.map(Reply::Message),
                SANDBOX => self.sandbox(&method, &payload).await.map(Reply::Message),
                IO => self.io(&method, &payload, outgoing).await,
                _ => Err(unimplemented(&service, &method)),
            }
        })
    }
}

fn decode<M: Message + Default>(payload: &[u8]) -> Result<M, Status> {
    M::decode(payload).map_err(|error| failure::invalid(format!("request is damaged: {error}")))
}

#[expect(clippy::unnecessary_wraps, reason = "reads like the failing arms beside it")]
fn encode(message: &impl Message) -> Result<Vec<u8>, Status> {
    Ok(message.encode_to_vec())
}

fn unimplemented(service: &str, method: &str) -> Status {
    Status::new(Code::Unimplemented, format!("service {service} has no method {method} in this shim"))
}
