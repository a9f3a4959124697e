//! Compiles the CRI's proto files without `protoc`, into client, server and messages.
//!
//! The descriptor set is kept beside them: the crate's test reads the contract's numbers from it.

use std::error::Error;
use std::fs::File;
use std::io::Write;
use std::path::PathBuf;

use prost::Message;
use prost_build::Config;

const ROOT: &str = "proto";
const ENTRY: &str = "proto/runtime/v1/api.proto";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed={ROOT}");
    let descriptors = protox::compile([ENTRY], [ROOT])?;

    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    File::create(out.join("cri.binpb"))?.write_all(&descriptors.encode_to_vec())?;

    let mut config = Config::new();
    // Labels and annotations come out in one order, whatever order they came in.
    config.btree_map(["."]);
    // It holds credentials: src/redact.rs has its `Debug`.
    config.skip_debug([".runtime.v1.AuthConfig"]);
    tonic_prost_build::configure().compile_fds_with_config(descriptors, config)?;
    Ok(())
}
