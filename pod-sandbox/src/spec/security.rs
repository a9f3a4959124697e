//! Whom a container runs as and what it may do.

use std::path::PathBuf;

use runtime_core::ids::ContainerId;
use serde::{Deserialize, Serialize};

/// Whose processes a container sees.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PidMode {
    Pod,
    Container,
    Host,
    Target(ContainerId),
}

/// The user asked for; `None` leaves it to the image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum UserSpec {
    Uid(u32),
    Name(String),
}

/// KEP-3619: whether the image's `/etc/group` adds groups.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum SupplementalGroupsPolicy {
    #[default]
    Merge,
    Strict,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum SeccompSpec {
    #[default]
    Unconfined,
    RuntimeDefault,
    Localhost(PathBuf),
}

/// Names without `CAP_`, in upper case; `ALL` is allowed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CapabilitySpec {
    pub add: Vec<String>,
    pub drop: Vec<String>,
    pub add_ambient: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecuritySpec {
    pub privileged: bool,
    pub pid: PidMode,
    pub user: Option<UserSpec>,
    /// Only with `user`.
    pub group: Option<u32>,
    pub supplemental_groups: Vec<u32>,
    pub supplemental_groups_policy: SupplementalGroupsPolicy,
    pub capabilities: CapabilitySpec,
    pub readonly_rootfs: bool,
    pub no_new_privs: bool,
    /// Exactly as sent (KEP-4265).
    pub masked_paths: Vec<String>,
    pub readonly_paths: Vec<String>,
    pub seccomp: SeccompSpec,
}
