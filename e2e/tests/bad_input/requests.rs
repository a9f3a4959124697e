//! Requests that no kubelet sends: refused by name before anything is made.

use cri_proto::v1 as cri;
use e2e::client::{Cri, image_spec};
use e2e::node::Node;
use e2e::pod::{Pod, container, key_value, pod_namespaces, port_mapping, resources, security};
use tonic::{Code, Status};

use super::Outcome::{Contained, Refused};
use super::bounds::{self, Bounds};
use super::{Outcome, assert_none};

/// What requests are made against: a pod, and a container that runs.
struct Scene<'node> {
    node: &'node Node,
    cri: Cri,
    pod: &'node Pod,
    running: String,
}

type Call = Box<dyn Fn(&Scene) -> Result<(), Status>>;

/// A request, and what is answered.
struct Case(&'static str, Call, Outcome);

/// RunPodSandbox with one thing changed.
fn pod(name: &'static str, change: fn(&mut cri::PodSandboxConfig), word: &'static str) -> Case {
    let call = move |scene: &Scene| {
        let mut config = scene.node.net_pod_config("bad");
        change(&mut config);
        scene.cri.run_pod(&config).map(drop)
    };
    Case(name, Box::new(call), Refused(Code::InvalidArgument, word))
}

/// CreateContainer with one thing changed.
fn created(name: &'static str, change: fn(&mut cri::ContainerConfig), outcome: Outcome) -> Case {
    let call = move |scene: &Scene| {
        let mut config = container("bad", &["true"]);
        change(&mut config);
        let id = scene.pod.create(&config)?;
        scene.cri.remove(&id)
    };
    Case(name, Box::new(call), outcome)
}

fn invalid(name: &'static str, change: fn(&mut cri::ContainerConfig), word: &'static str) -> Case {
    created(name, change, Refused(Code::InvalidArgument, word))
}

fn other(name: &'static str, call: fn(&Scene) -> Result<(), Status>, code: Code, word: &'static str) -> Case {
    Case(name, Box::new(call), Refused(code, word))
}

fn metadata(config: &mut cri::PodSandboxConfig) -> &mut cri::PodSandboxMetadata {
    config.metadata.get_or_insert_default()
}

fn linux(config: &mut cri::PodSandboxConfig) -> &mut cri::LinuxPodSandboxConfig {
    config.linux.get_or_insert_default()
}

fn dns(server: &str) -> Option<cri::DnsConfig> {
    Some(cri::DnsConfig { servers: vec![server.to_owned()], ..Default::default() })
}

fn pods() -> Vec<Case> {
    vec![
        pod("no metadata", |it| it.metadata = None, "metadata is missing"),
        pod("no name", |it| metadata(it).name.clear(), "name is missing"),
        pod("no uid", |it| metadata(it).uid.clear(), "uid is missing"),
        pod("a namespace of two lines", |it| metadata(it).namespace = "a\nb".into(), "namespace"),
        pod("a hostname of two lines", |it| it.hostname = "a\n127.0.0.1 b".into(), "hostname"),
        pod("a hostname that is too long", |it| it.hostname = "x".repeat(1 << 20), "longer than 64"),
        pod("a name server with another setting", |it| it.dns_config = dns("::1\noptions x"), "DNS server"),
        pod("a name server of two words", |it| it.dns_config = dns("1.1.1.1 2.2.2.2"), "not one word"),
        pod("logs at a relative path", |it| it.log_directory = "logs".into(), "log_directory"),
        pod("logs upwards", |it| it.log_directory = "/var/log/../../etc".into(), "log_directory"),
        pod("cgroup upwards", |it| linux(it).cgroup_parent = "/a/../..".into(), "cgroup_parent"),
        pod(
            "a sysctl of the node",
            |it| drop(linux(it).sysctls.insert("kernel.panic".into(), "1".into())),
            "kernel.panic",
        ),
        pod(
            "a sysctl that is a path",
            |it| drop(linux(it).sysctls.insert("net/../../kernel/panic".into(), "1".into())),
            "net/../",
        ),
        pod("a network of no mode", |it| pod_namespaces(it).network = 77, "network namespace mode"),
        pod("the network of a container", |it| pod_namespaces(it).network = 1, "neither POD nor NODE"),
        pod(
            "a port that is none",
            |it| {
                it.port_mappings =
                    vec![cri::PortMapping { container_port: 70_000, host_port: 20_000, ..Default::default() }]
            },
            "70000",
        ),
        pod(
            "a protocol that is none",
            |it| it.port_mappings = vec![cri::PortMapping { protocol: 9, ..port_mapping(80, 20_000) }],
            "protocol",
        ),
        pod(
            "a port at no address",
            |it| {
                it.port_mappings =
                    vec![cri::PortMapping { host_ip: "::1; reboot".into(), ..port_mapping(80, 20_000) }]
            },
            "host_ip",
        ),
        other(
            "no pod at all",
            |it| it.cri.run_pod_sandbox(Default::default()).map(drop),
            Code::InvalidArgument,
            "config is missing",
        ),
        other(
            "a handler that is none",
            |it| it.cri.run_pod_with(&it.node.pod_config("bad"), "../../runc").map(drop),
            Code::NotFound,
            "../../runc",
        ),
    ]
}

fn mount(config: &mut cri::ContainerConfig, container_path: &str, host_path: &str) {
    config.mounts.push(cri::Mount {
        container_path: container_path.into(),
        host_path: host_path.into(),
        ..Default::default()
    });
}

fn device(config: &mut cri::ContainerConfig, host_path: &str, permissions: &str) {
    config.devices.push(cri::Device {
        container_path: "/dev/bad".into(),
        host_path: host_path.into(),
        permissions: permissions.into(),
    });
}

fn containers() -> Vec<Case> {
    vec![
        invalid("no metadata", |it| it.metadata = None, "metadata is missing"),
        invalid("no name", |it| it.metadata.get_or_insert_default().name.clear(), "name is missing"),
        invalid("no image", |it| it.image = None, "image is missing"),
        created(
            "an image that is not there",
            |it| it.image = Some(image_spec("docker.io/library/nowhere:1")),
            Refused(Code::NotFound, "nowhere"),
        ),
        invalid("a log upwards", |it| it.log_path = "../../../etc/cron.d/x".into(), "log_path"),
        invalid("a log that is absolute", |it| it.log_path = "/etc/cron.d/x".into(), "log_path"),
        invalid("a log that is a folder", |it| it.log_path = "a/".into(), "log_path"),
        invalid("a mount upwards", |it| mount(it, "/a/../../b", "/tmp"), "container_path"),
        invalid("a mount at a relative path", |it| mount(it, "a", "/tmp"), "container_path"),
        invalid("a mount of upwards", |it| mount(it, "/a", "/tmp/../etc"), "host_path"),
        invalid(
            "a mount of no propagation",
            |it| it.mounts.push(cri::Mount { propagation: 9, ..Default::default() }),
            "propagation",
        ),
        invalid("a device of no permission", |it| device(it, "/dev/null", "all"), "permissions"),
        created(
            "a device that is none",
            |it| device(it, "/etc/passwd", "rwm"),
            Refused(Code::InvalidArgument, "/etc/passwd"),
        ),
        invalid("a variable of no name", |it| it.envs.push(key_value("", "x")), "environment"),
        invalid("a variable with two names", |it| it.envs.push(key_value("A=B", "x")), "A=B"),
        invalid(
            "a variable that is no text",
            |it| it.envs.push(cri::KeyValue { key: "BINARY".into(), value: vec![0xff] }),
            "BINARY",
        ),
        invalid("a command with a zero byte", |it| it.command = vec!["a\0b".into()], "argument"),
        invalid("a directory with a zero byte", |it| it.working_dir = "/a\0b".into(), "working directory"),
        invalid("a signal of no number", |it| it.stop_signal = 4_000, "stop_signal"),
        invalid("privileged in a pod that is not", |it| security(it).privileged = true, "privileged"),
        invalid("a user that is none", |it| security(it).run_as_user = e2e::pod::id_value(-1), "run_as_user"),
        invalid(
            "a group without a user",
            |it| security(it).run_as_group = e2e::pod::id_value(7),
            "run_as_group",
        ),
        invalid("less than no memory", |it| resources(it).memory_limit_in_bytes = -9, "memory_limit"),
        invalid("a list of CPUs that is none", |it| resources(it).cpuset_cpus = "0;reboot".into(), "cpuset"),
        created(
            "labels of a megabyte with control characters",
            |it| drop(it.labels.insert("\u{1b}[31m".into(), "x\n".repeat(512 << 10))),
            Contained,
        ),
    ]
}

fn others() -> Vec<Case> {
    vec![
        other(
            "a container of no pod",
            |it| it.cri.create("nobody", &it.pod.config, &container("bad", &["true"])).map(drop),
            Code::NotFound,
            "nobody",
        ),
        other(
            "a container of a pod that is a path",
            |it| it.cri.create("../../etc", &it.pod.config, &container("bad", &["true"])).map(drop),
            Code::NotFound,
            "../../etc",
        ),
        other("the start of nobody", |it| it.cri.start("nobody"), Code::NotFound, "nobody"),
        other("the status of nobody", |it| it.cri.container("nobody").map(drop), Code::NotFound, "nobody"),
        other(
            "the status of a pod that is nobody",
            |it| it.cri.pod("nobody").map(drop),
            Code::NotFound,
            "nobody",
        ),
        other(
            "a command of nothing",
            |it| it.cri.exec_in(&it.running, &[], 5).map(drop),
            Code::InvalidArgument,
            "command",
        ),
        other(
            "a command in nobody",
            |it| it.cri.exec_in("nobody", &["true"], 5).map(drop),
            Code::NotFound,
            "nobody",
        ),
        other(
            "limits of nothing",
            |it| {
                let request = cri::UpdateContainerResourcesRequest {
                    container_id: it.running.clone(),
                    ..Default::default()
                };
                it.cri.update_container_resources(request).map(drop)
            },
            Code::InvalidArgument,
            "resources is missing",
        ),
        other(
            "streams of nothing",
            |it| {
                let request = cri::ExecRequest {
                    container_id: it.running.clone(),
                    cmd: vec!["true".into()],
                    ..Default::default()
                };
                it.cri.exec(request).map(drop)
            },
            Code::InvalidArgument,
            "std",
        ),
    ]
}

fn references() -> Vec<Case> {
    vec![
        other(
            "no image",
            |it| it.cri.pull_image(Default::default()).map(drop),
            Code::InvalidArgument,
            "reference is empty",
        ),
        other(
            "an image in capitals",
            |it| it.cri.pull("docker.io/library/UPPER:1").map(drop),
            Code::InvalidArgument,
            "UPPER",
        ),
        other(
            "an image of half a digest",
            |it| it.cri.pull("docker.io/library/busybox@sha256:short").map(drop),
            Code::InvalidArgument,
            "sha256:short",
        ),
        other("an image of no name", |it| it.cri.pull("").map(drop), Code::InvalidArgument, "empty"),
        other(
            "an image upwards",
            |it| it.cri.pull("docker.io/../../etc:1").map(drop),
            Code::InvalidArgument,
            "../../etc",
        ),
    ]
}

#[test]
fn requests_that_make_no_sense_are_refused_by_name() {
    let node = Node::start();
    let pod = node.run_pod("scene");
    let running = pod.start_sh("running", "sleep 1000");
    let scene = Scene { node: &node, cri: bounds::client(&node), pod: &pod, running };
    let bounds = Bounds::of(&node);
    let mut wrong = Vec::new();
    for Case(name, call, outcome) in
        pods().into_iter().chain(containers()).chain(others()).chain(references())
    {
        wrong.extend(outcome.check(name, call(&scene)).err());
        wrong.extend(bounds.check(name));
    }
    let cri = node.cri();
    assert_eq!(cri.pods().expect("pods are listed").len(), 1, "a refused pod is listed");
    assert_eq!(cri.containers().expect("containers are listed").len(), 1, "a refused container is listed");
    assert_eq!(cri.sh(&scene.running, "echo fine"), "fine\n");
    assert_none(wrong);
}
