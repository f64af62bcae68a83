//! What the node's cloud announces, and what that means for its jobs.
//!
//! ```text
//! metadata service --Notice--> core: takes no more jobs, stops what runs in time, reports it
//!                  <--acknowledge-- (Azure) once the lead has stored every job's end
//! ```

use super::config::NodeConfig;
use super::core::Inbox;
use crate::launch::now;
use gpuloom_api::proto::NodeReport;
use gpuloom_cloud_imds::{Metadata, Notice, most_pressing};
use gpuloom_fleet::Millis;
use std::collections::BTreeSet;
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::time::sleep;

/// Every job has ended so long before the announced moment.
pub(crate) const EMPTY_BEFORE: Duration = Duration::from_secs(5);
/// Between SIGKILL and the end that is on disk and told.
pub(crate) const KILL_RESERVE: Duration = Duration::from_secs(3);
/// What is announced for later than this leaves running jobs alone until then.
pub(crate) const URGENT: Duration = Duration::from_secs(600);
/// The shortest grace, where the moment is known too late for a longer one.
pub(crate) const LEAST_GRACE: Duration = Duration::from_secs(2);
/// How often time alone is looked at while something is announced.
const TICK: Duration = Duration::from_secs(1);

fn millis(of: Duration) -> u64 {
    u64::try_from(of.as_millis()).unwrap_or(u64::MAX)
}

/// The grace that an attempt gets when it is to be stopped now, of the `grace` it asks for; `None`
/// while it may run on. It is stopped ten minutes before the announced moment, sooner when its grace
/// is longer, and at once when less is left; then it gets what leaves [`EMPTY_BEFORE`] and
/// [`KILL_RESERVE`].
pub(crate) fn stop_within(notice: &Notice, grace: Duration, now: Millis) -> Option<Duration> {
    let at = notice.at.filter(|_| notice.kind.ends_jobs())?;
    let killed_by = at.0.saturating_sub(millis(EMPTY_BEFORE + KILL_RESERVE));
    let latest = killed_by.saturating_sub(millis(grace));
    let usual = at.0.saturating_sub(millis(URGENT));
    if now.0 < latest.min(usual) {
        return None;
    }
    let left = Duration::from_millis(killed_by.saturating_sub(now.0));
    Some(grace.min(left.max(LEAST_GRACE)))
}

/// Watches, on an instance of a cloud; ends never.
pub(crate) async fn watch(
    config: &NodeConfig,
    reports: watch::Receiver<Arc<NodeReport>>,
    core: mpsc::Sender<Inbox>,
) {
    let Some(instance) = &config.instance else {
        return pending().await;
    };
    let service = match instance.service() {
        Ok(service) => service,
        Err(error) => {
            tracing::error!(%error, "nothing that the cloud announces will be heard");
            return pending().await;
        }
    };
    let (tell, told) = watch::channel(Arc::default());
    tokio::join!(
        service.notices(Arc::new(now), tell),
        pass_on(told.clone(), &core),
        acknowledge(&service, told, reports),
    );
}

/// Tells the core of the most pressing notice whenever it changes, and of time that passes.
async fn pass_on(mut told: watch::Receiver<Arc<Vec<Notice>>>, core: &mpsc::Sender<Inbox>) {
    let mut last = None;
    loop {
        let newest = most_pressing(&told.borrow_and_update()).cloned();
        if newest != last {
            match &newest {
                Some(n) => tracing::warn!(
                    kind = %n.kind, at_ms = n.at.map(|at| at.0), id = n.id, source = n.source,
                    "the cloud announces that it will disturb this instance"
                ),
                None => tracing::info!("the cloud announces nothing any more"),
            }
            last.clone_from(&newest);
        }
        let announced = newest.is_some();
        if core.send(Inbox::Notice(newest)).await.is_err() {
            return pending().await;
        }
        tokio::select! {
            changed = told.changed() => if changed.is_err() { return pending().await },
            () = sleep(TICK), if announced => {}
        }
    }
}

/// Lets announced events begin once the node is empty and the lead knows how everything ended.
async fn acknowledge(
    service: &Metadata,
    mut told: watch::Receiver<Arc<Vec<Notice>>>,
    mut reports: watch::Receiver<Arc<NodeReport>>,
) {
    let mut done: BTreeSet<String> = BTreeSet::new();
    loop {
        let open = to_acknowledge(
            &told.borrow_and_update(),
            &done,
            &reports.borrow_and_update(),
        );
        let mut failed = false;
        if !open.is_empty() {
            match service.acknowledge(&open).await {
                Ok(()) => done.extend(open),
                Err(error) => {
                    tracing::warn!(%error, "the events cannot be acknowledged; they begin at their time");
                    failed = true;
                }
            }
        }
        tokio::select! {
            changed = told.changed() => if changed.is_err() { return pending().await },
            changed = reports.changed() => if changed.is_err() { return pending().await },
            () = sleep(TICK), if failed => {}
        }
    }
}

/// Events that end jobs, once the report says that the node knows of them and holds no attempt.
fn to_acknowledge(told: &[Notice], done: &BTreeSet<String>, report: &NodeReport) -> Vec<String> {
    if report.notice.is_none() || !report.attempts.is_empty() {
        return Vec::new();
    }
    let open = told
        .iter()
        .filter(|n| n.kind.ends_jobs() && !n.id.is_empty());
    open.map(|n| n.id.clone())
        .filter(|id| !done.contains(id))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use gpuloom_api::proto;
    use gpuloom_cloud_imds::NoticeKind;

    fn notice(kind: NoticeKind, at: Option<u64>) -> Notice {
        Notice {
            kind,
            at: at.map(Millis),
            id: "e1".to_owned(),
            source: "test",
        }
    }

    const SECOND: u64 = 1_000;

    /// Moves a clock in ticks, and says when an attempt that ignores SIGTERM is killed.
    fn killed_at(notice: &Notice, grace: u64, heard_at: u64) -> Option<u64> {
        let grace = Duration::from_secs(grace);
        let tick = millis(TICK);
        (0..100_000u64)
            .map(|n| heard_at + n * tick)
            .find_map(|now| stop_within(notice, grace, Millis(now)).map(|left| now + millis(left)))
    }

    #[test]
    fn with_thirty_seconds_notice_every_job_has_ended_before_the_twenty_fifth() {
        let begin = 1_000_000 * SECOND;
        let preempt = notice(NoticeKind::Preempt, Some(begin + 30 * SECOND));
        for grace in [0, 1, 5, 22, 30, 120, 3_600] {
            // Heard at once, or one poll later.
            for late in [0, 999, 1_500] {
                let killed = killed_at(&preempt, grace, begin + late).expect("is stopped");
                let ended = killed + millis(KILL_RESERVE) - begin;
                assert!(
                    ended <= 25 * SECOND,
                    "grace {grace} s, heard {late} ms late: {ended} ms"
                );
            }
        }
        // What asks for less gets no more.
        assert_eq!(killed_at(&preempt, 5, begin), Some(begin + 5 * SECOND));
    }

    #[test]
    fn what_is_days_ahead_leaves_jobs_alone_until_ten_minutes_before() {
        let at = 3 * 86_400 * SECOND;
        let work = notice(NoticeKind::Maintenance, Some(at));
        let minute = Duration::from_secs(60);
        assert_eq!(stop_within(&work, minute, Millis(0)), None);
        assert_eq!(stop_within(&work, minute, Millis(at - 601 * SECOND)), None);
        assert_eq!(
            stop_within(&work, minute, Millis(at - 600 * SECOND)),
            Some(minute)
        );
        // A long grace begins sooner, so that all of it fits.
        let hour = Duration::from_secs(3_600);
        assert_eq!(stop_within(&work, hour, Millis(at - 3_609 * SECOND)), None);
        assert_eq!(
            stop_within(&work, hour, Millis(at - 3_608 * SECOND)),
            Some(hour)
        );
    }

    #[test]
    fn a_moment_that_is_here_leaves_the_least_grace_and_a_risk_stops_nothing() {
        let now = Millis(100 * SECOND);
        let started = notice(NoticeKind::Preempt, Some(now.0));
        let grace = Duration::from_secs(30);
        assert_eq!(stop_within(&started, grace, now), Some(LEAST_GRACE));
        assert_eq!(
            stop_within(&started, Duration::ZERO, now),
            Some(Duration::ZERO)
        );
        assert_eq!(
            stop_within(&notice(NoticeKind::Rebalance, None), grace, now),
            None
        );
        assert_eq!(
            stop_within(&notice(NoticeKind::Freeze, Some(now.0)), grace, now),
            None
        );
    }

    #[test]
    fn an_event_is_acknowledged_once_and_only_when_the_node_is_empty() {
        let told = [
            notice(NoticeKind::Preempt, Some(1)),
            notice(NoticeKind::Freeze, Some(1)),
        ];
        let mut report = NodeReport {
            notice: Some(proto::Notice::default()),
            attempts: vec![proto::AttemptReport::default()],
            ..NodeReport::default()
        };
        let none = BTreeSet::new();
        assert!(to_acknowledge(&told, &none, &report).is_empty());
        report.attempts.clear();
        assert_eq!(to_acknowledge(&told, &none, &report), ["e1"]);
        assert!(to_acknowledge(&told, &BTreeSet::from(["e1".to_owned()]), &report).is_empty());
        report.notice = None;
        assert!(to_acknowledge(&told, &none, &report).is_empty());
    }
}
