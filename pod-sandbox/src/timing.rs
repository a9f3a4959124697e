//! How long each stage of a pod's start took, kept with the pod and shown by `crictl inspectp`.

use std::time::{Duration, Instant};

/// Stage names with their durations, in the order in which they ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Timings(pub Vec<(&'static str, Duration)>);

/// Runs from stage to stage.
#[derive(Debug)]
pub(crate) struct Stopwatch {
    last: Instant,
    timings: Timings,
}

impl Stopwatch {
    pub(crate) fn start() -> Self {
        Self { last: Instant::now(), timings: Timings::default() }
    }

    /// Ends the stage `name`.
    pub(crate) fn lap(&mut self, name: &'static str) {
        let now = Instant::now();
        self.timings.0.push((name, now - self.last));
        self.last = now;
    }

    pub(crate) fn finish(self) -> Timings {
        self.timings
    }
}
