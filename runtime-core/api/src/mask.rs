//! Field masks of updates: which fields of an object a client wants to change, and what becomes of its labels.

use crate::status::refuse;
use prost_types::FieldMask;
use runtime_core::error::ErrorKind;
use runtime_core::labels::{LabelChange, Labels};
use tonic::Status;

/// Characters of a wrong path that an error repeats.
const SHOWN: usize = 64;

/// The paths of a mask; none means all that may change.
pub(crate) fn paths(mask: Option<FieldMask>) -> Vec<String> {
    mask.map(|mask| mask.paths).unwrap_or_default()
}

pub(crate) fn is_label(path: &str) -> bool {
    path == "labels" || path.starts_with("labels.")
}

/// The change of labels that the paths `labels` and `labels.<key>` among `paths` make. A key that was not sent, or
/// without a value, goes.
pub(crate) fn labels_among(paths: &[String], sent: &Labels) -> Option<LabelChange> {
    if paths.iter().any(|path| path == "labels") {
        return Some(LabelChange::Replace(sent.clone()));
    }
    let keys = paths.iter().filter_map(|path| path.strip_prefix("labels."));
    let merged: Labels =
        keys.map(|key| (key.to_owned(), sent.get(key).cloned().unwrap_or_default())).collect();
    (!merged.is_empty()).then_some(LabelChange::Merge(merged))
}

/// The change of an object that has nothing else to change.
pub(crate) fn labels_only(mask: Option<FieldMask>, sent: &Labels, what: &str) -> Result<LabelChange, Status> {
    let paths = paths(mask);
    if let Some(path) = paths.iter().find(|path| !is_label(path)) {
        return Err(refused(path, what));
    }
    Ok(labels_among(&paths, sent).unwrap_or_else(|| LabelChange::Replace(sent.clone())))
}

/// The answer to a path that may not change.
pub(crate) fn refused(path: &str, what: &str) -> Status {
    let shown: String = path.chars().take(SHOWN).collect();
    refuse(ErrorKind::InvalidArgument, format!("cannot update field {shown:?} of {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn paths_pick_labels_and_an_empty_value_removes_one() {
        let (old, sent) = (labels(&[("a", "1"), ("b", "2")]), labels(&[("a", "9"), ("b", ""), ("c.d", "3")]));
        let without_empty = labels(&[("a", "9"), ("c.d", "3")]);
        for (paths, expected) in [
            (&[][..], without_empty.clone()),
            (&["labels"], without_empty),
            (&["labels.a"], labels(&[("a", "9"), ("b", "2")])),
            (&["labels.b", "labels.c.d"], labels(&[("a", "1"), ("c.d", "3")])),
            (&["labels.gone"], old.clone()),
        ] {
            let mask = FieldMask { paths: paths.iter().map(|path| (*path).to_owned()).collect() };
            let change = labels_only(Some(mask), &sent, "a thing").expect("labels may change");
            assert_eq!(change.apply(old.clone()), expected, "{paths:?}");
        }
        let mask = FieldMask { paths: vec!["labels.a".to_owned(), "size".to_owned()] };
        let error = labels_only(Some(mask), &sent, "content").expect_err("no label");
        assert!(error.message().contains("\"size\" of content"), "{error}");
    }
}
