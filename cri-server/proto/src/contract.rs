//! Holds the proto files to the wire contract: method counts and the numbers of what came late.

use std::collections::BTreeMap;

use prost::Message as _;
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{DescriptorProto, FieldDescriptorProto, FileDescriptorSet, ServiceDescriptorProto};

const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/cri.binpb"));

fn descriptors() -> FileDescriptorSet {
    FileDescriptorSet::decode(DESCRIPTORS).expect("build.rs wrote it")
}

fn services() -> BTreeMap<String, ServiceDescriptorProto> {
    let files = descriptors().file;
    files.into_iter().flat_map(|file| file.service).map(|it| (it.name().to_owned(), it)).collect()
}

fn messages() -> BTreeMap<String, DescriptorProto> {
    let files = descriptors().file;
    files.into_iter().flat_map(|file| file.message_type).map(|it| (it.name().to_owned(), it)).collect()
}

fn field(messages: &BTreeMap<String, DescriptorProto>, path: &str) -> FieldDescriptorProto {
    let (message, name) = path.split_once('.').expect("Message.field");
    let fields = &messages.get(message).unwrap_or_else(|| panic!("no message {message}")).field;
    fields.iter().find(|it| it.name() == name).unwrap_or_else(|| panic!("no field {path}")).clone()
}

#[test]
fn has_43_methods_of_which_7_stream() {
    let services = services();
    let count = |name: &str| services[name].method.len();
    assert_eq!((count("RuntimeService"), count("ImageService")), (37, 6));

    let methods = || services.values().flat_map(|service| &service.method);
    assert!(methods().all(|method| !method.client_streaming()));
    let mut streams: Vec<_> = methods().filter(|it| it.server_streaming()).map(|it| it.name()).collect();
    streams.sort_unstable();
    let expected = [
        "GetContainerEvents",
        "StreamContainerStats",
        "StreamContainers",
        "StreamImages",
        "StreamPodSandboxMetrics",
        "StreamPodSandboxStats",
        "StreamPodSandboxes",
    ];
    assert_eq!(streams, expected);
}

#[test]
fn everything_is_in_the_package_that_clients_call() {
    for file in descriptors().file {
        assert_eq!(file.package(), "runtime.v1", "{}", file.name());
        assert_eq!(file.syntax(), "proto3", "{}", file.name());
    }
}

#[test]
fn late_additions_have_the_contracts_numbers() {
    let messages = messages();
    let table = [
        ("ImageSpec.user_specified_image", 18),
        ("ImageSpec.runtime_handler", 19),
        ("ImageSpec.image_ref", 20),
        ("ImageFsInfoResponse.container_filesystems", 2),
        ("Mount.recursive_read_only", 8),
        ("Mount.image", 9),
        ("Mount.image_sub_path", 10),
        ("Mount.mount_options", 11),
        ("Container.image_id", 10),
        ("ContainerStatus.resources", 16),
        ("ContainerStatus.image_id", 17),
        ("ContainerStatus.user", 18),
        ("ContainerStatus.stop_signal", 19),
        ("ContainerConfig.CDI_devices", 17),
        ("ContainerConfig.stop_signal", 18),
        ("LinuxSandboxSecurityContext.supplemental_groups_policy", 11),
        ("LinuxContainerSecurityContext.supplemental_groups_policy", 17),
        ("LinuxContainerSecurityContext.run_as_group", 12),
        ("StatusResponse.runtime_handlers", 3),
        ("StatusResponse.features", 4),
        ("RuntimeFeatures.user_namespaces_host_network", 2),
        ("RuntimeFeatures.mount_options", 3),
        ("CpuUsage.psi", 4),
        ("MemoryUsage.psi", 8),
        ("ContainerStats.io", 6),
        ("LinuxPodSandboxStats.io", 6),
        ("WindowsContainerResources.affinity_cpus", 6),
        ("Namespace.options", 2),
    ];
    for (path, number) in table {
        assert_eq!(field(&messages, path).number(), number, "{path}");
    }
}

#[test]
fn environment_values_are_bytes() {
    let value = field(&messages(), "KeyValue.value");
    assert_eq!((value.r#type(), value.label()), (Type::Bytes, Label::Optional));
}

#[test]
fn no_number_or_name_is_used_twice_in_a_message() {
    for (name, message) in messages() {
        let mut numbers: Vec<_> = message.field.iter().map(FieldDescriptorProto::number).collect();
        numbers.sort_unstable();
        let all = numbers.len();
        numbers.dedup();
        assert_eq!(numbers.len(), all, "{name}");
    }
}

#[test]
fn stop_signals_run_from_0_to_65_without_a_gap() {
    let files = descriptors().file;
    let mut enums = files.iter().flat_map(|file| &file.enum_type);
    let signal = enums.find(|it| it.name() == "Signal").expect("enum Signal");
    let numbers: Vec<_> = signal.value.iter().map(|value| value.number()).collect();
    assert_eq!(numbers, (0..=65).collect::<Vec<_>>());
    assert!(signal.value.iter().all(|value| value.name().starts_with("SIGNAL_")));
}
