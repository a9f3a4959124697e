//! What a node's pods have left in the network: interfaces, addresses, rules, pinned namespaces, files of plugins.

use std::collections::BTreeSet;
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use crate::network::Network;
use crate::process;

/// What makes a thing of the network this node's.
pub struct NetworkMarks {
    pub bridge: String,
    /// The first three bytes of its pods' addresses, with the last dot.
    pub prefixes: [String; 2],
    /// Folder of host-local.
    pub reservations: PathBuf,
    /// Folder of what plugins answered.
    pub results: PathBuf,
}

/// One line for each thing left behind.
pub fn find(marks: &NetworkMarks, ids: &BTreeSet<String>) -> Vec<String> {
    let mut left: Vec<String> =
        interfaces(marks).into_iter().map(|name| format!("interface {name}")).collect();
    left.extend(reservations(marks));
    left.extend(rules(marks, ids).into_iter().map(|rule| format!("rule {}", rule.text)));
    left.extend(pins(ids).into_iter().map(|pin| format!("network namespace {}", pin.display())));
    left.extend(files(&marks.results).into_iter().map(|path| format!("CNI result {}", path.display())));
    left
}

/// Interfaces on the node's bridge, and those beside it that have an address of the node's: point-to-point links.
fn interfaces(marks: &NetworkMarks) -> BTreeSet<String> {
    let bridged =
        fs::read_dir(format!("/sys/class/net/{}/brif", marks.bridge)).into_iter().flatten().flatten();
    let mut found: BTreeSet<String> =
        bridged.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    let listing = process::run(process::command("ip").args(["-o", "-4", "address", "show"]));
    let with_address =
        listing.lines().filter(|line| marks.prefixes.iter().any(|prefix| line.contains(prefix)));
    found.extend(with_address.filter_map(|line| line.split_whitespace().nth(1).map(str::to_owned)));
    found.remove(&marks.bridge);
    found
}

/// Each with the id that it was made for: the first line of the file.
fn reservations(marks: &NetworkMarks) -> Vec<String> {
    let is_address = |path: &PathBuf| {
        path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.parse::<IpAddr>().is_ok())
    };
    let describe = |path: PathBuf| {
        let owner = fs::read_to_string(&path).unwrap_or_default();
        format!("address {} of {}", path.display(), owner.lines().next().unwrap_or_default())
    };
    files(&marks.reservations).into_iter().filter(is_address).map(describe).collect()
}

struct Rule {
    /// Family, table, chain, and the handle to delete it by.
    place: [String; 4],
    text: String,
}

/// Rules of nftables that name an address or an id of the node. Debian's `iptables` writes nftables, too.
fn rules(marks: &NetworkMarks, ids: &BTreeSet<String>) -> Vec<Rule> {
    let listing = process::run(process::command("nft").args(["-a", "list", "ruleset"]));
    let is_ours = |line: &str| {
        marks.prefixes.iter().any(|prefix| line.contains(prefix)) || ids.iter().any(|id| line.contains(id))
    };
    let (mut table, mut chain) = ((String::new(), String::new()), String::new());
    let mut found = Vec::new();
    for line in listing.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            ["table", family, name, ..] => table = ((*family).to_owned(), (*name).to_owned()),
            ["chain", name, ..] => chain = (*name).to_owned(),
            [.., "handle", handle] if is_ours(line) => {
                let place = [table.0.clone(), table.1.clone(), chain.clone(), (*handle).to_owned()];
                found.push(Rule { place, text: line.trim().to_owned() });
            }
            _ => {}
        }
    }
    found
}

fn pins(ids: &BTreeSet<String>) -> Vec<PathBuf> {
    ids.iter().map(|id| Network::pin(id)).filter(|pin| pin.exists()).collect()
}

/// All files below a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![folder.to_path_buf()];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                open.push(entry.path());
            } else {
                found.push(entry.path());
            }
        }
    }
    found
}

/// Takes away by force what a failed test left; files go with the node's folder.
pub fn sweep(marks: &NetworkMarks, ids: &BTreeSet<String>) {
    for pin in pins(ids) {
        let _ = rustix::mount::unmount(&pin, rustix::mount::UnmountFlags::DETACH);
        let _ = fs::remove_file(&pin);
    }
    for name in interfaces(marks) {
        process::output(process::command("ip").args(["link", "del", &name]));
    }
    for Rule { place: [family, table, chain, handle], .. } in rules(marks, ids) {
        let rule = ["delete", "rule", &family, &table, &chain, "handle", &handle];
        process::output(process::command("nft").args(rule));
    }
}
