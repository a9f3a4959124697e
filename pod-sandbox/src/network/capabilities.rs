//! What plugins that declare a capability are told (CNI conventions, "Capabilities"): ports, rates, DNS, cgroup.

use std::collections::BTreeMap;

use runtime_core::ids::SandboxId;
use serde_json::{Value, json};

use super::bandwidth::{self, BandwidthError};
use crate::cgroup;
use crate::spec::{PodSpec, PortMapping};

pub(super) fn of(id: &SandboxId, spec: &PodSpec) -> Result<BTreeMap<String, Value>, BandwidthError> {
    let mut wish = BTreeMap::new();
    let mut set = |name: &str, value: Value| wish.insert(name.to_owned(), value);
    if !spec.port_mappings.is_empty() {
        set("portMappings", spec.port_mappings.iter().map(port).collect());
    }
    if let Some(rates) = bandwidth::of(&spec.annotations)? {
        set("bandwidth", rates);
    }
    if let Some(dns) = &spec.dns {
        set("dns", json!({"servers": dns.servers, "searches": dns.searches, "options": dns.options}));
    }
    set("io.kubernetes.cri.pod-annotations", json!(spec.annotations));
    set("cgroupPath", Value::String(cgroup::parent_of(id, spec)));
    Ok(wish)
}

fn port(mapping: &PortMapping) -> Value {
    json!({
        "hostPort": mapping.host_port,
        "containerPort": mapping.container_port,
        "protocol": mapping.protocol.as_str(),
        "hostIP": mapping.host_ip.map_or_else(String::new, |ip| ip.to_string()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::Protocol;
    use crate::spec::sample;

    #[test]
    fn ports_are_told_as_the_conventions_say() {
        let mut spec = sample::pod();
        spec.port_mappings = vec![PortMapping {
            protocol: Protocol::Udp,
            container_port: 53,
            host_port: 5353,
            host_ip: Some([127, 0, 0, 1].into()),
        }];
        let wish = of(&SandboxId::random(), &spec).expect("nothing is wrong");
        let expected =
            json!([{"hostPort": 5353, "containerPort": 53, "protocol": "udp", "hostIP": "127.0.0.1"}]);
        assert_eq!(wish["portMappings"], expected);
        assert!(!wish.contains_key("bandwidth"));
    }
}
