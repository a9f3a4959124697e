//! What a container may be beyond the plain one: PID namespaces of pods and targets, devices, propagation, new limits,
//! and what inspect tells of all that.

use std::path::{Path, PathBuf};

use cri_proto::v1 as cri;
use cri_proto::v1::{ContainerState, NamespaceMode};
use e2e::node::Node;
use e2e::pod::{Pod, container, pod_namespaces, process_of, resources, said, security, wait_exited};
use e2e::{cgroup, fixture, process, wait};
use tonic::Code;

fn in_pid_mode(name: &str, mode: NamespaceMode, target: &str) -> cri::ContainerConfig {
    let mut config = container(name, &["top", "-b"]);
    let options = security(&mut config).namespace_options.as_mut().expect("it has them");
    options.pid = mode.into();
    options.target_id = target.to_owned();
    config
}

fn pod_in_one_pid_namespace(node: &Node, name: &str) -> Pod {
    let mut config = node.pod_config(name);
    pod_namespaces(&mut config).pid = NamespaceMode::Pod.into();
    node.run_pod_as(config)
}

fn pid_namespace(node: &Node, id: &str) -> PathBuf {
    let pid = process_of(&node.cri(), id).pid;
    std::fs::read_link(format!("/proc/{pid}/ns/pid")).expect("the process is there")
}

fn exec(node: &Node, id: &str, line: &str) -> String {
    node.cri().sh(id, line).trim().to_owned()
}

#[test]
fn containers_of_a_pod_see_each_other_below_the_holder() {
    let mut node = Node::start();
    let pod = pod_in_one_pid_namespace(&node, "shared");
    let cri = node.cri();
    assert_eq!(cri.pod_info(&pod.id).expect("info")["pid"], 0, "nothing runs yet");
    let first = pod.start(&in_pid_mode("first", NamespaceMode::Pod, ""));
    let second = pod.start(&in_pid_mode("second", NamespaceMode::Pod, ""));
    assert_eq!(pid_namespace(&node, &first), pid_namespace(&node, &second));
    assert_eq!(exec(&node, &first, "cat /proc/1/cmdline | tr -d '\\0'"), "/orlop-pause");
    assert_eq!(exec(&node, &second, "grep -l top /proc/[0-9]*/comm | wc -l"), "2");

    let info = cri.pod_info(&pod.id).expect("info");
    let holder = info["pid"].as_u64().expect("a pid");
    let comm = std::fs::read_to_string(format!("/proc/{holder}/comm")).expect("the holder");
    assert_eq!(comm.trim(), "orlop-pause");
    assert_eq!(info["processStatus"], "running");
    assert_eq!(info["runtimeSpec"]["process"]["args"][0], "/orlop-pause");

    node.restart_daemon();
    assert_eq!(cri.pod_info(&pod.id).expect("info")["pid"], holder);
    let third = pod.start(&in_pid_mode("third", NamespaceMode::Pod, ""));
    assert_eq!(pid_namespace(&node, &third), pid_namespace(&node, &first));
    cri.stop(&first, 10).expect("stop");
    assert_eq!(cri.container(&second).expect("status").state(), ContainerState::ContainerRunning);
    cri.stop_pod(&pod.id).expect("stop");
    assert!(!Path::new(&format!("/proc/{holder}")).exists(), "the holder went with its pod");
}

#[test]
fn a_killed_holder_takes_its_pod_along_and_comes_again() {
    let node = Node::start();
    let pod = pod_in_one_pid_namespace(&node, "killed");
    let cri = node.cri();
    let first = pod.start(&in_pid_mode("first", NamespaceMode::Pod, ""));
    let holder = cri.pod_info(&pod.id).expect("info")["pid"].as_i64().expect("a pid");
    let pid = rustix::process::Pid::from_raw(i32::try_from(holder).expect("small")).expect("a pid");
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("it lives");
    assert_eq!(wait_exited(&cri, &first).exit_code, 137);
    wait::until("the holder counts as gone", || cri.pod_info(&pod.id).expect("info")["pid"] == 0);
    let second = pod.start(&in_pid_mode("second", NamespaceMode::Pod, ""));
    assert_eq!(exec(&node, &second, "cat /proc/1/cmdline | tr -d '\\0'"), "/orlop-pause");
}

#[test]
fn two_containers_at_once_bring_one_holder() {
    let node = Node::start();
    let pod = pod_in_one_pid_namespace(&node, "race");
    let ids: Vec<String> = (0..4)
        .map(|at| pod.create(&in_pid_mode(&format!("c{at}"), NamespaceMode::Pod, "")).expect("create"))
        .collect();
    std::thread::scope(|scope| {
        for id in &ids {
            let cri = node.cri();
            scope.spawn(move || cri.start(id).unwrap_or_else(|status| panic!("start: {status}")));
        }
    });
    let namespaces: Vec<_> = ids.iter().map(|id| pid_namespace(&node, id)).collect();
    assert!(namespaces.iter().all(|namespace| *namespace == namespaces[0]), "{namespaces:?}");
    assert_eq!(exec(&node, &ids[0], "grep -l orlop-pause /proc/[0-9]*/comm | wc -l"), "1");
}

#[test]
fn a_target_is_joined_while_it_runs() {
    let node = Node::start();
    let (pod, other) = (node.run_pod("target"), node.run_pod("other"));
    let cri = node.cri();
    let target = pod.start(&container("target", &["top", "-b"]));
    let looker = pod.start(&in_pid_mode("looker", NamespaceMode::Target, &target));
    assert_eq!(pid_namespace(&node, &looker), pid_namespace(&node, &target));
    assert_eq!(exec(&node, &looker, "cat /proc/1/comm"), "top");

    let strange =
        other.create(&in_pid_mode("strange", NamespaceMode::Target, &target)).expect_err("another pod");
    assert_eq!(strange.code(), Code::InvalidArgument, "{strange}");
    let late = pod.create(&in_pid_mode("late", NamespaceMode::Target, &target)).expect("it runs still");
    cri.stop(&target, 10).expect("stop");
    let gone = pod.create(&in_pid_mode("gone", NamespaceMode::Target, &target)).expect_err("it has ended");
    assert_eq!(gone.code(), Code::FailedPrecondition, "{gone}");
    let status = cri.start(&late).expect_err("it has ended meanwhile");
    assert_eq!(status.code(), Code::FailedPrecondition, "{status}");
    assert_eq!(cri.container(&late).expect("status").state(), ContainerState::ContainerExited);
}

#[test]
fn devices_are_there_with_their_permissions() {
    let node = Node::start();
    let pod = node.run_pod("devices");
    let device = |host: &str, place: &str, permissions: &str| cri::Device {
        host_path: host.to_owned(),
        container_path: place.to_owned(),
        permissions: permissions.to_owned(),
    };
    let link = node.folder().join("link-to-kmsg");
    std::os::unix::fs::symlink("/dev/kmsg", &link).expect("a link");
    let mut config = container("some", &["top", "-b"]);
    config.devices = vec![
        device("/dev/zero", "/dev/other-zero", "r"),
        device(&link.to_string_lossy(), "/dev/linked", "rw"),
    ];
    let id = pod.start(&config);
    assert_eq!(exec(&node, &id, "head -c 3 /dev/other-zero | wc -c"), "3");
    assert_eq!(exec(&node, &id, "ls -l /dev/linked | grep -c '1, *11'"), "1");
    let mut missing = container("missing", &["top"]);
    missing.devices = vec![device("/dev/not-there", "/dev/x", "r")];
    let status = pod.create(&missing).expect_err("no such device");
    assert_eq!(status.code(), Code::InvalidArgument, "{status}");
    assert!(status.message().contains("/dev/not-there"), "{status}");
}

#[test]
fn a_privileged_container_has_the_hosts_devices() {
    let node = Node::start();
    let mut config = node.pod_config("privileged");
    let linux = config.linux.as_mut().expect("it has one");
    linux.security_context.as_mut().expect("it has one").privileged = true;
    let pod = node.run_pod_as(config);
    let mut config = container("all", &["top", "-b"]);
    security(&mut config).privileged = true;
    let id = pod.start(&config);
    assert_eq!(exec(&node, &id, "test -c /dev/kmsg && echo there"), "there");
    assert_eq!(exec(&node, &id, "mknod /dev/mine c 1 5 && head -c 2 /dev/mine | wc -c"), "2");
    assert_eq!(exec(&node, &id, "grep -c ' /sys sysfs rw' /proc/mounts"), "1");
}

#[test]
fn propagation_needs_a_mount_that_can_and_works_as_asked() {
    let node = Node::start();
    let mut config = node.pod_config("propagation");
    let linux = config.linux.as_mut().expect("it has it");
    linux.security_context.as_mut().expect("it has it").privileged = true;
    let pod = node.run_pod_as(config);
    let folder = node.folder().join("volume");
    fixture::folder(&folder);
    let mount = |arguments: &[&str]| process::run(process::command("mount").args(arguments).arg(&folder));
    mount(&["-t", "tmpfs", "volume"]);
    let config = |name: &str, mode: cri::MountPropagation| {
        let mut config = container(name, &["top", "-b"]);
        config.mounts = vec![cri::Mount {
            container_path: "/data".to_owned(),
            host_path: folder.to_string_lossy().into_owned(),
            propagation: mode.into(),
            ..Default::default()
        }];
        security(&mut config).privileged = true;
        config
    };
    let modes =
        [cri::MountPropagation::PropagationHostToContainer, cri::MountPropagation::PropagationBidirectional];
    mount(&["--make-private"]);
    for mode in modes {
        let status = pod.create(&config("private", mode)).expect_err("a private mount");
        assert_eq!(status.code(), Code::FailedPrecondition, "{status}");
        assert!(status.message().contains(folder.to_string_lossy().as_ref()), "{status}");
    }
    mount(&["--make-shared"]);
    fixture::folder(&folder.join("of-host"));
    fixture::folder(&folder.join("of-container"));
    let ids = modes.map(|mode| pod.start(&config(mode.as_str_name(), mode)));
    let later = folder.join("of-host");
    process::run(process::command("mount").args(["-t", "tmpfs", "later"]).arg(&later));
    fixture::write(&later.join("seen"), "x");
    for id in &ids {
        assert_eq!(exec(&node, id, "ls /data/of-host"), "seen");
    }
    let mounted = || {
        let table = fixture::read(Path::new("/proc/self/mountinfo"));
        table.lines().filter(|line| line.contains(&*folder.join("of-container").to_string_lossy())).count()
    };
    exec(&node, &ids[0], "mount -t tmpfs own /data/of-container");
    assert_eq!(mounted(), 0, "host to container is one way");
    exec(&node, &ids[1], "mount -t tmpfs own /data/of-container");
    assert_eq!(mounted(), 1, "bidirectional is both");
    for id in &ids {
        node.cri().stop(id, 0).expect("stop");
        node.cri().remove(id).expect("remove");
    }
    for point in [folder.join("of-container"), later, folder] {
        process::run(process::command("umount").arg(point));
    }
}

#[test]
fn a_link_as_a_source_is_followed() {
    let node = Node::start();
    let pod = node.run_pod("linked");
    let folder = node.folder().join("private");
    fixture::folder(&folder);
    let link = node.folder().join("link");
    std::os::unix::fs::symlink("private", &link).expect("a link");
    fixture::write(&folder.join("file"), "x");
    let mut config = container("linked", &["top", "-b"]);
    config.mounts = vec![cri::Mount {
        container_path: "/data".to_owned(),
        host_path: link.to_string_lossy().into_owned(),
        ..Default::default()
    }];
    let id = pod.start(&config);
    assert_eq!(exec(&node, &id, "ls /data"), "file");
    let mounts = node.cri().container(&id).expect("status").mounts;
    assert_eq!(mounts[0].host_path, link.to_string_lossy(), "as it was sent");
}

#[test]
fn new_limits_are_in_force_reported_and_kept() {
    let mut node = Node::start();
    let pod = node.run_pod("update");
    let cri = node.cri();
    let mut config = container("limited", &["top", "-b"]);
    resources(&mut config).memory_limit_in_bytes = 64 << 20;
    resources(&mut config).cpu_shares = 100;
    let id = pod.create(&config).expect("create");
    let wish = |memory: i64, shares: i64| cri::LinuxContainerResources {
        memory_limit_in_bytes: memory,
        cpu_shares: shares,
        ..Default::default()
    };
    let quota = cri::LinuxContainerResources {
        cpu_quota: 30_000,
        cpu_period: 60_000,
        cpuset_cpus: "0".to_owned(),
        ..Default::default()
    };
    let reported = |node: &Node| {
        let limits =
            node.cri().container(&id).expect("status").resources.and_then(|it| it.linux).expect("limits");
        (limits.memory_limit_in_bytes, limits.cpu_shares)
    };
    cri.update(&id, wish(48 << 20, 0)).expect("before its start");
    assert_eq!(reported(&node), (48 << 20, 100));
    assert_eq!(pod.create(&config).expect("the same again"), id, "a retry finds the container it made");
    cri.start(&id).expect("start");
    let in_force = |controller: &str, v1: &str, v2: &str| {
        cgroup::file_of(process_of(&node.cri(), &id).pid, controller, v1, v2)
    };
    let memory = || in_force("memory", "memory.limit_in_bytes", "memory.max");
    assert_eq!(memory(), (48 << 20).to_string());
    cri.update(&id, wish(96 << 20, 300)).expect("while it runs");
    assert_eq!(memory(), (96 << 20).to_string());
    // 300 of 1024 shares are a weight of 11 (KEP-2254).
    assert!(["300", "11"].contains(&in_force("cpu", "cpu.shares", "cpu.weight").as_str()));
    let swap = cri::LinuxContainerResources { memory_swap_limit_in_bytes: 160 << 20, ..wish(128 << 20, 0) };
    cri.update(&id, swap).expect("memory and swap at once, both above what was");
    assert_eq!(memory(), (128 << 20).to_string());
    // v1 counts memory and swap together, v2 swap alone.
    let swapped = in_force("memory", "memory.memsw.limit_in_bytes", "memory.swap.max");
    assert!([160_u64 << 20, 32 << 20].map(|it| it.to_string()).contains(&swapped), "{swapped}");
    cri.update(&id, wish(96 << 20, 300)).expect("below what was");
    cri.update(&id, quota).expect("another kind of limit");
    let quota = ["cpu.cfs_quota_us", "cpu.cfs_period_us"].map(|it| in_force("cpu", it, "cpu.max"));
    assert!(quota == ["30000", "60000"] || quota[0] == "30000 60000", "{quota:?}");
    assert_eq!(in_force("cpuset", "cpuset.cpus", "cpuset.cpus"), "0");
    assert_eq!(reported(&node), (96 << 20, 300));
    let info = cri.container_info(&id).expect("info");
    assert_eq!(info["runtimeSpec"]["linux"]["resources"]["memory"]["limit"], 96 << 20);

    node.restart_daemon();
    assert_eq!(reported(&node), (96 << 20, 300));
    let bad = node.cri().update(&id, wish(-5, 0)).expect_err("no such limit");
    assert_eq!(bad.code(), Code::InvalidArgument, "{bad}");
    node.cri().stop(&id, 10).expect("stop");
    node.cri().update(&id, wish(0, 400)).expect("only recorded");
    assert_eq!(reported(&node), (96 << 20, 400));
    let unknown = node.cri().update("0123", wish(1, 1)).expect_err("no such container");
    assert_eq!(unknown.code(), Code::NotFound, "{unknown}");
}

#[test]
fn out_of_memory_is_told() {
    let node = Node::start();
    let pod = node.run_pod("oom");
    let mut config = container("eater", &["sh", "-c", "dd if=/dev/zero of=/dev/null bs=20M count=1"]);
    resources(&mut config).memory_limit_in_bytes = 15 << 20;
    resources(&mut config).memory_swap_limit_in_bytes = 15 << 20;
    let id = pod.start(&config);
    let status = wait_exited(&node.cri(), &id);
    assert_eq!(
        (status.exit_code, status.reason.as_str()),
        (137, "OOMKilled"),
        "{:?}",
        said(&pod.log("eater"))
    );
}
