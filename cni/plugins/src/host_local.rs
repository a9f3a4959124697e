//! `host-local`: gives out addresses of configured ranges and keeps them in files, one an address.
//!
//! The files are the reference's, to the byte, so that a node can go from one to the other; so is the lock on a network's
//! folder, which is held while anything is looked up or changed.

mod allocate;
mod config;
mod range;
mod resolv_conf;
mod store;

use std::io;
use std::net::IpAddr;
use std::path::PathBuf;

use thiserror::Error;

use self::config::{AddConfig, StoreConfig};
use self::store::{Owner, Store};
use crate::call::{Attachment, Call, Verb};
use crate::error::PluginError;
use crate::result::CniResult;

/// Addresses could not be given out or back.
#[derive(Debug, Error)]
pub(crate) enum AddressError {
    #[error("no IP addresses available in range set: {set}")]
    Exhausted { set: String },
    #[error("{ip} has been allocated to {container}, duplicate allocation is not allowed")]
    Duplicate { ip: IpAddr, container: String },
    #[error("requested IP {ip} is the subnet's gateway")]
    Gateway { ip: IpAddr },
    #[error("requested IP address {ip} is not available in range set {set}")]
    Taken { ip: IpAddr, set: String },
    #[error("failed to allocate all requested IPs: {}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "))]
    OutOfRange(Vec<IpAddr>),
    #[error("no address of container {0} is on record")]
    NotAllocated(String),
    #[error("cannot {step} {path}")]
    File {
        step: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

pub(crate) fn run(call: &Call) -> Result<Option<CniResult>, PluginError> {
    match &call.verb {
        Verb::Add(at, _) => add(call, at).map(Some),
        Verb::Del(at, _) => del(call, at).map(|()| None),
        Verb::Check(at, _) => check(call, at).map(|()| None),
        Verb::Gc => gc(call).map(|()| None),
        Verb::Status => AddConfig::parse(call).map(|_| None),
    }
}

/// Takes an address of each range set.
pub(crate) fn add(call: &Call, at: &Attachment) -> Result<CniResult, PluginError> {
    let config = AddConfig::parse(call)?;
    let dns = config.resolv_conf.as_deref().map(resolv_conf::read).transpose()?.unwrap_or_default();
    let store = Store::open(&config.store)?;
    let ips = allocate::allocate(&store, &config.sets, &config.requested, &owner(at))?;
    Ok(CniResult { ips, routes: config.routes, dns, ..CniResult::default() })
}

/// Gives all addresses of an interface back. Needs no valid ranges: they may have changed since.
pub(crate) fn del(call: &Call, at: &Attachment) -> Result<(), PluginError> {
    let config = StoreConfig::parse(call)?;
    if let Some(store) = Store::open_if_there(&config)? {
        store.release(&owner(at))?;
    }
    Ok(())
}

pub(crate) fn check(call: &Call, at: &Attachment) -> Result<(), PluginError> {
    AddConfig::parse(call)?;
    let found = match Store::open_if_there(&StoreConfig::parse(call)?)? {
        Some(store) => store.has(&owner(at))?,
        None => false,
    };
    if found { Ok(()) } else { Err(AddressError::NotAllocated(at.container.clone()).into()) }
}

/// Gives back what belongs to no attachment that the runtime knows of.
pub(crate) fn gc(call: &Call) -> Result<(), PluginError> {
    let config = StoreConfig::parse(call)?;
    let valid: Vec<Owner> = call.valid_attachments()?.iter().map(owner).collect();
    if let Some(store) = Store::open_if_there(&config)? {
        store.release_all_but(&valid)?;
    }
    Ok(())
}

fn owner(at: &Attachment) -> Owner {
    Owner::new(&at.container, &at.ifname)
}
