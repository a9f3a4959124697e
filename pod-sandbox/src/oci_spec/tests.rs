//! Whole specifications, looked at as the JSON that the OCI runtime reads.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::*;
use crate::spec::sample::{container, image, pod};
use crate::spec::{
    DeviceSpec, HugepageLimit, ImageConfig, IpcMode, LinuxResources, MountSpec, NetworkMode, Propagation,
};

/// Everything a test may want to change, with a plain container as the start.
struct Sample {
    pod: PodSpec,
    container: ContainerSpec,
    image: ImageInput,
    user: ResolvedUser,
    net: Option<&'static Path>,
    pid: PidNamespace,
    parts: HostParts,
    passed_annotations: BTreeMap<String, String>,
    host: HostFacts,
    restrict_oom_score_adj: bool,
}

impl Sample {
    fn new() -> Self {
        Self {
            pod: pod(),
            container: container(),
            image: image(),
            user: ResolvedUser { uid: 1000, gid: 1001, additional_gids: vec![1001, 2000] },
            net: None,
            pid: PidNamespace::Own,
            parts: HostParts::default(),
            passed_annotations: BTreeMap::new(),
            host: HostFacts {
                hostname: "node".to_owned(),
                cgroup2: false,
                swap_limit: true,
                hugetlb: true,
                capabilities: capabilities::of_mask(u64::MAX),
                oom_score_adj: 0,
            },
            restrict_oom_score_adj: false,
        }
    }

    fn with(change: impl FnOnce(&mut Self)) -> Self {
        let mut sample = Self::new();
        change(&mut sample);
        sample
    }

    fn build(&self) -> Result<Value, OciSpecError> {
        let spec = build(&SpecInputs {
            pod: &self.pod,
            container: &self.container,
            image: &self.image,
            sandbox_id: &SandboxId::parse("pod-id").expect("valid"),
            container_id: &ContainerId::parse("container-id").expect("valid"),
            user: &self.user,
            files: &PodFiles {
                folder: Path::new("/files"),
                ipc: Path::new("/ns/ipc"),
                uts: Path::new("/ns/uts"),
                net: self.net,
                shm: Path::new("/shm"),
            },
            pid: &self.pid,
            parts: &self.parts,
            passed_annotations: &self.passed_annotations,
            cgroups_path: "/kubepods/pod1/container-id",
            restrict_oom_score_adj: self.restrict_oom_score_adj,
            host: &self.host,
        })?;
        Ok(serde_json::to_value(spec).expect("a spec is JSON"))
    }

    fn json(&self) -> Value {
        self.build().expect("a good wish")
    }
}

fn strings(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

fn mount(container: &str, host: &str) -> MountSpec {
    MountSpec {
        container_path: container.into(),
        host_path: host.into(),
        readonly: false,
        propagation: Propagation::Private,
        selinux_relabel: false,
    }
}

fn destinations(spec: &Value) -> Vec<&str> {
    let mounts = spec["mounts"].as_array().expect("mounts");
    mounts.iter().map(|mount| mount["destination"].as_str().expect("a destination")).collect()
}

fn found<'a>(spec: &'a Value, destination: &str) -> &'a Value {
    let mounts = spec["mounts"].as_array().expect("mounts");
    mounts.iter().find(|mount| mount["destination"] == destination).expect("that mount")
}

#[test]
fn nothing_comes_from_the_crates_defaults() {
    let spec = Sample::new().json();
    let keys = |value: &Value| {
        let mut keys: Vec<String> = value.as_object().expect("an object").keys().cloned().collect();
        keys.sort();
        keys
    };
    assert_eq!(keys(&spec), ["annotations", "linux", "mounts", "ociVersion", "process", "root"]);
    assert_eq!(
        keys(&spec["linux"]),
        ["cgroupsPath", "maskedPaths", "namespaces", "readonlyPaths", "resources"]
    );
    let process =
        ["args", "capabilities", "cwd", "env", "noNewPrivileges", "oomScoreAdj", "terminal", "user"];
    assert_eq!(keys(&spec["process"]), process);
    assert_eq!(keys(&spec["linux"]["resources"]), ["devices"]);
    assert_eq!(spec["linux"]["maskedPaths"], json!([]));
    assert_eq!(spec["root"], json!({"path": "rootfs", "readonly": false}));
    assert!(!spec.to_string().contains("youki"));
}

#[test]
fn commands_follow_kubernetes_table() {
    let table: [(&[&str], &[&str], &[&str]); 4] = [
        (&[], &[], &["/entry", "cmd"]),
        (&["run"], &[], &["run"]),
        (&[], &["a", "b"], &["/entry", "a", "b"]),
        (&["run"], &["a"], &["run", "a"]),
    ];
    for (command, args, expected) in table {
        let sample = Sample::with(|it| {
            it.container.command = strings(command);
            it.container.args = strings(args);
        });
        assert_eq!(sample.json()["process"]["args"], json!(expected), "{command:?} {args:?}");
    }
}

#[test]
fn a_container_without_a_command_is_refused() {
    let sample = Sample::with(|it| it.image.config = ImageConfig::default());
    let error = sample.build().expect_err("nothing to run");
    assert!(matches!(error, OciSpecError::NoCommand { .. }), "{error}");
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
}

#[test]
fn the_environment_is_defaults_then_image_then_container() {
    let sample = Sample::with(|it| {
        it.image.config.env = strings(&["PATH=/image", "A=image", "EMPTY="]);
        it.container.envs = vec![("A".into(), "con=tainer".into()), ("LINES".into(), "1\n2".into())];
        it.container.tty = true;
    });
    let expected = ["PATH=/image", "HOSTNAME=node", "TERM=xterm", "A=con=tainer", "EMPTY=", "LINES=1\n2"];
    assert_eq!(sample.json()["process"]["env"], json!(expected));
    let env = &Sample::new().json()["process"]["env"];
    assert!(env[0].as_str().expect("a string").starts_with("PATH=/usr/local/sbin:"), "{env}");
}

#[test]
fn nul_bytes_and_bad_names_are_refused() {
    let refused = |change: fn(&mut Sample)| Sample::with(change).build().expect_err("refused");
    let errors = [
        refused(|it| it.container.args = strings(&["a\0b"])),
        refused(|it| it.container.envs = vec![("A".into(), "\0".into())]),
        refused(|it| it.container.envs = vec![("A=B".into(), String::new())]),
        refused(|it| it.container.envs = vec![(String::new(), "x".into())]),
        refused(|it| it.image.config.env = strings(&["A=\0"])),
        refused(|it| it.container.working_dir = "/\0".into()),
        refused(|it| it.container.mounts = vec![mount("/a\0", "/b")]),
    ];
    for error in errors {
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
    }
}

#[test]
fn the_working_directory_is_absolute() {
    for (wished, image, expected) in [("", "", "/"), ("", "srv/x", "/srv/x"), ("/w", "/srv", "/w")] {
        let sample = Sample::with(|it| {
            it.container.working_dir = wished.into();
            it.image.config.working_dir = image.into();
        });
        assert_eq!(sample.json()["process"]["cwd"], expected);
    }
}

#[test]
fn user_groups_and_privileges_are_the_resolved_ones() {
    let sample = Sample::with(|it| it.container.security.no_new_privs = true);
    let process = sample.json()["process"].clone();
    assert_eq!(process["user"], json!({"uid": 1000, "gid": 1001, "additionalGids": [1001, 2000]}));
    assert_eq!(process["noNewPrivileges"], true);
    let capabilities = &process["capabilities"];
    assert_eq!(capabilities["bounding"].as_array().map(Vec::len), Some(14));
    assert_eq!(capabilities["inheritable"], json!([]));
    assert_eq!(capabilities["ambient"], json!([]));
}

#[test]
fn namespaces_are_joined_made_or_left_out() {
    let kinds = |sample: &Sample| {
        let namespaces = sample.json()["linux"]["namespaces"].clone();
        let name = |it: &Value| {
            format!("{}:{}", it["type"].as_str().unwrap_or("?"), it["path"].as_str().unwrap_or("new"))
        };
        let mut kinds: Vec<String> = namespaces.as_array().expect("a list").iter().map(name).collect();
        kinds.sort();
        kinds
    };
    let usual = ["ipc:/ns/ipc", "mount:new", "pid:new", "uts:/ns/uts"];
    assert_eq!(kinds(&Sample::new()), usual);
    let host = Sample::with(|it| {
        it.pod.ipc = IpcMode::Host;
        it.pid = PidNamespace::Host;
    });
    assert_eq!(kinds(&host), ["mount:new", "uts:/ns/uts"]);
    assert_eq!(found(&host.json(), "/dev/shm")["source"], "/dev/shm");
    let joined = Sample::with(|it| {
        it.pod.network = NetworkMode::Pod;
        it.net = Some(Path::new("/run/netns/x"));
        it.pid = PidNamespace::Join("/proc/7/ns/pid".into());
    });
    let all = ["ipc:/ns/ipc", "mount:new", "network:/run/netns/x", "pid:/proc/7/ns/pid", "uts:/ns/uts"];
    assert_eq!(kinds(&joined), all);
    let unified = Sample::with(|it| it.host.cgroup2 = true);
    assert_eq!(kinds(&unified)[0], "cgroup:new");
}

#[test]
fn a_pod_network_without_a_namespace_is_not_the_hosts() {
    let error = Sample::with(|it| it.pod.network = NetworkMode::Pod).build().expect_err("none");
    assert!(matches!(error, OciSpecError::NoNetworkNamespace), "{error}");
}

#[test]
fn what_is_not_built_is_unimplemented() {
    let refused = |change: fn(&mut Sample)| Sample::with(change).build().expect_err("refused").kind();
    let kinds = [
        refused(|it| it.container.security.seccomp = SeccompSpec::Localhost("/p.json".into())),
        refused(|it| it.container.security.capabilities.add_ambient = strings(&["CHOWN"])),
        refused(|it| {
            it.container.resources.unified.insert("memory.high".into(), "1".into()).map_or((), drop)
        }),
    ];
    assert_eq!(kinds, [ErrorKind::Unimplemented; 3]);
}

#[test]
fn masked_and_readonly_paths_are_exactly_as_sent() {
    let mut sample = Sample::with(|it| {
        it.container.security.masked_paths = strings(&["/proc/kcore"]);
        it.container.security.readonly_paths = strings(&["/proc/sys"]);
    });
    let linux = sample.json()["linux"].clone();
    assert_eq!(
        (&linux["maskedPaths"], &linux["readonlyPaths"]),
        (&json!(["/proc/kcore"]), &json!(["/proc/sys"]))
    );
    sample.container.security.privileged = true;
    assert_eq!(sample.json()["linux"].get("maskedPaths"), None);
}

#[test]
fn privileged_means_everything_that_we_hold() {
    let sample = Sample::with(|it| {
        it.container.security.privileged = true;
        it.container.security.seccomp = SeccompSpec::Localhost("/ignored".into());
        it.host.capabilities = capabilities::of_mask(0b111);
        it.parts = HostParts::look_up(&it.container, PrivilegedDevices::Host).expect("/dev can be read");
    });
    let spec = sample.json();
    let devices = spec["linux"]["devices"].as_array().expect("the host's devices");
    assert!(devices.iter().any(|device| device["path"] == "/dev/null"), "{devices:?}");
    assert_eq!(spec["process"]["capabilities"]["effective"].as_array().map(Vec::len), Some(3));
    assert_eq!(spec["linux"]["resources"]["devices"], json!([{"allow": true, "access": "rwm"}]));
    let options = found(&spec, "/sys")["options"].as_array().expect("options").clone();
    assert!(options.contains(&json!("rw")) && !options.contains(&json!("ro")));
}

#[test]
fn devices_are_denied_but_for_the_usual() {
    let devices = Sample::new().json()["linux"]["resources"]["devices"].clone();
    assert_eq!(devices[0], json!({"allow": false, "access": "rwm"}));
    assert_eq!(devices[1], json!({"allow": true, "type": "c", "major": 1, "minor": 3, "access": "rwm"}));
    assert_eq!(devices.as_array().map(Vec::len), Some(10));
}

#[test]
fn a_device_asked_for_is_made_and_allowed() {
    let sample = Sample::with(|it| {
        it.container.devices = vec![DeviceSpec {
            container_path: "/dev/other".into(),
            host_path: "/dev/zero".into(),
            permissions: "r".into(),
        }];
        it.parts = HostParts::look_up(&it.container, PrivilegedDevices::Host).expect("it is there");
    });
    let linux = sample.json()["linux"].clone();
    let node = &linux["devices"][0];
    assert_eq!((&node["path"], &node["major"], &node["minor"]), (&json!("/dev/other"), &json!(1), &json!(5)));
    assert_eq!(linux["devices"].as_array().map(Vec::len), Some(1));
    let rules = linux["resources"]["devices"].as_array().expect("rules");
    let last = json!({"allow": true, "type": "c", "major": 1, "minor": 5, "access": "r"});
    assert_eq!((rules.len(), rules.last()), (11, Some(&last)));
}

#[test]
fn limits_are_set_when_given_and_possible() {
    let limits = LinuxResources {
        cpu_period: 100_000,
        cpu_quota: -1,
        cpu_shares: 2,
        memory_limit_bytes: 15 << 20,
        memory_swap_limit_bytes: 15 << 20,
        oom_score_adj: 500,
        cpuset_cpus: "0-1".into(),
        cpuset_mems: String::new(),
        hugepage_limits: vec![HugepageLimit { page_size: "2MB".into(), limit_bytes: 0 }],
        unified: BTreeMap::new(),
    };
    let mut sample = Sample::with(|it| it.container.resources = limits);
    let resources = |sample: &Sample| sample.json()["linux"]["resources"].clone();
    let all = resources(&sample);
    assert_eq!(all["cpu"], json!({"shares": 2, "quota": -1, "period": 100_000, "cpus": "0-1"}));
    assert_eq!(all["memory"], json!({"limit": 15 << 20, "swap": 15 << 20}));
    assert_eq!(all["hugepageLimits"], json!([{"pageSize": "2MB", "limit": 0}]));
    assert_eq!(sample.json()["process"]["oomScoreAdj"], 500);
    for (swap, expected) in [(0, 15 << 20), (-1, -1), (20 << 20, 20 << 20)] {
        sample.container.resources.memory_swap_limit_bytes = swap;
        assert_eq!(resources(&sample)["memory"]["swap"], expected, "{swap}");
    }

    (sample.host.swap_limit, sample.host.hugetlb) = (false, false);
    let fewer = resources(&sample);
    assert_eq!(fewer["memory"], json!({"limit": 15 << 20}));
    assert_eq!(fewer.get("hugepageLimits"), None);
}

#[test]
fn oom_scores_are_in_range_and_clamped() {
    for (wished, own, restrict, expected) in
        [(-998, 0, false, -998), (-998, 0, true, 0), (900, 100, true, 900), (0, 100, true, 100)]
    {
        let sample = Sample::with(|it| {
            it.container.resources.oom_score_adj = wished;
            it.host.oom_score_adj = own;
            it.restrict_oom_score_adj = restrict;
        });
        assert_eq!(sample.json()["process"]["oomScoreAdj"], expected);
    }
    let error = Sample::with(|it| it.container.resources.oom_score_adj = 1001).build().expect_err("too much");
    assert!(matches!(error, OciSpecError::OutOfRange { value: 1001, .. }), "{error}");
}

#[test]
fn volumes_are_sorted_by_depth_and_replace_defaults() {
    let sample = Sample::with(|it| {
        it.container.mounts = vec![
            MountSpec { readonly: true, ..mount("/data/in/side/", "/h1") },
            MountSpec { propagation: Propagation::HostToContainer, ..mount("/data", "/h2") },
            mount("/etc/hosts", "/kubelet/hosts"),
        ];
    });
    let spec = sample.json();
    let places = destinations(&spec);
    let defaults = ["/proc", "/dev", "/dev/pts", "/dev/mqueue", "/sys", "/sys/fs/cgroup", "/dev/shm"];
    assert_eq!(places[..7], defaults);
    assert_eq!(places[7..], ["/etc/hostname", "/etc/resolv.conf", "/data", "/etc/hosts", "/data/in/side"]);
    assert_eq!(found(&spec, "/data")["options"], json!(["rbind", "rslave", "rw"]));
    assert_eq!(found(&spec, "/data/in/side")["options"], json!(["rbind", "rprivate", "ro"]));
    assert_eq!(found(&spec, "/etc/hosts")["source"], "/kubelet/hosts");
    assert_eq!(spec["linux"]["rootfsPropagation"], "rslave");
}

#[test]
fn a_volume_on_dev_brings_all_of_dev() {
    let sample = Sample::with(|it| it.container.mounts = vec![mount("/dev/", "/dev")]);
    let spec = sample.json();
    let below: Vec<_> = destinations(&spec).into_iter().filter(|it| it.starts_with("/dev")).collect();
    assert_eq!(below, ["/dev"]);
}

#[test]
fn a_readonly_root_has_readonly_pod_files_and_writable_volumes() {
    let sample = Sample::with(|it| {
        it.container.security.readonly_rootfs = true;
        it.container.mounts =
            vec![MountSpec { propagation: Propagation::Bidirectional, ..mount("/v", "/h") }];
    });
    let spec = sample.json();
    assert_eq!(spec["root"]["readonly"], true);
    assert_eq!(found(&spec, "/etc/resolv.conf")["options"], json!(["rbind", "rprivate", "ro"]));
    assert_eq!(found(&spec, "/v")["options"], json!(["rbind", "rshared", "rw"]));
    assert_eq!(spec["linux"]["rootfsPropagation"], "rshared");
}

#[test]
fn relative_paths_are_refused() {
    for bad in [mount("data", "/h"), mount("/data", "h")] {
        let error = Sample::with(|it| it.container.mounts = vec![bad]).build().expect_err("relative");
        assert!(matches!(error, OciSpecError::RelativePath { .. }), "{error}");
    }
}

#[test]
fn annotations_name_the_pod_and_nothing_else() {
    let expected = json!({
        "io.kubernetes.cri.container-type": "container",
        "io.kubernetes.cri.container-name": "main",
        "io.kubernetes.cri.image-name": "busybox:1",
        "io.kubernetes.cri.sandbox-id": "pod-id",
        "io.kubernetes.cri.sandbox-name": "web",
        "io.kubernetes.cri.sandbox-namespace": "default",
        "io.kubernetes.cri.sandbox-uid": "u1",
    });
    assert_eq!(Sample::new().json()["annotations"], expected);
    let passed = Sample::with(|it| {
        let pairs = [("io.kubernetes.cri.sandbox-id", "forged"), ("io.kata.x", "1")];
        it.passed_annotations = pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    });
    let annotations = passed.json()["annotations"].clone();
    assert_eq!(annotations["io.kubernetes.cri.sandbox-id"], "pod-id");
    assert_eq!(annotations["io.kata.x"], "1");
}
