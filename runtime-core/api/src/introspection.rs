//! `containerd.services.introspection.v1`: which plugins there are and how their start went, and who the daemon is.

use runtime_core::error::ErrorKind;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

use runtime_core::error::chain;
use runtime_core::filter::Filters;
use runtime_core::plugin::{Status as PluginStatus, StatusState};
use runtime_core::store::atomic;
use runtime_proto::services::introspection::v1 as wire;
use runtime_proto::services::introspection::v1::introspection_server::{Introspection, IntrospectionServer};
use runtime_proto::types::Platform;
use tonic::{Request, Response, Status};

use crate::grpc_service;
use crate::status::{as_value, refuse, status};

#[derive(Clone)]
pub struct IntrospectionApi {
    pub plugins: Arc<[PluginStatus]>,
    /// The same for as long as the daemon's root is.
    pub uuid: String,
}

grpc_service!(IntrospectionApi, IntrospectionServer);

/// The uuid of the daemon whose folder this is, made at the first start.
pub fn uuid_of(folder: &Path) -> io::Result<String> {
    let path = folder.join("uuid");
    match std::fs::read_to_string(&path) {
        Ok(text) if !text.trim().is_empty() => return Ok(text.trim().to_owned()),
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(_) | Err(_) => {}
    }
    let uuid = std::fs::read_to_string("/proc/sys/kernel/random/uuid")?.trim().to_owned();
    std::fs::create_dir_all(folder)?;
    atomic::write(&path, uuid.as_bytes(), 0o600)?;
    Ok(uuid)
}

#[tonic::async_trait]
impl Introspection for IntrospectionApi {
    async fn plugins(
        &self,
        request: Request<wire::PluginsRequest>,
    ) -> Result<Response<wire::PluginsResponse>, Status> {
        let filters = Filters::parse_all(&request.get_ref().filters).map_err(status)?;
        let plugins = self.plugins.iter().filter(|plugin| filters.matches(*plugin)).map(message).collect();
        Ok(Response::new(wire::PluginsResponse { plugins }))
    }

    async fn server(&self, _request: Request<()>) -> Result<Response<wire::ServerResponse>, Status> {
        let pidns = std::fs::metadata("/proc/self/ns/pid").map(|namespace| namespace.ino());
        Ok(Response::new(wire::ServerResponse {
            uuid: self.uuid.clone(),
            pid: std::process::id().into(),
            pidns: pidns.unwrap_or_default(),
            deprecations: Vec::new(),
        }))
    }

    async fn plugin_info(
        &self,
        request: Request<wire::PluginInfoRequest>,
    ) -> Result<Response<wire::PluginInfoResponse>, Status> {
        let wire::PluginInfoRequest { r#type: kind, id, options } = request.into_inner();
        let Some(found) = self.plugins.iter().find(|plugin| plugin.kind == kind && plugin.id == id) else {
            return Err(refuse(ErrorKind::NotFound, format!("plugin {kind}.{id} does not exist")));
        };
        if options.is_some() {
            return Err(refuse(ErrorKind::Unimplemented, format!("plugin {kind}.{id} takes no options")));
        }
        Ok(Response::new(wire::PluginInfoResponse { plugin: Some(message(found)), extra: None }))
    }
}

fn message(plugin: &PluginStatus) -> wire::Plugin {
    wire::Plugin {
        r#type: plugin.kind.to_owned(),
        id: plugin.id.to_owned(),
        requires: plugin.requires.iter().map(|kind| (*kind).to_owned()).collect(),
        platforms: if plugin.facts.of_host_platform { vec![host_platform()] } else { Vec::new() },
        exports: plugin.facts.exports.clone(),
        capabilities: plugin.facts.capabilities.clone(),
        init_err: match &plugin.state {
            StatusState::Started => None,
            StatusState::Failed(error) => Some(as_value(ErrorKind::Internal, chain(&***error))),
            StatusState::Disabled => {
                Some(as_value(ErrorKind::Unavailable, "skip plugin: disabled".to_owned()))
            }
        },
    }
}

/// In the words of the OCI image specification, which are Go's.
fn host_platform() -> Platform {
    let (architecture, variant) = match std::env::consts::ARCH {
        "x86_64" => ("amd64", ""),
        "aarch64" => ("arm64", "v8"),
        other => (other, ""),
    };
    Platform {
        os: "linux".to_owned(),
        architecture: architecture.to_owned(),
        variant: variant.to_owned(),
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_uuid_stays() {
        let folder = tempfile::tempdir().expect("a folder");
        let first = uuid_of(&folder.path().join("new")).expect("it is made");
        assert_eq!(first.len(), 36, "{first}");
        assert_eq!(uuid_of(&folder.path().join("new")).expect("it is read"), first);
    }
}
