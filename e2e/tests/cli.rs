//! What a person types: `crictl` from pull to rmi, on a fresh daemon and again after it was killed; help for a shell.

use e2e::crictl::Crictl;
use e2e::node::Node;
use e2e::{fixture, images, process, wait};
use serde_json::json;

const IMAGE: &str = "registry.k8s.io/e2e-test-images/busybox:1.29-2";

#[test]
fn a_person_runs_a_pod_with_crictl_from_pull_to_rmi() {
    let mut node = Node::bare();
    node.registry().push("e2e-test-images/busybox", "1.29-2", &images::busybox("crictl"));
    let crictl = node.crictl();
    let version = crictl.run(&["version"]);
    assert!(version.contains("RuntimeName:") && version.contains("orlop"), "{version}");

    whole_life(&node, &crictl, "first");
    node.restart_daemon();
    whole_life(&node, &crictl, "second");
}

#[test]
fn a_shell_completes_what_the_daemon_takes() {
    let script = "eval \"$(\"$1\" completion bash)\"; COMP_WORDS=(orlop config \"\"); COMP_CWORD=2
        \"$(complete -p orlop | sed 's/.*-F \\([^ ]*\\).*/\\1/')\" orlop '' config; echo \"${COMPREPLY[@]}\"";
    let mut bash = process::command("bash");
    let offered = process::run(bash.args(["-c", script, "bash"]).arg(process::built("debug/orlop")));
    for word in ["check", "default", "dump", "network", "--config"] {
        assert!(offered.split_whitespace().any(|it| it == word), "{word} is not offered: {offered}");
    }
}

#[test]
fn crictl_sees_the_same_pod_before_and_after_the_daemon_was_killed() {
    let mut node = Node::bare();
    node.registry().push("e2e-test-images/busybox", "1.29-2", &images::busybox("crictl"));
    let crictl = node.crictl();
    crictl.run(&["pull", IMAGE]);
    let (pod, container) = run(&node, &crictl, "stays");
    let look = || {
        ["pods -o json", "ps -a -o json", "images -o json"].map(|line| {
            let words: Vec<&str> = line.split(' ').collect();
            crictl.json(&words)
        })
    };
    let before = look();
    let pid = crictl.json(&["inspect", &container])["info"]["pid"].clone();

    node.restart_daemon();

    assert_eq!(look(), before);
    assert_eq!(crictl.json(&["inspect", &container])["info"]["pid"], pid, "the container was started anew");
    assert_eq!(crictl.run(&["exec", "-s", &container, "echo", "still here"]), "still here");
    end(&crictl, &pod, &container);
}

fn whole_life(node: &Node, crictl: &Crictl, name: &str) {
    let pulled = crictl.run(&["pull", IMAGE]);
    assert!(pulled.contains("sha256:"), "{pulled}");
    let listed = crictl.run(&["images"]);
    assert!(
        listed.contains("registry.k8s.io/e2e-test-images/busybox") && listed.contains("1.29-2"),
        "{listed}"
    );

    let (pod, container) = run(node, crictl, name);
    let running = crictl.run(&["ps"]);
    assert!(running.contains(&container[..13]) && running.contains("Running"), "{running}");
    let pods = crictl.run(&["pods"]);
    assert!(pods.contains(&pod[..13]) && pods.contains("Ready") && pods.contains(name), "{pods}");
    wait::until("the log has the line", || {
        crictl.run(&["logs", &container]).contains("hello from the container")
    });
    assert_eq!(crictl.run(&["exec", "-s", &container, "echo", "hello"]), "hello");

    let inspected = crictl.json(&["inspect", &container]);
    assert_eq!(inspected["status"]["state"], "CONTAINER_RUNNING");
    assert_eq!(inspected["status"]["labels"], json!({"tier": "test"}));
    assert!(inspected["info"]["pid"].as_u64().is_some_and(|pid| pid > 1), "{inspected}");
    assert_eq!(inspected["info"]["runtimeSpec"]["process"]["args"][0], "sh", "{inspected}");
    let inspected = crictl.json(&["inspectp", &pod]);
    assert_eq!(inspected["status"]["state"], "SANDBOX_READY");
    assert_eq!(inspected["status"]["metadata"]["name"], name);

    let templated = |verb: &str, template: &str, id: &str| {
        crictl.run(&[verb, "-o", "go-template", "--template", template, id])
    };
    let pid = crictl.json(&["inspect", &container])["info"]["pid"].to_string();
    assert_eq!(templated("inspect", "{{.info.pid}}", &container), pid);
    assert_eq!(templated("inspect", "{{.status.state}}", &container), "CONTAINER_RUNNING");
    assert_eq!(templated("inspectp", "{{.status.metadata.name}}", &pod), name);

    end(crictl, &pod, &container);
    crictl.run(&["rmi", IMAGE]);
    assert_eq!(crictl.json(&["images", "-o", "json"])["images"], json!([]));
}

fn run(node: &Node, crictl: &Crictl, name: &str) -> (String, String) {
    let pod_file = node.folder().join(format!("{name}-pod.json"));
    let container_file = node.folder().join(format!("{name}-container.json"));
    let pod = json!({
        "metadata": {"name": name, "namespace": "default", "attempt": 1, "uid": fixture::unique("cli")},
        "log_directory": node.folder().join("logs").join(name),
        "linux": {
            "cgroup_parent": node.cgroup_parent(),
            "security_context": {"namespace_options": {"network": 2, "pid": 1}},
        },
    });
    let container = json!({
        "metadata": {"name": "busybox"},
        "image": {"image": IMAGE},
        "command": ["sh", "-c", "echo hello from the container; exec top -b"],
        "labels": {"tier": "test"},
        "log_path": "busybox.log",
        "linux": {"security_context": {"namespace_options": {"network": 2, "pid": 1}}},
    });
    fixture::write(&pod_file, pod.to_string());
    fixture::write(&container_file, container.to_string());
    let (pod_file, container_file) = (pod_file.to_string_lossy(), container_file.to_string_lossy());

    let pod = crictl.run(&["runp", &pod_file]);
    node.cri().remember(&pod);
    let container = crictl.run(&["create", &pod, &container_file, &pod_file]);
    node.cri().remember(&container);
    assert_eq!(crictl.run(&["start", &container]), container);
    (pod, container)
}

fn end(crictl: &Crictl, pod: &str, container: &str) {
    crictl.run(&["stop", container]);
    let state = crictl.json(&["inspect", container])["status"]["state"].clone();
    assert_eq!(state, "CONTAINER_EXITED");
    crictl.run(&["rm", container]);
    crictl.run(&["stopp", pod]);
    crictl.run(&["rmp", pod]);
    assert_eq!(crictl.json(&["ps", "-a", "-o", "json"])["containers"], json!([]));
    assert_eq!(crictl.json(&["pods", "-o", "json"])["items"], json!([]));
}

#[test]
fn crictl_says_what_was_wrong_with_a_pod_that_cannot_run() {
    let node = Node::bare();
    let crictl = node.crictl();
    let output = crictl.output(&["pull", "registry.k8s.io/not/here:1"]);
    let message = process::text(&output.stderr);
    assert!(!output.status.success());
    assert!(message.contains("registry.k8s.io/not/here:1"), "{message}");
    assert!(message.contains("NotFound") || message.contains("not found"), "{message}");
}
