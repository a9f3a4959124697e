//! The floor: the OCI runtime run by hand, with the very specification that orlop gives it.

use std::cell::Cell;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use e2e::{fixture, process};
use serde_json::{Value, json};

use crate::figures::Figures;
use crate::side::Side;

/// The floor as a side.
pub(crate) const FLOOR: &str = "runc by hand";
pub(crate) const START: &str = "create + start";
pub(crate) const EXEC: &str = "exec";

/// A pod of orlop whose container lends its specification and its root filesystem.
pub(crate) struct Floor<'a> {
    side: &'a Side,
    pod: String,
    bundle: PathBuf,
    runs: Cell<u32>,
}

impl<'a> Floor<'a> {
    pub(crate) fn new(side: &'a Side) -> Self {
        let (pod, container) = side.start_pod("floor");
        let info = side.call("ContainerStatus", || side.cri.container_info(&container)).0;
        let mut spec = info["runtimeSpec"].clone();
        let bundles = side.node.folder().join("run/io.containerd.runtime.v2.task/k8s.io");
        spec["root"]["path"] = json!(bundles.join(&container).join("rootfs"));
        spec["linux"]["cgroupsPath"] = json!(format!("{}/floor", side.node.cgroup_parent()));
        let bundle = side.node.folder().join("floor");
        let floor = Self { side, pod, bundle, runs: Cell::default() };
        floor.write(&spec);
        floor
    }

    fn write(&self, spec: &Value) {
        fixture::write(&self.bundle.join("config.json"), spec.to_string());
    }

    /// Takes one sample of each.
    pub(crate) fn measure(&self, figures: &mut Figures) {
        let id = format!("floor-{}", self.runs.replace(self.runs.get() + 1));
        let created = self.runc(&["create", "--bundle", &self.bundle.to_string_lossy(), &id]);
        figures.add(FLOOR, START, created + self.runc(&["start", &id]));
        for _ in 0..3 {
            figures.add(FLOOR, EXEC, self.runc(&["exec", &id, "true"]));
        }
        self.runc(&["delete", "--force", &id]);
    }

    /// Without pipes: a container would hold them open, and waiting for their end is no part of the floor.
    fn runc(&self, arguments: &[&str]) -> Duration {
        let mut command: Command = process::command(process::built("tools/bin/runc"));
        command.arg("--root").arg(self.side.node.folder().join("floor-state"));
        command.arg("--log").arg(self.bundle.join("log")).args(arguments);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let started = Instant::now();
        let ended = command.status().unwrap_or_else(|error| panic!("start {command:?}: {error}"));
        let took = started.elapsed();
        let log = || process::text(&std::fs::read(self.bundle.join("log")).unwrap_or_default());
        assert!(ended.success(), "{command:?} failed:\n{}", log());
        took
    }
}

impl Drop for Floor<'_> {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.side.remove_pod(&self.pod);
        }
    }
}
