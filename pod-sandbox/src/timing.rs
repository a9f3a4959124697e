//! How long each stage of a pod's start took, kept with the pod and shown by `crictl inspectp`.

use std::borrow::Cow;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

/// Stage names with their durations, in the order in which they ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timings(pub Vec<(Cow<'static, str>, Duration)>);

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
        self.timings.0.push((Cow::Borrowed(name), now - self.last));
        self.last = now;
    }

    pub(crate) fn finish(self) -> Timings {
        self.timings
    }
}
