//! What containers use, as the CRI and crictl tell it, against the cgroup's own files.

use cri_proto::v1 as cri;
use e2e::node::Node;
use e2e::pod::{container, process_of, resources};
use e2e::{cgroup, wait};

const LIMIT: i64 = 64 << 20;
/// Works, keeps 8 MiB in memory and writes 1 MiB to its root filesystem.
const WORK: &str =
    "dd if=/dev/zero of=/written bs=1M count=1; a=$(yes | head -c 4000000); touch /done; while :; do :; done";

fn stats(node: &Node, id: &str) -> cri::ContainerStats {
    let request = cri::ContainerStatsRequest { container_id: id.to_owned() };
    node.cri().container_stats(request).expect("stats").stats.expect("some")
}

fn listed(node: &Node, filter: Option<cri::ContainerStatsFilter>) -> Vec<String> {
    let stats =
        node.cri().list_container_stats(cri::ListContainerStatsRequest { filter }).expect("list").stats;
    stats.into_iter().map(|one| one.attributes.expect("whose").id).collect()
}

fn value(number: Option<cri::UInt64Value>) -> u64 {
    number.expect("a figure").value
}

#[test]
fn figures_are_those_of_the_cgroup_also_after_a_restart() {
    let mut node = Node::start();
    let pod = node.run_pod("stats");
    let mut config = container("works", &["sh", "-c", WORK]);
    config.labels.insert("kind".to_owned(), "works".to_owned());
    resources(&mut config).memory_limit_in_bytes = LIMIT;
    let id = pod.start(&config);
    let done = || node.cri().exec_in(&id, &["test", "-e", "/done"], 10).is_ok_and(|end| end.exit_code == 0);
    wait::until("it has made what it wants", done);
    let pid = process_of(&node.cri(), &id).pid;
    for restart in [false, true] {
        if restart {
            node.restart_daemon();
        }
        let first = stats(&node, &id);
        let (cpu, memory) = (first.cpu.expect("cpu"), first.memory.expect("memory"));
        let now: u64 = cgroup::file_of(pid, "memory", "memory.usage_in_bytes", "memory.current")
            .parse()
            .expect("a number");
        let usage = value(memory.usage_bytes);
        assert!(usage.abs_diff(now) < 4 << 20, "{usage} and {now}");
        let working_set = value(memory.working_set_bytes);
        assert!(working_set <= usage && working_set > 1 << 20, "{working_set} of {usage}");
        let available = value(memory.available_bytes);
        assert_eq!(available + working_set, LIMIT.unsigned_abs());
        assert!(value(memory.rss_bytes) > 1 << 20 && value(memory.page_faults) > 0);
        let layer = layer_with(&node, &id, 1 << 20);
        assert!(value(layer.inodes_used) >= 2);
        assert!(layer.fs_id.expect("where").mountpoint.ends_with("io.containerd.snapshotter.v1.overlayfs"));
        let used = value(cpu.usage_core_nano_seconds);
        let later = wait::for_some("time goes on and makes a rate", || {
            let later = stats(&node, &id).cpu.expect("cpu");
            let goes_on = later.timestamp > cpu.timestamp && value(later.usage_core_nano_seconds) > used;
            later.usage_nano_cores.filter(|_| goes_on)
        });
        // It works all the time, on one core.
        assert!((1_000_000..2_000_000_000).contains(&later.value), "{later:?}");
    }
    let before = stats(&node, &id).writable_layer.expect("a writable layer").timestamp;
    let more = ["dd", "if=/dev/zero", "of=/more", "bs=1M", "count=4"];
    assert_eq!(node.cri().exec_in(&id, &more, 10).expect("exec").exit_code, 0);
    let layer = layer_with(&node, &id, 5 << 20);
    assert!(layer.timestamp > before, "the figure is of a later walk");
}

/// The writable layer, once it is known to hold so much.
fn layer_with(node: &Node, id: &str, bytes: u64) -> cri::FilesystemUsage {
    wait::for_some("its writable layer is measured", || {
        stats(node, id).writable_layer.filter(|layer| value(layer.used_bytes) >= bytes)
    })
}

#[test]
fn what_does_not_run_uses_nothing_and_is_not_listed() {
    let node = Node::start();
    let pod = node.run_pod("listed");
    let with = |name: &str| {
        let mut config = container(name, &["sleep", "3600"]);
        config.labels.insert("name".to_owned(), name.to_owned());
        config
    };
    let (one, two) = (pod.start(&with("one")), pod.start(&with("two")));
    let created = pod.create(&with("created")).expect("create");
    let ended = pod.run_sh("ended", "true").id;
    let mut all = listed(&node, None);
    all.sort();
    let mut running = vec![one.clone(), two.clone()];
    running.sort();
    assert_eq!(all, running);
    let labelled = cri::ContainerStatsFilter {
        label_selector: [("name".to_owned(), "two".to_owned())].into(),
        ..Default::default()
    };
    assert_eq!(listed(&node, Some(labelled)), std::slice::from_ref(&two));
    let by_id = cri::ContainerStatsFilter { id: one.clone(), ..Default::default() };
    assert_eq!(listed(&node, Some(by_id)), [one]);
    for id in [created, ended] {
        let stats = stats(&node, &id);
        assert!(stats.cpu.is_none() && stats.memory.is_none());
        assert_eq!(stats.attributes.expect("whose").id, id);
    }
    let table = node.crictl().run(&["stats", "-s", "1"]);
    assert!(table.contains(&two[..13]), "{table}");
    let unknown = node.cri().container_stats(cri::ContainerStatsRequest { container_id: "0".repeat(64) });
    assert_eq!(unknown.expect_err("no such container").code(), tonic::Code::NotFound);
}
