//! The binary `orlop`: parse, build, run, map the error to an exit code.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::{CommandFactory as _, Parser};
use cri_server::Daemon;
use cri_server::cli::{self, Cli, Command, ConfigCommand};

/// Worker threads of the daemon: its work is waiting, and every thread costs memory on the node.
const WORKERS: usize = 2;
/// How long work on the disk may take to end when the daemon stops.
const BLOCKING_DEADLINE: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(&cli) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("orlop: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: &Cli) -> anyhow::Result<ExitCode> {
    let builder = Daemon::builder();
    match &cli.command {
        None => {
            let loaded = cli.load(&builder.schemas())?;
            let runtime =
                tokio::runtime::Builder::new_multi_thread().worker_threads(WORKERS).enable_all().build()?;
            let ran = runtime.block_on(builder.build(loaded).run());
            // Work on the disk that hangs is not waited for: it is as safe as a kill -9.
            runtime.shutdown_timeout(BLOCKING_DEADLINE);
            ran?;
        }
        Some(Command::Version) => println!("orlop {}", env!("CARGO_PKG_VERSION")),
        Some(Command::Completion { shell }) => {
            clap_complete::generate(*shell, &mut Cli::command(), "orlop", &mut std::io::stdout());
        }
        Some(Command::Man { folder }) => cli::man::write(Cli::command(), folder)
            .with_context(|| format!("write the man pages into {}", folder.display()))?,
        Some(Command::Config { command }) => return config(cli, command, &builder),
    }
    Ok(ExitCode::SUCCESS)
}

fn config(cli: &Cli, command: &ConfigCommand, builder: &cri_server::Builder) -> anyhow::Result<ExitCode> {
    let schemas = builder.schemas();
    match command {
        ConfigCommand::Default => print!("{}", cri_server::config::Config::defaults(&schemas).dump()),
        ConfigCommand::Dump => print!("{}", cli.load(&schemas)?.config.dump()),
        ConfigCommand::Network => print!("{}", cri_server::config::DEFAULT_NETWORK),
        ConfigCommand::Check => {
            let report = cli::check_report(&cli.load(&schemas)?);
            for line in &report.lines {
                println!("{line}");
            }
            return Ok(if report.passed { ExitCode::SUCCESS } else { ExitCode::FAILURE });
        }
    }
    Ok(ExitCode::SUCCESS)
}
