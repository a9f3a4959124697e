//! Folders as network add-ons, editors and attackers leave them.

use std::io::Write;

use serde_json::json;
use tempfile::TempDir;

use super::*;

struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn put(&self, name: &str, content: &str) -> &Self {
        let path = self.0.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        File::create(path).unwrap().write_all(content.as_bytes()).unwrap();
        self
    }

    fn put_list(&self, file: &str, name: &str) -> &Self {
        self.put(
            file,
            &format!(r#"{{"name":"{name}","cniVersion":"1.0.0","plugins":[{{"type":"bridge"}}]}}"#),
        )
    }

    fn load(&self, max: usize) -> Result<NetworkSet, LoadError> {
        ConfigFolder::new(self.0.path().to_owned(), max).load()
    }
}

fn names(set: &NetworkSet) -> Vec<&str> {
    set.networks.iter().map(|network| network.name.as_str()).collect()
}

#[test]
fn networks_come_in_the_order_of_file_names_and_the_first_is_the_default() {
    let folder = Folder::new();
    folder.put_list("20-b.conflist", "b").put_list("10-a.conflist", "a").put_list("05-c.conflist.tmp", "c");
    folder.put("15-d.conf", r#"{"name":"d","cniVersion":"0.4.0","type":"ptp"}"#).put("README", "no network");
    assert_eq!(names(&folder.load(1).unwrap()), ["a"]);
    assert_eq!(names(&folder.load(2).unwrap()), ["a", "d"]);
    let all = folder.load(0).unwrap();
    assert_eq!(names(&all), ["a", "d", "b"]);
    assert_eq!(all.networks[1].source, folder.0.path().join("15-d.conf"));
    assert!(all.skipped.is_empty());
}

#[test]
fn broken_files_are_passed_over_and_told() {
    let folder = Folder::new();
    folder.put("01.conf", "").put("02.json", "{}").put("03.conflist", r#"{"name":"a/b"}"#);
    folder.put_list("04.conf", "list").put("05.conflist", &" ".repeat((1 << 20) + 1));
    fs::create_dir(folder.0.path().join("06.conflist")).unwrap();
    std::os::unix::fs::symlink("nowhere", folder.0.path().join("07.conflist")).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        folder.0.path().join("08.conf"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR,
        0,
    )
    .unwrap();
    folder.put_list("09.conflist", "good").put_list("10.conflist", "good");
    let set = folder.load(0).unwrap();
    assert_eq!(names(&set), ["good"]);
    let reasons = [
        "not JSON",
        "`name`",
        "network name",
        ".conflist",
        "1 MiB",
        "no regular file",
        "cannot be read",
        "no regular file",
        "the network name \"good\" of a file before",
    ];
    assert_eq!(set.skipped.len(), reasons.len());
    for ((path, reason), expected) in set.skipped.iter().zip(reasons) {
        assert!(reason.contains(expected), "{}: {reason}", path.display());
    }
}

#[test]
fn without_a_network_the_error_says_what_to_do() {
    let folder = Folder::new();
    let text = folder.load(1).unwrap_err().to_string();
    assert!(text.contains("no CNI network in") && text.contains("add-on"), "{text}");
    for number in 0..9 {
        folder.put(&format!("{number}.conflist"), "{");
    }
    let text = folder.load(1).unwrap_err().to_string();
    assert!(text.contains("; 0.conflist is no CNI configuration: not JSON"), "{text}");
    assert!(text.contains("4 more files"), "{text}");
    let missing = ConfigFolder::new(folder.0.path().join("missing"), 1).load().unwrap_err();
    assert!(matches!(missing, LoadError::Folder { .. }), "{missing}");
    assert!(missing.to_string().contains("missing"), "{missing}");
}

#[test]
fn a_file_that_appears_later_is_seen() {
    let folder = Folder::new();
    assert!(folder.load(1).is_err());
    folder.put_list("a.conflist", "a");
    assert_eq!(names(&folder.load(1).unwrap()), ["a"]);
}

#[test]
fn plugins_in_files_of_their_own_are_added_unless_forbidden() {
    let folder = Folder::new();
    let list = |only: bool| {
        let plugins = json!([{ "type": "bridge" }]);
        json!({ "name": "a", "cniVersion": "1.1.0", "loadOnlyInlinedPlugins": only, "plugins": plugins })
    };
    folder.put("a.conflist", &list(false).to_string());
    folder.put("a/20.conf", r#"{"type":"tuning"}"#).put("a/10.conf", r#"{"type":"portmap"}"#).put("a/x", "{");
    let types = |set: &NetworkSet| -> Vec<String> {
        set.networks[0].plugins.iter().map(|plugin| plugin["type"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(types(&folder.load(1).unwrap()), ["bridge", "portmap", "tuning"]);
    assert_eq!(folder.load(1).unwrap().networks[0].json()["plugins"].as_array().unwrap().len(), 3);
    folder.put("a.conflist", &list(true).to_string());
    assert_eq!(types(&folder.load(1).unwrap()), ["bridge"]);
    folder.put("a.conflist", &list(false).to_string()).put("a/30.conf", "[]");
    let text = folder.load(1).unwrap_err().to_string();
    assert!(text.contains("a/30.conf") && text.contains("not a JSON object"), "{text}");
}
