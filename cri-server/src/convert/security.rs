//! Namespaces, user, capabilities and profiles of pods and containers.
//!
//! SELinux labels are taken and not used: the hosts that orlop runs on so far have none, and there the kubelet's
//! other runtimes do the same.

use std::path::PathBuf;

use cri_proto::v1;
use cri_proto::v1::NamespaceMode;
use cri_proto::v1::security_profile::ProfileType;
use pod_sandbox::spec::{
    CapabilitySpec, IpcMode, NetworkMode, PidMode, PodSpec, SeccompSpec, SecuritySpec,
    SupplementalGroupsPolicy, UserSpec,
};

use runtime_core::ids::ContainerId;

use super::{ConvertError, invalid, kernel_id, unimplemented};

/// The modes of a pod.
pub(super) struct PodModes {
    pub(super) network: NetworkMode,
    pub(super) ipc: IpcMode,
    pub(super) pid: PidMode,
}

pub(super) fn pod_modes(options: Option<v1::NamespaceOption>) -> Result<PodModes, ConvertError> {
    let options = options.unwrap_or_default();
    let network = match mode("network namespace mode", options.network)? {
        NamespaceMode::Node => NetworkMode::Host,
        NamespaceMode::Pod => NetworkMode::Pod,
        NamespaceMode::Container | NamespaceMode::Target => {
            return Err(invalid("network namespace mode", options.network, "is neither POD nor NODE"));
        }
    };
    let ipc = match mode("IPC namespace mode", options.ipc)? {
        NamespaceMode::Pod => IpcMode::Pod,
        NamespaceMode::Node => IpcMode::Host,
        NamespaceMode::Container | NamespaceMode::Target => {
            return Err(invalid("IPC namespace mode", options.ipc, "is neither POD nor NODE"));
        }
    };
    let pid = match mode("PID namespace mode", options.pid)? {
        NamespaceMode::Container => PidMode::Container,
        NamespaceMode::Node => PidMode::Host,
        NamespaceMode::Pod => PidMode::Pod,
        NamespaceMode::Target => {
            return Err(invalid("PID namespace mode", options.pid, "has no meaning for a pod"));
        }
    };
    user_namespace(options.userns_options)?;
    Ok(PodModes { network, ipc, pid })
}

/// A container without options takes the pod's.
fn container_pid(options: Option<v1::NamespaceOption>, pod: &PodSpec) -> Result<PidMode, ConvertError> {
    let Some(options) = options else {
        return Ok(pod.pid.clone());
    };
    user_namespace(options.userns_options)?;
    match mode("PID namespace mode", options.pid)? {
        NamespaceMode::Container => Ok(PidMode::Container),
        NamespaceMode::Node => Ok(PidMode::Host),
        // The pod's PID namespace is the node's then.
        NamespaceMode::Pod if pod.pid == PidMode::Host => Ok(PidMode::Host),
        NamespaceMode::Pod => Ok(PidMode::Pod),
        NamespaceMode::Target if options.target_id.is_empty() => {
            Err(ConvertError::Missing { what: "target_id, with PID namespace mode TARGET" })
        }
        NamespaceMode::Target => ContainerId::parse(options.target_id.clone())
            .map(PidMode::Target)
            .map_err(|_| invalid("target_id", options.target_id, "is not a container id")),
    }
}

fn user_namespace(options: Option<v1::UserNamespace>) -> Result<(), ConvertError> {
    let Some(options) = options else { return Ok(()) };
    match mode("user namespace mode", options.mode)? {
        NamespaceMode::Node => Ok(()),
        NamespaceMode::Pod => unimplemented("a user namespace"),
        NamespaceMode::Container | NamespaceMode::Target => {
            Err(invalid("user namespace mode", options.mode, "is neither POD nor NODE"))
        }
    }
}

fn mode(what: &'static str, value: i32) -> Result<NamespaceMode, ConvertError> {
    NamespaceMode::try_from(value).map_err(|_| invalid(what, value, "is unknown"))
}

/// The container's security context within its pod.
pub(super) fn container(
    context: Option<v1::LinuxContainerSecurityContext>,
    pod: &PodSpec,
) -> Result<SecuritySpec, ConvertError> {
    let context = context.unwrap_or_default();
    if context.privileged && !pod.privileged {
        return Err(invalid("privileged", true, "is not allowed by the pod's own security context"));
    }
    let seccomp = seccomp(&context)?;
    app_armor(&context)?;
    let user = user(&context)?;
    let group = context.run_as_group.map(|it| kernel_id("run_as_group", it.value)).transpose()?;
    if group.is_some() && user.is_none() {
        return Err(ConvertError::Missing { what: "run_as_user or run_as_username, with run_as_group" });
    }
    let groups = context.supplemental_groups.iter().map(|gid| kernel_id("supplemental group", *gid));
    Ok(SecuritySpec {
        privileged: context.privileged,
        pid: container_pid(context.namespace_options, pod)?,
        user,
        group,
        supplemental_groups: groups.collect::<Result<_, _>>()?,
        supplemental_groups_policy: groups_policy(context.supplemental_groups_policy)?,
        capabilities: capabilities(context.capabilities.unwrap_or_default()),
        readonly_rootfs: context.readonly_rootfs,
        no_new_privs: context.no_new_privs,
        masked_paths: context.masked_paths,
        readonly_paths: context.readonly_paths,
        seccomp,
    })
}

fn user(context: &v1::LinuxContainerSecurityContext) -> Result<Option<UserSpec>, ConvertError> {
    match (&context.run_as_user, context.run_as_username.as_str()) {
        (None, "") => Ok(None),
        (None, name) => Ok(Some(UserSpec::Name(name.to_owned()))),
        (Some(uid), "") => Ok(Some(UserSpec::Uid(kernel_id("run_as_user", uid.value)?))),
        (Some(_), name) => Err(invalid("run_as_username", name, "comes together with run_as_user")),
    }
}

fn groups_policy(value: i32) -> Result<SupplementalGroupsPolicy, ConvertError> {
    match v1::SupplementalGroupsPolicy::try_from(value) {
        Ok(v1::SupplementalGroupsPolicy::Merge) => Ok(SupplementalGroupsPolicy::Merge),
        Ok(v1::SupplementalGroupsPolicy::Strict) => Ok(SupplementalGroupsPolicy::Strict),
        Err(_) => Err(invalid("supplemental groups policy", value, "is unknown")),
    }
}

/// People write them in any case, with and without the kernel's prefix.
fn capabilities(wish: v1::Capability) -> CapabilitySpec {
    let plain = |name: String| {
        let upper = name.to_ascii_uppercase();
        upper.strip_prefix("CAP_").map(str::to_owned).unwrap_or(upper)
    };
    let names = |names: Vec<String>| names.into_iter().map(plain).collect();
    CapabilitySpec {
        add: names(wish.add_capabilities),
        drop: names(wish.drop_capabilities),
        add_ambient: names(wish.add_ambient_capabilities),
    }
}

/// The profile, or else the older field's text; no word at all is no filter.
#[expect(deprecated, reason = "older clients send only this")]
fn seccomp(context: &v1::LinuxContainerSecurityContext) -> Result<SeccompSpec, ConvertError> {
    let Some(profile) = &context.seccomp else {
        return match context.seccomp_profile_path.as_str() {
            "" | "unconfined" => Ok(SeccompSpec::Unconfined),
            "runtime/default" | "docker/default" => Ok(SeccompSpec::RuntimeDefault),
            text => match text.strip_prefix("localhost/") {
                Some(path) => Ok(SeccompSpec::Localhost(PathBuf::from(path))),
                None => Err(invalid("seccomp_profile_path", text, "is no profile")),
            },
        };
    };
    match profile_type("seccomp profile type", profile)? {
        ProfileType::Unconfined => Ok(SeccompSpec::Unconfined),
        ProfileType::RuntimeDefault => Ok(SeccompSpec::RuntimeDefault),
        ProfileType::Localhost => Ok(SeccompSpec::Localhost(PathBuf::from(&profile.localhost_ref))),
    }
}

/// A profile of somebody's own must not be dropped silently; the default one is none where there is no AppArmor.
#[expect(deprecated, reason = "older clients send only this")]
fn app_armor(context: &v1::LinuxContainerSecurityContext) -> Result<(), ConvertError> {
    if context.privileged {
        return Ok(());
    }
    let named = match &context.apparmor {
        None => context.apparmor_profile.strip_prefix("localhost/"),
        Some(profile) => match profile_type("AppArmor profile type", profile)? {
            ProfileType::Localhost => Some(profile.localhost_ref.as_str()),
            ProfileType::RuntimeDefault | ProfileType::Unconfined => None,
        },
    };
    match named {
        Some(name) => unimplemented(format!("AppArmor profile {name:?}")),
        None => Ok(()),
    }
}

fn profile_type(what: &'static str, profile: &v1::SecurityProfile) -> Result<ProfileType, ConvertError> {
    ProfileType::try_from(profile.profile_type).map_err(|_| invalid(what, profile.profile_type, "is unknown"))
}

/// What PodSandboxStatus tells of a pod's namespaces.
pub(super) fn options(spec: &PodSpec) -> v1::NamespaceOption {
    let network = match spec.network {
        NetworkMode::Pod => NamespaceMode::Pod,
        NetworkMode::Host => NamespaceMode::Node,
    };
    let ipc = match spec.ipc {
        IpcMode::Pod => NamespaceMode::Pod,
        IpcMode::Host => NamespaceMode::Node,
    };
    let (pid, target_id) = pid_option(&spec.pid);
    v1::NamespaceOption { network: network.into(), pid, ipc: ipc.into(), target_id, userns_options: None }
}

/// A PID mode as it was sent: its number and the target's id.
pub(super) fn pid_option(mode: &PidMode) -> (i32, String) {
    let (number, target) = match mode {
        PidMode::Pod => (NamespaceMode::Pod, String::new()),
        PidMode::Container => (NamespaceMode::Container, String::new()),
        PidMode::Host => (NamespaceMode::Node, String::new()),
        PidMode::Target(id) => (NamespaceMode::Target, id.to_string()),
    };
    (number.into(), target)
}
