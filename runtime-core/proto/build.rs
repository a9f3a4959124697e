//! Compiles the API's proto files without `protoc`: messages, clients, servers and the tree of their modules.
//!
//! The descriptor set is kept beside them: the crate's test compares it with the contract.

use std::error::Error;
use std::fs::{File, read_dir};
use std::io::Write;
use std::path::{Path, PathBuf};

use prost::Message;
use prost_build::Config;

const ROOT: &str = "proto";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed={ROOT}");
    let mut files = Vec::new();
    find(Path::new(ROOT), &mut files)?;
    files.sort();
    let descriptors = protox::compile(files, [ROOT])?;

    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    File::create(out.join("api.binpb"))?.write_all(&descriptors.encode_to_vec())?;

    let mut config = Config::new();
    // Labels and annotations come out in one order, whatever order they came in.
    config.btree_map(["."]);
    // Blobs: a part of the received buffer goes on as it is, nothing is copied.
    config.bytes([".containerd.services.content.v1", ".containerd.types.transfer.Data"]);
    // An `Any` is told by its message's name, so every message knows its own.
    config.enable_type_names();
    // They hold credentials: src/redact.rs has their `Debug`.
    config.skip_debug([
        ".containerd.types.transfer.AuthResponse",
        ".containerd.types.transfer.RegistryResolver",
    ]);
    config.include_file("tree.rs");
    const GRPC: &str = "#[cfg(feature = \"grpc\")]";
    tonic_prost_build::configure()
        .client_mod_attribute(".", GRPC)
        .server_mod_attribute(".", GRPC)
        .compile_fds_with_config(descriptors, config)?;
    Ok(())
}

fn find(folder: &Path, found: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            find(&path, found)?;
        } else if path.extension().is_some_and(|extension| extension == "proto") {
            found.push(path);
        }
    }
    Ok(())
}
