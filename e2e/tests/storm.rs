//! Many clients that ask for the same things, give up at any moment and ask again; and one pod after the other.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use cri_proto::v1 as cri;
use e2e::client::{Cri, Leavable};
use e2e::node::Node;
use e2e::pod::{container, net_container};
use e2e::wait;

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

/// Ids of pods and of their containers that clients were given, pod by pod.
type Answers = Mutex<BTreeMap<usize, BTreeSet<(String, String)>>>;

/// What a client asks for that gives up at random, and asks again with more patience until it has an answer.
fn insist<R: Leavable + Clone>(cri: &Cri, dice: &mut Dice, what: &str, request: &R) -> R::Answer {
    let early =
        (0..TRIES).find_map(|_| cri.leave_after(Duration::from_millis(1 + dice.roll(120)), request.clone()));
    let answer = early.or_else(|| cri.leave_after(wait::PATIENCE, request.clone()));
    let answer = answer.unwrap_or_else(|| panic!("{what}: no answer"));
    answer.unwrap_or_else(|status| panic!("{what}: {status}"))
}

/// The pod and its container, running.
fn ask_for(cri: &Cri, dice: &mut Dice, config: &cri::PodSandboxConfig) -> (String, String) {
    let name = config.metadata.as_ref().map_or("", |metadata| metadata.name.as_str());
    let run = cri::RunPodSandboxRequest { config: Some(config.clone()), ..Default::default() };
    let pod = insist(cri, dice, name, &run).pod_sandbox_id;
    cri.remember(&pod);
    let create = cri::CreateContainerRequest {
        pod_sandbox_id: pod.clone(),
        config: Some(net_container("main", &["sleep", "3600"])),
        sandbox_config: Some(config.clone()),
    };
    let container = insist(cri, dice, name, &create).container_id;
    cri.remember(&container);
    insist(cri, dice, name, &cri::StartContainerRequest { container_id: container.clone() });
    (pod, container)
}

fn ask_for_all(cri: &Cri, configs: &[cri::PodSandboxConfig], dice: &mut Dice, answers: &Answers) {
    for turn in 0..PODS {
        let number = (turn + dice.roll(PODS as u64) as usize) % PODS;
        let ids = ask_for(cri, dice, &configs[number]);
        answers.lock().expect("no client panics with the lock").entry(number).or_default().insert(ids);
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
    for (number, config) in configs.iter().enumerate() {
        let ids = ask_for(&cri, &mut Dice(7), config);
        answers.lock().expect("free").entry(number).or_default().insert(ids);
    }
    let answers = answers.into_inner().expect("free");
    let several: Vec<_> = answers.values().filter(|ids| ids.len() != 1).collect();
    assert!(several.is_empty(), "one pod, several ids: {several:?}");
    let (ids, containers): (BTreeSet<String>, BTreeSet<String>) = answers.into_values().flatten().unzip();
    let listed = cri.pods().expect("list");
    assert!(listed.iter().all(|pod| pod.state() == cri::PodSandboxState::SandboxReady));
    assert_eq!(listed.into_iter().map(|pod| pod.id).collect::<BTreeSet<_>>(), ids);
    assert_eq!(ids.len(), PODS);
    let listed = cri.containers().expect("list");
    assert!(listed.iter().all(|it| it.state() == cri::ContainerState::ContainerRunning), "{listed:?}");
    assert_eq!(listed.into_iter().map(|it| it.id).collect::<BTreeSet<_>>(), containers);
    let addresses: BTreeSet<String> =
        ids.iter().map(|id| cri.pod(id).expect("status").network.expect("a network").ip).collect();
    assert_eq!(addresses.len(), PODS, "each has an address of its own: {addresses:?}");

    // The same storm takes them down again.
    thread::scope(|scope| {
        for client in 0..CLIENTS {
            let (cri, ids, containers) = (node.cri(), &ids, &containers);
            scope.spawn(move || take_down(&cri, ids, containers, &mut Dice(77 + client)));
        }
    });
    assert_eq!(cri.pods().expect("list"), vec![]);
    node.assert_no_pods_left();
}

fn take_down(cri: &Cri, pods: &BTreeSet<String>, containers: &BTreeSet<String>, dice: &mut Dice) {
    // Half of the containers go by themselves, half with their pods.
    for id in containers.iter().take(PODS / 2) {
        insist(cri, dice, id, &cri::StopContainerRequest { container_id: id.clone(), timeout: 0 });
        insist(cri, dice, id, &cri::RemoveContainerRequest { container_id: id.clone() });
    }
    for id in pods {
        insist(cri, dice, id, &cri::StopPodSandboxRequest { pod_sandbox_id: id.clone() });
        insist(cri, dice, id, &cri::RemovePodSandboxRequest { pod_sandbox_id: id.clone() });
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
