//! What CreateSandbox asks for, checked, and made: the pod's namespaces and its `/dev/shm`.

use std::io;
use std::path::{Component, Path};

use runtime_shim::layout::{Bundle, PinnedNamespace};
use runtime_shim::protocol::Code;
use runtime_shim::protocol::io::{NamespaceMode, PodNamespaces};
use runtime_shim::sysctl::{self, Own};
use runtime_shim::teardown;
use runtime_shim::ttrpc::server::Status;
use runtime_sys::mount;
use runtime_sys::namespace::{self, Kind, NamespaceError, Pin, PinSpec};
use rustix::io::Errno;

use crate::{failure, log};

/// Size of /dev/shm when nobody says another, in bytes; what container engines use.
const DEFAULT_SHM: u64 = 64 << 20;
/// Longest host name that the kernel takes, in bytes.
const MAX_HOSTNAME: usize = 64;
/// Longest path of a pin, in bytes.
const MAX_PIN: usize = 4095;

/// What is to be made.
pub(crate) struct PodPlan {
    pins: PinSpec,
    /// Bytes of the pod's own /dev/shm.
    shm: Option<u64>,
}

impl PodPlan {
    /// Refuses what cannot be made, before anything is.
    pub(crate) fn new(bundle: &Bundle, wish: &PodNamespaces) -> Result<Self, Status> {
        let own = Own {
            ipc: wish.ipc() == NamespaceMode::Pod,
            net: !wish.net_pin.is_empty(),
            uts: wish.uts() == NamespaceMode::Pod,
        };
        check_hostname(&wish.hostname, own)?;
        let mut pins = Vec::new();
        let bundled = |kind, pinned| Pin { kind, path: bundle.namespace(pinned), record: None };
        if own.ipc {
            pins.push(bundled(Kind::Ipc, PinnedNamespace::Ipc));
        }
        if own.uts {
            pins.push(bundled(Kind::Uts, PinnedNamespace::Uts));
        }
        if own.net {
            let path = check_pin(&wish.net_pin)?.to_path_buf();
            pins.push(Pin { kind: Kind::Net, path, record: Some(bundle.net_record()) });
        }
        let sysctls = sysctl::parse_all(&wish.sysctls, own);
        let sysctls = sysctls.map_err(|error| failure::invalid(log::chain(&error)))?;
        let hostname = Some(wish.hostname.clone()).filter(|name| !name.is_empty());
        let shm = own.ipc.then_some(if wish.shm_size == 0 { DEFAULT_SHM } else { wish.shm_size });
        Ok(Self { pins: PinSpec { pins, hostname, sysctls }, shm })
    }
}

fn check_hostname(hostname: &str, own: Own) -> Result<(), Status> {
    if hostname.len() > MAX_HOSTNAME || hostname.contains('\0') {
        return Err(failure::invalid(format!("host name {hostname:?} is not one that the kernel takes")));
    }
    if !own.uts && !hostname.is_empty() {
        return Err(failure::invalid("a host name needs a UTS namespace of the pod's own"));
    }
    Ok(())
}

fn check_pin(pin: &str) -> Result<&Path, Status> {
    let path = Path::new(pin);
    let plain = path.components().all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
    let usable = path.is_absolute() && plain && path.file_name().is_some() && !pin.ends_with('/');
    if usable && pin.len() <= MAX_PIN && !pin.contains('\0') {
        return Ok(path);
    }
    Err(failure::invalid(format!("{pin:?} is not a path for a network namespace")))
}

/// Makes everything, or nothing. Blocking.
pub(crate) fn set_up(bundle: &Bundle, plan: &PodPlan) -> Result<(), Status> {
    // What an earlier shim of this pod made and could not give back.
    teardown::pod(bundle).map_err(|error| failure::internal(&error))?;
    let made = namespace::make_and_pin(&plan.pins).map_err(|error| refusal(&error)).and_then(|()| {
        let Some(size) = plan.shm else { return Ok(()) };
        let shm = bundle.shm();
        let failed = |error| Status::new(Code::Internal, format!("mount {}: {error}", shm.display()));
        mount_shm(&shm, size).map_err(failed)
    });
    if made.is_err() {
        teardown::pod(bundle).unwrap_or_else(|error| log::note(&log::chain(&error)));
    }
    made
}

fn mount_shm(path: &Path, size: u64) -> io::Result<()> {
    std::fs::create_dir_all(path)?;
    mount::tmpfs(path, size, 0o1777)
}

/// A sysctl that the kernel does not know or take is the user's mistake, anything else is ours.
fn refusal(error: &NamespaceError) -> Status {
    const MISTAKES: [Errno; 9] = [
        Errno::INVAL,
        Errno::NOENT,
        Errno::NOTDIR,
        Errno::ISDIR,
        Errno::RANGE,
        Errno::PERM,
        Errno::ACCESS,
        Errno::LOOP,
        Errno::XDEV,
    ];
    match error {
        NamespaceError::Sysctl { source, .. }
            if source.kind() == io::ErrorKind::InvalidInput
                || MISTAKES.iter().any(|errno| source.raw_os_error() == Some(errno.raw_os_error())) =>
        {
            failure::invalid(log::chain(error))
        }
        NamespaceError::Sysctl { .. } | NamespaceError::Step { .. } => failure::internal(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(wish: &PodNamespaces) -> Result<PodPlan, Code> {
        PodPlan::new(&Bundle::at("/run/b"), wish).map_err(|status| status.code)
    }

    #[test]
    fn pins_are_plain_absolute_paths() {
        for pin in [
            "netns",
            "/",
            "/run/../etc/x",
            "/run/netns/",
            "/run/net\0ns",
            &format!("/{}", "a".repeat(MAX_PIN)),
        ] {
            let wish = PodNamespaces { net_pin: pin.into(), ..Default::default() };
            assert!(matches!(plan(&wish), Err(Code::InvalidArgument)), "{pin:?}");
        }
        let wish = PodNamespaces { net_pin: "/run/netns/cni-1".into(), ..Default::default() };
        let net = plan(&wish).ok().unwrap().pins.pins.pop().unwrap();
        assert_eq!(net.record.as_deref(), Some(Path::new("/run/b/ns/net")));
    }

    #[test]
    fn sysctls_need_the_namespaces_that_are_made() {
        let wish = |net_pin: &str, ipc: NamespaceMode, name: &str| PodNamespaces {
            net_pin: net_pin.into(),
            ipc: ipc.into(),
            sysctls: [(name.to_owned(), "1".to_owned())].into(),
            ..Default::default()
        };
        for (net_pin, ipc, name, fine) in [
            ("/run/netns/a", NamespaceMode::Node, "net.ipv4.ip_forward", true),
            ("", NamespaceMode::Pod, "net.ipv4.ip_forward", false),
            ("", NamespaceMode::Pod, "kernel.shmmax", true),
            ("/run/netns/a", NamespaceMode::Node, "kernel.shmmax", false),
            ("/run/netns/a", NamespaceMode::Pod, "vm.swappiness", false),
        ] {
            assert_eq!(plan(&wish(net_pin, ipc, name)).is_ok(), fine, "{name}");
        }
    }
}
