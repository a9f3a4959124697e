//! What the compiler does not check: the crate graph, file headers and sizes, names, and where `unsafe` may be.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use e2e::fixture::read;

/// Who may depend on whom: the drawing in README.md as data. An arrow that is not here is a change to it first.
const GRAPH: [(&str, &[&str]); 14] = [
    (
        "cri-server",
        &["cni", "cri-proto", "imagesvc", "pod-sandbox", "runtime-api", "runtime-core", "streaming"],
    ),
    ("pod-sandbox", &["cni", "runtime-core"]),
    ("imagesvc", &["runtime-core"]),
    ("streaming", &["runtime-core"]),
    ("runtime-api", &["runtime-core", "runtime-proto"]),
    ("runtime-core", &["runtime-proto", "runtime-shim", "runtime-sys"]),
    ("runtime-shim", &["runtime-sys"]),
    ("runtime-sys", &[]),
    ("cni", &["runtime-sys"]),
    ("orlop-cni", &["runtime-sys"]),
    ("orlop-pause", &["runtime-sys"]),
    ("cri-proto", &[]),
    ("runtime-proto", &[]),
    ("e2e", &["cri-proto"]),
];

const LONGEST_FILE: usize = 500;
const VAGUE_NAMES: [&str; 6] = ["utils", "util", "helpers", "helper", "common", "misc"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("e2e lies in the tree").to_path_buf()
}

/// All files of the tree with this extension, without build output.
fn files(extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![root()];
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(&folder).expect("read a folder of the tree").flatten() {
            let (path, name) = (entry.path(), entry.file_name());
            let hidden = name.to_string_lossy().starts_with('.');
            if path.is_dir() && !hidden && name != "target" {
                open.push(path);
            } else if path.extension().is_some_and(|other| other == extension) {
                found.push(path);
            }
        }
    }
    assert!(!found.is_empty(), "no .{extension} file below {}", root().display());
    found.sort();
    found
}

fn relative(path: &Path) -> String {
    path.strip_prefix(root()).unwrap_or(path).to_string_lossy().into_owned()
}

/// Panics with all offenders at once.
fn none(rule: &str, offenders: Vec<String>) {
    assert!(offenders.is_empty(), "{rule}:\n  {}", offenders.join("\n  "));
}

#[test]
fn crates_depend_on_each_other_as_drawn() {
    let mut manifests = BTreeMap::new();
    for path in files("toml").into_iter().filter(|path| path.ends_with("Cargo.toml")) {
        let manifest: toml::Table = read(&path).parse().expect("a manifest is TOML");
        if let Some(name) = manifest.get("package").and_then(|package| package["name"].as_str()) {
            manifests.insert(name.to_owned(), manifest);
        }
    }
    let drawn: BTreeMap<&str, BTreeSet<&str>> =
        GRAPH.into_iter().map(|(name, arrows)| (name, arrows.iter().copied().collect())).collect();
    let names: BTreeSet<&str> = manifests.keys().map(String::as_str).collect();
    assert_eq!(names, drawn.keys().copied().collect(), "crates of the tree and of the drawing");
    for (name, manifest) in &manifests {
        for table in ["dependencies", "build-dependencies", "dev-dependencies"] {
            let table = manifest.get(table).and_then(toml::Value::as_table).into_iter().flatten();
            let used: BTreeSet<&str> =
                table.map(|(key, _)| key.as_str()).filter(|key| names.contains(key)).collect();
            let extra: Vec<_> = used.difference(&drawn[name.as_str()]).collect();
            assert!(extra.is_empty(), "{name} may not depend on {extra:?}");
        }
    }
}

#[test]
fn every_file_says_first_what_it_owns() {
    let headless = |path: &PathBuf| !read(path).starts_with("//!");
    none(
        "these do not open with `//!`",
        files("rs").iter().filter(|path| headless(path)).map(|path| relative(path)).collect(),
    );
}

#[test]
fn files_are_short() {
    let long = |path: &PathBuf| {
        let lines = read(path).lines().count();
        (lines > LONGEST_FILE).then(|| format!("{} has {lines} lines", relative(path)))
    };
    none("files over 500 lines", files("rs").iter().filter_map(long).collect());
}

#[test]
fn files_are_named_after_what_they_know() {
    let vague = |path: &&PathBuf| {
        let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        VAGUE_NAMES.contains(&stem) || (stem == "mod" && !relative(path).contains("/tests/"))
    };
    none("vague file names", files("rs").iter().filter(vague).map(|path| relative(path)).collect());
}

#[test]
fn unsafe_is_in_one_crate_and_explained() {
    let word = format!("{} {{", "unsafe");
    let (inside, outside): (Vec<PathBuf>, Vec<PathBuf>) =
        files("rs").into_iter().partition(|path| path.starts_with(root().join("runtime-core/sys")));
    let uses = |path: &PathBuf| {
        read(path).lines().any(|line| !line.trim_start().starts_with("//") && line.contains(&word))
    };
    none(
        "unsafe outside runtime-core/sys",
        outside.iter().filter(|path| uses(path)).map(|path| relative(path)).collect(),
    );
    let unexplained = |path: &PathBuf| uses(path) && !read(path).contains("// SAFETY:");
    none(
        "unsafe without SAFETY",
        inside.iter().filter(|path| unexplained(path)).map(|path| relative(path)).collect(),
    );
}

#[test]
fn no_test_is_switched_off_without_an_issue() {
    let mark = format!("#[{}", "ignore");
    let offenders = files("rs").into_iter().filter(|path| {
        read(path).lines().any(|line| line.trim_start().starts_with(&mark) && !line.contains("issue"))
    });
    none("ignored tests without an issue", offenders.map(|path| relative(&path)).collect());
}

#[test]
fn no_note_is_left_without_an_issue() {
    let mark = format!("{}{}", "TO", "DO");
    let offenders = files("rs").into_iter().flat_map(|path| {
        let text = read(&path);
        let lines =
            text.lines().enumerate().filter(|(_, line)| line.contains(&mark) && !line.contains("issue "));
        lines.map(|(number, _)| format!("{}:{}", relative(&path), number + 1)).collect::<Vec<_>>()
    });
    none("notes without an issue", offenders.collect());
}

#[test]
fn grpc_codes_stay_in_one_file_of_the_server() {
    let allowed = ["runtime-core/api/src/status.rs", "runtime-core/shim/"];
    let words = [format!("{}::Code", "tonic"), format!("{}::{{Code", "tonic")];
    let offenders = files("rs").into_iter().filter(|path| {
        let name = relative(path);
        let product = !name.starts_with("e2e/") && !allowed.iter().any(|place| name.starts_with(place));
        product && !name.contains("/tests/") && words.iter().any(|word| read(path).contains(word))
    });
    none("gRPC codes outside status.rs", offenders.map(|path| relative(&path)).collect());
}
