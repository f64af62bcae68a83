//! A double's time: the machine's, moved forward by tests.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Real time plus what tests added; clones are the same clock. It never goes back.
#[derive(Debug, Clone, Default)]
pub struct Clock {
    ahead_ms: Arc<AtomicU64>,
}

// === impl Clock ===

impl Clock {
    /// Milliseconds since 1970.
    #[must_use]
    pub fn now_ms(&self) -> u64 {
        let real = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let real = u64::try_from(real.as_millis()).unwrap_or(u64::MAX);
        real.saturating_add(self.ahead_ms.load(Ordering::SeqCst))
    }

    /// The same as a date: `2026-01-02T03:04:05Z`.
    #[must_use]
    pub fn rfc3339(&self) -> String {
        rfc3339(self.now_ms())
    }

    /// Moves the clock forward.
    pub fn advance(&self, by: Duration) {
        let by = u64::try_from(by.as_millis()).unwrap_or(u64::MAX);
        self.ahead_ms.fetch_add(by, Ordering::SeqCst);
    }
}

/// Milliseconds since 1970 as a date in UTC, whole seconds: `2026-01-02T03:04:05Z`. Past the year 9999 it is 1970.
#[must_use]
pub fn rfc3339(ms: u64) -> String {
    let seconds = i64::try_from(ms / 1_000).unwrap_or_default();
    jiff::Timestamp::from_second(seconds)
        .unwrap_or_default()
        .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moved_clock_is_ahead_for_all_its_clones() {
        let clock = Clock::default();
        let before = clock.clone().now_ms();
        clock.advance(Duration::from_secs(3600));
        assert!(clock.clone().now_ms() >= before + 3_600_000);
    }

    #[test]
    fn dates_are_rfc3339() {
        assert_eq!(rfc3339(1_700_000_000_123), "2023-11-14T22:13:20Z");
    }
}
