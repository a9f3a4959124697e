//! What a test saw, told so that two nodes can be compared: without what is random or counts up.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::node::{Node, Pod};
use super::process::sh;

/// The note on a link that our DEL leaves to its namespace: for the comparison it is gone.
const LEFT: &str = "left by orlop-cni";

impl Node {
    pub(crate) fn observe(&mut self, what: &str, value: Value) {
        self.observations.push((what.to_owned(), value));
    }

    /// Addresses and routes of a pod, and parameters that plugins set.
    pub(crate) fn observe_pod(&mut self, when: &str, pod: &Pod) {
        let inside = |command: &str| json_of(&format!("ip -n {} -j {command}", pod.id));
        let mut links = Vec::new();
        for link in inside("-d addr").as_array().into_iter().flatten() {
            if link["ifalias"] != LEFT {
                links.push(link_of(link));
            }
        }
        let has_link = links.iter().any(|link| link["name"] == "eth0");
        self.observe(&format!("{when}: links of {}", pod.id), links.into());
        for family in ["-4", "-6"] {
            let routes = inside(&format!("{family} route show table all"));
            self.observe(&format!("{when}: routes {family} of {}", pod.id), routes_of(&routes));
        }
        let parameters =
            ["ipv4/conf/eth0/arp_notify", "ipv6/conf/eth0/accept_dad", "ipv6/conf/eth0/keep_addr_on_down"];
        let values = parameters.map(|name| {
            sh(&format!("ip netns exec {} cat /proc/sys/net/{name} 2>/dev/null || true", pod.id))
                .trim()
                .to_owned()
        });
        if has_link {
            self.observe(&format!("{when}: parameters of {}", pod.id), json!(values));
        }
    }

    /// The bridge with its ports, forwarding, addresses on record.
    pub(crate) fn observe_host(&mut self, when: &str) {
        let links = json_of("ip -j -d addr show");
        let links = links.as_array().into_iter().flatten().filter(|link| link["ifname"] == "cni0");
        let bridge: Vec<Value> = links.map(link_of).collect();
        self.observe(&format!("{when}: bridge"), bridge.into());
        let ports = json_of("ip -j -d link show");
        let ports = ports.as_array().into_iter().flatten().filter(|link| link["master"] == "cni0");
        let ports: Vec<Value> = ports.map(port_of).collect();
        self.observe(&format!("{when}: ports"), ports.into());
        let forward = ["ipv4/ip_forward", "ipv6/conf/all/forwarding", "ipv4/conf/cni0/route_localnet"]
            .map(|name| sh(&format!("cat /proc/sys/net/{name} 2>/dev/null || true")).trim().to_owned());
        self.observe(&format!("{when}: forwarding"), json!(forward));
        let reserved = self.reserved();
        self.observe(&format!("{when}: reserved"), reserved);
    }

    /// All rules of nftables.
    pub(crate) fn observe_nftables(&mut self, when: &str) {
        let rules = sh("nft list ruleset");
        // Tables that iptables leaves when it only looks.
        let rules = rules.replace("table ip nat {\n}\n", "").replace("table ip6 nat {\n}\n", "");
        let rules: Vec<String> = rules.lines().map(str::to_owned).collect();
        self.observe(&format!("{when}: nftables"), json!(rules));
    }

    /// The table nat of iptables, both families.
    pub(crate) fn observe_iptables(&mut self, when: &str) {
        for program in ["iptables-save", "ip6tables-save"] {
            let text = sh(&format!("{program} -t nat"));
            let mut lines: Vec<String> =
                text.lines().filter(|line| !line.starts_with('#')).map(uncounted).collect();
            // Chains are listed in the order in which they were made.
            lines.sort_by_key(|line| if line.starts_with(':') { line.clone() } else { String::new() });
            self.observe(&format!("{when}: {program}"), json!(lines));
        }
    }

    /// All of it as text, with names for what is random.
    pub(crate) fn observed(&self) -> String {
        let mut text = String::new();
        for (what, value) in &self.observations {
            let value = serde_json::to_string_pretty(value).expect("JSON can be written");
            text.push_str(&format!("{what}: {value}\n"));
        }
        let folder = self.path("");
        renamed(&text.replace(&*folder.to_string_lossy(), "FOLDER/"))
    }
}

pub(crate) fn json_of(command: &str) -> Value {
    let text = sh(command);
    serde_json::from_str(if text.trim().is_empty() { "[]" } else { &text }).expect("ip writes JSON")
}

/// What counts of a link.
fn link_of(link: &Value) -> Value {
    let addresses = link["addr_info"].as_array().into_iter().flatten();
    let addresses: Vec<Value> = addresses
        .filter(|one| !one["local"].as_str().is_some_and(|ip| ip.starts_with("fe80")))
        .map(|one| json!([one["local"], one["prefixlen"], one["broadcast"], one["scope"], one["label"]]))
        .collect();
    json!({
        "name": link["ifname"], "mac": link["address"], "mtu": link["mtu"], "up": link["flags"].to_string().contains("\"UP\""),
        "promiscuous": link["flags"].to_string().contains("PROMISC"), "kind": link["linkinfo"]["info_kind"],
        "addresses": addresses,
    })
}

fn port_of(link: &Value) -> Value {
    let settings = &link["linkinfo"]["info_slave_data"];
    json!({
        "mac": link["address"], "mtu": link["mtu"], "state": link["operstate"],
        "hairpin": settings["hairpin"], "isolated": settings["isolated"],
    })
}

fn routes_of(routes: &Value) -> Value {
    let mut found: Vec<String> = Vec::new();
    for route in routes.as_array().into_iter().flatten() {
        let mut route = route.clone();
        let text = route.to_string();
        // What the kernel adds by itself for link-local addresses comes and goes with time.
        if text.contains("fe80")
            || text.contains("ff00")
            || text.contains("multicast")
            || text.contains("anycast")
        {
            continue;
        }
        for key in ["flags", "pref", "expires"] {
            route.as_object_mut().expect("a route").remove(key);
        }
        found.push(route.to_string());
    }
    found.sort();
    json!(found)
}

/// A line of `iptables-save` without its counters.
fn uncounted(line: &str) -> String {
    line.split(" [").next().unwrap_or_default().to_owned()
}

/// Gives hardware addresses and names of pairs numbers in the order in which they are first seen.
fn renamed(text: &str) -> String {
    let mut names: BTreeMap<String, String> = BTreeMap::new();
    let mut found = Vec::new();
    let bytes = text.as_bytes();
    for start in 0..bytes.len() {
        let window = |length: usize| text.get(start..start + length);
        if let Some(mac) = window(17).filter(|mac| is_mac(mac)) {
            found.push((mac.to_owned(), "MAC"));
        } else if let Some(name) = window(12).filter(|name| is_pair(name)) {
            found.push((name.to_owned(), "VETH"));
        }
    }
    for (name, kind) in found {
        let number = names.len();
        // Set by a test, or by the kernel for all.
        if !name.starts_with("02:00:00") && name != "00:00:00:00:00:00" && name != "ff:ff:ff:ff:ff:ff" {
            names.entry(name).or_insert_with(|| format!("{kind}-{number}"));
        }
    }
    names.iter().fold(text.to_owned(), |text, (name, number)| text.replace(name, number))
}

fn is_mac(text: &str) -> bool {
    text.bytes()
        .enumerate()
        .all(|(index, byte)| if index % 3 == 2 { byte == b':' } else { byte.is_ascii_hexdigit() })
}

fn is_pair(text: &str) -> bool {
    text.strip_prefix("veth").is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_hexdigit()))
}
