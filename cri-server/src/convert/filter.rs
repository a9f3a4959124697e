//! List filters: all given parts must match. An id may be a prefix, as people type it.

use std::collections::BTreeMap;

use cri_proto::v1;
use pod_sandbox::{ContainerView, SandboxView};

use super::{container, pod};

pub(crate) fn sandboxes(filter: Option<v1::PodSandboxFilter>, views: Vec<SandboxView>) -> Vec<SandboxView> {
    let Some(filter) = filter else { return views };
    let state = |view: &SandboxView| {
        filter.state.as_ref().is_none_or(|it| it.state == i32::from(pod::state(&view.state)))
    };
    let matches = |view: &SandboxView| {
        view.id.as_str().starts_with(&filter.id)
            && labels(&filter.label_selector, &view.spec.labels)
            && state(view)
    };
    views.into_iter().filter(matches).collect()
}

pub(crate) fn containers(
    filter: Option<v1::ContainerFilter>,
    views: Vec<ContainerView>,
) -> Vec<ContainerView> {
    let Some(filter) = filter else { return views };
    let state = |view: &ContainerView| {
        filter.state.as_ref().is_none_or(|it| it.state == i32::from(container::state(&view.state)))
    };
    let matches = |view: &ContainerView| {
        view.id.as_str().starts_with(&filter.id)
            && view.sandbox.as_str().starts_with(&filter.pod_sandbox_id)
            && labels(&filter.label_selector, &view.spec.labels)
            && state(view)
    };
    views.into_iter().filter(matches).collect()
}

fn labels(selector: &BTreeMap<String, String>, labels: &BTreeMap<String, String>) -> bool {
    selector.iter().all(|(key, value)| labels.get(key) == Some(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selectors_are_all_equal_or_nothing() {
        let map = |pairs: &[(&str, &str)]| {
            pairs
                .iter()
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
                .collect::<BTreeMap<_, _>>()
        };
        let table = [
            (map(&[]), true),
            (map(&[("app", "web")]), true),
            (map(&[("app", "web"), ("tier", "1")]), true),
            (map(&[("app", "db")]), false),
            (map(&[("app", "web"), ("none", "")]), false),
        ];
        let have = map(&[("app", "web"), ("tier", "1")]);
        for (selector, expected) in table {
            assert_eq!(labels(&selector, &have), expected, "{selector:?}");
        }
    }
}
