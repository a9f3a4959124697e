//! The tables that people read, with the budget of each figure beside it. A budget is shown, never enforced.

use std::fmt::Write;

use crate::figures::{Figures, Sorted};
use crate::floor::{EXEC, FLOOR, START};
use crate::pods::{SideUsage, Usage};
use crate::side::{CONTAINERD, ORLOP, WITH_ORLOP_CNI};

/// What a figure of orlop is meant to be, in milliseconds.
#[derive(Clone, Copy)]
pub(crate) enum Budget {
    Median(f64),
    Percentile99(f64),
    /// Above what the OCI runtime takes by hand.
    AboveFloor(&'static str, f64),
    None,
}

/// One line of the table: a side of orlop, a call, its budget.
pub(crate) const LINES: [(&str, &str, Budget); 16] = [
    (ORLOP, "RunPodSandbox, hostNetwork", Budget::Median(5.0)),
    (ORLOP, "RunPodSandbox, bridge CNI", Budget::Median(35.0)),
    (WITH_ORLOP_CNI, "RunPodSandbox, bridge CNI", Budget::Median(8.0)),
    (ORLOP, "CreateContainer", Budget::Median(3.0)),
    (ORLOP, "StartContainer", Budget::AboveFloor(START, 3.0)),
    (ORLOP, "ExecSync of true", Budget::AboveFloor(EXEC, 2.0)),
    (ORLOP, "StopContainer", Budget::Median(6.0)),
    (ORLOP, "RemoveContainer", Budget::Median(2.0)),
    (ORLOP, "StopPodSandbox, hostNetwork", Budget::None),
    (ORLOP, "StopPodSandbox, bridge CNI", Budget::Median(35.0)),
    (WITH_ORLOP_CNI, "StopPodSandbox, bridge CNI", Budget::Median(12.0)),
    (ORLOP, "RemovePodSandbox, hostNetwork", Budget::Median(3.0)),
    (ORLOP, "RemovePodSandbox, bridge CNI", Budget::Median(3.0)),
    (WITH_ORLOP_CNI, "RemovePodSandbox, bridge CNI", Budget::Median(3.0)),
    (ORLOP, "ListContainers", Budget::Percentile99(0.5)),
    (ORLOP, "ListPodSandbox", Budget::Percentile99(0.5)),
];
/// Of one pod's helpers, and of the daemon.
pub(crate) const HELPER_BUDGET: &str = "0.6 MB / 0.3 MB / 1 / 1";
pub(crate) const DAEMON_BUDGET: &str = "20 MB";

/// All tables for which there are figures.
pub(crate) fn text(figures: &Figures, usages: &[SideUsage]) -> String {
    [calls(figures), floor(figures), stages(figures), memory(usages)].concat()
}

fn calls(figures: &Figures) -> String {
    let mut rows = String::new();
    for (side, call, budget) in LINES {
        let (Some(own), Some(peer)) = (figures.of(side, call), figures.of(CONTAINERD, call)) else {
            continue;
        };
        let name = if side == ORLOP { call.to_owned() } else { format!("{call} (orlop-cni)") };
        let ratio = own.percentile(50) / peer.percentile(50);
        let (own, peer) = (percentiles(&own), percentiles(&peer));
        let budget = budget.shown(figures);
        writeln!(rows, "{name:<40}{own}{peer}{ratio:>8.2}   {budget}").expect("write to a string");
    }
    if rows.is_empty() {
        return rows;
    }
    let heads = format!("{:>8}{:>8}{:>8}", "p50", "p90", "p99");
    format!(
        "{:<40}{:>24}{:>24}{:>8}   orlop's budget\n{:<40}{heads}{heads}{:>8}\n{rows}\n",
        "milliseconds", ORLOP, CONTAINERD, "ratio", "", "of p50"
    )
}

fn percentiles(samples: &Sorted) -> String {
    [50, 90, 99].iter().fold(String::new(), |mut line, &share| {
        write!(line, "{:>8.2}", samples.percentile(share)).expect("write to a string");
        line
    })
}

impl Budget {
    /// In words, and in milliseconds where it hangs on this run's floor.
    pub(crate) fn shown(self, figures: &Figures) -> String {
        match self {
            Self::Median(limit) => format!("p50 <= {limit}"),
            Self::Percentile99(limit) => format!("p99 <= {limit}"),
            Self::AboveFloor(name, extra) => match figures.of(FLOOR, name) {
                Some(floor) => {
                    format!("p50 <= {:.1} (runc {name} + {extra})", floor.percentile(50) + extra)
                }
                None => format!("p50 <= runc {name} + {extra}"),
            },
            Self::None => String::new(),
        }
    }
}

fn floor(figures: &Figures) -> String {
    let mut rows = String::new();
    for name in [START, EXEC] {
        if let Some(samples) = figures.of(FLOOR, name) {
            let shown = percentiles(&samples);
            writeln!(rows, "{:<40}{shown}", format!("runc {name}, by hand")).expect("write to a string");
        }
    }
    if rows.is_empty() { rows } else { format!("{rows}\n") }
}

/// What orlop itself says that each stage took; it makes them in this order.
fn stages(figures: &Figures) -> String {
    const ORDER: [&str; 5] = ["record", "files", "shim", "namespaces", "network"];
    let place = |stage: &str| ORDER.iter().position(|known| *known == stage);
    let mut found: Vec<_> = figures
        .all()
        .filter_map(|(side, name, samples)| Some((side.split_once(", stages, ")?, name, samples)))
        .collect();
    found.sort_by_key(|(side, name, _)| (side.1, side.0, place(name)));
    let mut rows = String::new();
    for ((side, net), stage, samples) in found {
        let name = format!("{net}: {stage}{}", if side == ORLOP { "" } else { " (orlop-cni)" });
        writeln!(rows, "{name:<40}{}", percentiles(&samples)).expect("write to a string");
    }
    if rows.is_empty() { rows } else { format!("stages of orlop's RunPodSandbox\n{rows}\n") }
}

fn memory(usages: &[SideUsage]) -> String {
    let Some(first) = usages.first() else { return String::new() };
    let mut text = format!(
        "{:<40}{:>10}{:>14}{:>10}{:>11}\n",
        format!("{} pods of one container", first.pods),
        "PSS",
        "private dirty",
        "threads",
        "processes"
    );
    for usage in usages {
        row(&mut text, &format!("helpers per pod, {}", usage.side), usage.helpers, usage.pods);
    }
    writeln!(text, "{:<40}<= {HELPER_BUDGET}", "  orlop's budget").expect("write to a string");
    for usage in usages {
        row(&mut text, &format!("daemon, {}", usage.side), usage.daemon, 1);
    }
    writeln!(text, "{:<40}<= {DAEMON_BUDGET} PSS", "  orlop's budget").expect("write to a string");
    text
}

/// Counts stay below 2^53, where a float is exact.
#[expect(clippy::cast_precision_loss, reason = "see above")]
fn row(text: &mut String, name: &str, usage: Usage, pods: usize) {
    let each = |figure: u64| figure as f64 / pods.max(1) as f64;
    let megabytes = |kib: u64| each(kib) * 1024.0 / 1e6;
    let (pss, dirty) = (megabytes(usage.pss), megabytes(usage.private_dirty));
    let (threads, processes) = (each(usage.threads), each(usage.processes));
    writeln!(text, "{name:<40}{pss:>7.2} MB{dirty:>11.2} MB{threads:>10.1}{processes:>11.1}")
        .expect("write to a string");
}
