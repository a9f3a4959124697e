//! Waiting for conditions with a deadline: the only place of the tests where time passes on purpose.

use std::time::{Duration, Instant};

/// How long the kernel and the daemon may take for what they do in the background, on a loaded machine.
pub const PATIENCE: Duration = Duration::from_secs(20);

const POLL: Duration = Duration::from_millis(10);

/// Waits until `probe` gives a value, and panics with `what` when [`PATIENCE`] is over.
pub fn for_some<T>(what: &str, probe: impl FnMut() -> Option<T>) -> T {
    within(PATIENCE, probe).unwrap_or_else(|| panic!("gave up waiting until {what}"))
}

/// Waits until `probe` is true, and panics with `what` when [`PATIENCE`] is over.
pub fn until(what: &str, mut probe: impl FnMut() -> bool) {
    for_some(what, || probe().then_some(()));
}

/// The value `probe` gives before the deadline, if it gives one.
pub fn within<T>(limit: Duration, mut probe: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(value) = probe() {
            return Some(value);
        }
        if Instant::now() >= deadline {
            return None;
        }
        pause(POLL);
    }
}

/// Lets `time` pass, for the tests whose subject is time itself (a grace period, a moment of a kill).
#[expect(clippy::disallowed_methods, reason = "the polling loops above need one sleep, and this is it")]
pub fn pause(time: Duration) {
    std::thread::sleep(time);
}
