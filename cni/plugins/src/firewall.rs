//! Rules of the host's firewall: the programs that write them, and the kernel's own answer to which are there.
//!
//! Rules are written as text in one call of `iptables-restore` or `nft` per transaction, so that all of them are there or
//! none. What is there already is asked of the kernel where that can be done without starting a program.

pub(crate) mod iptables;
pub(crate) mod names;
pub(crate) mod netfilter;
pub(crate) mod nft;

use std::io;

use thiserror::Error;

use crate::config::ConfigError;
use crate::program::{self, ProgramError};

/// Rules could not be written or read.
#[derive(Debug, Error)]
pub(crate) enum FirewallError {
    #[error("cannot {step}")]
    Program {
        step: &'static str,
        #[source]
        source: ProgramError,
    },
    #[error("cannot {step} of table {table}")]
    Kernel {
        step: &'static str,
        table: &'static str,
        #[source]
        source: io::Error,
    },
}

/// Who writes rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Backend {
    Iptables,
    Nftables,
}

impl Backend {
    pub(crate) fn named(field: &'static str, name: &str) -> Result<Self, ConfigError> {
        match name {
            "iptables" => Ok(Self::Iptables),
            "nftables" => Ok(Self::Nftables),
            _ => {
                let shown: String = name.chars().take(40).collect();
                Err(ConfigError::field(field, format!("{shown:?} is neither iptables nor nftables")))
            }
        }
    }

    /// As the reference chooses: iptables, unless only nftables is there.
    pub(crate) fn available() -> Self {
        let has = |name| program::find(name).is_ok();
        if !has("iptables-restore") && has("nft") { Self::Nftables } else { Self::Iptables }
    }
}

/// A family of addresses, which have rules of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    V4,
    V6,
}

impl Family {
    pub(crate) const BOTH: [Self; 2] = [Self::V4, Self::V6];

    pub(crate) fn of(ip: std::net::IpAddr) -> Self {
        if ip.is_ipv4() { Self::V4 } else { Self::V6 }
    }

    /// The family's word in nftables.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::V4 => "ip",
            Self::V6 => "ip6",
        }
    }
}
