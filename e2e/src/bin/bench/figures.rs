//! What was measured: samples by side and name, and their percentiles.

use std::collections::BTreeMap;
use std::time::Duration;

/// All samples of a run.
#[derive(Default)]
pub(crate) struct Figures {
    samples: BTreeMap<(String, String), Vec<Duration>>,
}

/// Samples in order, in milliseconds.
pub(crate) struct Sorted(Vec<f64>);

impl Figures {
    /// Adds a sample.
    pub(crate) fn add(&mut self, side: &str, name: &str, took: Duration) {
        self.samples.entry((side.to_owned(), name.to_owned())).or_default().push(took);
    }

    /// The samples of a name, if there are any.
    pub(crate) fn of(&self, side: &str, name: &str) -> Option<Sorted> {
        self.samples.get(&(side.to_owned(), name.to_owned())).map(|samples| Sorted::new(samples))
    }

    /// All samples with their side and name.
    pub(crate) fn all(&self) -> impl Iterator<Item = (&str, &str, Sorted)> {
        self.samples
            .iter()
            .map(|((side, name), samples)| (side.as_str(), name.as_str(), Sorted::new(samples)))
    }
}

impl Sorted {
    fn new(samples: &[Duration]) -> Self {
        let mut sorted: Vec<f64> = samples.iter().map(|took| took.as_secs_f64() * 1000.0).collect();
        sorted.sort_by(f64::total_cmp);
        Self(sorted)
    }

    /// The smallest sample that `share` per cent of the samples do not exceed.
    pub(crate) fn percentile(&self, share: usize) -> f64 {
        let at = (self.0.len() * share).div_ceil(100).saturating_sub(1);
        self.0.get(at).copied().unwrap_or(f64::NAN)
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }
}
