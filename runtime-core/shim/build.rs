//! Compiles the wire messages of `proto/` with protox, so that no `protoc` is needed.

use std::path::Path;

const FILES: &[&str] = &[
    "ttrpc.proto",
    "types.proto",
    "task_types.proto",
    "task.proto",
    "sandbox.proto",
    "bootstrap.proto",
    "runc_options.proto",
    "io.proto",
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let proto = Path::new("proto");
    println!("cargo:rerun-if-changed=proto");
    let files: Vec<_> = FILES.iter().map(|file| proto.join(file)).collect();
    let descriptors = protox::compile(&files, [proto])?;
    prost_build::Config::new().btree_map(["."]).include_file("wire.rs").compile_fds(descriptors)?;
    Ok(())
}
