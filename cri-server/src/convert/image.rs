//! Images: what a container takes from one, and what the CRI tells of one.

use std::collections::BTreeMap;

use cri_proto::v1;
use imagesvc::{Auth, FsInfo, Image, ResolvedImage};
use pod_sandbox::spec::{ImageConfig, ImageInput};
use runtime_core::ids::Digest;
use serde_json::json;

use super::{ConvertError, invalid};

/// The parts of a resolved image that a container inherits; its labels stay behind.
pub(crate) fn input(image: ResolvedImage) -> Result<ImageInput, ConvertError> {
    let unusable = |why| invalid("image", &image.name, why);
    let id = Digest::parse(image.id.to_string()).map_err(|_| unusable("has an id that is not a digest"))?;
    let chain_id = image.chain_id.clone().ok_or_else(|| unusable("has no layers"))?;
    let config = image.config;
    Ok(ImageInput {
        id,
        name: image.name,
        chain_id,
        config: ImageConfig {
            user: config.user,
            env: config.env,
            entrypoint: config.entrypoint,
            cmd: config.cmd,
            working_dir: config.working_dir,
            stop_signal: config.stop_signal,
        },
    })
}

pub(crate) fn auth(auth: v1::AuthConfig) -> Auth {
    let v1::AuthConfig { username, password, auth, server_address, identity_token, registry_token } = auth;
    Auth { username, password, auth, server_address, identity_token, registry_token }
}

/// `spec.image` names the id, so that what is listed can be given back as it is.
pub(crate) fn image(image: &Image) -> v1::Image {
    let id = image.id.to_string();
    v1::Image {
        repo_tags: image.repo_tags.clone(),
        repo_digests: image.repo_digests.clone(),
        size: image.size,
        uid: image.uid.map(|uid| v1::Int64Value { value: uid.into() }),
        username: image.username.clone(),
        spec: Some(v1::ImageSpec { image: id.clone(), ..Default::default() }),
        pinned: image.pinned,
        id,
    }
}

/// One key, `info`, whose value is JSON in containerd's shape: `chainID` and `imageSpec`.
pub(crate) fn info(image: ResolvedImage) -> BTreeMap<String, String> {
    let config = &image.config;
    let info = json!({
        "chainID": image.chain_id,
        "imageSpec": { "config": {
            "User": config.user,
            "Env": config.env,
            "Entrypoint": config.entrypoint,
            "Cmd": config.cmd,
            "WorkingDir": config.working_dir,
            "Labels": config.labels,
            "StopSignal": config.stop_signal,
            "Volumes": config.volumes,
        }},
    });
    BTreeMap::from([("info".to_owned(), info.to_string())])
}

pub(crate) fn filesystem(usage: &FsInfo) -> v1::FilesystemUsage {
    v1::FilesystemUsage {
        timestamp: usage.timestamp.nanos(),
        fs_id: Some(v1::FilesystemIdentifier { mountpoint: usage.mountpoint.to_string_lossy().into_owned() }),
        used_bytes: Some(v1::UInt64Value { value: usage.bytes }),
        inodes_used: Some(v1::UInt64Value { value: usage.inodes }),
    }
}
