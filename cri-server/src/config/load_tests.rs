//! Whole files through `examine`: what comes out, what is said, and on which line.

use std::path::Path;

use super::super::{IMAGES_PLUGIN, LogLevel, RUNTIME_PLUGIN};
use super::*;

fn load_text(text: &str) -> Result<Loaded, ConfigError> {
    load_with(text, &Overrides::default())
}

fn load_with(text: &str, overrides: &Overrides) -> Result<Loaded, ConfigError> {
    let document = Document::parse(Path::new("config.toml"), text.to_owned())?;
    examine(document, overrides, &Schemas::builtin())
}

fn mistakes(result: Result<Loaded, ConfigError>) -> Vec<String> {
    match result {
        Err(ConfigError::Mistakes { findings }) => findings.iter().map(ToString::to_string).collect(),
        Err(other) => panic!("{other}"),
        Ok(loaded) => panic!("accepted: {loaded:?}"),
    }
}

#[test]
fn without_a_file_everything_is_a_default() {
    let loaded = examine(Document::empty(), &Overrides::default(), &Schemas::builtin()).expect("defaults");
    assert_eq!(loaded.config.root, Path::new("/var/lib/orlop"));
    assert_eq!(loaded.config.address, Path::new("/run/orlop/orlop.sock"));
    assert_eq!(loaded.config.runtime().containerd.default_runtime_name, "runc");
    assert!(loaded.findings.is_empty() && loaded.file.is_none());
}

#[test]
fn a_named_file_must_be_there() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let path = ConfigPath::Given(folder.path().join("config.toml"));
    let result = load(&path, &Overrides::default(), &Schemas::builtin());
    assert!(matches!(result, Err(ConfigError::Read { .. })), "{result:?}");
}

#[test]
fn the_same_settings_in_three_versions_are_the_same() {
    let two = "version = 2\n[grpc]\naddress = '/run/a.sock'\n[plugins.'io.containerd.grpc.v1.cri'.registry]\nconfig_path = '/certs'\n[plugins.'io.containerd.grpc.v1.cri'.containerd.runtimes.runc.options]\nBinaryName = '/bin/r'";
    let rest = "[plugins.'io.containerd.cri.v1.images'.registry]\nconfig_path = '/certs'\n[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]\nBinaryName = '/bin/r'";
    let three = format!("version = 3\n[grpc]\naddress = '/run/a.sock'\n{rest}");
    let four =
        format!("version = 4\n[plugins.'io.containerd.server.v1.grpc']\naddress = '/run/a.sock'\n{rest}");
    let configs = [two, &three, &four].map(|text| load_text(text).expect(text).config);
    assert_eq!(configs[0], configs[1]);
    assert_eq!(configs[1], configs[2]);
    assert_eq!(configs[0].address, Path::new("/run/a.sock"));
    assert_eq!(configs[0].runtime().containerd.runtimes["runc"].options.binary_name, "/bin/r");
    assert_eq!(configs[0].images().registry.folders(), [Path::new("/certs")]);
}

#[test]
fn other_versions_are_refused_by_name() {
    for (text, part) in [
        ("root = '/r'", "version: is missing, which means version 1"),
        ("version = 1", "config.toml:1: version: 1 is not supported; write version = 3"),
        ("version = 5", "version: 5 is not supported"),
        ("version = '3'", "version: \"3\" is not supported"),
    ] {
        let found = mistakes(load_text(text));
        assert!(found.len() == 1 && found[0].contains(part), "{text}: {found:?}");
    }
}

#[test]
fn all_mistakes_come_at_once_with_their_lines() {
    let text = format!(
        "version = 3\nroot = 'relative'\nstate = 7\ndisabled_plugins = ['cri']\n[debug]\nlevel = 'loud'\n\
         [grpc]\naddress = '/{}'\n[plugins.'{RUNTIME_PLUGIN}'.containerd]\ndefault_runtime_name = 'kata'\n\
         [plugins.'{IMAGES_PLUGIN}']\nmax_concurrent_downloads = -3",
        "a".repeat(107)
    );
    let found = mistakes(load_text(&text));
    let expected = [
        "config.toml:2: root: \"relative\" is not an absolute path",
        "config.toml:3: state: invalid type: integer `7`, expected a string",
        "config.toml:4: disabled_plugins: \"cri\" is not a plugin's full id",
        "config.toml:6: debug.level: \"loud\" is not one of",
        "config.toml:8: grpc.address: ",
        "config.toml:10: plugins.\"io.containerd.cri.v1.runtime\".containerd.default_runtime_name: \"kata\"",
        "config.toml:12: plugins.\"io.containerd.cri.v1.images\".max_concurrent_downloads: ",
    ];
    assert_eq!(found.len(), expected.len(), "{found:#?}");
    for (found, expected) in found.iter().zip(expected) {
        assert!(found.starts_with(expected), "{found} does not start with {expected}");
    }
}

#[test]
fn unknown_and_unused_keys_are_told_apart() {
    let text = format!(
        "version = 3\noom_score = 0\nrooot = '/r'\n[plugins.'{RUNTIME_PLUGIN}']\nenable_selinux = false\n\
         enable_selinus = false\n[plugins.'io.containerd.nri.v1.nri']\ndisable = true\n[plugins.'io.nothing']\na = 1"
    );
    let loaded = load_text(&text).expect("only remarks");
    let found: Vec<_> = loaded.findings.iter().map(|it| (it.line, it.severity, it.key.as_str())).collect();
    let runtime = |key: &str| format!("plugins.\"{RUNTIME_PLUGIN}\".{key}");
    let expected = [
        (Some(2), Severity::NotUsed, "oom_score"),
        (Some(3), Severity::Unknown, "rooot"),
        (Some(5), Severity::NotUsed, &runtime("enable_selinux")),
        (Some(6), Severity::Unknown, &runtime("enable_selinus")),
        (Some(7), Severity::NotUsed, "plugins.\"io.containerd.nri.v1.nri\""),
        (Some(9), Severity::Unknown, "plugins.\"io.nothing\""),
    ];
    assert_eq!(found, expected);
}

#[test]
fn a_migrated_key_is_named_as_the_file_has_it() {
    let text = "version = 2\n[plugins.'io.containerd.grpc.v1.cri'.containerd]\nsnapshotter = 'zfs'";
    let found = mistakes(load_text(text));
    let place = "config.toml:3: plugins.\"io.containerd.grpc.v1.cri\".containerd.snapshotter: ";
    assert!(found.len() == 1 && found[0].starts_with(place), "{found:?}");
}

#[test]
fn flags_win_and_their_mistakes_name_the_flag() {
    let overrides = Overrides {
        state: Some("/tmp/state".into()),
        log_level: Some(LogLevel::Trace),
        ..Overrides::default()
    };
    let config =
        load_with("version = 3\nstate = '/other'\n[debug]\nlevel = 'warn'", &overrides).expect("good").config;
    assert_eq!((config.state.as_path(), config.log_level), (Path::new("/tmp/state"), LogLevel::Trace));

    let overrides = Overrides { root: Some("here".into()), ..Overrides::default() };
    let found = mistakes(load_with("version = 3\nroot = '/fine'", &overrides));
    assert!(found.len() == 1 && found[0].starts_with("--root: \"here\" is not an absolute"), "{found:?}");
}

#[test]
fn what_dump_writes_loads_as_the_same() {
    let text = "version = 3\nroot = '/r'\n[debug]\nformat = 'json'\n[plugins.'io.containerd.cri.v1.runtime']\nrestrict_oom_score_adj = true";
    let first = load_text(text).expect("good").config;
    assert!(first.runtime().restrict_oom_score_adj);
    let again = load_text(&first.dump()).expect("a dump is a configuration");
    assert_eq!(again.config, first);
    assert!(again.findings.is_empty(), "{:?}", again.findings);
}
