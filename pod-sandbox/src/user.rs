//! Whom a container's first process runs as: numbers, out of the wish, the image and the image's own
//! `/etc/passwd` and `/etc/group`.
//!
//! The image is hostile: its files are opened inside its root only (openat2, RESOLVE_IN_ROOT), must be regular
//! and small, and lines that make no sense are skipped.

mod database;

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsFd;

use runtime_core::error::ErrorKind;
use rustix::fs::{Mode, OFlags, ResolveFlags};
use serde::{Deserialize, Serialize};

use crate::spec::{SecuritySpec, SupplementalGroupsPolicy, UserSpec};
use database::{GroupEntry, PasswdEntry};

const PASSWD: &str = "etc/passwd";
const GROUP: &str = "etc/group";
/// The largest databases in the wild are some hundred kilobytes.
const MAX_DATABASE_BYTES: u64 = 4 << 20;

/// Whom the first process runs as.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResolvedUser {
    pub uid: u32,
    pub gid: u32,
    /// Sorted, with the main group.
    pub additional_gids: Vec<u32>,
}

#[derive(Debug, thiserror::Error)]
pub enum UserError {
    #[error("user {user:?} is not in the image's /etc/passwd")]
    NoSuchUser { user: String },
    #[error("group {group:?} is not in the image's /etc/group")]
    NoSuchGroup { group: String },
    #[error("a group is asked for but no user")]
    GroupWithoutUser,
    #[error("user {user:?} has an empty name or group, or a number that is no id")]
    Malformed { user: String },
    #[error("cannot read /{file} of the image")]
    Read {
        file: &'static str,
        #[source]
        source: io::Error,
    },
    #[error("/{file} of the image is not a regular file of at most {MAX_DATABASE_BYTES} bytes")]
    NotADatabase { file: &'static str },
}

impl UserError {
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NoSuchUser { .. }
            | Self::NoSuchGroup { .. }
            | Self::GroupWithoutUser
            | Self::Malformed { .. }
            | Self::NotADatabase { .. } => ErrorKind::InvalidArgument,
            Self::Read { .. } => ErrorKind::Internal,
        }
    }
}

/// Resolves the wished user, or else the image's, in the tree below `rootfs`.
pub fn resolve(
    rootfs: &impl AsFd,
    security: &SecuritySpec,
    image_user: &str,
) -> Result<ResolvedUser, UserError> {
    let wish = Wish::of(security, image_user)?;
    let passwd = database::passwd(&read(rootfs, PASSWD)?);
    let group = database::group(&read(rootfs, GROUP)?);
    wish.resolve(&passwd, &group, security)
}

/// A user or group as it is written: a number or a name.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Name {
    Id(u32),
    Text(String),
}

impl Name {
    /// A number is an id, even where an account has that number as its name.
    fn parse(text: &str) -> Option<Self> {
        match database::id(text) {
            Some(id) => Some(Self::Id(id)),
            None if text.is_empty() || text.bytes().all(|c| c.is_ascii_digit()) => None,
            None => Some(Self::Text(text.to_owned())),
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Wish {
    user: Name,
    group: Option<Name>,
}

impl Wish {
    /// A wished user replaces the image's as a whole, its group included; the image's default is root.
    fn of(security: &SecuritySpec, image_user: &str) -> Result<Self, UserError> {
        let group = security.group.map(Name::Id);
        match &security.user {
            Some(UserSpec::Uid(uid)) => Ok(Self { user: Name::Id(*uid), group }),
            Some(UserSpec::Name(name)) => {
                let user = Name::parse(name).ok_or_else(|| UserError::Malformed { user: name.clone() })?;
                Ok(Self { user, group })
            }
            None if group.is_some() => Err(UserError::GroupWithoutUser),
            None if image_user.is_empty() => Ok(Self { user: Name::Id(0), group: None }),
            None => Self::parse(image_user),
        }
    }

    /// `user[:group]` of an image (image-spec, "User").
    fn parse(text: &str) -> Result<Self, UserError> {
        let malformed = || UserError::Malformed { user: text.to_owned() };
        let (user, group) = match text.split_once(':') {
            Some((user, group)) => (user, Some(group)),
            None => (text, None),
        };
        let user = Name::parse(user).ok_or_else(malformed)?;
        let group = group.map(|group| Name::parse(group).ok_or_else(malformed)).transpose()?;
        Ok(Self { user, group })
    }

    fn resolve(
        &self,
        passwd: &[PasswdEntry],
        groups: &[GroupEntry],
        security: &SecuritySpec,
    ) -> Result<ResolvedUser, UserError> {
        let account = match &self.user {
            Name::Id(uid) => passwd.iter().find(|entry| entry.uid == *uid),
            Name::Text(name) => {
                let found = passwd.iter().find(|entry| entry.name == *name);
                Some(found.ok_or_else(|| UserError::NoSuchUser { user: name.clone() })?)
            }
        };
        let uid = match (&self.user, account) {
            (Name::Id(uid), _) => *uid,
            (Name::Text(_), Some(account)) => account.uid,
            (Name::Text(name), None) => return Err(UserError::NoSuchUser { user: name.clone() }),
        };
        let gid = match &self.group {
            Some(Name::Id(gid)) => *gid,
            Some(Name::Text(name)) => {
                let found = groups.iter().find(|entry| entry.name == *name);
                found.ok_or_else(|| UserError::NoSuchGroup { group: name.clone() })?.gid
            }
            // An account that the image doesn't know is in group 0, as containerd and Docker have it.
            None => account.map_or(0, |account| account.gid),
        };
        let mut additional_gids = security.supplemental_groups.clone();
        additional_gids.push(gid);
        if let (SupplementalGroupsPolicy::Merge, Some(account)) =
            (security.supplemental_groups_policy, account)
        {
            let memberships = groups.iter().filter(|entry| entry.members.contains(&account.name));
            additional_gids.extend(memberships.map(|entry| entry.gid));
        }
        additional_gids.sort_unstable();
        additional_gids.dedup();
        Ok(ResolvedUser { uid, gid, additional_gids })
    }
}

/// The file's text; empty when the image has no such file.
fn read(rootfs: &impl AsFd, file: &'static str) -> Result<String, UserError> {
    let failed = |source: io::Error| UserError::Read { file, source };
    // NONBLOCK: an image may have a FIFO there, and opening it must not wait for a writer.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let opened = rustix::fs::openat2(rootfs, file, flags, Mode::empty(), resolve);
    let opened = match opened {
        Ok(opened) => File::from(opened),
        Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => return Ok(String::new()),
        Err(rustix::io::Errno::LOOP) => return Err(UserError::NotADatabase { file }),
        Err(errno) => return Err(failed(errno.into())),
    };
    let metadata = opened.metadata().map_err(failed)?;
    if !metadata.is_file() || metadata.len() > MAX_DATABASE_BYTES {
        return Err(UserError::NotADatabase { file });
    }
    let mut bytes = Vec::new();
    opened.take(MAX_DATABASE_BYTES).read_to_end(&mut bytes).map_err(failed)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests;
