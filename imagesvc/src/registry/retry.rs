//! When a host that has failed is asked again, and how long after.
//!
//! A host that another one can stand in for is not waited for. Waiting is bounded by number and by time for each
//! object and host; a layer that moves on gets its budget back, so that a long one survives many resets.

use std::time::Duration;

use super::attempt::{AttemptError, Hope};

/// How patient pulls are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retry {
    pub times: u32,
    /// Before the first repetition; each further pause is twice the one before.
    pub first_pause: Duration,
    /// All pauses together, those included that a host asks for with `Retry-After`. One that wants more is not
    /// waited for: the kubelet comes again.
    pub longest: Duration,
}

impl Default for Retry {
    /// Four pauses of 0.25 to 2 s outlast a registry's restart behind a load balancer.
    fn default() -> Self {
        Self { times: 4, first_pause: Duration::from_millis(250), longest: Duration::from_secs(60) }
    }
}

/// Bytes of a layer that count as moving on.
const PROGRESS: u64 = 1 << 20;

/// Whether another host can be asked for the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Last,
    Followed,
}

/// One object's patience with one host.
#[derive(Debug)]
pub(crate) struct Patience {
    retry: Retry,
    place: Place,
    failed: u32,
    waited: Duration,
    furthest: u64,
}

impl Patience {
    pub(crate) fn new(retry: Retry, place: Place) -> Self {
        Self { retry, place, failed: 0, waited: Duration::ZERO, furthest: 0 }
    }

    /// A layer has come to `reached` bytes. The furthest counts: a host that always begins anew gets nowhere.
    pub(crate) fn progress(&mut self, reached: u64) {
        if reached >= self.furthest.saturating_add(PROGRESS) {
            (self.failed, self.waited) = (0, Duration::ZERO);
        }
        self.furthest = self.furthest.max(reached);
    }

    /// Waits until the host may be asked again, or gives the error back when it should not be. Cancel-safe.
    pub(crate) async fn wait(&mut self, error: AttemptError) -> Result<(), AttemptError> {
        let Some(pause) = self.pause(&error) else {
            return Err(error);
        };
        tracing::debug!(error = &error as &dyn std::error::Error, ?pause, "a registry is asked again");
        tokio::time::sleep(pause).await;
        Ok(())
    }

    fn pause(&mut self, error: &AttemptError) -> Option<Duration> {
        let worth_it = match error.hope() {
            Hope::None => false,
            Hope::IfLast => self.place == Place::Last,
            Hope::IfLastAndMet => self.place == Place::Last && self.furthest > 0,
            Hope::Any => true,
        };
        if !worth_it || self.failed >= self.retry.times {
            return None;
        }
        let own = self.retry.first_pause.saturating_mul(2_u32.saturating_pow(self.failed));
        let pause = error.retry_after().unwrap_or(own);
        if self.waited + pause > self.retry.longest {
            return None;
        }
        self.failed += 1;
        self.waited += pause;
        Some(pause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(status: u16, retry_after: Option<u64>) -> AttemptError {
        let retry_after = retry_after.map(Duration::from_secs);
        AttemptError::Status { status, detail: String::new(), retry_after }
    }

    fn pauses(place: Place, error: &AttemptError) -> Vec<u64> {
        let mut patience = Patience::new(Retry::default(), place);
        std::iter::from_fn(|| patience.pause(error)).map(|pause| pause.as_millis() as u64).collect()
    }

    #[test]
    fn pauses_grow_and_end() {
        let truncated = AttemptError::Truncated { received: 1, size: 2 };
        let cases = [
            (status(503, None), vec![250, 500, 1000, 2000]),
            (status(429, Some(20)), vec![20_000; 3]),
            (status(429, Some(0)), vec![0; 4]),
            (status(429, Some(61)), vec![]),
            (status(500, None), vec![250, 500, 1000, 2000]),
            (status(501, None), vec![]),
            (status(404, None), vec![]),
            (status(401, None), vec![]),
            (truncated, vec![250, 500, 1000, 2000]),
            (AttemptError::Stalled { limit: Duration::ZERO }, vec![]),
            (AttemptError::TooLarge { limit: 1 }, vec![]),
        ];
        for (error, expected) in cases {
            assert_eq!(pauses(Place::Last, &error), expected, "{error}");
        }
        assert_eq!(pauses(Place::Followed, &status(503, Some(1))), [0; 0], "the next host is quicker");
    }

    #[test]
    fn progress_gives_the_budget_back_and_beginning_anew_does_not() {
        let truncated = AttemptError::Truncated { received: 1, size: 2 };
        let mut patience = Patience::new(Retry { times: 2, ..Retry::default() }, Place::Last);
        let mut rounds = 0;
        for reached in [3 * PROGRESS, 3 * PROGRESS + 1, 5 * PROGRESS, PROGRESS, 3 * PROGRESS, 2 * PROGRESS] {
            patience.progress(reached);
            if patience.pause(&truncated).is_none() {
                break;
            }
            rounds += 1;
        }
        assert_eq!(rounds, 4, "two after the last progress");
    }
}
