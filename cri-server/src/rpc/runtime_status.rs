//! Version, Status, RuntimeConfig and UpdateRuntimeConfig.

use std::collections::BTreeMap;

use cni::NetworkSet;
use cri_proto::v1;

use crate::cri::Cri;

/// What the kubelet insists on (facts of its remote client), whatever our own version is.
const KUBE_API_VERSION: &str = "0.1.0";
const RUNTIME_NAME: &str = "orlop";
const CRI_VERSION: &str = "v1";
/// The reason that kubelet and users know from other runtimes.
const NETWORK_NOT_READY: &str = "NetworkPluginNotReady";

pub(crate) fn version() -> v1::VersionResponse {
    v1::VersionResponse {
        version: KUBE_API_VERSION.to_owned(),
        runtime_name: RUNTIME_NAME.to_owned(),
        runtime_version: env!("CARGO_PKG_VERSION").to_owned(),
        runtime_api_version: CRI_VERSION.to_owned(),
    }
}

/// The folder of network configurations is looked at each time: it is small, and nobody has to be restarted.
pub(crate) async fn show(cri: &Cri, request: &v1::StatusRequest) -> v1::StatusResponse {
    let network = cri.pods.services().networks.ready().await;
    let conditions = vec![
        v1::RuntimeCondition { r#type: "RuntimeReady".to_owned(), status: true, ..Default::default() },
        network_condition(&network),
    ];
    v1::StatusResponse {
        status: Some(v1::RuntimeStatus { conditions }),
        info: if request.verbose { info(cri, &network) } else { BTreeMap::new() },
        runtime_handlers: handlers(cri),
        features: Some(v1::RuntimeFeatures::default()),
    }
}

fn network_condition(network: &Result<NetworkSet, String>) -> v1::RuntimeCondition {
    let (reason, message) = match network {
        Ok(_) => Default::default(),
        Err(why) => (NETWORK_NOT_READY.to_owned(), why.clone()),
    };
    v1::RuntimeCondition { r#type: "NetworkReady".to_owned(), status: network.is_ok(), reason, message }
}

/// The default handler is listed under its own name and under the empty one.
fn handlers(cri: &Cri) -> Vec<v1::RuntimeHandler> {
    let named = cri.pods.services().handlers.iter().map(|handler| handler.name.clone());
    named
        .chain([String::new()])
        .map(|name| v1::RuntimeHandler { name, features: Some(v1::RuntimeHandlerFeatures::default()) })
        .collect()
}

/// `config` holds what tools look for: `stateDir` (critest) and `rootDir`.
fn info(cri: &Cri, network: &Result<NetworkSet, String>) -> BTreeMap<String, String> {
    let config = serde_json::json!({
        "rootDir": cri.node.root,
        "stateDir": cri.node.state,
        "containerdEndpoint": cri.node.address,
    });
    let (networks, last_load): (Vec<_>, String) = match network {
        Ok(set) => (set.networks.iter().map(|network| network.json()).collect(), "OK".to_owned()),
        Err(why) => (Vec::new(), why.clone()),
    };
    BTreeMap::from([
        ("config".to_owned(), config.to_string()),
        ("cniconfig".to_owned(), serde_json::json!({ "Networks": networks }).to_string()),
        ("lastCNILoadStatus".to_owned(), last_load.clone()),
        ("lastCNILoadStatus.default".to_owned(), last_load),
    ])
}

/// Containers go into the cgroups that the kubelet names as paths.
pub(crate) fn runtime_config() -> v1::RuntimeConfigResponse {
    v1::RuntimeConfigResponse {
        linux: Some(v1::LinuxRuntimeConfiguration { cgroup_driver: v1::CgroupDriver::Cgroupfs.into() }),
    }
}

/// The node's pod CIDR is of use only to a network we would set up; it is noted and nothing else.
pub(crate) fn update(request: &v1::UpdateRuntimeConfigRequest) -> v1::UpdateRuntimeConfigResponse {
    let network = request.runtime_config.as_ref().and_then(|config| config.network_config.as_ref());
    if let Some(network) = network {
        tracing::info!(pod_cidr = network.pod_cidr, "the node's pod CIDR was announced");
    }
    v1::UpdateRuntimeConfigResponse {}
}
