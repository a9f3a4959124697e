//! ctr against orlop and against containerd, side by side: the same command lines on both, the same exit codes and,
//! but for times and folders, the same words; and the same objects after the daemon was killed.

use e2e::ctr::Ctr;
use e2e::network::Plugins;
use e2e::node::{Node, Program};
use e2e::{images, process};

/// What pods of containerd would begin with; no pod is made here.
const PAUSE: &str = "registry.k8s.io/pause:none";

struct Sides {
    orlop: Node,
    containerd: Node,
}

impl Sides {
    fn start() -> Self {
        process::need_root();
        let mut containerd = Program::containerd(PAUSE);
        // What no lease holds stays until somebody asks for a collection: the lines say when.
        containerd.tables += "\n[plugins.\"io.containerd.gc.v1.scheduler\"]\nstartup_delay = \"1h\"\n";
        Self { orlop: Node::bare(), containerd: Node::bare_of(containerd, Plugins::Reference) }
    }

    /// Runs every line on both; complains about all that differ.
    fn compare(&self, lines: &[(&str, &[u8])]) {
        let (ours, theirs) = (ctr(&self.orlop), ctr(&self.containerd));
        let mut differences = Vec::new();
        for (line, stdin) in lines {
            let (one, other) = (ours.run_with(line, stdin), theirs.run_with(line, stdin));
            let same_words = ours.plain(&one.stdout) == theirs.plain(&other.stdout);
            if one.code != other.code || !same_words {
                differences.push(format!("ctr {line}\norlop: {one:#?}\ncontainerd: {other:#?}"));
            }
        }
        assert!(differences.is_empty(), "{} differ:\n{}", differences.len(), differences.join("\n\n"));
    }
}

fn ctr(node: &Node) -> Ctr {
    Ctr::new(&node.socket(), node.folder())
}

/// What each namespace shows.
const LISTINGS: [&str; 7] = [
    "namespaces ls",
    "-n one leases ls",
    "-n one content ls",
    "-n one content active",
    "-n one snapshots ls",
    "-n one containers ls",
    "-n one images ls",
];

fn silent(lines: &[&'static str]) -> Vec<(&'static str, &'static [u8])> {
    lines.iter().map(|line| (*line, &b""[..])).collect()
}

#[test]
fn ctr_meets_the_same_objects_as_with_containerd() {
    let mut sides = Sides::start();
    sides.compare(&silent(&NAMESPACES));
    sides.compare(&silent(&LEASES));
    content(&sides);
    sides.compare(&silent(&SNAPSHOTS));
    sides.compare(&silent(&CONTAINERS));
    sides.compare(&silent(&LISTINGS));

    let ours = ctr(&sides.orlop);
    let before: Vec<_> = LISTINGS.iter().map(|line| ours.plain(&ours.done(line))).collect();
    sides.orlop.kill9();
    sides.orlop.resume();
    let after: Vec<_> = LISTINGS.iter().map(|line| ours.plain(&ours.done(line))).collect();
    assert_eq!(before, after, "a record is lost or changed by a kill -9");

    sides.compare(&silent(&END));
    sides.compare(&silent(&LISTINGS));
}

const NAMESPACES: [&str; 14] = [
    "namespaces ls",
    "namespaces create one a=1 b=2",
    "namespaces create one",
    "namespaces create bad/name",
    "namespaces create -- -x",
    "namespaces ls",
    "namespaces ls -q",
    "namespaces label one a= c=3",
    "namespaces ls",
    "namespaces create two",
    "namespaces rm two",
    "namespaces rm two",
    "namespaces rm missing",
    "namespaces ls",
];

const LEASES: [&str; 11] = [
    "-n one leases create --id l1 -x 0 foo=bar",
    "-n one leases create --id l1",
    "-n one leases create --id bad/id",
    "-n one leases create --id l2",
    "-n one leases ls",
    "-n one leases ls -q",
    "-n one leases ls labels.foo==bar",
    "-n one leases ls labels.foo==",
    "-n one leases rm l2",
    "-n one leases rm l2",
    "-n one leases ls -q",
];

/// sha256 of "hello\n" and of "other\n".
const HELLO: &str = "sha256:5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03";
const OTHER: &str = "sha256:c4ee6c5ca1b4b4d0d5bd3c5dd1bb6b4d0a5d1e6f04f6bf3f8ba4d7f5b9b4f0c1";

fn content(sides: &Sides) {
    let hello: &[u8] = b"hello\n";
    let lines = [
        (format!("-n one content ingest --expected-digest {HELLO} --expected-size 6 first"), hello),
        (format!("-n one content ingest --expected-digest {HELLO} again"), hello),
        ("-n one content ingest plain".to_owned(), b"no digest said\n"),
        ("-n one content ingest --expected-digest sha256:xyz bad".to_owned(), hello),
        ("-n one content ls".to_owned(), b""),
        ("-n one content ls -q".to_owned(), b""),
        (format!("-n one content get {HELLO}"), b""),
        (format!("-n one content get {OTHER}"), b""),
        (format!("-n one content label {HELLO} a=1 b=2"), b""),
        (format!("-n one content label {HELLO} a="), b""),
        (format!("-n one content label {OTHER} a=1"), b""),
        ("-n one content ls".to_owned(), b""),
        (format!("-n one content rm {HELLO}"), b""),
        (format!("-n one content rm {HELLO}"), b""),
        (format!("-n one content get {HELLO}"), b""),
        ("-n one content ls".to_owned(), b""),
    ];
    let lines: Vec<(&str, &[u8])> = lines.iter().map(|(line, stdin)| (line.as_str(), *stdin)).collect();
    sides.compare(&lines);

    // containerd refuses it as well, and keeps the bytes for a day.
    let ours = ctr(&sides.orlop);
    let wrong = ours.run_with(&format!("-n one content ingest --expected-digest {OTHER} wrong"), hello);
    assert!(wrong.code == Some(1) && wrong.stderr.contains("expected sha256:c4ee"), "{wrong:?}");
    assert_eq!(ours.plain(&ours.done("-n one content active")), ["REF SIZE AGE"]);
}

const SNAPSHOTS: [&str; 25] = [
    "-n one snapshots prepare work",
    "-n one snapshots prepare work",
    "-n one snapshots prepare child missing",
    "-n one snapshots prepare child work",
    "-n one snapshots ls",
    "-n one snapshots commit layer work",
    "-n one snapshots commit layer work",
    "-n one snapshots commit other missing",
    "-n one snapshots prepare child layer",
    "-n one snapshots view look layer",
    "-n one snapshots commit viewed look",
    "-n one snapshots ls",
    "-n one snapshots tree",
    "-n one snapshots info layer",
    "-n one snapshots info child",
    "-n one snapshots info missing",
    "-n one snapshots usage",
    "-n one snapshots usage layer",
    "-n one snapshots mounts /x layer",
    "-n one snapshots label layer k=v",
    "-n one snapshots rm layer",
    "-n one snapshots rm look",
    "-n one snapshots rm missing",
    "-n one snapshots --snapshotter none ls",
    "-n one snapshots ls",
];

const CONTAINERS: [&str; 8] = [
    "-n one containers create --rootfs --label k=v /tmp c1",
    "-n one containers create --rootfs /tmp c1",
    "-n one containers create --rootfs /tmp bad/id",
    "-n one containers ls",
    "-n one containers ls -q",
    "-n one containers label c1 k= l=w",
    "-n one containers info --spec c1",
    "-n one containers info missing",
];

const END: [&str; 14] = [
    "namespaces rm one",
    "-n one containers rm c1",
    "-n one containers rm c1",
    "-n one snapshots rm child",
    "-n one snapshots rm layer",
    "-n one leases rm --sync l1",
    "-n one content ls",
    "namespaces ls",
    "-n one content prune references",
    "-n one content ls",
    "-n one images ls",
    "-n one images rm missing",
    "-n one images label missing a=b",
    "namespaces rm one",
];

#[test]
fn an_image_is_fetched_listed_labelled_and_taken_away_as_with_containerd() {
    let mut sides = Sides::start();
    sides.orlop.registry().push("tools/busybox", "1", &images::busybox("ctr"));
    let image = format!("{}/tools/busybox:1", sides.orlop.registry().address());
    for node in [&sides.orlop, &sides.containerd] {
        // It shows how far it is, which is never the same.
        ctr(node).done(&format!("-n one content fetch --plain-http {image}"));
    }
    let lines: Vec<String> = IMAGES.iter().map(|line| line.replace("IMAGE", &image)).collect();
    let lines: Vec<(&str, &[u8])> = lines.iter().map(|line| (line.as_str(), &b""[..])).collect();
    sides.compare(&lines);
}

const IMAGES: [&str; 18] = [
    "-n one images ls",
    "-n one images ls -q",
    "-n one images ls name~=busybox",
    "-n one images ls labels.none",
    "-n one images ls name~==",
    "-n one content ls",
    "-n one images check",
    "-n one images inspect IMAGE",
    "-n one images label IMAGE a=1",
    "-n one images label IMAGE a=",
    "-n one images tag --local IMAGE docker.io/library/other:1",
    "-n one images tag --local IMAGE docker.io/library/other:1",
    "-n one images tag --local docker.io/library/missing:1 docker.io/library/x:1",
    "-n one images ls",
    "-n one images export --local /dev/null IMAGE",
    "-n one images rm IMAGE",
    "-n one images rm --sync docker.io/library/other:1",
    "-n one content ls",
];
