//! The annotations that tools read a container's pod from (containerd's names).

use std::collections::HashMap;

use super::SpecInputs;

const PREFIX: &str = "io.kubernetes.cri";

pub(super) fn annotations(inputs: &SpecInputs<'_>) -> HashMap<String, String> {
    let pod = &inputs.pod.metadata;
    let image = &inputs.container.image;
    let image_name = if image.user_specified.is_empty() { &inputs.image.name } else { &image.user_specified };
    let pairs = [
        ("container-type", "container"),
        ("container-name", &inputs.container.metadata.name),
        ("image-name", image_name),
        ("sandbox-id", inputs.sandbox_id.as_str()),
        ("sandbox-name", &pod.name),
        ("sandbox-namespace", &pod.namespace),
        ("sandbox-uid", &pod.uid),
    ];
    pairs.into_iter().map(|(key, value)| (format!("{PREFIX}.{key}"), value.to_owned())).collect()
}
