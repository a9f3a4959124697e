//! The wall clock, where no injected clock reaches (the shim has no other).

use rustix::time::{ClockId, clock_gettime};

/// Nanoseconds since the Unix epoch.
#[must_use]
pub fn unix_nanos() -> i64 {
    let now = clock_gettime(ClockId::Realtime);
    now.tv_sec.saturating_mul(1_000_000_000).saturating_add(now.tv_nsec)
}
