//! What each call takes: in a round every side runs one pod in the host's network with a container, and one on the
//! bridge.

use std::time::Duration;

use serde_json::Value;

use crate::figures::Figures;
use crate::floor::Floor;
use crate::side::{CONTAINERD, Net, Side};

/// Runs rounds on all sides in turns. The first does not count: what it meets is cold.
pub(crate) fn run(rounds: usize, sides: &[&Side], floor: Option<&Floor>, figures: &mut Figures) {
    let mut cold = Figures::default();
    for round in 0..=rounds {
        let figures = if round == 0 { &mut cold } else { &mut *figures };
        for &side in sides {
            for net in [Net::Host, Net::Bridge] {
                Measured { side, net, figures }.pod();
            }
        }
        if let Some(floor) = floor {
            floor.measure(figures);
        }
    }
}

struct Measured<'a> {
    side: &'a Side,
    net: Net,
    figures: &'a mut Figures,
}

impl Measured<'_> {
    fn pod(&mut self) {
        let (side, cri) = (self.side, &self.side.cri);
        let config = side.pod_config("measured", self.net);
        let container = Side::container_config(self.net);
        let name = self.named("RunPodSandbox");
        let pod = self.time(&name, || cri.run_pod(&config));
        if side.name != CONTAINERD {
            self.stages(&pod);
        }
        // A container costs the same on either network.
        if self.net == Net::Host {
            let id = self.time("CreateContainer", || cri.create(&pod, &config, &container));
            self.time("StartContainer", || cri.start(&id));
            for _ in 0..3 {
                let answer = self.time("ExecSync of true", || cri.exec_in(&id, &["true"], 10));
                assert_eq!(answer.exit_code, 0, "exec of true on {}", side.name);
            }
            self.time("StopContainer", || cri.stop(&id, 10));
            self.time("RemoveContainer", || cri.remove(&id));
        }
        let name = self.named("StopPodSandbox");
        self.time(&name, || cri.stop_pod(&pod));
        let name = self.named("RemovePodSandbox");
        self.time(&name, || cri.remove_pod(&pod));
    }

    fn named(&self, call: &str) -> String {
        match self.net {
            Net::Host => format!("{call}, hostNetwork"),
            Net::Bridge => format!("{call}, bridge CNI"),
        }
    }

    fn time<T>(&mut self, name: &str, call: impl FnOnce() -> Result<T, tonic::Status>) -> T {
        let (answer, took) = self.side.call(name, call);
        self.figures.add(self.side.name, name, took);
        answer
    }

    fn stages(&mut self, pod: &str) {
        let info = self.side.call("PodSandboxStatus", || self.side.cri.pod_info(pod)).0;
        let kind = format!("{}, {}", self.side.name, self.named("stages"));
        for (stage, took) in info["stagesMicroseconds"].as_object().into_iter().flatten() {
            let took = Value::as_u64(took).unwrap_or_else(|| panic!("stage {stage} of {pod} took {took}"));
            self.figures.add(&kind, stage, Duration::from_micros(took));
        }
    }
}
