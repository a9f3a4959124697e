//! Bringing a table of version 2 or 4 to version 3, remembering where each key came from.
//!
//! Version 2 has one CRI plugin, `io.containerd.grpc.v1.cri`, whose keys version 3 splits in two; version 4 has
//! the gRPC and debug sockets in plugins, which version 3 has in the file itself.

use toml::{Table, Value};

use super::{IMAGES_PLUGIN, RUNTIME_PLUGIN};

const PLUGINS: &str = "plugins";
const OLD_CRI: &str = "io.containerd.grpc.v1.cri";

/// Keys of version 2's CRI plugin that belong to images, and their place there.
const TO_IMAGES: &[(&[&str], &[&str])] = &[
    (&["registry"], &["registry"]),
    (&["image_decryption"], &["image_decryption"]),
    (&["max_concurrent_downloads"], &["max_concurrent_downloads"]),
    (&["image_pull_progress_timeout"], &["image_pull_progress_timeout"]),
    (&["image_pull_with_sync_fs"], &["image_pull_with_sync_fs"]),
    (&["stats_collect_period"], &["stats_collect_period"]),
    (&["sandbox_image"], &["pinned_images", "sandbox"]),
    (&["containerd", "snapshotter"], &["snapshotter"]),
    (&["containerd", "disable_snapshot_annotations"], &["disable_snapshot_annotations"]),
    (&["containerd", "discard_unpacked_layers"], &["discard_unpacked_layers"]),
];

/// Keys that stay with the old plugin in version 3 as well: the streaming server's.
const STAYS: &[&str] = &[
    "disable_tcp_service",
    "stream_server_address",
    "stream_server_port",
    "stream_idle_timeout",
    "enable_tls_streaming",
    "x509_key_pair_streaming",
];

/// Version 4's server plugins and version 3's tables.
const SERVERS: &[(&str, &str)] = &[
    ("io.containerd.server.v1.grpc", "grpc"),
    ("io.containerd.server.v1.ttrpc", "ttrpc"),
    ("io.containerd.server.v1.debug", "debug"),
    ("io.containerd.server.v1.metrics", "metrics"),
];

/// Where keys went: from the file's place to the place in version 3.
#[derive(Default)]
pub(super) struct Moves {
    moves: Vec<(Vec<String>, Vec<String>)>,
}

impl Moves {
    /// The place in the file of what stands at `key` in version 3.
    pub(super) fn origin(&self, key: &[String]) -> Vec<String> {
        let longest = self.moves.iter().filter(|(_, to)| key.starts_with(to)).max_by_key(|(_, to)| to.len());
        match longest {
            Some((from, to)) => from.iter().chain(&key[to.len()..]).cloned().collect(),
            None => key.to_vec(),
        }
    }

    fn relocate(&mut self, table: &mut Table, from: &[&str], to: &[&str]) {
        let Some(value) = take(table, from) else { return };
        put(table, to, value);
        let owned = |path: &[&str]| path.iter().map(|part| (*part).to_owned()).collect();
        self.moves.push((owned(from), owned(to)));
    }
}

/// Version 2 to 3.
pub(super) fn from_version_2(table: &mut Table) -> Moves {
    let mut moves = Moves::default();
    for (from, to) in TO_IMAGES {
        moves.relocate(table, &join(&[PLUGINS, OLD_CRI], from), &join(&[PLUGINS, IMAGES_PLUGIN], to));
    }
    let rest: Vec<String> = old_cri_keys(table).filter(|key| !STAYS.contains(&key.as_str())).collect();
    for key in &rest {
        moves.relocate(table, &[PLUGINS, OLD_CRI, key], &[PLUGINS, RUNTIME_PLUGIN, key]);
    }
    moves
}

/// Version 4 to 3.
pub(super) fn from_version_4(table: &mut Table) -> Moves {
    let mut moves = Moves::default();
    for (plugin, root) in SERVERS {
        moves.relocate(table, &[PLUGINS, plugin], &[root]);
    }
    moves
}

fn old_cri_keys(table: &Table) -> impl Iterator<Item = String> {
    let plugin = table.get(PLUGINS).and_then(|plugins| plugins.get(OLD_CRI)).and_then(Value::as_table);
    plugin.into_iter().flat_map(Table::keys).cloned()
}

fn join<'a>(front: &[&'a str], back: &[&'a str]) -> Vec<&'a str> {
    front.iter().chain(back).copied().collect()
}

fn take(table: &mut Table, path: &[&str]) -> Option<Value> {
    match path {
        [] => None,
        [last] => table.remove(*last),
        [first, rest @ ..] => take(table.get_mut(*first)?.as_table_mut()?, rest),
    }
}

/// Merges into what is there: a table of tables keeps both sides, anything else is replaced.
fn put(table: &mut Table, path: &[&str], value: Value) {
    match path {
        [] => {}
        [last] => match (table.get_mut(*last), value) {
            (Some(Value::Table(old)), Value::Table(new)) => old.extend(new),
            (_, value) => drop(table.insert((*last).to_owned(), value)),
        },
        [first, rest @ ..] => {
            let inner = table.entry(*first).or_insert_with(|| Value::Table(Table::new()));
            if let Value::Table(inner) = inner {
                put(inner, rest, value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(path: &[&str]) -> Vec<String> {
        path.iter().map(|part| (*part).to_owned()).collect()
    }

    #[test]
    fn version_2s_cri_plugin_is_split() {
        let text = "[plugins.'io.containerd.grpc.v1.cri']\nsandbox_image = 'p'\nenable_selinux = true\nstream_server_port = '0'\n[plugins.'io.containerd.grpc.v1.cri'.containerd]\nsnapshotter = 'overlayfs'\n[plugins.'io.containerd.grpc.v1.cri'.containerd.runtimes.x]\nruntime_type = 't'\n[plugins.'io.containerd.grpc.v1.cri'.registry]\nconfig_path = '/c'";
        let mut table: Table = text.parse().expect("valid toml");
        let moves = from_version_2(&mut table);
        let plugin = |uri: &str| table[PLUGINS][uri].as_table().cloned().unwrap_or_default();
        assert_eq!(plugin(IMAGES_PLUGIN)["registry"]["config_path"].as_str(), Some("/c"));
        assert_eq!(plugin(IMAGES_PLUGIN)["snapshotter"].as_str(), Some("overlayfs"));
        assert_eq!(plugin(IMAGES_PLUGIN)["pinned_images"]["sandbox"].as_str(), Some("p"));
        assert_eq!(plugin(RUNTIME_PLUGIN)["containerd"]["runtimes"]["x"]["runtime_type"].as_str(), Some("t"));
        assert_eq!(plugin(OLD_CRI).keys().collect::<Vec<_>>(), ["stream_server_port"]);
        assert_eq!(
            moves.origin(&key(&[PLUGINS, IMAGES_PLUGIN, "snapshotter"])),
            key(&[PLUGINS, OLD_CRI, "containerd", "snapshotter"])
        );
        assert_eq!(
            moves.origin(&key(&[PLUGINS, RUNTIME_PLUGIN, "containerd", "runtimes", "x"])),
            key(&[PLUGINS, OLD_CRI, "containerd", "runtimes", "x"])
        );
    }

    #[test]
    fn version_4s_server_plugins_become_tables() {
        let text = "[plugins.'io.containerd.server.v1.grpc']\naddress = '/run/a.sock'";
        let mut table: Table = text.parse().expect("valid toml");
        let moves = from_version_4(&mut table);
        assert_eq!(table["grpc"]["address"].as_str(), Some("/run/a.sock"));
        let origin = moves.origin(&key(&["grpc", "address"]));
        assert_eq!(origin, key(&[PLUGINS, "io.containerd.server.v1.grpc", "address"]));
    }
}
