//! The benchmark: orlop and containerd side by side in private folders, measured in turns in one run.
//!
//! Times on a shared machine mean little alone: what counts is the ratio of two sides that had the same noise. So
//! this prints and judges nothing: it fails on an error only, never on a time. Both sides are nodes of the harness:
//! they are taken away wholly at the end, and after an error or a signal too.

mod figures;
mod floor;
mod json;
mod machine;
mod outside;
mod pods;
mod report;
mod rounds;
mod side;

use std::path::PathBuf;

use clap::{Parser, ValueEnum};
use e2e::network::Plugins;

use crate::figures::Figures;
use crate::floor::Floor;
use crate::machine::Conditions;
use crate::pods::SideUsage;
use crate::side::Side;

/// Measures orlop beside containerd: calls of the CRI in milliseconds, memory of what runs for each pod.
#[derive(Parser)]
struct Options {
    /// Rounds of calls that count, after one that does not.
    #[arg(long, default_value_t = 20)]
    rounds: usize,
    /// Pods of one container that run on each side while memory is measured.
    #[arg(long, default_value_t = 50)]
    pods: usize,
    /// Measure only these, separated by commas.
    #[arg(long, value_delimiter = ',')]
    only: Vec<Part>,
    /// Print one JSON object instead of tables.
    #[arg(long)]
    json: bool,
    /// The daemon `orlop`.
    #[arg(long, default_value_os_t = e2e::process::target_dir().join("release/orlop"))]
    orlop: PathBuf,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// What each call takes.
    Calls,
    /// What the OCI runtime takes when it is run by hand.
    Floor,
    /// Memory of helpers and daemons, and lists.
    Pods,
}

fn main() {
    let options = Options::parse();
    e2e::process::need_root();
    side::stop_on_signals();
    let mut figures = Figures::default();

    let (conditions, usages) = measure(&options, &mut figures);
    // Both sides are gone by now, whatever becomes of the output.
    if options.json {
        println!("{}", json::report(&conditions, &figures, &usages));
    } else {
        print!("{conditions}\n{}", report::text(&figures, &usages));
    }
}

/// Starts the sides, measures, and takes them away.
fn measure(options: &Options, figures: &mut Figures) -> (Conditions, Vec<SideUsage>) {
    let wants = |part: Part| options.only.is_empty() || options.only.contains(&part);
    let orlop = Side::orlop(&options.orlop, Plugins::Reference);
    let containerd = Side::containerd();
    let with_own_plugins = Side::orlop(&options.orlop, Plugins::Own);
    let conditions = machine::conditions(&options.orlop, &orlop, &containerd);

    if wants(Part::Calls) || wants(Part::Floor) {
        let floor = wants(Part::Floor).then(|| Floor::new(&orlop));
        let sides = [&orlop, &containerd, &with_own_plugins];
        let sides = if wants(Part::Calls) { &sides[..] } else { &[] };
        rounds::run(options.rounds, sides, floor.as_ref(), figures);
    }
    let usages =
        if wants(Part::Pods) { pods::run(options.pods, [&orlop, &containerd], figures) } else { Vec::new() };
    (conditions, usages)
}
