//! The specification of a pod's holder: the process that keeps the PID namespace of a whole pod. It shows as the
//! pod's own `runtimeSpec` as well, for tools that look there for the pod's namespaces and cgroup.

use std::collections::HashMap;
use std::path::Path;

use oci_spec::runtime::{
    Linux, LinuxCapabilities, LinuxCpu, LinuxNamespaceType, LinuxResources, Mount, Process, RootBuilder, Spec,
};
use runtime_core::ids::SandboxId;

use super::{HostFacts, OciSpecError, ROOTFS, annotations, devices, empty, mounts, namespaces, resources};
use crate::spec::{IpcMode, PidMode, PodSpec};

/// Where the only program of the holder's root is.
const PROGRAM: &str = "/orlop-pause";
/// It sleeps: the least that the kernel takes.
const CPU_SHARES: u64 = 2;
/// The kubelet's figure for what a pod cannot live without.
const OOM_SCORE_ADJ: i64 = -998;

/// Everything that the holder's specification depends on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HolderInputs<'a> {
    pub(crate) pod: &'a PodSpec,
    pub(crate) sandbox_id: &'a SandboxId,
    /// `orlop-pause` on the host.
    pub(crate) program: &'a Path,
    pub(crate) ipc: &'a Path,
    pub(crate) uts: &'a Path,
    pub(crate) net: Option<&'a Path>,
    pub(crate) cgroups_path: &'a str,
    pub(crate) restrict_oom_score_adj: bool,
    pub(crate) host: &'a HostFacts,
}

pub(crate) fn holder(inputs: &HolderInputs<'_>) -> Result<Spec, OciSpecError> {
    let root = RootBuilder::default().path(ROOTFS).readonly(true);
    let mut spec: Spec = empty(r#"{"ociVersion":"1.2.0"}"#);
    spec.set_root(Some(root.build().expect("both fields are given")))
        .set_mounts(Some(mount_list(inputs.program)))
        .set_process(Some(process(inputs)?))
        .set_annotations(Some(pod_annotations(inputs)))
        .set_linux(Some(linux(inputs)));
    Ok(spec)
}

fn mount_list(program: &Path) -> Vec<Mount> {
    let options = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
    vec![
        mounts::mount(
            Path::new("/proc"),
            "proc",
            Path::new("proc"),
            options(&["nosuid", "noexec", "nodev", "ro"]),
        ),
        // Without it the OCI runtime would make its nodes in the bundle's folder.
        mounts::mount(
            Path::new("/dev"),
            "tmpfs",
            Path::new("tmpfs"),
            options(&["nosuid", "noexec", "mode=755", "size=64k"]),
        ),
        mounts::mount(Path::new(PROGRAM), "bind", program, options(&["bind", "ro", "nosuid", "nodev"])),
    ]
}

fn process(inputs: &HolderInputs<'_>) -> Result<Process, OciSpecError> {
    let adjustment =
        resources::clamped_oom_score_adj(OOM_SCORE_ADJ, inputs.restrict_oom_score_adj, inputs.host)?;
    let nothing: LinuxCapabilities =
        empty(r#"{"bounding":[],"effective":[],"permitted":[],"inheritable":[],"ambient":[]}"#);
    let mut process: Process = empty(r#"{"user":{"uid":0,"gid":0},"cwd":"/"}"#);
    process
        .set_terminal(Some(false))
        .set_args(Some(vec![PROGRAM.to_owned()]))
        .set_capabilities(Some(nothing))
        .set_no_new_privileges(Some(true))
        .set_oom_score_adj(Some(adjustment));
    Ok(process)
}

/// What is left out is the host's.
fn linux(inputs: &HolderInputs<'_>) -> Linux {
    let mut list = vec![
        namespaces::new(LinuxNamespaceType::Mount),
        namespaces::join(LinuxNamespaceType::Uts, inputs.uts),
    ];
    match inputs.pod.ipc {
        IpcMode::Pod => list.push(namespaces::join(LinuxNamespaceType::Ipc, inputs.ipc)),
        IpcMode::Host => {}
    }
    list.extend(inputs.net.map(|path| namespaces::join(LinuxNamespaceType::Network, path)));
    match inputs.pod.pid {
        PidMode::Host => {}
        PidMode::Pod | PidMode::Container | PidMode::Target(_) => {
            list.push(namespaces::new(LinuxNamespaceType::Pid));
        }
    }
    let mut cpu: LinuxCpu = empty("{}");
    cpu.set_shares(Some(CPU_SHARES));
    let mut limits: LinuxResources = empty("{}");
    limits.set_cpu(Some(cpu)).set_devices(Some(vec![devices::everything(false)]));
    let mut linux: Linux = empty("{}");
    linux
        .set_namespaces(Some(list))
        .set_cgroups_path(Some(inputs.cgroups_path.into()))
        .set_resources(Some(limits));
    linux
}

fn pod_annotations(inputs: &HolderInputs<'_>) -> HashMap<String, String> {
    let pod = &inputs.pod.metadata;
    let log_folder = inputs.pod.log_directory.as_deref().map(Path::to_string_lossy).unwrap_or_default();
    annotations::of_cri([
        ("container-type", "sandbox"),
        ("sandbox-id", inputs.sandbox_id.as_str()),
        ("sandbox-name", &pod.name),
        ("sandbox-namespace", &pod.namespace),
        ("sandbox-uid", &pod.uid),
        ("sandbox-log-directory", &log_folder),
    ])
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::oci_spec::capabilities;
    use crate::spec::sample::pod;

    fn json(pod: &PodSpec, net: Option<&Path>) -> Value {
        let host = HostFacts { capabilities: capabilities::of_mask(u64::MAX), ..HostFacts::default() };
        let spec = holder(&HolderInputs {
            pod,
            sandbox_id: &SandboxId::parse("pod-id").expect("valid"),
            program: Path::new("/opt/orlop-pause"),
            ipc: Path::new("/ns/ipc"),
            uts: Path::new("/ns/uts"),
            net,
            cgroups_path: "/kubepods/pod1/pod-id",
            restrict_oom_score_adj: false,
            host: &host,
        });
        serde_json::to_value(spec.expect("a good pod")).expect("a spec is JSON")
    }

    #[test]
    fn the_holder_has_one_program_and_no_rights() {
        let spec = json(&pod(), None);
        assert_eq!(spec["process"]["args"], json!(["/orlop-pause"]));
        assert_eq!(spec["process"]["capabilities"]["bounding"], json!([]));
        assert_eq!(spec["process"]["noNewPrivileges"], true);
        assert_eq!(spec["process"]["oomScoreAdj"], -998);
        assert_eq!(spec["root"], json!({"path": "rootfs", "readonly": true}));
        let program = &spec["mounts"][2];
        assert_eq!(
            (&program["source"], &program["destination"]),
            (&json!("/opt/orlop-pause"), &json!("/orlop-pause"))
        );
        assert_eq!(program["options"], json!(["bind", "ro", "nosuid", "nodev"]));
        let linux = &spec["linux"];
        assert_eq!(linux["cgroupsPath"], "/kubepods/pod1/pod-id");
        assert_eq!(
            linux["resources"],
            json!({"cpu": {"shares": 2}, "devices": [{"allow": false, "access": "rwm"}]})
        );
        assert_eq!(spec["annotations"]["io.kubernetes.cri.container-type"], "sandbox");
        assert_eq!(spec.get("hostname"), None);
    }

    #[test]
    fn the_holder_joins_the_pods_namespaces_and_makes_the_one_it_holds() {
        let named = |spec: &Value| {
            let list = spec["linux"]["namespaces"].as_array().expect("a list").clone();
            let mut named: Vec<String> = list
                .iter()
                .map(|it| {
                    format!("{}:{}", it["type"].as_str().unwrap_or("?"), it["path"].as_str().unwrap_or("new"))
                })
                .collect();
            named.sort();
            named
        };
        let with_network = json(&pod(), Some(Path::new("/run/netns/x")));
        let all = ["ipc:/ns/ipc", "mount:new", "network:/run/netns/x", "pid:new", "uts:/ns/uts"];
        assert_eq!(named(&with_network), all);
        let mut of_host = pod();
        (of_host.ipc, of_host.pid) = (IpcMode::Host, PidMode::Host);
        assert_eq!(named(&json(&of_host, None)), ["mount:new", "uts:/ns/uts"]);
    }
}
