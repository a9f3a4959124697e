//! A chain per container, `CNI-<hash>`, that the container's packets go through on their way out.

use super::Marks;
use crate::call::Attachment;
use crate::firewall::iptables::{Changes, Presence, Rule, Saved, presence, read_for_removal};
use crate::firewall::{Family, FirewallError, names};
use crate::prefix::IpPrefix;

const OUT: &str = "POSTROUTING";

pub(super) fn add(marks: &Marks, addresses: &[IpPrefix]) -> Result<(), FirewallError> {
    for family in Family::BOTH {
        let of_family: Vec<IpPrefix> =
            addresses.iter().copied().filter(|address| Family::of(address.ip) == family).collect();
        if of_family.is_empty() {
            continue;
        }
        let chain = chain(marks);
        let is_new = presence(family, &chain) == Presence::No;
        let saved = if is_new { Saved::default() } else { Saved::read(family)? };
        plan(marks, family, &of_family, &saved).apply("write masquerading rules", family)?;
    }
    Ok(())
}

fn plan(marks: &Marks, family: Family, addresses: &[IpPrefix], saved: &Saved) -> Changes {
    let (chain, comment) = (chain(marks), names::masquerade_comment(&marks.network, &marks.container));
    let multicast = match family {
        Family::V4 => "224.0.0.0/4",
        Family::V6 => "ff00::/8",
    };
    let commented = ["-m", "comment", "--comment", &comment];
    let mut changes = Changes::default();
    changes.cut_off(&chain, saved);
    changes.fresh_chain(&chain);
    let mut first = true;
    for address in addresses {
        // Not within the network, and not what all of it hears.
        let network = address.network().to_string();
        let within = ["-d", &network].into_iter().chain(commented).chain(["-j", "ACCEPT"]);
        changes.append(&Rule::new(&chain, within));
        if std::mem::take(&mut first) {
            let outside = ["!", "-d", multicast].into_iter().chain(commented).chain(["-j", "MASQUERADE"]);
            changes.append(&Rule::new(&chain, outside));
        }
        let host = format!("{}/{}", address.ip, crate::prefix::width(address.ip));
        let jump = ["-s", &host].into_iter().chain(commented).chain(["-j", &chain]);
        changes.append(&Rule::new(OUT, jump));
    }
    changes
}

pub(super) fn remove(marks: &Marks) -> Result<(), FirewallError> {
    let chain = chain(marks);
    for family in Family::BOTH {
        if let Some(saved) = read_for_removal(family, presence(family, &chain))? {
            let mut changes = Changes::default();
            changes.remove_chain(&chain, &saved);
            changes.apply("remove masquerading rules", family)?;
        }
    }
    Ok(())
}

/// Chains tell their network and container by a comment only.
pub(super) fn remove_all_but(network: &str, valid: &[Attachment]) -> Result<(), FirewallError> {
    let kept: Vec<String> = valid.iter().map(|at| names::chain("", network, &at.container)).collect();
    let of_network = format!("--comment \"name: \\\"{network}\\\" id: ");
    for family in Family::BOTH {
        // The table is there if its chain of outgoing packets is; that one of ours is in it is not said by that.
        let possible = presence(family, OUT).min(Presence::Possible);
        let Some(saved) = read_for_removal(family, possible)? else { continue };
        let mut changes = Changes::default();
        for chain in
            saved.chains().filter(|chain| chain.starts_with("CNI-") && !kept.iter().any(|one| one == chain))
        {
            if saved.rules_of(chain).any(|rule| rule.contains(&of_network)) {
                changes.remove_chain(chain, &saved);
            }
        }
        changes.apply("remove masquerading rules", family)?;
    }
    Ok(())
}

fn chain(marks: &Marks) -> String {
    names::chain("", &marks.network, &marks.container)
}
