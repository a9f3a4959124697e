//! Namespaces of pods in the CRI's modes, sysctls in them, and the cgroups around them.

use std::collections::BTreeMap;
use std::path::PathBuf;

use cri_proto::v1 as cri;
use cri_proto::v1::NamespaceMode;
use e2e::node::Node;
use e2e::pod::{
    Pod, container, container_namespaces, net_container, pod_namespaces, process_of, wait_exited,
};
use e2e::{cgroup, leak, process, wait};
use tonic::Code;

fn namespace(node: &Node, container: &str, kind: &str) -> PathBuf {
    let pid = process_of(&node.cri(), container).pid;
    std::fs::read_link(format!("/proc/{pid}/ns/{kind}")).expect("a process has namespaces")
}

/// A pod whose containers share their PIDs, on a network of its own: what crictl and critest ask for by default.
fn shared_pod(node: &Node, name: &str) -> Pod {
    let mut config = node.net_pod_config(name);
    pod_namespaces(&mut config).pid = NamespaceMode::Pod.into();
    node.run_pod_as(config)
}

fn sharing(name: &str, line: &str) -> cri::ContainerConfig {
    let mut config = net_container(name, &["sh", "-c", line]);
    container_namespaces(&mut config).pid = NamespaceMode::Pod.into();
    config
}

#[test]
fn containers_of_a_pod_with_shared_pids_see_each_other() {
    let mut node = Node::start();
    let pod = shared_pod(&node, "shared");
    let one = pod.start(&sharing("one", "exec sleep 4001"));
    let two = pod.start(&sharing("two", "exec sleep 4002"));
    assert_eq!(namespace(&node, &one, "pid"), namespace(&node, &two, "pid"));
    let seen = |node: &Node, id: &str| node.cri().sh(id, "ps -o pid,args");
    assert!(seen(&node, &one).contains("sleep 4002"), "{}", seen(&node, &one));
    assert!(seen(&node, &two).contains("sleep 4001"), "{}", seen(&node, &two));
    let first = node.cri().sh(&one, "tr '\\0' ' ' < /proc/1/cmdline");
    assert!(first.contains("orlop-pause"), "PID 1 is the holder: {first}");

    node.restart_daemon();
    let three = pod.start(&sharing("three", "exec sleep 4003"));
    assert_eq!(namespace(&node, &one, "pid"), namespace(&node, &three, "pid"));
    node.cri().sh(&three, "kill -9 $(ps -o pid,args | awk '/[s]leep 4001/ {print $1}')");
    assert_eq!(wait_exited(&node.cri(), &one).exit_code, 137, "what can be seen can be killed");
    assert!(seen(&node, &two).contains("sleep 4003"), "the others live on");
    assert_eq!(node.cri().pod(&pod.id).unwrap().state(), cri::PodSandboxState::SandboxReady);
    node.cri().remove_pod(&pod.id).unwrap();
    node.assert_no_pods_left();
}

#[test]
fn the_holder_reaps_what_nobody_else_does_and_lives_in_the_pod() {
    let node = Node::start();
    let pod = shared_pod(&node, "reaped");
    let id = pod.start(&sharing("leaves-children", "(true &); (true &); (sleep 0.2 &); exec sleep 4011"));
    let states = || node.cri().sh(&id, "cat /proc/[0-9]*/stat | cut -d ' ' -f 2,3");
    wait::until("no zombie is left", || {
        !states().contains(" Z") && states().matches("(sleep) S").count() == 1
    });
    let own = namespace(&node, &id, "pid");
    let holders: Vec<_> = process::all()
        .into_iter()
        .filter(|process| process.command.contains("orlop-pause"))
        .filter(|process| {
            std::fs::read_link(format!("/proc/{}/ns/pid", process.pid)).is_ok_and(|it| it == own)
        })
        .collect();
    let [holder] = holders.as_slice() else { panic!("one holder: {holders:?}") };
    let paths = cgroup::of_process(holder.pid);
    let leaf = format!("{}/{}", node.cgroup_parent(), pod.id);
    assert!(paths.iter().any(|(_, path)| path.ends_with(&leaf)), "{paths:?}");

    // Own PIDs beside shared ones.
    let alone = pod.start(&net_container("alone", &["top", "-b"]));
    assert_ne!(namespace(&node, &alone, "pid"), own);
    assert_eq!(node.cri().sh(&alone, "cat /proc/1/comm"), "top\n");
}

#[test]
fn a_container_joins_the_pids_of_its_target() {
    let node = Node::start();
    let pod = node.run_net_pod("target");
    let target = pod.start(&net_container("target", &["top", "-b"]));
    let aiming_at = |name: &str, id: &str| {
        let mut config = net_container(name, &["sh", "-c", "exec sleep 4021"]);
        let namespaces = container_namespaces(&mut config);
        namespaces.pid = NamespaceMode::Target.into();
        namespaces.target_id = id.to_owned();
        config
    };
    let debugger = pod.start(&aiming_at("debugger", &target));
    assert_eq!(namespace(&node, &debugger, "pid"), namespace(&node, &target, "pid"));
    assert_eq!(node.cri().sh(&debugger, "cat /proc/1/comm"), "top\n");
    node.cri().stop(&debugger, 1).unwrap();
    assert_eq!(node.cri().container(&target).unwrap().state(), cri::ContainerState::ContainerRunning);

    let refused = |name: &str, id: &str| {
        let created = pod.create(&aiming_at(name, id));
        let status = created.and_then(|id| node.cri().start(&id)).unwrap_err();
        let fits = [Code::InvalidArgument, Code::FailedPrecondition, Code::NotFound].contains(&status.code());
        assert!(fits && status.message().contains(id), "{name}: {status}");
    };
    refused("nobody", &"0".repeat(64));
    let other = node.run_net_pod("other");
    let foreign = other.start(&net_container("foreign", &["top", "-b"]));
    refused("foreign", &foreign);
    let ended = pod.run_sh("ended", "exit 0").id;
    refused("ended", &ended);
}

/// Name and value.
type Sysctl = (&'static str, &'static str);

fn with_sysctls(node: &Node, name: &str, sysctls: &[Sysctl]) -> cri::PodSandboxConfig {
    let mut config = node.net_pod_config(name);
    let owned = |(key, value): &Sysctl| ((*key).to_owned(), (*value).to_owned());
    config.linux.as_mut().expect("linux").sysctls = sysctls.iter().map(owned).collect::<BTreeMap<_, _>>();
    config
}

#[test]
fn sysctls_are_set_in_the_pod_and_nowhere_else() {
    let mut node = Node::start();
    let sysctls = [
        ("kernel.shm_rmid_forced", "1"),
        ("net.ipv4.ip_unprivileged_port_start", "1017"),
        ("net/ipv4/ip_local_port_range", "20017 20018"),
        ("fs.mqueue.msg_max", "17"),
        ("kernel.msgmax", "8191"),
    ];
    let file = |name: &str| format!("/proc/sys/{}", name.replace('.', "/"));
    let host = || sysctls.map(|(name, _)| std::fs::read_to_string(file(name)).unwrap_or_default());
    let before = host();
    let pod = node.run_pod_as(with_sysctls(&node, "sysctls", &sysctls));
    assert_eq!(host(), before, "the node's own are as they were");
    for restart in [false, true] {
        if restart {
            node.restart_daemon();
        }
        let id = pod.start(&net_container(if restart { "after" } else { "before" }, &["top", "-b"]));
        for (name, value) in sysctls {
            let read = node.cri().sh(&id, &format!("cat {}", file(name)));
            let words: Vec<&str> = read.split_whitespace().collect();
            assert_eq!(words, value.split(' ').collect::<Vec<_>>(), "{name}");
        }
    }
}

#[test]
fn bad_sysctls_are_refused_and_leave_nothing() {
    let node = Node::start();
    let cases: [&[Sysctl]; 12] = [
        &[("kernel.shm_rmid_forced", "1+net.ipv4.ip_forward=1")],
        &[("kernel.shm_rmid_forced+kernel.core_pattern", "|/bin/evil")],
        &[("kernel.shm_rmid_forced", "1\n0")],
        &[("kernel.shm_rmid_forced\nkernel.panic", "1")],
        &[("net.ipv4.../../kernel.panic", "1")],
        &[("net/ipv4/../../kernel/panic", "1")],
        &[("/proc/sys/kernel/panic", "1")],
        &[("kernel.panic", "1")],
        &[("kernel.core_pattern", "|/bin/evil")],
        &[("net.ipv4.there_is_none", "1")],
        &[("net.ipv4.ip_unprivileged_port_start", "many")],
        &[("", "1")],
    ];
    let refused = |config: &cri::PodSandboxConfig, what: &str| {
        let status = node.cri().run_pod(config).unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{what}: {status}");
        assert!(status.message().contains("sysctl"), "{what}: {status}");
        assert!(!status.message().contains('\n'), "{what}: {status:?}");
        wait::until("no half-made pod is listed", || node.cri().pods().unwrap().is_empty());
    };
    for sysctls in cases {
        refused(&with_sysctls(&node, "bad", sysctls), &format!("{sysctls:?}"));
    }
    let mut host_ipc = with_sysctls(&node, "host-ipc", &[("kernel.shm_rmid_forced", "1")]);
    pod_namespaces(&mut host_ipc).ipc = NamespaceMode::Node.into();
    refused(&host_ipc, "kernel.shm_rmid_forced with the node's IPC");
    let mut host_network = with_sysctls(&node, "host-network", &[("net.ipv4.ip_forward", "1")]);
    pod_namespaces(&mut host_network).network = NamespaceMode::Node.into();
    refused(&host_network, "net.ipv4.ip_forward with the node's network");
    node.assert_no_pods_left();
    assert_eq!(node.network_left(), Vec::<String>::new());
    node.run_net_pod("good");
}

#[test]
fn a_pod_without_cgroup_parent_has_its_own_with_the_holder_in_it() {
    let node = Node::start();
    let mut config = node.net_pod_config("no-parent");
    config.linux.as_mut().expect("linux").cgroup_parent.clear();
    pod_namespaces(&mut config).pid = NamespaceMode::Pod.into();
    let pod = node.run_pod_as(config);
    let id = pod.start(&sharing("top", "exec top -b"));
    let own = namespace(&node, &id, "pid");
    let inside = |process: &process::Process| {
        std::fs::read_link(format!("/proc/{}/ns/pid", process.pid)).is_ok_and(|it| it == own)
    };
    let processes: Vec<_> = process::all().into_iter().filter(inside).collect();
    assert_eq!(processes.len(), 2, "holder and container: {processes:?}");
    for process in processes {
        let paths = cgroup::of_process(process.pid);
        assert!(paths.iter().any(|(_, path)| path.starts_with("/orlop/")), "{process:?}: {paths:?}");
    }
    node.cri().remove_pod(&pod.id).unwrap();
    node.assert_no_pods_left();
}

#[test]
fn shims_live_in_a_cgroup_of_their_own() {
    let mut node = Node::start();
    for restart in [false, true] {
        if restart {
            node.restart_daemon();
        }
        let pod = node.run_pod(if restart { "after" } else { "before" });
        let id = pod.start(&container("top", &["top", "-b"]));
        let shims = leak::shims_of(&pod.id);
        let [shim] = shims.as_slice() else { panic!("one shim: {shims:?}") };
        let paths = cgroup::of_process(shim.pid);
        // v2 beside v1 has no controllers: nothing is accounted or killed by it.
        for (controllers, path) in paths.iter().filter(|(controllers, _)| !controllers.is_empty()) {
            assert!(path.ends_with("/shims"), "{controllers}: {path}");
        }
        let container = cgroup::of_process(process_of(&node.cri(), &id).pid);
        assert!(container.iter().any(|(_, path)| path.contains(&node.cgroup_parent())), "{container:?}");
        node.cri().remove_pod(&pod.id).unwrap();
    }
}
