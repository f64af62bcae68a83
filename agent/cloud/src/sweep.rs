//! Ends everything that carries some tags, and does not believe it before listings say so.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use gpuloom_fleet::InstanceId;

use crate::cloud::{Cloud, CloudError, FailureClass};
use crate::instance::Tags;

/// How long to wait before the next look, at first and at most.
const PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// So many listings in a row must be empty: a new instance may be missing from one.
const EMPTY_LISTINGS: u32 = 2;

/// [`Cloud::terminate_all`] as it is by default, for drivers that do more besides.
///
/// # Errors
/// Those of [`Cloud::terminate_all`].
pub async fn terminate_all<C: Cloud + ?Sized>(
    cloud: &C,
    tags: &Tags,
    deadline: Instant,
) -> Result<(), CloudError> {
    let mut left: BTreeMap<InstanceId, CloudError> = BTreeMap::new();
    let mut pause = PAUSE;
    let mut empty = 0;
    loop {
        let unlisted = match cloud.list(tags).await {
            Ok(listed) if listed.is_empty() => {
                empty += 1;
                if empty >= EMPTY_LISTINGS {
                    return Ok(());
                }
                left.clear();
                None
            }
            Ok(listed) => {
                empty = 0;
                left.clear();
                for instance in listed {
                    let said = match cloud.terminate(&instance.id).await {
                        Ok(()) => CloudError::new(FailureClass::Transient, "is listed still"),
                        Err(e) => e,
                    };
                    left.insert(instance.id, said);
                }
                None
            }
            Err(e) => {
                empty = 0;
                Some(e)
            }
        };
        let hopeless = match &unlisted {
            Some(e) => needs_a_person(e),
            None => !left.is_empty() && left.values().all(needs_a_person),
        };
        if hopeless || (empty == 0 && Instant::now() >= deadline) {
            return Err(not_ended(&left, unlisted));
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Trying again does not help.
fn needs_a_person(error: &CloudError) -> bool {
    matches!(error.class, FailureClass::Auth | FailureClass::Invalid)
}

fn not_ended(left: &BTreeMap<InstanceId, CloudError>, unlisted: Option<CloudError>) -> CloudError {
    let mut text = match (left.len(), &unlisted) {
        (0, Some(e)) => format!("what is left cannot be listed: {e}"),
        (n, _) => format!("{n} instances are left"),
    };
    for (id, said) in left {
        // Writing to a String does not fail.
        let _ = write!(text, "\n  {id}: {said}");
    }
    if let (Some(e), false) = (&unlisted, left.is_empty()) {
        let _ = write!(text, "\n  and they cannot be listed any more: {e}");
    }
    let class = match (&unlisted, left.values().all(needs_a_person)) {
        (Some(e), _) => e.class,
        (None, true) => FailureClass::Auth,
        (None, false) => FailureClass::Transient,
    };
    CloudError::new(class, text)
}
