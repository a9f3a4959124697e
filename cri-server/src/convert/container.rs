//! Containers: the wish, the status, the list entry.

use std::path::{Component, Path, PathBuf};

use cri_proto::v1;
use pod_sandbox::spec::{
    ContainerMetadata, ContainerSpec, DeviceSpec, ImageReference, MountSpec, PodSpec, Propagation,
};
use pod_sandbox::user::ResolvedUser;
use pod_sandbox::{ContainerState, ContainerView};

use super::{
    ConvertError, absolute, invalid, name, one_line, required, resources, security, signal, unimplemented,
};

pub(crate) fn container_spec(
    config: Option<v1::ContainerConfig>,
    pod: &PodSpec,
) -> Result<ContainerSpec, ConvertError> {
    let config = required("the container's config", config)?;
    refuse_what_is_to_come(&config)?;
    let linux = config.linux.unwrap_or_default();
    let metadata = required("the container's metadata", config.metadata)?;
    let stop_signal = v1::Signal::try_from(config.stop_signal);
    let stop_signal = stop_signal.map_err(|_| invalid("stop_signal", config.stop_signal, "is unknown"))?;
    Ok(ContainerSpec {
        metadata: ContainerMetadata {
            name: name("the container's name", metadata.name)?,
            attempt: metadata.attempt,
        },
        image: image(required("the container's image", config.image)?)?,
        command: config.command,
        args: config.args,
        working_dir: config.working_dir,
        envs: config.envs.into_iter().map(env).collect::<Result<_, _>>()?,
        mounts: config.mounts.into_iter().map(mount).collect::<Result<_, _>>()?,
        devices: config.devices.into_iter().map(device).collect::<Result<_, _>>()?,
        labels: config.labels,
        annotations: config.annotations,
        log_path: log_path(pod.log_directory.as_deref(), &config.log_path)?,
        stdin: config.stdin,
        stdin_once: config.stdin_once,
        tty: config.tty,
        stop_signal: signal::number(stop_signal),
        resources: resources::checked(linux.resources.unwrap_or_default())?,
        security: security::container(linux.security_context, pod)?,
    })
}

fn refuse_what_is_to_come(config: &v1::ContainerConfig) -> Result<(), ConvertError> {
    if let Some(device) = config.cdi_devices.first() {
        return unimplemented(format!("CDI device {:?}", device.name));
    }
    Ok(())
}

fn image(image: v1::ImageSpec) -> Result<ImageReference, ConvertError> {
    Ok(ImageReference {
        image: name("the container's image", image.image)?,
        user_specified: image.user_specified_image,
        annotations: image.annotations,
    })
}

/// The OCI runtime takes its configuration as JSON, which has no way to write other bytes.
fn env(variable: v1::KeyValue) -> Result<(String, String), ConvertError> {
    match String::from_utf8(variable.value) {
        Ok(value) => Ok((variable.key, value)),
        Err(_) => Err(invalid("environment variable", variable.key, "has a value that is not UTF-8")),
    }
}

fn mount(mount: v1::Mount) -> Result<MountSpec, ConvertError> {
    let place = || mount.container_path.clone();
    if mount.image.is_some() || !mount.image_sub_path.is_empty() {
        return unimplemented(format!("the image volume at {:?}", place()));
    }
    if !mount.uid_mappings.is_empty() || !mount.gid_mappings.is_empty() {
        return unimplemented(format!("the id-mapped mount at {:?}", place()));
    }
    if !mount.mount_options.is_empty() {
        return unimplemented(format!("mount options at {:?}", place()));
    }
    let propagation = propagation(mount.propagation)?;
    if mount.recursive_read_only {
        // KEP-3857 names these two combinations as errors.
        if !mount.readonly || propagation != Propagation::Private {
            return Err(invalid("recursive_read_only mount", place(), "is not read-only and private"));
        }
        return unimplemented(format!("the recursively read-only mount at {:?}", place()));
    }
    Ok(MountSpec {
        container_path: absolute("mount's container_path", &mount.container_path)?,
        host_path: absolute("mount's host_path", &mount.host_path)?,
        readonly: mount.readonly,
        propagation,
        selinux_relabel: mount.selinux_relabel,
    })
}

fn device(device: v1::Device) -> Result<DeviceSpec, ConvertError> {
    let permissions = device.permissions;
    if permissions.is_empty() || permissions.chars().any(|it| !matches!(it, 'r' | 'w' | 'm')) {
        return Err(invalid("device permissions", permissions, "are not made of r, w and m"));
    }
    Ok(DeviceSpec {
        container_path: absolute("device's container_path", &device.container_path)?,
        host_path: absolute("device's host_path", &device.host_path)?,
        permissions,
    })
}

fn propagation(value: i32) -> Result<Propagation, ConvertError> {
    match v1::MountPropagation::try_from(value) {
        Ok(v1::MountPropagation::PropagationPrivate) => Ok(Propagation::Private),
        Ok(v1::MountPropagation::PropagationHostToContainer) => Ok(Propagation::HostToContainer),
        Ok(v1::MountPropagation::PropagationBidirectional) => Ok(Propagation::Bidirectional),
        Err(_) => Err(invalid("mount propagation", value, "is unknown")),
    }
}

/// The log is written by root: it must not get out of the pod's folder. Without folder or path there is none.
fn log_path(folder: Option<&Path>, path: &str) -> Result<Option<PathBuf>, ConvertError> {
    let (Some(folder), false) = (folder, path.is_empty()) else {
        return Ok(None);
    };
    one_line("log_path", path)?;
    let inside =
        Path::new(path).components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    let is_file = Path::new(path).file_name().is_some() && !path.ends_with('/');
    if !inside || !is_file {
        return Err(invalid("log_path", path, "is not a file inside the pod's log directory"));
    }
    Ok(Some(folder.join(path)))
}

pub(super) fn state(state: &ContainerState) -> v1::ContainerState {
    match state {
        ContainerState::Created | ContainerState::Starting => v1::ContainerState::ContainerCreated,
        ContainerState::Running { .. } | ContainerState::Stopping { .. } => {
            v1::ContainerState::ContainerRunning
        }
        ContainerState::Exited { .. } => v1::ContainerState::ContainerExited,
        ContainerState::Unknown { .. } => v1::ContainerState::ContainerUnknown,
    }
}

pub(super) fn identity(view: &ContainerView) -> v1::ContainerMetadata {
    let ContainerMetadata { name, attempt } = view.spec.metadata.clone();
    v1::ContainerMetadata { name, attempt }
}

/// As it was asked for.
fn image_spec(view: &ContainerView) -> v1::ImageSpec {
    let ImageReference { image, user_specified, annotations } = view.spec.image.clone();
    v1::ImageSpec { image, annotations, user_specified_image: user_specified, ..Default::default() }
}

/// People read the status: it names the image as the user wrote it.
fn shown_image(view: &ContainerView) -> v1::ImageSpec {
    let mut spec = image_spec(view);
    if !spec.user_specified_image.is_empty() {
        spec.image.clone_from(&spec.user_specified_image);
    }
    spec
}

pub(crate) fn summary(view: &ContainerView) -> v1::Container {
    v1::Container {
        id: view.id.to_string(),
        pod_sandbox_id: view.sandbox.to_string(),
        metadata: Some(identity(view)),
        image: Some(image_spec(view)),
        image_ref: view.image.id.to_string(),
        state: state(&view.state).into(),
        created_at: view.created_at.nanos(),
        labels: view.spec.labels.clone(),
        annotations: view.spec.annotations.clone(),
        image_id: view.image.id.to_string(),
    }
}

pub(crate) fn status(view: &ContainerView) -> v1::ContainerStatus {
    let mut status = v1::ContainerStatus {
        id: view.id.to_string(),
        metadata: Some(identity(view)),
        state: state(&view.state).into(),
        created_at: view.created_at.nanos(),
        started_at: view.state.started_at().map_or(0, |at| at.nanos()),
        image: Some(shown_image(view)),
        image_ref: view.image.id.to_string(),
        image_id: view.image.id.to_string(),
        labels: view.spec.labels.clone(),
        annotations: view.spec.annotations.clone(),
        mounts: view.spec.mounts.iter().map(mount_message).collect(),
        log_path: view.spec.log_path.as_deref().map_or_else(String::new, text),
        resources: Some(v1::ContainerResources {
            linux: Some(resources::message(&view.resources)),
            windows: None,
        }),
        user: view.user.as_ref().map(user_message),
        stop_signal: view.spec.stop_signal.and_then(signal::from_number).map_or(0, Into::into),
        ..Default::default()
    };
    match &view.state {
        ContainerState::Exited { exit, .. } => {
            status.finished_at = exit.at.nanos();
            status.exit_code = exit.code;
            status.reason = exit.reason.as_str().to_owned();
            status.message = exit.message.clone();
        }
        ContainerState::Unknown { why } => {
            status.reason = "Unknown".to_owned();
            status.message = why.clone();
        }
        ContainerState::Created
        | ContainerState::Starting
        | ContainerState::Running { .. }
        | ContainerState::Stopping { .. } => {}
    }
    status
}

/// KEP-3619: whom the container's first process runs as, with its groups.
fn user_message(user: &ResolvedUser) -> v1::ContainerUser {
    let linux = v1::LinuxContainerUser {
        uid: i64::from(user.uid),
        gid: i64::from(user.gid),
        supplemental_groups: user.additional_gids.iter().map(|gid| i64::from(*gid)).collect(),
    };
    v1::ContainerUser { linux: Some(linux) }
}

pub(super) fn mount_message(mount: &MountSpec) -> v1::Mount {
    let propagation = match mount.propagation {
        Propagation::Private => v1::MountPropagation::PropagationPrivate,
        Propagation::HostToContainer => v1::MountPropagation::PropagationHostToContainer,
        Propagation::Bidirectional => v1::MountPropagation::PropagationBidirectional,
    };
    v1::Mount {
        container_path: text(&mount.container_path),
        host_path: text(&mount.host_path),
        readonly: mount.readonly,
        selinux_relabel: mount.selinux_relabel,
        propagation: propagation.into(),
        ..Default::default()
    }
}

/// It came in as text.
fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

#[cfg(test)]
#[path = "container_tests.rs"]
pub(in crate::convert) mod tests;
