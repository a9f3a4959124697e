//! Which kernel parameters a pod may set: by name, value and the namespaces that it has of its own. Pure.
//!
//! Daemon and shim check alike. A parameter that does not belong to a namespace of the pod would change the node, and a
//! path that leads out of /proc/sys anything (CVE-2022-0811).

use std::collections::BTreeMap;
use std::path::PathBuf;

use runtime_sys::namespace;
use thiserror::Error;

/// Longest name that is taken, in bytes; as Kubernetes has it.
const MAX_NAME: usize = 253;
/// Longest value that is taken, in bytes: what the kernel reads at once.
const MAX_VALUE: usize = 4095;
/// Most parameters of a pod.
const MAX_COUNT: usize = 256;

/// Namespaces that are the pod's own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Own {
    pub ipc: bool,
    pub net: bool,
    pub uts: bool,
}

/// A kernel parameter that a pod cannot have.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SysctlError {
    #[error("sysctl {name:?} is not a name of the form a.b.c or a/b/c")]
    Name { name: String },
    #[error("sysctl {name} is not one that a pod can have of its own")]
    OfTheNode { name: String },
    #[error("sysctl {name} needs a pod with its own {namespace} namespace")]
    Shared { name: String, namespace: &'static str },
    #[error("value {value:?} of sysctl {name} is empty, too long or not one line")]
    Value { name: String, value: String },
    #[error("{count} sysctls are more than the {MAX_COUNT} that a pod may have")]
    TooMany { count: usize },
}

/// Whether a pod may set this parameter to this value.
///
/// # Errors
/// See [`SysctlError`]. The kernel may refuse what passes here.
pub fn check(name: &str, value: &str, own: Own) -> Result<(), SysctlError> {
    parse(name, value, own).map(drop)
}

/// All parameters of a pod, checked, in the form in which they are set.
///
/// # Errors
/// That of the first that a pod cannot have.
pub fn parse_all(
    sysctls: &BTreeMap<String, String>,
    own: Own,
) -> Result<Vec<namespace::Sysctl>, SysctlError> {
    if sysctls.len() > MAX_COUNT {
        return Err(SysctlError::TooMany { count: sysctls.len() });
    }
    sysctls.iter().map(|(name, value)| parse(name, value, own)).collect()
}

fn parse(name: &str, value: &str, own: Own) -> Result<namespace::Sysctl, SysctlError> {
    let parts = split(name).ok_or_else(|| SysctlError::Name { name: shortened(name) })?;
    let parts: Vec<_> = parts.iter().map(String::as_str).collect();
    let (is_own, namespace) = match parts.as_slice() {
        ["kernel", "sem"] | ["fs", "mqueue", _, ..] => (own.ipc, "IPC"),
        ["kernel", part] if part.starts_with("shm") || part.starts_with("msg") => (own.ipc, "IPC"),
        ["kernel", "domainname"] => (own.uts, "UTS"),
        ["net", _, ..] => (own.net, "network"),
        _ => return Err(SysctlError::OfTheNode { name: name.into() }),
    };
    if !is_own {
        return Err(SysctlError::Shared { name: name.into(), namespace });
    }
    if value.is_empty() || value.len() > MAX_VALUE || value.contains(|letter| letter < ' ' && letter != '\t')
    {
        return Err(SysctlError::Value { name: name.into(), value: shortened(value) });
    }
    Ok(namespace::Sysctl { name: name.into(), path: parts.iter().collect::<PathBuf>(), value: value.into() })
}

/// The parts of a name. The first separator says which of `.` and `/` separates; the other one then stands for it
/// inside of a part (`net.ipv4.conf.eth0/1.forwarding`), as sysctl(8) has it.
fn split(name: &str) -> Option<Vec<String>> {
    if name.len() > MAX_NAME {
        return None;
    }
    let separator = name.chars().find(|letter| matches!(letter, '.' | '/'))?;
    let parts: Vec<_> = match separator {
        '.' => name.split('.').map(|part| part.replace('/', ".")).collect(),
        _ => name.split('/').map(str::to_owned).collect(),
    };
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    let is_part = |part: &String| {
        part.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric()) && part.bytes().all(plain)
    };
    parts.iter().all(is_part).then_some(parts)
}

fn shortened(text: &str) -> String {
    text.chars().take(MAX_NAME).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Own = Own { ipc: true, net: true, uts: true };

    #[test]
    fn names_lead_below_proc_sys() {
        for (name, path) in [
            ("kernel.shm_rmid_forced", "kernel/shm_rmid_forced"),
            ("kernel/msgmax", "kernel/msgmax"),
            ("kernel.sem", "kernel/sem"),
            ("fs.mqueue.msg_max", "fs/mqueue/msg_max"),
            ("net.ipv4.ip_forward", "net/ipv4/ip_forward"),
            ("net.ipv4.conf.eth0/100.rp_filter", "net/ipv4/conf/eth0.100/rp_filter"),
            ("net/ipv4/conf/eth0.100/rp_filter", "net/ipv4/conf/eth0.100/rp_filter"),
            ("kernel.domainname", "kernel/domainname"),
        ] {
            assert_eq!(parse(name, "1", ALL).unwrap().path, PathBuf::from(path), "{name}");
        }
    }

    #[test]
    fn injections_are_no_names() {
        for name in [
            "",
            "-",
            ".",
            "..",
            "/",
            "kernel",
            "kernel.shmmax+kernel.core_pattern",
            "kernel.shmmax=1\nkernel.core_pattern",
            "net.ipv4.ip_forward ",
            "net.ipv4. ip_forward",
            "net..ipv4",
            ".net.ipv4",
            "/net/ipv4",
            "net/ipv4/",
            "net/../kernel/core_pattern",
            "net.//.kernel.core_pattern",
            "net.ipv4/../../kernel/core_pattern",
            "net/ipv4/-",
            "-net.ipv4.x",
            "net.ipv4.\0",
            "net.ipv4.ä",
            &format!("net.{}", "a".repeat(MAX_NAME)),
        ] {
            let refused = check(name, "1", ALL);
            assert!(matches!(refused, Err(SysctlError::Name { .. })), "{name:?}: {refused:?}");
        }
    }

    #[test]
    fn parameters_of_the_node_are_refused() {
        for name in [
            "kernel.core_pattern",
            "kernel.hostname",
            "kernel.sem.x",
            "kernel.shm.x",
            "vm.swappiness",
            "fs.file-max",
            "fs.mqueue",
            "kernel.pid_max",
            "user.max_net_namespaces",
            "Net.ipv4.ip_forward",
        ] {
            assert_eq!(check(name, "1", ALL), Err(SysctlError::OfTheNode { name: name.into() }));
        }
    }

    #[test]
    fn each_needs_its_namespace() {
        for (name, own) in [
            ("kernel.shmmax", Own { ipc: false, ..ALL }),
            ("fs.mqueue.msg_max", Own { ipc: false, ..ALL }),
            ("net.core.somaxconn", Own { net: false, ..ALL }),
            ("kernel.domainname", Own { uts: false, ..ALL }),
        ] {
            assert!(matches!(check(name, "1", own), Err(SysctlError::Shared { .. })), "{name}");
            assert_eq!(check(name, "1", ALL), Ok(()), "{name}");
        }
    }

    #[test]
    fn values_are_one_line() {
        let long = "1".repeat(MAX_VALUE + 1);
        for value in ["", "1\n", "1\n2", "\0", "1\r", long.as_str()] {
            assert!(matches!(check("kernel.sem", value, ALL), Err(SysctlError::Value { .. })), "{value:?}");
        }
        for value in ["250 32000 32 128", "1024\t65000", "a+b"] {
            assert_eq!(check("kernel.sem", value, ALL), Ok(()));
        }
        let many = (0..=MAX_COUNT).map(|number| (format!("net.x.{number}"), "1".to_owned())).collect();
        assert!(matches!(parse_all(&many, ALL), Err(SysctlError::TooMany { .. })));
    }
}
