//! What an idle pod costs: the shim's threads and private memory, printed and held below the budget.

use std::io::Write;

use e2e::leak::shims_of;
use e2e::node::Node;
use e2e::{fixture, wait};

const BUDGET_KB: u64 = 300;

/// A figure in a file of `/proc` with lines such as `Threads: 1` or `Private_Dirty: 240 kB`.
fn figure(pid: u32, file: &str, key: &str) -> u64 {
    let text = fixture::read(std::path::Path::new(&format!("/proc/{pid}/{file}")));
    let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
    let value = line.and_then(|rest| rest.split_whitespace().next()?.parse().ok());
    value.unwrap_or_else(|| panic!("no {key} in {file} of {pid}: {text}"))
}

#[test]
fn the_shim_of_an_idle_pod_is_one_thread_and_under_300_kb() {
    let mut node = Node::start();
    let pod = node.run_pod("idle");
    let shims = shims_of(&pod.id);
    let [shim] = shims.as_slice() else { panic!("one shim a pod: {shims:?}") };
    let measure = |what: &str| {
        wait::until("the shim has one thread", || figure(shim.pid, "status", "Threads") == 1);
        let dirty = figure(shim.pid, "smaps_rollup", "Private_Dirty");
        let pss = figure(shim.pid, "smaps_rollup", "Pss");
        // Straight to stderr: the figure belongs in the output of a passing run, too.
        writeln!(std::io::stderr(), "shim of {what}: 1 thread, {dirty} kB private dirty, {pss} kB PSS")
            .expect("stderr is open");
        dirty
    };
    let idle = measure("an idle pod");
    assert!(idle < BUDGET_KB, "{idle} kB");
    pod.start_sh("top", "exec top -b");
    let with_container = measure("a pod with one running container");
    node.restart_daemon();
    let after_restart = measure("the same pod after a daemon restart");
    assert!(with_container.max(after_restart) < BUDGET_KB, "{with_container} kB, {after_restart} kB");
}
