//! Task Update: new limits for a container that exists, by the OCI runtime.

use runtime_shim::protocol::task::UpdateTaskRequest;
use runtime_shim::protocol::{Code, LINUX_RESOURCES};
use runtime_shim::ttrpc::server::Status;

use crate::container::Phase;
use crate::tasks::Tasks;
use crate::{failure, log};

/// Largest resources that are taken, in bytes.
const MAX_RESOURCES: usize = 1 << 20;

/// Takes turns with Start and Delete, so that the container does not change underneath.
pub(crate) async fn update(tasks: &Tasks, request: UpdateTaskRequest) -> Result<(), Status> {
    let resources = resources(&request)?;
    let container = tasks.get(&request.id)?;
    if container.phase() == Phase::Creating {
        return Err(failure::precondition(format!("container {} is still being created", request.id)));
    }
    let _turn = container.turn.lock().await;
    // A Delete may have had the turn before.
    tasks.get(&request.id)?;
    let exited = || failure::precondition(format!("container {} has exited", request.id));
    let is_over = || matches!(container.phase(), Phase::Stopped { .. });
    if is_over() {
        return Err(exited());
    }
    let updated = container.runtime.update(&container.target, resources, container.new_job()).await;
    updated.map_err(|error| if is_over() { exited() } else { failure::runtime(&error) })
}

fn resources(request: &UpdateTaskRequest) -> Result<&[u8], Status> {
    let Some(any) = &request.resources else {
        return Err(failure::invalid("resources are missing"));
    };
    if !any.type_url.ends_with(LINUX_RESOURCES) {
        return Err(failure::invalid(format!("resources of type {:?} are not understood", any.type_url)));
    }
    if any.value.len() > MAX_RESOURCES {
        let message = format!("resources of {} bytes are more than {MAX_RESOURCES}", any.value.len());
        return Err(Status::new(Code::ResourceExhausted, message));
    }
    let parsed: Result<serde_json::Map<String, serde_json::Value>, _> = serde_json::from_slice(&any.value);
    parsed.map_err(|error| failure::invalid(format!("parse resources: {}", log::chain(&error))))?;
    Ok(&any.value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resources_are_a_json_object_of_the_right_type() {
        let code = |type_url: &str, value: &[u8]| {
            let any = prost_types::Any { type_url: type_url.into(), value: value.into() };
            let request = UpdateTaskRequest { resources: Some(any), ..Default::default() };
            resources(&request).map(drop).map_err(|status| status.code)
        };
        assert_eq!(code(LINUX_RESOURCES, b"{}"), Ok(()));
        assert_eq!(code(&format!("types.googleapis.com/{LINUX_RESOURCES}"), b"{}"), Ok(()));
        for (type_url, value) in
            [("x", "{}"), (LINUX_RESOURCES, "[]"), (LINUX_RESOURCES, "{"), (LINUX_RESOURCES, "")]
        {
            assert_eq!(code(type_url, value.as_bytes()), Err(Code::InvalidArgument), "{type_url} {value}");
        }
        let large = [b"{}".as_slice(), &vec![b' '; MAX_RESOURCES]].concat();
        assert_eq!(code(LINUX_RESOURCES, &large), Err(Code::ResourceExhausted));
        assert!(resources(&UpdateTaskRequest::default()).is_err());
    }
}
