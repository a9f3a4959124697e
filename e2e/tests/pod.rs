//! Pods: what their status tells, what their containers share, what is refused.

use std::collections::BTreeMap;

use cri_proto::v1 as cri;
use cri_proto::v1::{NamespaceMode, PodSandboxState};
use e2e::node::Node;
use e2e::pod::{Pod, container, pod_namespaces, process_of};
use e2e::{fixture, process, wait};
use tonic::Code;

fn odd_labels() -> BTreeMap<String, String> {
    let pairs = [
        ("app", "test"),
        ("a/b", ""),
        ("quoted \"key\"", "line\nbreak\ttab"),
        ("unicode", "Käse ☃ \u{202e}"),
    ];
    pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).into()
}

#[test]
fn the_runtime_introduces_itself() {
    let mut node = Node::bare();
    for _ in 0..2 {
        let version = node.cri().version(Default::default()).unwrap();
        assert_eq!((version.version.as_str(), version.runtime_name.as_str()), ("0.1.0", "orlop"));
        assert_eq!(version.runtime_api_version, "v1");
        assert!(!version.runtime_version.is_empty());

        let status = node.cri().status(cri::StatusRequest { verbose: true }).unwrap();
        let conditions = status.status.expect("a status").conditions;
        assert!(conditions.iter().any(|condition| condition.r#type == "RuntimeReady" && condition.status));
        assert!(conditions.iter().any(|condition| condition.r#type == "NetworkReady"));
        let handlers: Vec<&str> =
            status.runtime_handlers.iter().map(|handler| handler.name.as_str()).collect();
        assert!(handlers.contains(&"") && handlers.contains(&"runc"), "{handlers:?}");

        let config = node.cri().runtime_config(Default::default()).unwrap();
        assert_eq!(config.linux.expect("Linux").cgroup_driver(), cri::CgroupDriver::Cgroupfs);
        node.cri().update_runtime_config(Default::default()).unwrap();
        node.restart_daemon();
    }
}

#[test]
fn status_and_list_give_back_what_was_asked() {
    let mut node = Node::start();
    let mut config = node.pod_config("echo");
    config.labels = odd_labels();
    config.annotations = odd_labels();
    config.metadata.as_mut().expect("metadata").attempt = 7;
    let pod = node.run_pod_as(config.clone());
    assert_eq!(pod.id.len(), 64);
    let check = |node: &Node| {
        let status = node.cri().pod(&pod.id).unwrap();
        assert_eq!(status.metadata, config.metadata);
        assert_eq!(status.labels, config.labels);
        assert_eq!(status.annotations, config.annotations);
        assert_eq!(status.state(), PodSandboxState::SandboxReady);
        assert!(status.created_at > 1_500_000_000_000_000_000);
        let linux = status.linux.clone();
        let namespaces = linux.and_then(|linux| linux.namespaces).and_then(|namespaces| namespaces.options);
        assert_eq!(namespaces.expect("namespaces").network(), NamespaceMode::Node);
        let items = node.cri().pods().unwrap();
        let [listed] = items.as_slice() else { panic!("one pod is listed: {items:?}") };
        assert_eq!((&listed.id, &listed.metadata), (&pod.id, &config.metadata));
        assert_eq!((&listed.labels, &listed.annotations), (&config.labels, &config.annotations));
        assert_eq!(listed.created_at, status.created_at);
        status
    };
    let before = check(&node);
    node.restart_daemon();
    assert_eq!(check(&node), before);
}

#[test]
fn lists_are_filtered() {
    let node = Node::start();
    let with_label = |name: &str, tier: &str| {
        let mut config = node.pod_config(name);
        config.labels.insert("tier".to_owned(), tier.to_owned());
        node.run_pod_as(config)
    };
    let (front, back) = (with_label("front", "web"), with_label("back", "data"));
    node.cri().stop_pod(&back.id).unwrap();
    let list = |filter: cri::PodSandboxFilter| -> Vec<String> {
        let request = cri::ListPodSandboxRequest { filter: Some(filter) };
        node.cri().list_pod_sandbox(request).unwrap().items.into_iter().map(|pod| pod.id).collect()
    };
    let state = |state: PodSandboxState| Some(cri::PodSandboxStateValue { state: state.into() });
    let web = BTreeMap::from([("tier".to_owned(), "web".to_owned())]);
    let ready = cri::PodSandboxFilter { state: state(PodSandboxState::SandboxReady), ..Default::default() };
    let not_ready =
        cri::PodSandboxFilter { state: state(PodSandboxState::SandboxNotready), ..Default::default() };
    assert_eq!(list(ready), std::slice::from_ref(&front.id));
    assert_eq!(list(not_ready), std::slice::from_ref(&back.id));
    assert_eq!(
        list(cri::PodSandboxFilter { label_selector: web, ..Default::default() }),
        std::slice::from_ref(&front.id)
    );
    assert_eq!(
        list(cri::PodSandboxFilter { id: back.id.clone(), ..Default::default() }),
        std::slice::from_ref(&back.id)
    );
    assert_eq!(list(cri::PodSandboxFilter { id: back.id[..12].to_owned(), ..Default::default() }), [back.id]);
}

#[test]
fn containers_of_a_pod_share_ipc_and_uts_and_have_their_own_pids() {
    let node = Node::start();
    let pod = node.run_pod("shared");
    let ids = [pod.start_sh("one", "exec top -b"), pod.start_sh("two", "exec top -b")];
    let namespaces = |kind: &str| {
        ids.each_ref().map(|id| {
            let pid = process_of(&node.cri(), id).pid;
            std::fs::read_link(format!("/proc/{pid}/ns/{kind}")).expect("a process has namespaces")
        })
    };
    let own =
        |kind: &str| std::fs::read_link(format!("/proc/self/ns/{kind}")).expect("a process has namespaces");
    for kind in ["ipc", "uts"] {
        let [one, two] = namespaces(kind);
        assert_eq!(one, two, "{kind}");
        assert_ne!(one, own(kind), "{kind}");
    }
    for kind in ["pid", "mnt"] {
        let [one, two] = namespaces(kind);
        assert_ne!(one, two, "{kind}");
        assert_ne!(one, own(kind), "{kind}");
    }
    assert_eq!(namespaces("net")[0], own("net"));

    node.cri().sh(&ids[0], "echo from one > /dev/shm/note");
    assert_eq!(node.cri().sh(&ids[1], "cat /dev/shm/note"), "from one\n");
    assert_eq!(node.cri().sh(&ids[0], "ps -o pid,comm | grep -c top").trim(), "1");
}

#[test]
fn pid_mode_node_sees_the_processes_of_the_node() {
    let node = Node::start();
    let mut config = node.pod_config("host-pid");
    pod_namespaces(&mut config).pid = NamespaceMode::Node.into();
    let pod = node.run_pod_as(config);
    let mut container = container("top", &["top", "-b"]);
    e2e::pod::security(&mut container).namespace_options.as_mut().expect("options").pid =
        NamespaceMode::Node.into();
    let id = pod.start(&container);
    let own_pid = std::process::id();
    assert_eq!(node.cri().sh(&id, &format!("test -d /proc/{own_pid} && echo seen")), "seen\n");

    // Without a PID namespace nothing but the runtime ends what init has left.
    let child = "(sleep 3217 &) ; exec top -b";
    let mut with_child = e2e::pod::container("parent", &["sh", "-c", child]);
    e2e::pod::security(&mut with_child).namespace_options.as_mut().expect("options").pid =
        NamespaceMode::Node.into();
    let parent = pod.start(&with_child);
    let sleeps = || process::all().into_iter().filter(|process| process.command == "sleep 3217").count();
    wait::until("the child runs", || sleeps() == 1);
    node.cri().stop(&parent, 5).unwrap();
    wait::until("the child is gone with its parent", || sleeps() == 0);
}

#[test]
fn hostname_and_dns_are_what_the_pod_says() {
    let node = Node::start();
    let mut config = node.pod_config("dns");
    config.hostname = "test-hostname".to_owned();
    config.dns_config = Some(cri::DnsConfig {
        servers: vec!["10.10.10.10".to_owned()],
        searches: vec!["google.com".to_owned()],
        options: vec!["ndots:8".to_owned()],
    });
    let pod = node.run_pod_as(config);
    let id = pod.start_sh("top", "exec top -b");
    let sorted = node.cri().sh(&id, "sort /etc/resolv.conf");
    assert_eq!(sorted, "nameserver 10.10.10.10\noptions ndots:8\nsearch google.com\n");
    assert_eq!(node.cri().sh(&id, "hostname"), "test-hostname\n");
    assert_eq!(node.cri().sh(&id, "cat /etc/hostname"), "test-hostname\n");
}

#[test]
fn without_hostname_and_dns_a_pod_has_those_of_the_node() {
    let node = Node::start();
    let pod = node.run_pod("plain");
    let id = pod.start_sh("top", "exec top -b");
    let host = fixture::read(std::path::Path::new("/proc/sys/kernel/hostname"));
    assert_eq!(node.cri().sh(&id, "hostname"), host);
    let resolv = fixture::read(std::path::Path::new("/etc/resolv.conf"));
    assert_eq!(node.cri().sh(&id, "cat /etc/resolv.conf"), resolv);
}

#[test]
fn every_verb_may_come_twice() {
    let node = Node::start();
    let cri = node.cri();
    let pod = node.run_pod("twice");
    let id = pod.start_sh("top", "exec top -b");
    assert_eq!(cri.run_pod(&pod.config).unwrap(), pod.id, "the same pod again is the same pod");
    for _ in 0..2 {
        cri.stop_pod(&pod.id).unwrap();
        assert_eq!(cri.pod(&pod.id).unwrap().state(), PodSandboxState::SandboxNotready);
    }
    assert_eq!(cri.container(&id).unwrap().state(), cri::ContainerState::ContainerExited);
    for _ in 0..2 {
        cri.remove_pod(&pod.id).unwrap();
    }
    assert_eq!(cri.pod(&pod.id).unwrap_err().code(), Code::NotFound);
    assert_eq!(cri.container(&id).unwrap_err().code(), Code::NotFound);
    let unknown = "0".repeat(64);
    cri.stop_pod(&unknown).unwrap();
    cri.remove_pod(&unknown).unwrap();
    cri.stop(&unknown, 0).unwrap();
    cri.remove(&unknown).unwrap();
    cri.remove_image_named(&unknown).unwrap();
}

#[test]
fn a_removed_pod_leaves_nothing_even_without_stop() {
    let node = Node::start();
    let pod = node.run_pod("removed");
    pod.start_sh("top", "exec top -b");
    pod.create(&container("never-started", &["true"])).unwrap();
    node.cri().remove_pod(&pod.id).unwrap();
    assert_eq!(node.cri().pods().unwrap(), vec![]);
    node.assert_no_pods_left();
    let again = node.run_pod_as(pod.config);
    assert_ne!(again.id, pod.id);
}

#[test]
fn a_pod_without_cgroup_parent_or_logs_runs_and_cleans_up() {
    let node = Node::start();
    let mut config = node.pod_config("bare");
    config.log_directory.clear();
    config.linux.as_mut().expect("linux").cgroup_parent.clear();
    let pod = node.run_pod_as(config);
    let mut spec = container("top", &["top", "-b"]);
    spec.log_path.clear();
    let id = pod.start(&spec);
    let pid = process_of(&node.cri(), &id).pid;
    let paths = e2e::cgroup::of_process(pid);
    assert!(paths.iter().any(|(_, path)| path.starts_with("/orlop/")), "{paths:?}");
    node.cri().stop_pod(&pod.id).unwrap();
    node.cri().remove_pod(&pod.id).unwrap();
    node.assert_no_pods_left();
}

#[test]
fn what_comes_later_is_refused_as_unimplemented() {
    let node = Node::bare();
    let status = node.cri().checkpoint_container(Default::default()).unwrap_err();
    assert_eq!(status.code(), Code::Unimplemented);
}

#[test]
fn a_bad_pod_is_refused_by_what_is_wrong_with_it() {
    let node = Node::bare();
    let good = || node.pod_config("bad");
    let mut no_name = good();
    no_name.metadata.as_mut().expect("metadata").name.clear();
    let mut relative_logs = good();
    relative_logs.log_directory = "logs/relative".to_owned();
    let mut control = good();
    control.hostname = "line\nbreak".to_owned();
    let cases = [(no_name, "name"), (relative_logs, "log"), (control, "hostname")];
    for (config, what) in cases {
        let status = node.cri().run_pod(&config).unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{status}");
        assert!(status.message().contains(what), "{status}");
    }
    let status = node.cri().run_pod_sandbox(Default::default()).unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument, "{status}");
    assert_eq!(node.cri().pods().unwrap(), vec![]);
}

#[test]
fn an_unknown_handler_is_named() {
    let node = Node::bare();
    let status = node.cri().run_pod_with(&node.pod_config("handler"), "nonesuch").unwrap_err();
    assert!(matches!(status.code(), Code::InvalidArgument | Code::NotFound), "{status}");
    assert!(status.message().contains("nonesuch"), "{status}");
    assert_eq!(node.cri().pods().unwrap(), vec![]);
}

#[test]
fn a_missing_runc_is_named_and_leaves_no_half_made_container() {
    let node = Node::start();
    let config = node.pod_config("no-runc");
    let id = match node.cri().run_pod_with(&config, "missing") {
        Ok(id) => id,
        Err(status) => {
            assert!(status.message().contains("/nonexistent/runc"), "{status}");
            assert_eq!(node.cri().pods().unwrap(), vec![]);
            return;
        }
    };
    let container_id = node.cri().create(&id, &config, &container("top", &["top"])).unwrap();
    let status = node.cri().start(&container_id).unwrap_err();
    assert!(status.message().contains("/nonexistent/runc"), "{status}");
    assert_eq!(node.cri().container(&container_id).unwrap().state(), cri::ContainerState::ContainerExited);
}

#[test]
fn ten_pods_at_once_run_and_leave_nothing() {
    let node = Node::start();
    let names: Vec<String> = (0..10).map(|number| format!("many-{number}")).collect();
    let pods: Vec<Pod> = std::thread::scope(|scope| {
        let one = |name: &String| {
            let pod = node.run_pod(name);
            let status = pod.run_sh("say", "echo $((6 * 7))");
            assert_eq!(status.exit_code, 0);
            assert!(pod.log("say").ends_with("stdout F 42\n"));
            pod
        };
        let threads: Vec<_> = names.iter().map(|name| scope.spawn(move || one(name))).collect();
        threads.into_iter().map(|thread| thread.join().expect("a pod runs")).collect()
    });
    assert_eq!(node.cri().pods().unwrap().len(), 10);
    for pod in pods {
        node.cri().stop_pod(&pod.id).unwrap();
        node.cri().remove_pod(&pod.id).unwrap();
    }
    node.assert_no_pods_left();
}

#[test]
fn mounts_of_pods_stay_below_the_nodes_folder() {
    let node = Node::start();
    let table = || fixture::read(std::path::Path::new("/proc/self/mountinfo"));
    let marked = |table: &str, id: &str| -> Vec<String> {
        table.lines().filter(|line| line.contains(id)).map(str::to_owned).collect()
    };
    let pod = node.run_pod("mounts");
    let id = pod.start_sh("top", "exec top -b");
    let state = node.folder().join("run");
    for line in marked(&table(), &pod.id).into_iter().chain(marked(&table(), &id)) {
        let point = line.split_whitespace().nth(4).expect("a mount has a point").to_owned();
        assert!(std::path::Path::new(&point).starts_with(&state), "{line}");
    }
    assert!(!marked(&table(), &pod.id).is_empty(), "namespaces are pinned");
}
