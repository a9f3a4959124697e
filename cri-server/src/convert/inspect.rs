//! The verbose part of a status: one key, `info`, whose value is JSON in containerd's shape. crictl prints it beside
//! the status; scripts read `pid` and `runtimeSpec` from it.

mod config;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use pod_sandbox::spec::PodSpec;
use pod_sandbox::{ContainerState, ContainerView, Handler, SandboxState, SandboxView};
use serde_json::{Map, Value, json};

/// What is known of a container beyond its view.
#[derive(Debug, Default)]
pub(crate) struct ContainerFacts {
    pub(crate) pod: Option<Arc<PodSpec>>,
    pub(crate) handler: Option<Arc<Handler>>,
    /// JSON.
    pub(crate) oci_spec: Option<String>,
}

/// What is known of a pod beyond its view.
#[derive(Debug, Default)]
pub(crate) struct PodFacts {
    /// A process in the pod's namespaces.
    pub(crate) pid: Option<i32>,
    pub(crate) handler: Option<Arc<Handler>>,
    /// JSON.
    pub(crate) oci_spec: Option<String>,
}

pub(crate) fn container(view: &ContainerView, facts: ContainerFacts) -> BTreeMap<String, String> {
    let mut info = json!({
        "sandboxID": view.sandbox,
        "pid": view.state.pid().unwrap_or_default(),
        "removing": view.removing,
        "snapshotKey": view.snapshot_key,
        "snapshotter": view.snapshotter,
        "config": config::container(view, facts.pod.as_deref()),
        "runtimeSpec": parsed(facts.oci_spec),
        "state": container_state(&view.state),
    });
    set_runtime(&mut info, facts.handler.as_deref());
    BTreeMap::from([("info".to_owned(), info.to_string())])
}

pub(crate) fn pod(view: &SandboxView, facts: PodFacts) -> BTreeMap<String, String> {
    let stages =
        view.timings.0.iter().map(|(stage, took)| (stage.clone().into_owned(), json!(micros(*took))));
    let (state, why) = sandbox_state(&view.state);
    let mut info = json!({
        "pid": facts.pid.unwrap_or_default(),
        "processStatus": process_status(&view.state),
        "netNamespaceClosed": matches!(view.state, SandboxState::Stopped),
        // There is no image of a pause process.
        "image": "",
        "runtimeHandler": view.spec.runtime_handler,
        "config": config::pod(&view.spec),
        "runtimeSpec": parsed(facts.oci_spec),
        "cniResult": view.network.as_ref().map(|network| &network.result),
        "state": state,
        "why": why,
        "shimPid": view.shim_pid,
        "stagesMicroseconds": stages.collect::<Map<_, _>>(),
    });
    set_runtime(&mut info, facts.handler.as_deref());
    BTreeMap::from([("info".to_owned(), info.to_string())])
}

fn parsed(text: Option<String>) -> Option<Value> {
    serde_json::from_str(&text?).ok()
}

/// The options have the names of containerd's `runc.v1.Options`.
fn set_runtime(info: &mut Value, handler: Option<&Handler>) {
    let Some(handler) = handler else { return };
    let options = &handler.options;
    let root = options.root.as_deref().map(Path::to_string_lossy);
    info["runtimeType"] = json!(handler.runtime_type);
    info["runtimeOptions"] = json!({
        "binary_name": options.binary_name.to_string_lossy(),
        "root": root.unwrap_or_default(),
        "systemd_cgroup": options.systemd_cgroup,
    });
}

fn container_state(state: &ContainerState) -> &'static str {
    match state {
        ContainerState::Created => "Created",
        ContainerState::Starting => "Starting",
        ContainerState::Running { .. } => "Running",
        ContainerState::Stopping { .. } => "Stopping",
        ContainerState::Exited { .. } => "Exited",
        ContainerState::Unknown { .. } => "Unknown",
    }
}

fn sandbox_state(state: &SandboxState) -> (&'static str, Option<String>) {
    match state {
        SandboxState::SettingUp { stage } => ("SettingUp", Some(format!("{stage:?}"))),
        SandboxState::Ready { .. } => ("Ready", None),
        SandboxState::Died { .. } => ("Died", None),
        SandboxState::TearingDown { last_error } => ("TearingDown", last_error.clone()),
        SandboxState::Stopped => ("Stopped", None),
        SandboxState::Unknown { why } => ("Unknown", Some(why.clone())),
    }
}

/// containerd's word for the pause process; here it is the pod as a whole.
fn process_status(state: &SandboxState) -> &'static str {
    match state {
        SandboxState::SettingUp { .. } => "created",
        SandboxState::Ready { .. } => "running",
        SandboxState::Died { .. } | SandboxState::TearingDown { .. } | SandboxState::Stopped => "deleted",
        SandboxState::Unknown { .. } => "unknown",
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use pod_sandbox::NetworkView;
    use pod_sandbox::oci_spec::PrivilegedDevices;
    use pod_sandbox::spec::{PortMapping, Protocol};
    use runtime_core::clock::Timestamp;
    use runtime_core::task::RuntimeOptions;

    use super::super::container::tests::view as container_view;
    use super::super::pod::tests::{config as pod_config, view as pod_view};
    use super::*;

    fn handler() -> Option<Arc<Handler>> {
        Some(Arc::new(Handler {
            name: "runc".into(),
            runtime_type: "io.containerd.runc.v2".into(),
            shim: PathBuf::from("/shim"),
            privileged_devices: PrivilegedDevices::Host,
            pod_annotations: Vec::new(),
            container_annotations: Vec::new(),
            options: RuntimeOptions { binary_name: "crun".into(), root: None, systemd_cgroup: false },
        }))
    }

    fn value(info: &BTreeMap<String, String>) -> Value {
        serde_json::from_str(&info["info"]).expect("JSON")
    }

    /// The names that tools know from containerd (cri-tools prints each at the top).
    #[test]
    fn a_containers_info_has_containerds_keys() {
        let view = container_view(ContainerState::Running { pid: 42, since: Timestamp(1) });
        let facts = ContainerFacts {
            pod: Some(pod_view(SandboxState::Stopped).spec),
            handler: handler(),
            oci_spec: Some(r#"{"ociVersion":"1.2.0"}"#.to_owned()),
        };
        let info = value(&container(&view, facts));
        assert_eq!((&info["pid"], &info["runtimeSpec"]["ociVersion"]), (&json!(42), &json!("1.2.0")));
        assert_eq!((&info["sandboxID"], &info["removing"]), (&json!("p1"), &json!(false)));
        assert_eq!((&info["snapshotter"], &info["snapshotKey"]), (&json!("overlayfs"), &json!("c1")));
        assert_eq!(info["runtimeType"], "io.containerd.runc.v2");
        assert_eq!(info["runtimeOptions"]["binary_name"], "crun");
        let expected = json!({
            "metadata": {"name": "main", "attempt": 3},
            "image": {"image": "sha256:1", "user_specified_image": "busybox"},
            "envs": [{"key": "A", "value": "1\n2"}],
            "mounts": [
                {"container_path": "/data", "host_path": "/srv", "selinux_relabel": true, "propagation": 1}
            ],
            "labels": {"k": "v\n"},
            "annotations": {"n": "ü"},
            "log_path": "main/3.log",
            "linux": {
                "resources": {"cpu_shares": 7},
                "security_context": {
                    "namespace_options": {"network": 2, "pid": 1},
                    "seccomp": {"profile_type": 1},
                },
            },
            "stop_signal": view.spec.stop_signal.map(|_| i32::from(cri_proto::v1::Signal::Sigusr1)),
        });
        assert_eq!(info["config"], expected);
    }

    #[test]
    fn a_pods_info_has_containerds_keys_and_ours() {
        let facts =
            || PodFacts { pid: Some(7), handler: handler(), oci_spec: Some(r#"{"linux":{}}"#.to_owned()) };
        let mut view = pod_view(SandboxState::Ready { since: Timestamp(8) });
        let network = NetworkView { ips: Vec::new(), result: json!({"Interfaces": {}}) };
        view.network = Some(Arc::new(network));
        let spec = Arc::make_mut(&mut view.spec);
        spec.sysctls.insert("net.core.somaxconn".to_owned(), "2".to_owned());
        let host_ip = Some([127, 0, 0, 1].into());
        let mapping = PortMapping { protocol: Protocol::Udp, container_port: 53, host_port: 5353, host_ip };
        spec.port_mappings.push(mapping);
        let info = value(&pod(&view, facts()));
        assert_eq!((&info["pid"], &info["processStatus"]), (&json!(7), &json!("running")));
        assert_eq!((&info["netNamespaceClosed"], &info["image"]), (&json!(false), &json!("")));
        assert_eq!((&info["runtimeHandler"], &info["runtimeSpec"]), (&json!("runc"), &json!({"linux": {}})));
        assert_eq!((&info["cniResult"], &info["shimPid"]), (&json!({"Interfaces": {}}), &json!(9)));
        assert_eq!(info["stagesMicroseconds"]["shim"], 2000);
        let config = &info["config"];
        assert_eq!(config["metadata"]["uid"], "0123456789abcdef0123456789abcdef");
        assert_eq!(config["labels"], json!(pod_config().labels));
        assert_eq!(config["linux"]["cgroup_parent"], "/kubepods/podu");
        assert_eq!(config["linux"]["sysctls"], json!({"net.core.somaxconn": "2"}));
        let mapping = json!({"protocol": 1, "container_port": 53, "host_port": 5353, "host_ip": "127.0.0.1"});
        assert_eq!(config["port_mappings"], json!([mapping]));
        let options = &config["linux"]["security_context"]["namespace_options"];
        assert_eq!(*options, json!({"network": 2, "pid": 1}));

        let died = value(&pod(&pod_view(SandboxState::Died { at: Timestamp(8) }), facts()));
        assert_eq!((&died["state"], &died["processStatus"]), (&json!("Died"), &json!("deleted")));
    }
}
