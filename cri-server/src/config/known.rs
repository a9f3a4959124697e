//! Keys of containerd's that this daemon accepts and does not obey: not unknown, and told by `config check`.

/// Anywhere below, one key of any name.
const ANY: &str = "*";
/// At the end: the key and everything below it.
const BELOW: &str = "**";

/// Keys of the file itself, version 3.
const ROOT: &[&[&str]] = &[
    &["temp"],
    &["imports"],
    &["oom_score"],
    &["cgroup", BELOW],
    &["timeouts", BELOW],
    &["proxy_plugins", BELOW],
    &["stream_processors", BELOW],
    &["ttrpc", BELOW],
    &["metrics", BELOW],
    &["debug", "address"],
    &["debug", "uid"],
    &["debug", "gid"],
    &["debug", "log_trace_id"],
    &["grpc", "uid"],
    &["grpc", "gid"],
    &["grpc", "tcp_address"],
    &["grpc", "tcp_tls_ca"],
    &["grpc", "tcp_tls_cert"],
    &["grpc", "tcp_tls_key"],
    &["grpc", "tcp_tls_common_name"],
    &["grpc", "max_recv_message_size"],
    &["grpc", "max_send_message_size"],
];

const IMAGES: &[&[&str]] = &[
    &["default_snapshotter"],
    &["disable_snapshot_annotations"],
    &["discard_unpacked_layers"],
    &["concurrent_layer_fetch_buffer"],
    &["image_pull_with_sync_fs"],
    &["stats_collect_period"],
    &["use_local_image_pull"],
    &["pinned_images", BELOW],
    &["runtime_platforms", BELOW],
    &["registry", "headers", BELOW],
    &["registry", "mirrors", BELOW],
    &["registry", "configs", BELOW],
    &["registry", "auths", BELOW],
    &["image_decryption", BELOW],
];

const CRI: &[&[&str]] =
    &[&["enable_tls_streaming"], &["x509_key_pair_streaming", BELOW], &["disable_tcp_service"]];

const RUNTIME: &[&[&str]] = &[
    &["enable_selinux"],
    &["selinux_category_range"],
    &["disable_apparmor"],
    &["disable_cgroup"],
    &["disable_proc_mount"],
    &["unset_seccomp_profile"],
    &["tolerate_missing_hugetlb_controller"],
    &["disable_hugetlb_controller"],
    &["device_ownership_from_security_context"],
    &["ignore_image_defined_volumes"],
    &["enable_cdi"],
    &["cdi_spec_dirs"],
    &["drain_exec_sync_io_timeout"],
    &["ignore_deprecation_warnings"],
    &["stats_collect_period"],
    &["stats_retention_period"],
    &["enable_criu"],
    &["cni", "bin_dir"],
    &["cni", "setup_serially"],
    &["cni", "conf_template"],
    &["cni", "use_internal_loopback"],
    &["containerd", "ignore_blockio_not_enabled_errors"],
    &["containerd", "ignore_rdt_not_enabled_errors"],
    &["containerd", "runtimes", ANY, "cgroup_writable"],
    &["containerd", "runtimes", ANY, "base_runtime_spec"],
    &["containerd", "runtimes", ANY, "cni_conf_dir"],
    &["containerd", "runtimes", ANY, "cni_max_conf_num"],
    &["containerd", "runtimes", ANY, "snapshotter"],
    &["containerd", "runtimes", ANY, "sandboxer"],
    &["containerd", "runtimes", ANY, "disable_pause_image_pull"],
    &["containerd", "runtimes", ANY, "io_type"],
    &["containerd", "runtimes", ANY, "options", "NoNewKeyring"],
    &["containerd", "runtimes", ANY, "options", "ShimCgroup"],
    &["containerd", "runtimes", ANY, "options", "IoUid"],
    &["containerd", "runtimes", ANY, "options", "IoGid"],
    &["containerd", "runtimes", ANY, "options", "CriuImagePath"],
    &["containerd", "runtimes", ANY, "options", "CriuWorkPath"],
    &["containerd", "runtimes", ANY, "options", "TypeUrl"],
    &["containerd", "runtimes", ANY, "options", "ConfigPath"],
];

/// Plugin types of containerd (its `plugins ls` of 2.4): a table of any of them is no typing mistake.
const PLUGIN_TYPES: &[&str] = &[
    "io.containerd.content.v1",
    "io.containerd.cri.v1",
    "io.containerd.differ.v1",
    "io.containerd.event.v1",
    "io.containerd.gc.v1",
    "io.containerd.grpc.v1",
    "io.containerd.http.v1",
    "io.containerd.image-verifier.v1",
    "io.containerd.internal.v1",
    "io.containerd.lease.v1",
    "io.containerd.metadata.v1",
    "io.containerd.metrics.v1",
    "io.containerd.monitor.container.v1",
    "io.containerd.monitor.task.v1",
    "io.containerd.mount-handler.v1",
    "io.containerd.mount-manager.v1",
    "io.containerd.nri.v1",
    "io.containerd.podsandbox.controller.v1",
    "io.containerd.runtime.v1",
    "io.containerd.runtime.v2",
    "io.containerd.sandbox.controller.v1",
    "io.containerd.sandbox.store.v1",
    "io.containerd.server.v1",
    "io.containerd.service.v1",
    "io.containerd.shim.v1",
    "io.containerd.snapshotter.v1",
    "io.containerd.streaming.v1",
    "io.containerd.tracing.processor.v1",
    "io.containerd.transfer.v1",
    "io.containerd.ttrpc.v1",
    "io.containerd.warning.v1",
];

/// Whether containerd has `key` in the file itself.
pub(super) fn in_root(key: &[String]) -> bool {
    ROOT.iter().any(|pattern| matches(pattern, key))
}

/// Whether containerd has `key` in the table of plugin `uri`.
pub(super) fn in_plugin(uri: &str, key: &[String]) -> bool {
    let patterns = match uri {
        super::IMAGES_PLUGIN => IMAGES,
        super::RUNTIME_PLUGIN => RUNTIME,
        super::CRI_PLUGIN => CRI,
        _ => return false,
    };
    patterns.iter().any(|pattern| matches(pattern, key))
}

/// Whether containerd may have a plugin `uri`.
pub(super) fn is_plugin(uri: &str) -> bool {
    let has_type =
        |kind: &&str| uri.strip_prefix(*kind).is_some_and(|id| id.len() > 1 && id.starts_with('.'));
    PLUGIN_TYPES.iter().any(has_type)
}

fn matches(pattern: &[&str], key: &[String]) -> bool {
    match (pattern, key) {
        ([BELOW], _) | ([], []) => true,
        ([part, pattern @ ..], [name, key @ ..]) => (*part == ANY || part == name) && matches(pattern, key),
        ([], _) | (_, []) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::super::{IMAGES_PLUGIN, RUNTIME_PLUGIN};
    use super::*;

    fn key(text: &str) -> Vec<String> {
        text.split('/').map(str::to_owned).collect()
    }

    #[test]
    fn containerds_keys_are_known_and_others_are_not() {
        let table = [
            (RUNTIME_PLUGIN, "cni/conf_template", true),
            (RUNTIME_PLUGIN, "cni/conf_templates", false),
            (RUNTIME_PLUGIN, "containerd/runtimes/kata/sandboxer", true),
            (RUNTIME_PLUGIN, "containerd/runtimes/kata/sandboxes", false),
            (RUNTIME_PLUGIN, "containerd/runtimes/sandboxer", false),
            (IMAGES_PLUGIN, "registry/mirrors/docker.io/endpoint", true),
            (IMAGES_PLUGIN, "enable_selinux", false),
            ("io.containerd.nri.v1.nri", "disable", false),
        ];
        for (uri, name, known) in table {
            assert_eq!(in_plugin(uri, &key(name)), known, "{uri} {name}");
        }
    }

    #[test]
    fn a_plugin_of_containerds_types_is_known() {
        assert!(is_plugin("io.containerd.nri.v1.nri") && is_plugin("io.containerd.runtime.v2.task"));
        for typo in ["io.containerd.nri.v1.", "io.containerd.nri.v1", "io.containerd.nir.v1.nri", "cri", ""] {
            assert!(!is_plugin(typo), "{typo}");
        }
    }
}
