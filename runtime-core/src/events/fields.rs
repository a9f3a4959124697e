//! Fields of containerd's own events, read from their bytes without decoding the rest.
//!
//! Only what containerd's filters reach is here: strings, labels, and the two nested messages. Numbers and times
//! (`pid`, `exit_status`, `exited_at`) are not. An event of another type has no fields, nor has a broken one.

mod wire;

use std::borrow::Cow;

use crate::record::TypedValue;
use wire::{Broken, Value, fields};

#[derive(Clone, Copy)]
enum Kind {
    Text,
    Flag,
    Labels,
    Message(&'static [Field]),
}

/// Name, number and kind of a field.
type Field = (&'static str, u64, Kind);

use Kind::{Flag, Labels, Message, Text};

/// The events of images are in the package of their service.
const PACKAGES: [&str; 2] = ["containerd.events.", "containerd.services.images.v1."];

const RUNTIME: &[Field] = &[("name", 1, Text)];
const TASK_IO: &[Field] =
    &[("stdin", 1, Text), ("stdout", 2, Text), ("stderr", 3, Text), ("terminal", 4, Flag)];
const NAMED: &[Field] = &[("name", 1, Text)];
const NAMED_AND_LABELLED: &[Field] = &[("name", 1, Text), ("labels", 2, Labels)];
const OF_SANDBOX: &[Field] = &[("sandbox_id", 1, Text)];
const OF_TASK: &[Field] = &[("container_id", 1, Text)];
const OF_EXEC: &[Field] = &[("container_id", 1, Text), ("exec_id", 2, Text)];

/// The message `containerd.events.<name>`.
fn message(name: &str) -> Option<&'static [Field]> {
    Some(match name {
        "ContainerCreate" => &[("id", 1, Text), ("image", 2, Text), ("runtime", 3, Message(RUNTIME))],
        "ContainerUpdate" => {
            &[("id", 1, Text), ("image", 2, Text), ("labels", 3, Labels), ("snapshot_key", 4, Text)]
        }
        "ContainerDelete" => &[("id", 1, Text)],
        "ContentCreate" => &[("digest", 1, Text), ("mediaType", 3, Text)],
        "ContentDelete" => &[("digest", 1, Text)],
        "ImageCreate" | "ImageUpdate" | "NamespaceCreate" | "NamespaceUpdate" => NAMED_AND_LABELLED,
        "ImageDelete" | "NamespaceDelete" => NAMED,
        "SandboxCreate" | "SandboxStart" | "SandboxExit" => OF_SANDBOX,
        "SnapshotPrepare" => &[("key", 1, Text), ("parent", 2, Text), ("snapshotter", 5, Text)],
        "SnapshotCommit" => &[("key", 1, Text), ("name", 2, Text), ("snapshotter", 5, Text)],
        "SnapshotRemove" => &[("key", 1, Text), ("snapshotter", 5, Text)],
        "TaskCreate" => &[
            ("container_id", 1, Text),
            ("bundle", 2, Text),
            ("io", 4, Message(TASK_IO)),
            ("checkpoint", 5, Text),
        ],
        "TaskDelete" => &[("container_id", 1, Text), ("id", 5, Text)],
        "TaskExit" => &[("container_id", 1, Text), ("id", 2, Text)],
        "TaskExecAdded" | "TaskExecStarted" => OF_EXEC,
        "TaskCheckpointed" => &[("container_id", 1, Text), ("checkpoint", 2, Text)],
        "TaskStart" | "TaskOOM" | "TaskPaused" | "TaskResumed" => OF_TASK,
        _ => return None,
    })
}

/// The value at `path` of an event.
pub(super) fn find<'a>(event: &'a TypedValue, path: &[&str]) -> Option<Cow<'a, str>> {
    // Some clients keep protobuf's prefix, `type.googleapis.com/`.
    let name = event.type_url.rsplit('/').next()?;
    let name = PACKAGES.iter().find_map(|package| name.strip_prefix(package))?;
    find_in(&event.value, message(name)?, path).ok().flatten()
}

fn find_in<'a>(message: &'a [u8], known: &[Field], path: &[&str]) -> Result<Option<Cow<'a, str>>, Broken> {
    let Some((name, rest)) = path.split_first() else { return Ok(None) };
    let Some((_, number, kind)) = known.iter().find(|(known, ..)| known == name) else { return Ok(None) };
    let key = rest.join(".");
    let mut found = match kind {
        Flag => Some(Cow::Borrowed("false")),
        Text | Labels | Message(_) => None,
    };
    for field in fields(message) {
        let (found_number, value) = field?;
        if found_number != *number {
            continue;
        }
        // Of what comes twice, the last counts.
        match (kind, value) {
            (Text, Value::Bytes(text)) => found = Some(utf8(text)?).filter(|text| !text.is_empty()),
            (Flag, Value::Number(flag)) => {
                found = Some(Cow::Borrowed(if flag == 0 { "false" } else { "true" }));
            }
            (Labels, Value::Bytes(entry)) => found = label(entry, &key)?.or(found),
            (Message(known), Value::Bytes(inner)) => found = find_in(inner, known, rest)?.or(found),
            _ => return Err(Broken),
        }
    }
    Ok(found)
}

fn utf8(bytes: &[u8]) -> Result<Cow<'_, str>, Broken> {
    std::str::from_utf8(bytes).map(Cow::Borrowed).map_err(|_| Broken)
}

/// The value of a map's entry if it is that of `key`.
fn label<'a>(entry: &'a [u8], key: &str) -> Result<Option<Cow<'a, str>>, Broken> {
    let (mut found_key, mut found_value) = (Cow::Borrowed(""), Cow::Borrowed(""));
    for field in fields(entry) {
        match field? {
            (1, Value::Bytes(text)) => found_key = utf8(text)?,
            (2, Value::Bytes(text)) => found_value = utf8(text)?,
            _ => {}
        }
    }
    Ok((found_key == key).then_some(found_value))
}

#[cfg(test)]
mod tests;
