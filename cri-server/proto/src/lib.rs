//! Generated types of the Kubernetes CRI v1, client and server, from our own proto files (`proto/`).
//!
//! Names and numbers are Kubernetes 1.37's; what they mean stands in the proto files. Nothing here knows
//! of orlop: the daemon serves these traits, tests and tools call these clients.

#[cfg(test)]
mod contract;
mod redact;

/// Package `runtime.v1`: messages, `runtime_service_{server,client}`, `image_service_{server,client}`.
pub mod v1 {
    #![expect(clippy::too_many_lines, reason = "generated")]
    tonic::include_proto!("runtime.v1");
}
