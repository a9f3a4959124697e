//! The same figures for programs: every sample set with its percentiles, in milliseconds and KiB.

use serde_json::{Map, Value, json};

use crate::figures::Figures;
use crate::machine::Conditions;
use crate::pods::{SideUsage, Usage};
use crate::report::LINES;

pub(crate) fn report(conditions: &Conditions, figures: &Figures, usages: &[SideUsage]) -> Value {
    let conditions: Map<String, Value> =
        conditions.0.iter().map(|(name, value)| ((*name).to_owned(), json!(value))).collect();
    let mut calls = Map::new();
    for (side, name, samples) in figures.all() {
        let [p50, p90, p99] = [50, 90, 99].map(|share| samples.percentile(share));
        let entry = calls.entry(side).or_insert_with(|| json!({}));
        entry[name] = json!({"p50": p50, "p90": p90, "p99": p99, "samples": samples.count()});
    }
    let budgets: Vec<Value> = LINES
        .iter()
        .map(|(side, call, budget)| json!({"side": side, "call": call, "budget": budget.shown(figures)}))
        .collect();
    let pods: Vec<Value> = usages.iter().map(side_usage).collect();
    json!({"conditions": conditions, "milliseconds": calls, "budgets": budgets, "pods": pods})
}

fn side_usage(usage: &SideUsage) -> Value {
    let shown = |usage: Usage| {
        json!({
            "pssKiB": usage.pss, "privateDirtyKiB": usage.private_dirty,
            "threads": usage.threads, "processes": usage.processes,
        })
    };
    json!({
        "side": usage.side, "pods": usage.pods,
        "helpersOfAllPods": shown(usage.helpers), "daemon": shown(usage.daemon),
    })
}
