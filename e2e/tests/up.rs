//! What `make up` and `make down` do: a node with a first pod, twice, and its end, twice, with nothing left.

use std::fs;
use std::path::Path;

use e2e::client::Cri;
use e2e::registry::Registry;
use e2e::{cgroup, fixture, images, process};

const BRIDGE: &str = "orlop-up-test";
const SUBNET: &str = "10.233.7.0/24";
const PREFIX: &str = "10.233.7.";
const CGROUP: &str = "/orlop-up-test";

struct Up {
    folder: tempfile::TempDir,
}

impl Up {
    fn call(&self, verb: &str, more: &[&str]) -> std::process::Output {
        let target = process::target_dir();
        let mut command = process::command(process::built("debug/orlop-up"));
        command.arg(verb).arg("--folder").arg(self.node()).arg("--binaries").arg(&target);
        command.arg("--daemon").arg(process::built("debug/orlop"));
        command.arg("--runc").arg(process::built("tools/bin/runc"));
        command.args(["--bridge", BRIDGE, "--subnet", SUBNET, "--cgroup", CGROUP]).args(more);
        process::output(&mut command)
    }

    fn done(&self, verb: &str) -> String {
        let output = self.call(verb, &[]);
        let (stdout, stderr) = (process::text(&output.stdout), process::text(&output.stderr));
        assert!(output.status.success(), "{verb}: {stdout}\n{stderr}");
        stdout
    }

    fn refused(&self, verb: &str, more: &[&str], word: &str) {
        let output = self.call(verb, more);
        let stderr = process::text(&output.stderr);
        assert!(!output.status.success() && stderr.contains(word), "{verb} {more:?}: {stderr}");
    }

    fn node(&self) -> std::path::PathBuf {
        self.folder.path().join("node")
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        if std::thread::panicking() && self.node().exists() {
            println!("{}", process::text(&self.call("down", &[]).stdout));
        }
    }
}

fn lines_with(text: &str, word: &str) -> Vec<String> {
    text.lines().filter(|line| line.contains(word)).map(str::to_owned).collect()
}

#[test]
fn a_node_comes_up_twice_and_goes_down_twice() {
    process::need_root();
    let up = Up { folder: tempfile::tempdir().expect("a folder") };
    let first = up.done("up");
    let words = ["pulled after", "pod first runs", PREFIX, "Hello from a pod of orlop: first", "uid=0"];
    for word in words.into_iter().chain(["crictl --runtime-endpoint", "--container-runtime-endpoint=unix://"])
    {
        assert!(first.contains(word), "{word:?} is not told:\n{first}");
    }
    let cri = Cri::new(&up.node().join("run/orlop.sock"));
    let pods = cri.pods().expect("list");
    assert_eq!(pods.len(), 1);
    let second = up.done("up");
    assert!(second.contains("runs already") && second.contains(&pods[0].id), "{second}");
    assert_eq!(cri.pods().expect("list"), pods, "the same pod and nothing else");

    assert!(up.done("down").contains("nothing is left"));
    assert!(up.done("down").contains("there is no node"));
    let folder = up.node().to_string_lossy().into_owned();
    assert!(!up.node().exists());
    assert!(!Path::new("/sys/class/net").join(BRIDGE).exists());
    let mounts = fs::read_to_string("/proc/self/mountinfo").expect("mounts");
    assert_eq!(lines_with(&mounts, &folder), Vec::<String>::new());
    assert_eq!(lines_with(&mounts, &pods[0].id), Vec::<String>::new());
    let rules = process::run(process::command("nft").args(["list", "ruleset"]));
    assert_eq!(lines_with(&rules, PREFIX), Vec::<String>::new());
    assert!(cgroup::folders(|path| path.contains(CGROUP)).is_empty());
    let left: Vec<_> = process::all().into_iter().filter(|it| it.command.contains(&folder)).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn a_named_image_takes_the_place_of_the_first_one_even_if_it_ends_at_once() {
    process::need_root();
    let up = Up { folder: tempfile::tempdir().expect("a folder") };
    let registry = Registry::start(&up.folder.path().join("registry"));
    registry.push("ends", "1", &images::whiteouts());
    let image = format!("{}/ends:1", registry.address());
    // Other names than the other test's: both run at once.
    let own = ["--bridge", "orlop-up-test2", "--subnet", "10.233.8.0/24", "--cgroup", "/orlop-up-named"];
    let named: Vec<&str> = own.into_iter().chain(["--image", &image]).collect();

    for more in [&own[..], &named, &named, &own] {
        let output = up.call("up", more);
        let (stdout, stderr) = (process::text(&output.stdout), process::text(&output.stderr));
        assert!(output.status.success(), "{more:?}: {stdout}\n{stderr}");
        assert!(stdout.contains("crictl --runtime-endpoint"), "{stdout}");
        assert_eq!(stdout.contains("Hello from a pod"), more.len() == own.len(), "{stdout}");
        let containers = Cri::new(&up.node().join("run/orlop.sock")).containers().expect("list");
        assert_eq!(containers.len(), 1, "{containers:?}");
    }
    up.refused("up", &[], "made with another bridge");
    assert!(up.done("down").contains("nothing is left"));
}

#[test]
fn what_others_made_is_left_alone() {
    process::need_root();
    let up = Up { folder: tempfile::tempdir().expect("a folder") };
    fixture::folder(&up.node());
    let theirs = up.node().join("config.toml");
    fixture::write(&theirs, "version = 3\n");
    up.refused("up", &[], "UP_FOLDER");
    up.refused("down", &[], "nothing is removed");
    assert_eq!(fixture::read(&theirs), "version = 3\n");
    fs::remove_dir_all(up.node()).expect("it is ours");

    up.refused("up", &["--bridge", "lo"], "lo exists already");
    let loopback = ["--subnet", "127.0.0.0/24"];
    up.refused("up", &loopback, "in use on this machine");
    assert!(!up.node().exists(), "nothing was begun");
}

#[test]
fn what_is_missing_is_named_with_its_remedy() {
    process::need_root();
    let up = Up { folder: tempfile::tempdir().expect("a folder") };
    let output = up.call("up", &["--runc", "no-such-runc", "--daemon", "/no/such/orlop"]);
    let stderr = process::text(&output.stderr);
    assert!(!output.status.success());
    assert!(stderr.contains("no-such-runc: apt-get install runc"), "{stderr}");
    assert!(stderr.contains("/no/such/orlop: make release"), "{stderr}");
    assert!(!up.node().exists(), "nothing was begun");
}
