//! The daemon is killed at a barrier or a moment, and a witness container must not notice.
//!
//! The barrier holds a wrapper of the OCI runtime or the shim (`fault.rs`). It is let go before or after the daemon
//! is back: both orders are possible, since neither of the two waits for the other.

use std::net::SocketAddr;

use cri_proto::v1::PodSandboxState;

use crate::client::Cri;
use crate::node::Node;
use crate::pod::{Pod, net_container, process_of};
use crate::{process, wait, web};

/// Prints numbers for as long as it lives; a stop ends it.
pub const COUNT: &str = "n=0; while true; do n=$((n+1)); echo $n; sleep 0.01; done";

/// Whether the wrapper at the barrier goes on before the daemon is back, or only after that.
#[derive(Debug, Clone, Copy)]
pub enum Order {
    ReleaseThenResume,
    ResumeThenRelease,
}

/// Both orders.
pub const ORDERS: [Order; 2] = [Order::ReleaseThenResume, Order::ResumeThenRelease];

/// A container that must not notice anything.
pub struct Witness {
    pod: Pod,
    id: String,
    process: process::Process,
}

impl Witness {
    /// Starts it in a pod of its own.
    pub fn start(node: &Node) -> Self {
        let pod = node.run_net_pod("witness");
        node.expect_network_of(&pod.id, &pod.address().to_string());
        web::serve(&pod);
        let id = pod.start(&net_container("count", &["sh", "-c", COUNT]));
        let process = process_of(&node.cri(), &id);
        Self { pod, id, process }
    }

    /// The same process runs, its log has every number so far, and the pod is reached at its address.
    pub fn check(&self, node: &Node) {
        let now = process_of(&node.cri(), &self.id);
        assert_eq!(
            (now.pid, now.started),
            (self.process.pid, self.process.started),
            "the witness was replaced"
        );
        let count = || numbers(&self.pod.log("count")).len();
        let before = count();
        wait::until("the witness counts on", || count() > before);
        let numbers = numbers(&self.pod.log("count"));
        assert!(numbers.iter().copied().eq(1..=numbers.len()), "a number of the witness is lost or twice");
        assert_eq!(
            node.cri().pod(&self.pod.id).expect("the pod is there").state(),
            PodSandboxState::SandboxReady
        );
        let server = SocketAddr::from((self.pod.address(), web::PORT));
        assert_eq!(web::get(server).as_deref(), Some("witness"), "the witness is cut off");
    }
}

/// The numbers in whole lines of a log.
pub fn numbers(log: &str) -> Vec<usize> {
    let whole = log.rsplit_once('\n').map_or("", |(whole, _)| whole);
    whole.lines().filter_map(|line| line.rsplit(' ').next()?.parse().ok()).collect()
}

/// Makes `call`, kills the daemon when a wrapper has come to `stage`, and starts it again. What comes to the stage may
/// go on after the call was answered. Says whether anything came there.
pub fn killed_at(
    node: &mut Node,
    stage: &str,
    order: Order,
    call: impl FnOnce(&Cri) + Send + 'static,
) -> bool {
    let mut barrier = node.hold(stage);
    let client = node.cri();
    let caller = std::thread::spawn(move || call(&client));
    let reached = wait::within(wait::PATIENCE, || barrier.reached().then_some(())).is_some();
    node.kill9();
    caller.join().expect("the call does not panic");
    match order {
        Order::ReleaseThenResume => {
            barrier.release();
            node.resume();
        }
        Order::ResumeThenRelease => {
            node.resume();
            barrier.release();
        }
    }
    reached
}
