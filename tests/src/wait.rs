//! The one place where a test waits.

use std::time::{Duration, Instant};

/// For what a loaded machine does within seconds.
pub const SHORT: Duration = Duration::from_secs(30);
/// For what takes several steps: a node that comes up, a pool that follows its load.
pub const LONG: Duration = Duration::from_secs(90);

const LOOK: Duration = Duration::from_millis(50);

/// Looks until `look` finds something, for `limit` at most.
///
/// # Panics
/// When the time is over: with `what` and what was seen last.
#[track_caller]
pub fn until<T>(what: &str, limit: Duration, mut look: impl FnMut() -> Result<T, String>) -> T {
    let deadline = Instant::now() + limit;
    loop {
        match look() {
            Ok(found) => return found,
            Err(seen) if Instant::now() >= deadline => {
                panic!("not within {limit:?}: {what}; seen last: {seen}")
            }
            Err(_) => std::thread::sleep(LOOK),
        }
    }
}
