//! Holds the proto files to the wire contract: `contract.txt` has a line for every message, enum and RPC.
//!
//! A line that changes breaks clients, unless containerd's own API changed so. New ones are added to both.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use prost::{Message as _, Name};
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorProto};
use prost_types::{FileDescriptorSet, MethodDescriptorProto};

use crate::services::containers::v1::container;
use crate::services::content::v1::{ReadContentResponse, WriteContentRequest};
use crate::{events, options, types};

const CONTRACT: &str = include_str!("contract.txt");
const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/api.binpb"));

/// Our files, without those of protobuf itself.
fn files() -> Vec<FileDescriptorProto> {
    let set = FileDescriptorSet::decode(DESCRIPTORS).expect("build.rs wrote it");
    set.file.into_iter().filter(|file| file.package() != "google.protobuf").collect()
}

/// Writes the descriptors of one package as lines of the contract.
struct Lines<'a> {
    package: &'a str,
    lines: BTreeSet<String>,
}

impl Lines<'_> {
    fn add(&mut self, line: &str) {
        self.lines.insert(format!("{}| {line}", self.package));
    }

    fn file(&mut self, file: &FileDescriptorProto) {
        for message in &file.message_type {
            self.message("", message);
        }
        for values in &file.enum_type {
            self.values("", values);
        }
        for service in &file.service {
            for method in &service.method {
                self.method(service.name(), method);
            }
        }
    }

    fn message(&mut self, outer: &str, message: &DescriptorProto) {
        let name = format!("{outer}{}", message.name());
        let mut fields: Vec<_> = message.field.iter().collect();
        fields.sort_by_key(|field| field.number());
        let mut parts: Vec<String> = fields.iter().map(|field| self.field(message, field)).collect();
        for range in &message.reserved_range {
            parts.extend((range.start()..range.end()).map(|number| format!("{number} reserved")));
        }
        self.add(format!("message {name}: {}", parts.join(", ")).trim_end());

        let inside = format!("{name}.");
        for nested in message.nested_type.iter().filter(|nested| !is_map_entry(nested)) {
            self.message(&inside, nested);
        }
        for values in &message.enum_type {
            self.values(&inside, values);
        }
    }

    fn values(&mut self, outer: &str, values: &EnumDescriptorProto) {
        let parts: Vec<_> =
            values.value.iter().map(|value| format!("{} {}", value.number(), value.name())).collect();
        self.add(&format!("enum {outer}{}: {}", values.name(), parts.join(", ")));
    }

    fn method(&mut self, service: &str, method: &MethodDescriptorProto) {
        let stream = |streams: bool| if streams { "stream " } else { "" };
        let mut line = format!("rpc {service}.{}: ", method.name());
        let (input, output) = (self.short(method.input_type()), self.short(method.output_type()));
        write!(line, "{}{input} -> ", stream(method.client_streaming())).expect("a string");
        write!(line, "{}{output}", stream(method.server_streaming())).expect("a string");
        self.add(&line);
    }

    fn field(&self, message: &DescriptorProto, field: &FieldDescriptorProto) -> String {
        let kind = self.kind(field);
        let entry = message
            .nested_type
            .iter()
            .find(|it| is_map_entry(it) && kind.ends_with(&format!(".{}", it.name())));
        let kind = match (field.label(), entry) {
            (Label::Repeated, Some(entry)) => {
                format!("map<{}, {}>", self.kind(&entry.field[0]), self.kind(&entry.field[1]))
            }
            (Label::Repeated, None) => format!("repeated {kind}"),
            (Label::Optional, _) if field.proto3_optional() => format!("optional {kind}"),
            (Label::Optional, _) => kind,
            (Label::Required, _) => format!("required {kind}"),
        };
        format!("{} {} {kind}", field.number(), field.name())
    }

    fn kind(&self, field: &FieldDescriptorProto) -> String {
        match field.r#type() {
            Type::Message | Type::Enum => self.short(field.type_name()),
            scalar => scalar.as_str_name().trim_start_matches("TYPE_").to_lowercase(),
        }
    }

    /// A name of the same package goes without the package.
    fn short(&self, name: &str) -> String {
        let name = name.trim_start_matches('.');
        let inside = name.strip_prefix(self.package).and_then(|rest| rest.strip_prefix('.'));
        inside.unwrap_or(name).to_owned()
    }
}

fn is_map_entry(message: &DescriptorProto) -> bool {
    message.options.as_ref().is_some_and(|options| options.map_entry())
}

#[test]
fn names_numbers_and_types_are_the_contracts() {
    let mut ours = BTreeSet::new();
    for file in files() {
        let mut lines = Lines { package: file.package(), lines: BTreeSet::new() };
        lines.file(&file);
        ours.extend(lines.lines);
    }
    let mut contract = BTreeSet::new();
    let mut package = "";
    for line in CONTRACT.lines().filter(|line| !line.is_empty()) {
        match line.strip_prefix("package ") {
            Some(name) => package = name,
            None => assert!(contract.insert(format!("{package}| {line}")), "twice: {line}"),
        }
    }
    let missing: Vec<_> = contract.difference(&ours).map(|line| format!("- {line}")).collect();
    let added: Vec<_> = ours.difference(&contract).map(|line| format!("+ {line}")).collect();
    let changes = [missing, added].concat();
    assert!(changes.is_empty(), "against the contract:\n{}", changes.join("\n"));
}

#[test]
fn every_file_is_proto3() {
    for file in files() {
        assert_eq!(file.syntax(), "proto3", "{}", file.name());
    }
}

#[test]
fn a_message_knows_the_name_that_an_any_carries() {
    let table = [
        (events::TaskOom::full_name(), "containerd.events.TaskOOM"),
        (events::ImageCreate::full_name(), "containerd.services.images.v1.ImageCreate"),
        (container::Runtime::full_name(), "containerd.services.containers.v1.Container.Runtime"),
        (types::transfer::OciRegistry::full_name(), "containerd.types.transfer.OCIRegistry"),
        (types::task::ProcessInfo::full_name(), "containerd.v1.types.ProcessInfo"),
        (options::runc::v1::Options::full_name(), "containerd.runc.v1.Options"),
        (options::runtimeoptions::v1::Options::full_name(), "runtimeoptions.v1.Options"),
    ];
    for (ours, expected) in table {
        assert_eq!(ours, expected);
    }
}

#[test]
fn a_blobs_bytes_are_those_that_came_in() {
    let data = bytes::Bytes::from(vec![7; 4096]);
    let wire = bytes::Bytes::from(ReadContentResponse { offset: 1, data: data.clone() }.encode_to_vec());
    let answer = ReadContentResponse::decode(wire.clone()).expect("decode what was encoded");
    assert!(wire.as_ptr_range().contains(&answer.data.as_ptr()), "copied");
    assert_eq!(answer.data, data);
    let _: bytes::Bytes = WriteContentRequest::default().data;
}
