//! When a connection last carried anything, so that one that is idle for too long can be closed.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

#[derive(Debug)]
pub(crate) struct Activity {
    start: Instant,
    /// Milliseconds since `start`.
    last: AtomicU64,
}

impl Activity {
    pub(crate) fn new() -> Self {
        Self { start: Instant::now(), last: AtomicU64::new(0) }
    }

    /// Bytes have passed, in either direction.
    pub(crate) fn touch(&self) {
        let now = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last.store(now, Ordering::Relaxed);
    }

    /// Returns once nothing has passed for so long.
    pub(crate) async fn idle(&self, limit: Duration) {
        loop {
            let deadline = self.start + Duration::from_millis(self.last.load(Ordering::Relaxed)) + limit;
            if deadline <= Instant::now() {
                return;
            }
            tokio::time::sleep_until(deadline).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn traffic_puts_the_end_off() {
        let (activity, start) = (Activity::new(), Instant::now());
        let traffic = async {
            tokio::time::sleep(Duration::from_secs(7)).await;
            activity.touch();
        };
        tokio::join!(activity.idle(Duration::from_secs(10)), traffic);
        assert_eq!(start.elapsed().as_secs(), 17);
    }
}
