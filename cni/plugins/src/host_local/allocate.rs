//! Choosing addresses: requested ones, or the next free ones round robin, one of each range set.

use std::collections::HashSet;
use std::net::IpAddr;

use super::AddressError;
use super::range::{Range, RangeSet};
use super::store::{Owner, Store};
use crate::prefix::IpPrefix;
use crate::result::IpConfig;

/// Takes an address of each set for the owner; all or none.
pub(super) fn allocate(
    store: &Store,
    sets: &[RangeSet],
    requested: &[IpAddr],
    owner: &Owner,
) -> Result<Vec<IpConfig>, AddressError> {
    let mut given = Vec::new();
    let outcome = Search { store, owner }.all(sets, requested, &mut given);
    if outcome.is_err() {
        for config in &given {
            // The failure that is told is the first one.
            let _ = store.give_back(config.address.ip);
        }
    }
    outcome.map(|()| given)
}

struct Search<'a> {
    store: &'a Store,
    owner: &'a Owner,
}

impl Search<'_> {
    fn all(
        &self,
        sets: &[RangeSet],
        requested: &[IpAddr],
        given: &mut Vec<IpConfig>,
    ) -> Result<(), AddressError> {
        let had = self.store.addresses_of(self.owner)?;
        let taken: HashSet<IpAddr> = self.store.reserved()?.into_iter().collect();
        let mut left = requested.to_vec();
        for (index, set) in sets.iter().enumerate() {
            let wish = left.iter().position(|ip| set.range_of(*ip).is_some());
            given.push(match wish.map(|position| left.remove(position)) {
                Some(ip) => self.requested(set, index, ip)?,
                None => {
                    if let Some(ip) = had.iter().find(|ip| set.range_of(**ip).is_some()) {
                        let container = self.owner.container().to_owned();
                        return Err(AddressError::Duplicate { ip: *ip, container });
                    }
                    self.next_free(set, index, &taken)?
                }
            });
        }
        if left.is_empty() { Ok(()) } else { Err(AddressError::OutOfRange(left)) }
    }

    fn requested(&self, set: &RangeSet, index: usize, ip: IpAddr) -> Result<IpConfig, AddressError> {
        let taken = || AddressError::Taken { ip, set: set.to_string() };
        let range = set.range_of(ip).ok_or_else(taken)?;
        if ip == range.gateway {
            return Err(AddressError::Gateway { ip });
        }
        if self.store.reserve(ip, self.owner, index)? { Ok(config(ip, range)) } else { Err(taken()) }
    }

    fn next_free(
        &self,
        set: &RangeSet,
        index: usize,
        taken: &HashSet<IpAddr>,
    ) -> Result<IpConfig, AddressError> {
        let candidates = set.candidates(self.store.last(index));
        for (ip, range) in candidates.filter(|(ip, _)| !taken.contains(ip)) {
            if self.store.reserve(ip, self.owner, index)? {
                return Ok(config(ip, range));
            }
        }
        Err(AddressError::Exhausted { set: set.to_string() })
    }
}

fn config(ip: IpAddr, range: &Range) -> IpConfig {
    let address = IpPrefix { ip, length: range.subnet.length };
    IpConfig { interface: None, address, gateway: Some(range.gateway) }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use serde_json::json;

    use super::super::config::{AddConfig, StoreConfig};
    use super::*;
    use crate::call::{Call, Verb};
    use crate::version::Version;

    struct Lab {
        root: tempfile::TempDir,
        sets: Vec<RangeSet>,
    }

    impl Lab {
        fn new(ranges: serde_json::Value) -> Self {
            let root = tempfile::tempdir().unwrap();
            let sets = AddConfig::parse(&call(json!({"ranges": ranges}))).unwrap().sets;
            Self { root, sets }
        }

        fn store(&self) -> Store {
            Store::open(&StoreConfig::parse(&call(json!({"dataDir": self.root.path()}))).unwrap()).unwrap()
        }

        fn take(&self, container: &str, requested: &[&str]) -> Result<Vec<String>, AddressError> {
            let requested: Vec<IpAddr> = requested.iter().map(|ip| ip.parse().unwrap()).collect();
            let given = allocate(&self.store(), &self.sets, &requested, &Owner::new(container, "eth0"))?;
            Ok(given.iter().map(|one| one.address.to_string()).collect())
        }

        fn files(&self) -> Vec<String> {
            let entries = fs::read_dir(self.root.path().join("pods")).unwrap();
            let mut names: Vec<_> =
                entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
            names.sort();
            names
        }
    }

    fn call(ipam: serde_json::Value) -> Call {
        Call {
            verb: Verb::Gc,
            version: Version::V1_0_0,
            network: "pods".to_owned(),
            input: json!({ "ipam": ipam }),
            args: String::new(),
            path: Vec::new(),
        }
    }

    #[test]
    fn addresses_go_round_and_files_are_the_references() {
        let lab = Lab::new(json!([[{"subnet": "10.0.0.0/29"}]]));
        for (container, address) in [("a", "10.0.0.2/29"), ("b", "10.0.0.3/29")] {
            assert_eq!(lab.take(container, &[]).unwrap(), [address]);
        }
        assert_eq!(lab.files(), ["10.0.0.2", "10.0.0.3", "last_reserved_ip.0", "lock"]);
        let folder = lab.root.path().join("pods");
        assert_eq!(fs::read_to_string(folder.join("10.0.0.2")).unwrap(), "a\r\neth0");
        assert_eq!(fs::read_to_string(folder.join("last_reserved_ip.0")).unwrap(), "10.0.0.3");
        assert_eq!(fs::metadata(folder.join("10.0.0.2")).unwrap().permissions().mode() & 0o777, 0o600);
        lab.store().release(&Owner::new("a", "eth0")).unwrap();
        assert_eq!(lab.take("c", &[]).unwrap(), ["10.0.0.4/29"], "not the one that was just given back");
    }

    #[test]
    fn an_owner_gets_no_second_address_and_keeps_the_first() {
        let lab = Lab::new(json!([[{"subnet": "10.0.0.0/29"}], [{"subnet": "fd00::/64"}]]));
        assert_eq!(lab.take("a", &[]).unwrap(), ["10.0.0.2/29", "fd00::2/64"]);
        assert!(matches!(lab.take("a", &[]), Err(AddressError::Duplicate { .. })));
        assert!(matches!(lab.take("a", &["10.0.0.2"]), Err(AddressError::Taken { .. })));
        assert_eq!(lab.store().addresses_of(&Owner::new("a", "eth0")).unwrap().len(), 2);
    }

    #[test]
    fn all_or_none() {
        let lab =
            Lab::new(json!([[{"subnet": "10.0.0.0/24"}], [{"subnet": "fd00::/126", "rangeEnd": "fd00::2"}]]));
        lab.take("a", &[]).unwrap();
        assert!(matches!(lab.take("b", &[]), Err(AddressError::Exhausted { .. })));
        assert!(matches!(lab.take("b", &["10.0.1.9"]), Err(AddressError::Exhausted { .. })));
        assert!(lab.store().addresses_of(&Owner::new("b", "eth0")).unwrap().is_empty());
        let lab = Lab::new(json!([[{"subnet": "10.0.0.0/24"}]]));
        assert!(matches!(lab.take("b", &["10.0.1.9"]), Err(AddressError::OutOfRange(_))));
        assert!(matches!(lab.take("b", &["10.0.0.1"]), Err(AddressError::Gateway { .. })));
        assert_eq!(lab.take("b", &["10.0.0.9"]).unwrap(), ["10.0.0.9/24"]);
        assert!(matches!(lab.take("c", &["10.0.0.9"]), Err(AddressError::Taken { .. })));
        assert_eq!(lab.store().reserved().unwrap().len(), 1);
    }

    #[test]
    fn collection_keeps_whom_the_runtime_knows() {
        let lab = Lab::new(json!([[{"subnet": "10.0.0.0/24"}]]));
        for container in ["a", "b", "c"] {
            lab.take(container, &[]).unwrap();
        }
        lab.store().release_all_but(&[Owner::new("b", "eth0"), Owner::new("c", "net1")]).unwrap();
        assert_eq!(lab.files(), ["10.0.0.3", "last_reserved_ip.0", "lock"]);
    }

    #[test]
    fn a_reservation_that_was_cut_off_holds_nothing() {
        let lab = Lab::new(json!([[{"subnet": "10.0.0.0/29"}]]));
        lab.take("a", &[]).unwrap();
        let folder = lab.root.path().join("pods");
        fs::File::create(folder.join(".reserving")).unwrap();
        fs::File::create(folder.join("last_reserved_ip.0")).unwrap();
        assert_eq!(lab.take("b", &[]).unwrap(), ["10.0.0.3/29"]);
        assert_eq!(lab.files(), ["10.0.0.2", "10.0.0.3", "last_reserved_ip.0", "lock"]);
    }
}
