//! What a container's process gets: command, environment, user, mounts, resources, root.

use cri_proto::v1 as cri;
use e2e::images;
use e2e::node::Node;
use e2e::pod::{container, id_value, key_value, process_of, resources, said, security, wait_exited};
use e2e::{cgroup, fixture};
use serde_json::json;

#[test]
fn command_arguments_environment_and_folder_come_from_image_and_config() {
    let node = Node::start();
    let config = json!({
        "Env": ["PATH=/bin", "FROM_IMAGE=image", "BOTH=image"],
        "Entrypoint": ["sh", "-c"], "Cmd": ["echo the image says so; pwd"], "WorkingDir": "/usr",
    });
    let (reference, _) =
        node.provide("docker.io", "library/entry", "1", &images::busybox_with("entry", &config));
    let pod = node.run_pod("entry");
    let run = |name: &str, change: &dyn Fn(&mut cri::ContainerConfig)| {
        let mut config = container(name, &[]);
        config.image = Some(e2e::client::image_spec(&reference));
        change(&mut config);
        let id = pod.start(&config);
        assert_eq!(wait_exited(&node.cri(), &id).exit_code, 0, "{name}: {}", pod.log(name));
        pod.log(name)
    };
    assert_eq!(said(&run("image", &|_| ())), ["the image says so", "/usr"]);
    let log = run("args", &|config| config.args = vec!["echo \"$FROM_IMAGE $BOTH $MINE\"; pwd".to_owned()]);
    assert_eq!(said(&log), ["image image ", "/usr"]);
    let log = run("all", &|config| {
        config.command = ["echo", "command"].map(str::to_owned).into();
        config.args = vec!["and $ARGS".to_owned()];
    });
    assert_eq!(said(&log), ["command and $ARGS"]);
    let log = run("env", &|config| {
        config.args = vec!["echo \"$FROM_IMAGE|$BOTH|$MINE\"; pwd".to_owned()];
        config.envs = vec![key_value("BOTH", "config"), key_value("MINE", "a $b \"c\" 'd'")];
        config.working_dir = "/made/on/demand".to_owned();
    });
    assert_eq!(said(&log), ["image|config|a $b \"c\" 'd'", "/made/on/demand"]);
}

#[test]
fn users_and_groups_are_resolved_in_the_image() {
    let node = Node::start();
    let pod = node.run_pod("users");
    let run = |name: &str, change: &dyn Fn(&mut cri::LinuxContainerSecurityContext)| {
        let mut config = container(name, &["sh", "-c", "id -u; id -g; id -G"]);
        change(security(&mut config));
        let id = pod.start(&config);
        let status = wait_exited(&node.cri(), &id);
        let user = status.user.and_then(|user| user.linux).expect("the status tells the user");
        let log = pod.log(name);
        let lines = said(&log);
        assert_eq!((lines[0].to_owned(), lines[1].to_owned()), (user.uid.to_string(), user.gid.to_string()));
        (user.uid, user.gid, lines[2].to_owned())
    };
    assert_eq!(run("root", &|_| ()), (0, 0, "0".to_owned()));
    assert_eq!(run("number", &|context| context.run_as_user = id_value(1001)), (1001, 0, "0".to_owned()));
    let both = run("both", &|context| {
        context.run_as_user = id_value(1001);
        context.run_as_group = id_value(1002);
    });
    assert_eq!(both, (1001, 1002, "1002".to_owned()));
    let named = run("named", &|context| context.run_as_username = "default-user".to_owned());
    assert_eq!(named, (1000, 1000, "1000 50000".to_owned()));
    let more = run("more", &|context| {
        context.run_as_username = "www-data".to_owned();
        context.supplemental_groups = vec![1234, 5678];
    });
    assert_eq!(more, (33, 33, "33 1234 5678".to_owned()));
}

#[test]
fn mounts_show_files_of_the_node_in_the_way_asked() {
    let node = Node::start();
    let shared = node.folder().join("shared");
    fixture::write(&shared.join("note"), "from the node\n");
    let link = node.folder().join("link");
    std::os::unix::fs::symlink(&shared, &link).unwrap();
    let mount = |container_path: &str, host_path: &std::path::Path, readonly: bool| cri::Mount {
        container_path: container_path.to_owned(),
        host_path: host_path.to_string_lossy().into_owned(),
        readonly,
        ..Default::default()
    };
    let mut config = container("mounts", &["top", "-b"]);
    config.mounts = vec![
        mount("/data/deep", &link, false),
        mount("/data", &shared, true),
        mount("/note", &shared.join("note"), true),
    ];
    let pod = node.run_pod("mounts");
    let wanted = config.mounts.clone();
    fixture::folder(&shared.join("deep"));
    let id = pod.start(&config);
    assert_eq!(node.cri().sh(&id, "cat /data/note /data/deep/note /note"), "from the node\n".repeat(3));
    let refused =
        node.cri().sh(&id, "touch /data/new 2>&1; touch /note 2>&1; touch /data/deep/new && echo written");
    assert_eq!(refused.matches("Read-only file system").count(), 2, "{refused}");
    assert!(refused.ends_with("written\n") && shared.join("new").exists(), "{refused}");
    let mut told = node.cri().container(&id).unwrap().mounts;
    told.sort_by_key(|mount| wanted.iter().position(|other| other.container_path == mount.container_path));
    assert_eq!(told.len(), 3);
    for (told, wanted) in told.iter().zip(&wanted) {
        assert_eq!((&told.container_path, told.readonly), (&wanted.container_path, wanted.readonly));
    }
}

#[test]
fn resources_arrive_in_the_cgroup() {
    let node = Node::start();
    let pod = node.run_pod("resources");
    let mut config = container("limited", &["top", "-b"]);
    *resources(&mut config) = cri::LinuxContainerResources {
        cpu_period: 50_000,
        cpu_quota: 25_000,
        cpu_shares: 512,
        memory_limit_in_bytes: 64 << 20,
        oom_score_adj: 500,
        cpuset_cpus: "0".to_owned(),
        ..Default::default()
    };
    let id = pod.start(&config);
    let pid = process_of(&node.cri(), &id).pid;
    assert_eq!(cgroup::file_of(pid, "memory", "memory.limit_in_bytes", "memory.max"), (64 << 20).to_string());
    assert_eq!(cgroup::file_of(pid, "cpu", "cpu.shares", "cpu.weight"), "512");
    assert_eq!(cgroup::file_of(pid, "cpu", "cpu.cfs_quota_us", "cpu.max"), "25000");
    assert_eq!(cgroup::file_of(pid, "cpu", "cpu.cfs_period_us", "cpu.max"), "50000");
    assert_eq!(cgroup::file_of(pid, "cpuset", "cpuset.cpus", "cpuset.cpus"), "0");
    let score = fixture::read(std::path::Path::new(&format!("/proc/{pid}/oom_score_adj")));
    assert_eq!(score.trim(), "500");
    let parent = node.cgroup_parent();
    for (controllers, path) in cgroup::of_process(pid) {
        assert!(
            controllers.is_empty() || path.starts_with(&parent),
            "{controllers}: {path} is not under {parent}"
        );
    }
    let told = node.cri().container(&id).unwrap().resources.and_then(|resources| resources.linux);
    let told = told.expect("the status tells the resources");
    assert_eq!((told.cpu_shares, told.memory_limit_in_bytes), (512, 64 << 20));
}

#[test]
fn a_lower_oom_score_than_ours_is_clamped() {
    let node = Node::start();
    let pod = node.run_pod("score");
    let mut config = container("important", &["top", "-b"]);
    resources(&mut config).oom_score_adj = -997;
    let id = pod.start(&config);
    let pid = process_of(&node.cri(), &id).pid;
    let score = fixture::read(std::path::Path::new(&format!("/proc/{pid}/oom_score_adj")));
    let own = fixture::read(std::path::Path::new("/proc/self/oom_score_adj"));
    assert!(score == own || score.trim() == "-997", "{score}");
}

#[test]
fn a_container_killed_for_memory_says_so() {
    let node = Node::start();
    let pod = node.run_pod("oom");
    let mut config = container("eater", &["sh", "-c", "dd if=/dev/zero of=/dev/null bs=40M"]);
    resources(&mut config).memory_limit_in_bytes = 15 << 20;
    resources(&mut config).memory_swap_limit_in_bytes = 15 << 20;
    let id = pod.start(&config);
    let status = wait_exited(&node.cri(), &id);
    assert_eq!((status.exit_code, status.reason.as_str()), (137, "OOMKilled"));
}

#[test]
fn a_read_only_root_is_read_only() {
    let node = Node::start();
    let pod = node.run_pod("readonly");
    let mut config = container("readonly", &["sh", "-c", "pwd; sleep 0.1; touch test.go"]);
    security(&mut config).readonly_rootfs = true;
    let id = pod.start(&config);
    assert_eq!(wait_exited(&node.cri(), &id).exit_code, 1);
    assert_eq!(said(&pod.log("readonly")), ["/", "touch: test.go: Read-only file system"]);
}
