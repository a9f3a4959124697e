//! The annotations that tools read a container's pod from (containerd's names).

use std::collections::HashMap;

use super::SpecInputs;

const PREFIX: &str = "io.kubernetes.cri";

pub(super) fn annotations(inputs: &SpecInputs<'_>) -> HashMap<String, String> {
    let pod = &inputs.pod.metadata;
    let image = &inputs.container.image;
    let image_name = if image.user_specified.is_empty() { &inputs.image.name } else { &image.user_specified };
    let passed = inputs.passed_annotations.iter().map(|(name, value)| (name.clone(), value.clone()));
    let named = of_cri([
        ("container-type", "container"),
        ("container-name", &inputs.container.metadata.name),
        ("image-name", image_name),
        ("sandbox-id", inputs.sandbox_id.as_str()),
        ("sandbox-name", &pod.name),
        ("sandbox-namespace", &pod.namespace),
        ("sandbox-uid", &pod.uid),
    ]);
    // Nobody's annotation takes the place of one that says what this is.
    passed.chain(named).collect()
}

/// Under the names that begin with the CRI's prefix.
pub(super) fn of_cri<const N: usize>(pairs: [(&str, &str); N]) -> HashMap<String, String> {
    pairs.into_iter().map(|(key, value)| (format!("{PREFIX}.{key}"), value.to_owned())).collect()
}
