//! Changing the limits of a container that exists: what the OCI runtime is told, and the spec as it is from then on.

use serde_json::Value;

use super::{HostFacts, OciSpecError, resources};
use crate::spec::LinuxResources;

/// The runtime-spec's `LinuxResources` with everything but device rules, which do not change.
pub(crate) fn limits_json(wish: &LinuxResources, host: &HostFacts) -> Result<Vec<u8>, OciSpecError> {
    serde_json::to_vec(&limits(wish, host)?).map_err(OciSpecError::Record)
}

/// The score that a wish comes to on this host.
pub(crate) fn oom_score_adj(wish: i64, restrict: bool, host: &HostFacts) -> Result<i32, OciSpecError> {
    resources::clamped_oom_score_adj(wish, restrict, host)
}

/// `spec`, a config.json, with other limits and another score for the first process.
pub(crate) fn with_limits(
    spec: &[u8],
    wish: &LinuxResources,
    host: &HostFacts,
    oom_score_adj: i32,
) -> Result<Vec<u8>, OciSpecError> {
    let mut spec: Value = serde_json::from_slice(spec).map_err(OciSpecError::Record)?;
    let mut new = limits(wish, host)?;
    if let Some(rules) = spec.pointer("/linux/resources/devices") {
        new["devices"] = rules.clone();
    }
    if let Some(resources) = spec.pointer_mut("/linux/resources") {
        *resources = new;
    }
    if let Some(score) = spec.pointer_mut("/process/oomScoreAdj") {
        *score = oom_score_adj.into();
    }
    serde_json::to_vec(&spec).map_err(OciSpecError::Record)
}

fn limits(wish: &LinuxResources, host: &HostFacts) -> Result<Value, OciSpecError> {
    serde_json::to_value(resources::limits(wish, host)?).map_err(OciSpecError::Record)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn limits_change_and_everything_else_stays() {
        let before = json!({
            "process": {"oomScoreAdj": 5, "args": ["x"]},
            "linux": {
                "cgroupsPath": "/p/c",
                "resources": {"devices": [{"allow": false}], "memory": {"limit": 1}},
            },
        });
        let wish = LinuxResources { memory_limit_bytes: 64 << 20, cpu_quota: 20_000, ..Default::default() };
        let host = HostFacts { swap_limit: true, ..HostFacts::default() };
        let after = with_limits(before.to_string().as_bytes(), &wish, &host, 5).expect("valid");
        let after: Value = serde_json::from_slice(&after).expect("JSON");
        let resources = json!({
            "devices": [{"allow": false}],
            "memory": {"limit": 64 << 20, "swap": 64 << 20},
            "cpu": {"quota": 20_000},
        });
        assert_eq!(after["linux"], json!({"cgroupsPath": "/p/c", "resources": resources}));
        assert_eq!(after["process"], before["process"]);

        let told: Value = serde_json::from_slice(&limits_json(&wish, &host).expect("valid")).expect("JSON");
        assert_eq!(told.get("devices"), None);
        let clamped = with_limits(before.to_string().as_bytes(), &wish, &host, 7).expect("valid");
        assert!(String::from_utf8_lossy(&clamped).contains("\"oomScoreAdj\":7"));
    }
}
