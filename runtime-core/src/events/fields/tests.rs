//! The fields of events, against messages that `prost` encodes.

use std::collections::HashMap;

use proptest::prelude::*;
use prost::Message as _;

use super::*;

#[derive(Clone, PartialEq, prost::Message)]
struct ImageUpdate {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(map = "string, string", tag = "2")]
    labels: HashMap<String, String>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct TaskIo {
    #[prost(string, tag = "2")]
    stdout: String,
    #[prost(bool, tag = "4")]
    terminal: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
struct TaskCreate {
    #[prost(string, tag = "1")]
    container_id: String,
    #[prost(string, repeated, tag = "3")]
    rootfs: Vec<String>,
    #[prost(message, optional, tag = "4")]
    io: Option<TaskIo>,
    #[prost(uint32, tag = "6")]
    pid: u32,
}

fn event(name: &str, message: &impl prost::Message) -> TypedValue {
    TypedValue { type_url: format!("containerd.events.{name}"), value: message.encode_to_vec() }
}

#[test]
fn strings_labels_and_nested_messages_are_found() {
    let labels = [("a.b/c".to_owned(), "x".to_owned()), ("empty".to_owned(), String::new())].into();
    let image = event("ImageUpdate", &ImageUpdate { name: "web".to_owned(), labels });
    let io = Some(TaskIo { stdout: "/run/out".to_owned(), terminal: true });
    let task = TaskCreate { container_id: "web".to_owned(), rootfs: vec!["r".to_owned()], io, pid: 7 };
    let without_io = event("TaskCreate", &TaskCreate { io: None, ..task.clone() });
    let silent = event("TaskCreate", &TaskCreate { io: Some(TaskIo::default()), ..task.clone() });
    let task = event("TaskCreate", &task);
    let table: &[(&TypedValue, &[&str], Option<&str>)] = &[
        (&image, &["name"], Some("web")),
        (&image, &["name", "deeper"], Some("web")),
        (&image, &["labels", "a", "b/c"], Some("x")),
        (&image, &["labels", "a.b/c"], Some("x")),
        (&image, &["labels", "empty"], Some("")),
        (&image, &["labels", "other"], None),
        (&image, &["labels"], None),
        (&image, &[], None),
        (&task, &["container_id"], Some("web")),
        (&task, &["io", "stdout"], Some("/run/out")),
        (&task, &["io", "stdin"], None),
        (&task, &["io", "terminal"], Some("true")),
        (&silent, &["io", "terminal"], Some("false")),
        (&without_io, &["io", "terminal"], None),
        (&task, &["io"], None),
        (&task, &["bundle"], None),
        (&task, &["pid"], None),
        (&task, &["rootfs"], None),
    ];
    for (event, path, expected) in table {
        assert_eq!(find(event, path).as_deref(), *expected, "{} {path:?}", event.type_url);
    }
}

#[test]
fn other_types_and_broken_bytes_have_no_fields() {
    let image = ImageUpdate { name: "web".to_owned(), labels: HashMap::new() };
    let mut prefixed = event("ImageUpdate", &image);
    prefixed.type_url = format!("type.googleapis.com/{}", prefixed.type_url);
    assert_eq!(find(&prefixed, &["name"]).as_deref(), Some("web"));
    for type_url in ["", "containerd.events.Unknown", "containerd.runc.v1.Options", "ImageUpdate"] {
        let other = TypedValue { type_url: type_url.to_owned(), value: image.encode_to_vec() };
        assert_eq!(find(&other, &["name"]), None, "{type_url:?}");
    }
    let mut cut = event("ImageUpdate", &image);
    cut.value.pop();
    assert_eq!(find(&cut, &["name"]), None);
    for broken in [&b"\x0a\x03we"[..], b"\x0a\x02\xff\xfe", b"\x08\x01", b"\x0a\x01w\x0b", &[0xff; 12]] {
        let broken =
            TypedValue { type_url: "containerd.events.ImageUpdate".to_owned(), value: broken.to_vec() };
        assert_eq!(find(&broken, &["name"]), None, "{broken:?}");
    }
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(value in prop::collection::vec(any::<u8>(), 0..64), field in "name|labels|io") {
        for name in ["ImageUpdate", "TaskCreate"] {
            let event = TypedValue { type_url: format!("containerd.events.{name}"), value: value.clone() };
            drop(find(&event, &[&field, "x"]));
        }
    }
}
