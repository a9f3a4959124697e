//! The command line of `orlop`: flags and subcommands, and nothing that acts on them but `config`.

pub mod man;

use std::path::PathBuf;

use clap::{Parser, Subcommand};
use clap_complete::Shell;

use crate::config::{ConfigError, ConfigPath, Loaded, LogLevel, Overrides, Schemas, Severity, load};

/// What stands below the options, in `--help` and in the man page.
const HINTS: &str = "\
Flags win over the configuration file, and it over the defaults (`orlop config default`).

To try it:
  orlop config check                          what is wrong with the configuration
  orlop --state /run/o --root /var/lib/o      a daemon beside another one
  crictl --runtime-endpoint unix:///run/orlop/orlop.sock info
  kubelet --container-runtime-endpoint=unix:///run/orlop/orlop.sock ...";

/// A Kubernetes node agent: without a subcommand, the daemon.
#[derive(Debug, Parser, PartialEq, Eq)]
#[command(name = "orlop", version, disable_help_subcommand = true, subcommand_negates_reqs = true)]
#[command(after_help = HINTS)]
pub struct Cli {
    /// Configuration file, in containerd's format [default: /etc/orlop/config.toml, which may be absent]
    #[arg(long, short, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Socket to answer on [default: /run/orlop/orlop.sock]
    #[arg(long, short, global = true, value_name = "SOCKET")]
    pub address: Option<PathBuf>,

    /// Folder for what survives a reboot: images, records [default: /var/lib/orlop]
    #[arg(long, global = true, value_name = "FOLDER")]
    pub root: Option<PathBuf>,

    /// Folder for what lives as long as the boot: sockets, mounts [default: /run/orlop]
    #[arg(long, global = true, value_name = "FOLDER")]
    pub state: Option<PathBuf>,

    /// How much to log: trace, debug, info, warn or error [default: info]
    #[arg(long, short, global = true, value_name = "LEVEL")]
    pub log_level: Option<LogLevel>,

    #[command(subcommand)]
    pub command: Option<Command>,
}

#[derive(Clone, Debug, Subcommand, PartialEq, Eq)]
pub enum Command {
    /// Look at the configuration
    Config {
        #[command(subcommand)]
        command: ConfigCommand,
    },
    /// Print what a shell needs to complete this command line
    Completion { shell: Shell },
    /// Write the man pages, one a command, into a folder
    Man { folder: PathBuf },
    /// Print the version
    Version,
}

#[derive(Clone, Copy, Debug, Subcommand, PartialEq, Eq)]
pub enum ConfigCommand {
    /// Print every key with its default
    Default,
    /// Print every key with the value it has now, flags included
    Dump,
    /// Say everything that is wrong with the file; fails on unknown keys too
    Check,
    /// Print the pod network of a node that has none: for a file in cni.conf_dir, with the plugins of `orlop-cni install`
    Network,
}

impl Cli {
    pub fn config_path(&self) -> ConfigPath {
        self.config.clone().map_or(ConfigPath::Default, ConfigPath::Given)
    }

    pub fn overrides(&self) -> Overrides {
        Overrides {
            address: self.address.clone(),
            root: self.root.clone(),
            state: self.state.clone(),
            log_level: self.log_level,
        }
    }

    /// The configuration that the flags point at.
    pub fn load(&self, schemas: &Schemas) -> Result<Loaded, ConfigError> {
        load(&self.config_path(), &self.overrides(), schemas)
    }
}

/// What `config check` found in a file without mistakes.
#[derive(Debug, PartialEq, Eq)]
pub struct CheckReport {
    /// One line a remark, for standard output.
    pub lines: Vec<String>,
    /// No unknown keys.
    pub passed: bool,
}

/// `orlop config check` on what loaded; a file that does not load has its say as the error.
pub fn check_report(loaded: &Loaded) -> CheckReport {
    let label = |severity| match severity {
        Severity::Mistake | Severity::Unknown => "error",
        Severity::NotUsed => "note",
    };
    let remark = |it: &crate::config::Finding| format!("{}: {it}", label(it.severity));
    CheckReport {
        lines: loaded.findings.iter().map(remark).collect(),
        passed: loaded.findings.iter().all(|it| it.severity == Severity::NotUsed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(args: &[&str]) -> Cli {
        Cli::try_parse_from(args).expect("valid arguments")
    }

    #[test]
    fn the_definition_is_consistent() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }

    #[test]
    fn no_subcommand_is_the_daemon_and_flags_have_short_forms() {
        let cli = parse(&[
            "orlop", "-c", "/c.toml", "-a", "/a.sock", "--root", "/r", "--state", "/s", "-l", "debug",
        ]);
        assert_eq!(cli.command, None);
        assert_eq!(cli.config_path(), ConfigPath::Given("/c.toml".into()));
        let overrides = Overrides {
            address: Some("/a.sock".into()),
            root: Some("/r".into()),
            state: Some("/s".into()),
            log_level: Some(LogLevel::Debug),
        };
        assert_eq!(cli.overrides(), overrides);
        assert_eq!(parse(&["orlop"]).config_path(), ConfigPath::Default);
    }

    #[test]
    fn flags_may_stand_on_either_side_of_a_subcommand() {
        let before = parse(&["orlop", "-c", "/c.toml", "config", "check"]);
        let after = parse(&["orlop", "config", "check", "-c", "/c.toml"]);
        assert_eq!(before, after);
        assert_eq!(before.command, Some(Command::Config { command: ConfigCommand::Check }));
        assert_eq!(parse(&["orlop", "version"]).command, Some(Command::Version));
    }

    #[test]
    fn an_unknown_log_level_is_refused() {
        let error = Cli::try_parse_from(["orlop", "-l", "loud"]).expect_err("no such level");
        assert!(error.to_string().contains("\"loud\" is not one of"), "{error}");
    }

    #[test]
    fn check_fails_on_unknown_keys_only() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let path = folder.path().join("config.toml");
        for (text, passed) in [("version = 3\noom_score = 1\n", true), ("version = 3\nrooot = '/r'\n", false)]
        {
            use std::io::Write;
            let mut file = std::fs::File::create(&path).expect("a file in our folder");
            file.write_all(text.as_bytes()).expect("it takes a line");
            let cli = Cli { config: Some(path.clone()), ..parse(&["orlop"]) };
            let report = check_report(&cli.load(&Schemas::builtin()).expect("no mistakes"));
            assert_eq!(report.passed, passed, "{report:?}");
            assert_eq!(report.lines.len(), 1, "{report:?}");
        }
    }
}
