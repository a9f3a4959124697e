//! How busy a container keeps the processors: the difference of two looks at its counter. Each container keeps one look.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::CpuStats;

/// In less time a few ticks of the kernel make a difference: who asks sooner gets the rate of before.
const SHORTEST: Duration = Duration::from_secs(1);

/// What the last look was worth, guarded by a short lock.
#[derive(Debug, Default)]
pub(crate) struct CpuRate(Mutex<Option<Look>>);

#[derive(Clone, Copy, Debug)]
struct Look {
    cpu: CpuStats,
    at: Instant,
    rate: Option<u64>,
}

impl CpuRate {
    /// Nanoseconds of one core in a second, since an earlier look; none at the first.
    pub(super) fn since_before(&self, cpu: CpuStats, at: Instant) -> Option<u64> {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(before) = *last else {
            *last = Some(Look { cpu, at, rate: None });
            return None;
        };
        let time = at.saturating_duration_since(before.at);
        if time < SHORTEST {
            return before.rate;
        }
        let used = u128::from(cpu.nanoseconds.saturating_sub(before.cpu.nanoseconds));
        let rate = u64::try_from(used * Duration::from_secs(1).as_nanos() / time.as_nanos()).ok();
        *last = Some(Look { cpu, at, rate });
        rate
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_that_of_two_looks_a_second_apart() {
        let (rate, begun) = (CpuRate::default(), Instant::now());
        let look = |milliseconds, used: u64| {
            let cpu = CpuStats { nanoseconds: 5_000_000_000 + used };
            rate.since_before(cpu, begun + Duration::from_millis(milliseconds))
        };
        for (at, used, expected) in [
            (0, 0, None),
            (999, 40, None),
            (2000, 1_000_000_000, Some(500_000_000)),
            (2500, 1_400_000_000, Some(500_000_000)),
            (4000, 6_000_000_000, Some(2_500_000_000)),
            (5000, 6_000_000_000, Some(0)),
            (6000, 5_000_000_000, Some(0)),
        ] {
            assert_eq!(look(at, used), expected, "at {at} ms");
        }
    }
}
