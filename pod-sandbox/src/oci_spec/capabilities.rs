//! Capabilities: names, the default set, and what adding and dropping makes of it.

use std::collections::HashSet;

use oci_spec::runtime::{Capability, LinuxCapabilities, LinuxCapabilitiesBuilder};

use super::OciSpecError;
use crate::spec::{CapabilitySpec, SecuritySpec};

/// By their numbers in capabilities(7).
const BY_NUMBER: [Capability; 41] = [
    Capability::Chown,
    Capability::DacOverride,
    Capability::DacReadSearch,
    Capability::Fowner,
    Capability::Fsetid,
    Capability::Kill,
    Capability::Setgid,
    Capability::Setuid,
    Capability::Setpcap,
    Capability::LinuxImmutable,
    Capability::NetBindService,
    Capability::NetBroadcast,
    Capability::NetAdmin,
    Capability::NetRaw,
    Capability::IpcLock,
    Capability::IpcOwner,
    Capability::SysModule,
    Capability::SysRawio,
    Capability::SysChroot,
    Capability::SysPtrace,
    Capability::SysPacct,
    Capability::SysAdmin,
    Capability::SysBoot,
    Capability::SysNice,
    Capability::SysResource,
    Capability::SysTime,
    Capability::SysTtyConfig,
    Capability::Mknod,
    Capability::Lease,
    Capability::AuditWrite,
    Capability::AuditControl,
    Capability::Setfcap,
    Capability::MacOverride,
    Capability::MacAdmin,
    Capability::Syslog,
    Capability::WakeAlarm,
    Capability::BlockSuspend,
    Capability::AuditRead,
    Capability::Perfmon,
    Capability::Bpf,
    Capability::CheckpointRestore,
];

/// What containers get unasked: containerd's and Docker's fourteen.
const DEFAULT: [Capability; 14] = [
    Capability::AuditWrite,
    Capability::Chown,
    Capability::DacOverride,
    Capability::Fowner,
    Capability::Fsetid,
    Capability::Kill,
    Capability::Mknod,
    Capability::NetBindService,
    Capability::NetRaw,
    Capability::Setfcap,
    Capability::Setgid,
    Capability::Setpcap,
    Capability::Setuid,
    Capability::SysChroot,
];

const ALL: &str = "ALL";

/// A kernel's bit mask as a set; bits without a name are left out.
pub(super) fn of_mask(mask: u64) -> HashSet<Capability> {
    let bit = |number: usize| mask.checked_shr(number as u32).is_some_and(|rest| rest & 1 == 1);
    BY_NUMBER.iter().enumerate().filter(|(number, _)| bit(*number)).map(|(_, it)| *it).collect()
}

/// The sets of the container's first process. Nothing is more than `held`; nothing is inheritable, so that a
/// program of the image with inheritable file capabilities gains none (CVE-2022-24769).
pub(super) fn sets(
    security: &SecuritySpec,
    held: &HashSet<Capability>,
) -> Result<LinuxCapabilities, OciSpecError> {
    let wanted = if security.privileged { held.clone() } else { selected(&security.capabilities, held)? };
    let set: HashSet<Capability> = wanted.intersection(held).copied().collect();
    let sets = LinuxCapabilitiesBuilder::default()
        .bounding(set.clone())
        .effective(set.clone())
        .permitted(set)
        .inheritable(HashSet::new())
        .ambient(HashSet::new());
    Ok(sets.build().expect("all five sets are given"))
}

/// "ALL" comes first on both sides, so that `drop: [ALL], add: [X]` leaves X.
fn selected(wish: &CapabilitySpec, held: &HashSet<Capability>) -> Result<HashSet<Capability>, OciSpecError> {
    if let Some(name) = wish.add_ambient.first() {
        return Err(OciSpecError::Unimplemented { what: format!("ambient capability {name}") });
    }
    let mut set = if wish.drop.iter().any(|name| name == ALL) {
        HashSet::new()
    } else if wish.add.iter().any(|name| name == ALL) {
        held.clone()
    } else {
        HashSet::from(DEFAULT)
    };
    for name in wish.add.iter().filter(|name| *name != ALL) {
        set.insert(parse(name)?);
    }
    for name in wish.drop.iter().filter(|name| *name != ALL) {
        set.remove(&parse(name)?);
    }
    Ok(set)
}

fn parse(name: &str) -> Result<Capability, OciSpecError> {
    name.parse().map_err(|_| OciSpecError::UnknownCapability { name: name.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn everything() -> HashSet<Capability> {
        of_mask(u64::MAX)
    }

    fn names(set: HashSet<Capability>) -> Vec<String> {
        BY_NUMBER.iter().filter(|it| set.contains(it)).map(ToString::to_string).collect()
    }

    fn wish(add: &[&str], drop: &[&str]) -> CapabilitySpec {
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        CapabilitySpec { add: owned(add), drop: owned(drop), add_ambient: Vec::new() }
    }

    #[test]
    fn numbers_and_names_are_the_kernels() {
        for (number, name) in [(0, "CHOWN"), (12, "NET_ADMIN"), (21, "SYS_ADMIN"), (40, "CHECKPOINT_RESTORE")]
        {
            assert_eq!(names(of_mask(1 << number)), [name]);
        }
        for capability in BY_NUMBER {
            assert_eq!(parse(&capability.to_string()).expect("its own name"), capability);
        }
        assert_eq!(everything().len(), BY_NUMBER.len());
    }

    #[test]
    fn adding_and_dropping() {
        let table = [
            (wish(&[], &[]), 14),
            (wish(&["NET_ADMIN"], &[]), 15),
            (wish(&["CHOWN"], &["NET_RAW"]), 13),
            (wish(&["ALL"], &[]), 41),
            (wish(&["ALL"], &["CHOWN"]), 40),
            (wish(&[], &["ALL"]), 0),
            (wish(&["NET_BIND_SERVICE"], &["ALL"]), 1),
        ];
        for (wish, count) in table {
            assert_eq!(selected(&wish, &everything()).expect("known names").len(), count, "{wish:?}");
        }
    }

    #[test]
    fn an_unknown_name_is_refused() {
        let error = selected(&wish(&["FLY"], &[]), &everything()).expect_err("no such capability");
        assert!(matches!(error, OciSpecError::UnknownCapability { name } if name == "FLY"));
    }
}
