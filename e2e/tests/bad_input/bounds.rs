//! How much of a machine bad input may use: the daemon's memory grows by little, and each call ends in time.

use std::time::Duration;

use e2e::client::Cri;
use e2e::node::Node;
use e2e::process;

/// For any one case. The longest is a registry in trouble, which is asked again for a few seconds.
const DEADLINE: Duration = Duration::from_secs(45);
/// What the daemon's peak may grow by over a whole table: manifests and configurations of 4 MiB each and what they
/// parse into, the buffers of unpacking (zstd's window of up to 128 MiB is not touched by small frames), and no blob.
const MOST_GROWTH: u64 = 96 << 20;

/// The daemon's memory before a table.
pub(crate) struct Bounds {
    pid: u32,
    before: u64,
}

impl Bounds {
    pub(crate) fn of(node: &Node) -> Self {
        let pid = node.daemon_pid();
        Self { pid, before: process::peak_memory(pid) }
    }

    /// What is wrong after a case.
    pub(crate) fn check(&self, name: &str) -> Option<String> {
        let growth = process::peak_memory(self.pid) - self.before;
        (growth > MOST_GROWTH).then(|| format!("{name}: the daemon's memory has grown by {growth} bytes"))
    }
}

/// A client that waits no longer than a case may take.
pub(crate) fn client(node: &Node) -> Cri {
    node.cri().with_limit(DEADLINE)
}
