//! Many clients that ask for the same things, give up at any moment and ask again; and one pod after the other.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use cri_proto::v1 as cri;
use e2e::client::Cri;
use e2e::node::Node;
use e2e::pod::container;

const PODS: usize = 20;
const CLIENTS: u64 = 10;
/// Each client asks at most so often for each pod before it waits for the answer.
const TRIES: usize = 6;
const LIVES: usize = 500;

/// Numbers that look random and are the same in every run (xorshift).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }
}

fn configs(node: &Node) -> Vec<cri::PodSandboxConfig> {
    (0..PODS).map(|number| node.net_pod_config(&format!("storm-{number}"))).collect()
}

/// Ids that clients were given, pod by pod.
type Answers = Mutex<BTreeMap<usize, BTreeSet<String>>>;

fn ask_for_all(cri: &Cri, configs: &[cri::PodSandboxConfig], dice: &mut Dice, answers: &Answers) {
    for turn in 0..PODS {
        let number = (turn + dice.roll(PODS as u64) as usize) % PODS;
        let config = &configs[number];
        let request = || cri::RunPodSandboxRequest { config: Some(config.clone()), ..Default::default() };
        let early = (0..TRIES).find_map(|_| {
            let patience = Duration::from_millis(1 + dice.roll(120));
            cri.leave_after(patience, request()).map(|answer| answer.map(|it| it.pod_sandbox_id))
        });
        let id = early.unwrap_or_else(|| cri.run_pod(config));
        let id = id.unwrap_or_else(|status| panic!("pod {number}: {status}"));
        cri.remember(&id);
        answers.lock().expect("no client panics with the lock").entry(number).or_default().insert(id);
    }
}

#[test]
fn twenty_pods_asked_for_by_ten_clients_that_give_up_at_random_are_twenty_pods() {
    let node = Node::start();
    let (configs, answers) = (configs(&node), Answers::default());
    thread::scope(|scope| {
        for client in 0..CLIENTS {
            let (cri, configs, answers) = (node.cri(), &configs, &answers);
            scope.spawn(move || ask_for_all(&cri, configs, &mut Dice(0x9e37_79b9 + client), answers));
        }
    });
    let cri = node.cri();
    for config in &configs {
        let id = cri.run_pod(config).expect("the pod is there");
        let number = configs.iter().position(|it| it == config).expect("it is one of them");
        answers.lock().expect("free").entry(number).or_default().insert(id);
    }
    let answers = answers.into_inner().expect("free");
    let several: Vec<_> = answers.values().filter(|ids| ids.len() != 1).collect();
    assert!(several.is_empty(), "one pod, several ids: {several:?}");
    let ids: BTreeSet<String> = answers.into_values().flatten().collect();
    let listed = cri.pods().expect("list");
    assert!(listed.iter().all(|pod| pod.state() == cri::PodSandboxState::SandboxReady));
    assert_eq!(listed.into_iter().map(|pod| pod.id).collect::<BTreeSet<_>>(), ids);
    assert_eq!(ids.len(), PODS);
    let addresses: BTreeSet<String> =
        ids.iter().map(|id| cri.pod(id).expect("status").network.expect("a network").ip).collect();
    assert_eq!(addresses.len(), PODS, "each has an address of its own: {addresses:?}");

    // The same storm takes them down again.
    thread::scope(|scope| {
        for client in 0..CLIENTS {
            let (cri, ids) = (node.cri(), &ids);
            scope.spawn(move || take_down(&cri, ids, &mut Dice(77 + client)));
        }
    });
    assert_eq!(cri.pods().expect("list"), vec![]);
    node.assert_no_pods_left();
}

fn take_down(cri: &Cri, ids: &BTreeSet<String>, dice: &mut Dice) {
    for id in ids {
        let patience = Duration::from_millis(1 + dice.roll(60));
        let stop = cri::StopPodSandboxRequest { pod_sandbox_id: id.clone() };
        if let Some(answer) = cri.leave_after(patience, stop) {
            answer.unwrap_or_else(|status| panic!("stop {id}: {status}"));
        }
        cri.stop_pod(id).unwrap_or_else(|status| panic!("stop {id}: {status}"));
        let remove = cri::RemovePodSandboxRequest { pod_sandbox_id: id.clone() };
        if let Some(answer) = cri.leave_after(patience, remove) {
            answer.unwrap_or_else(|status| panic!("remove {id}: {status}"));
        }
        cri.remove_pod(id).unwrap_or_else(|status| panic!("remove {id}: {status}"));
    }
}

#[test]
fn five_hundred_pod_lives_in_a_row_leave_nothing() {
    let node = Node::start();
    let cri = node.cri();
    let mut first = None;
    for life in 0..LIVES {
        let mut config = node.net_pod_config("again");
        config.metadata.as_mut().expect("it has metadata").attempt = life as u32;
        let pod = node.run_pod_as(config);
        // Every tenth runs something: five hundred starts of runc would only measure runc.
        if life % 10 == 0 {
            pod.start(&container("main", &["sleep", "3600"]));
        }
        cri.stop_pod(&pod.id).unwrap_or_else(|status| panic!("stop in life {life}: {status}"));
        cri.remove_pod(&pod.id).unwrap_or_else(|status| panic!("remove in life {life}: {status}"));
        if life == 20 {
            first = Some(descriptors(&node));
        }
    }
    node.assert_no_pods_left();
    let (first, last) = (first.expect("life 20 was lived"), descriptors(&node));
    assert!(last <= first + 5, "the daemon's descriptors grew from {first} to {last}");
}

fn descriptors(node: &Node) -> usize {
    fs::read_dir(format!("/proc/{}/fd", node.daemon_pid())).expect("the daemon runs").count()
}
