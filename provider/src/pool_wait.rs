//! Waiting for a pool: until it has its size, until it is short, until it is gone; never for ever.

use std::time::Duration;

use gpuloom_api::proto::PoolView;
use gpuloom_fleet::{OnShortfall, PoolPhase, PoolSpec};
use tfplug::CancellationToken;
use tokio::time::{Instant, sleep, timeout_at};

use crate::lead::Lead;

/// How long creation waits beyond `capacity.max_wait` for the lead to say how it ended.
const MARGIN: Duration = Duration::from_secs(5);
/// Between two tries to follow a pool whose stream broke.
const RETRY: Duration = Duration::from_millis(500);
/// How often in a row following may fail before the lead counts as lost.
const MAX_FAILURES: u32 = 10;

/// A wait for one pool's size.
#[derive(Debug)]
pub(crate) struct Wait<'a> {
    lead: &'a Lead,
    spec: &'a PoolSpec,
    deadline: Instant,
    cancel: &'a CancellationToken,
}

/// How a wait ended, with the last view of the pool.
#[derive(Debug, Clone)]
pub(crate) enum Ended {
    /// Every wanted node is ready.
    Sized(PoolView),
    /// Fewer nodes than wanted can be had, or the time is over.
    Short { view: PoolView, why: String },
    /// Terraform asked to stop.
    Cancelled(PoolView),
    /// The lead does not answer any more.
    Lost { view: PoolView, why: String },
}

// === impl Ended ===

impl Ended {
    pub(crate) fn view(&self) -> &PoolView {
        match self {
            Self::Sized(view) | Self::Cancelled(view) => view,
            Self::Short { view, .. } | Self::Lost { view, .. } => view,
        }
    }
}

// === impl Wait ===

impl<'a> Wait<'a> {
    pub(crate) fn new(
        lead: &'a Lead,
        spec: &'a PoolSpec,
        limit: Duration,
        cancel: &'a CancellationToken,
    ) -> Self {
        let patience = Duration::from_secs(spec.capacity.max_wait.0).saturating_add(MARGIN);
        let now = Instant::now();
        // A limit beyond what the clock holds is a year: nobody waits that long.
        let year = Duration::from_secs(gpuloom_fleet::MAX_DURATION_S);
        let deadline = now + limit.min(patience).min(year);
        Self {
            lead,
            spec,
            deadline,
            cancel,
        }
    }

    /// The pool as it is now.
    pub(crate) async fn once(&self) -> Ended {
        let nothing = PoolView {
            wanted: self.spec.first_size(),
            ..PoolView::default()
        };
        match self
            .lead
            .object(gpuloom_fleet::Kind::Pool, self.spec.name.as_str())
            .await
        {
            Ok(found) => Ended::Sized(found.map_or(nothing, |f| f.pool)),
            Err(refusal) => Ended::Lost {
                view: nothing,
                why: refusal.to_string(),
            },
        }
    }

    /// Follows the pool until it has its size, is short, or the time is over.
    pub(crate) async fn until_sized(&self) -> Ended {
        let mut last = PoolView {
            wanted: self.spec.first_size(),
            ..PoolView::default()
        };
        let mut failures = 0;
        loop {
            let followed = tokio::select! {
                () = self.cancel.cancelled() => return Ended::Cancelled(last),
                followed = timeout_at(self.deadline, self.follow(&mut last, &mut failures)) => followed,
            };
            match followed {
                Err(_elapsed) => return self.too_late(last),
                Ok(Ok(ended)) => return ended,
                Ok(Err(why)) => {
                    failures += 1;
                    if failures >= MAX_FAILURES {
                        return Ended::Lost { view: last, why };
                    }
                }
            }
            tokio::select! {
                () = self.cancel.cancelled() => return Ended::Cancelled(last),
                () = sleep(RETRY) => {}
            }
        }
    }

    async fn follow(&self, last: &mut PoolView, failures: &mut u32) -> Result<Ended, String> {
        let mut views = self
            .lead
            .watch_pool(&self.spec.name)
            .await
            .map_err(|r| r.to_string())?;
        while let Some(view) = views.next().await.map_err(|r| r.to_string())? {
            *failures = 0;
            *last = view;
            if let Some(ended) = self.judge(last) {
                return Ok(ended);
            }
        }
        Err("the lead ended the pool's stream".to_owned())
    }

    /// `None` while there is something to wait for.
    fn judge(&self, view: &PoolView) -> Option<Ended> {
        judge(self.spec, view)
    }

    fn too_late(&self, view: PoolView) -> Ended {
        let why = if view.shortfall.is_empty() {
            format!(
                "{} of {} nodes were ready when the time was over",
                view.ready, view.wanted
            )
        } else {
            view.shortfall.clone()
        };
        Ended::Short { view, why }
    }
}

/// What a view means for whoever waits; a view from before the declaration means nothing yet.
fn judge(spec: &PoolSpec, view: &PoolView) -> Option<Ended> {
    if view.gone {
        let why = "the pool was destroyed by somebody else meanwhile".to_owned();
        return Some(Ended::Short {
            view: view.clone(),
            why,
        });
    }
    if !(spec.min..=spec.max).contains(&view.wanted) {
        return None;
    }
    let phase = gpuloom_api::convert::pool_status(view).ok()?.phase;
    match phase {
        PoolPhase::Ready if view.ready >= view.wanted => Some(Ended::Sized(view.clone())),
        // Nodes are being replaced or are on their way, and nothing stands in the way of more.
        PoolPhase::Degraded if view.shortfall.is_empty() => None,
        // What was launched may still join: with `degrade` the counts are told when it has.
        PoolPhase::Degraded
            if spec.capacity.on_shortfall == OnShortfall::Fail
                || view.ready >= view.provisioned =>
        {
            Some(Ended::Short {
                view: view.clone(),
                why: view.shortfall.clone(),
            })
        }
        _ => None,
    }
}

/// Waits until a withdrawn pool is gone with its instances.
///
/// # Errors
/// Why that was not seen: the time is over, Terraform asked to stop, or the lead is lost.
pub(crate) async fn wait_gone(
    lead: &Lead,
    name: &gpuloom_fleet::PoolName,
    limit: Duration,
    cancel: Option<&CancellationToken>,
) -> Result<(), String> {
    let year = Duration::from_secs(gpuloom_fleet::MAX_DURATION_S);
    let deadline = Instant::now() + limit.min(year);
    let never = CancellationToken::new();
    let cancel = cancel.unwrap_or(&never);
    let mut left = String::new();
    let mut failures = 0;
    loop {
        let seen = tokio::select! {
            () = cancel.cancelled() => return Err("waiting was interrupted".to_owned()),
            seen = timeout_at(deadline, follow_gone(lead, name, &mut left, &mut failures)) => seen,
        };
        match seen {
            Err(_elapsed) => return Err(format!("{left} after {limit:?}")),
            Ok(Ok(())) => return Ok(()),
            Ok(Err(why)) => {
                failures += 1;
                if failures >= MAX_FAILURES {
                    return Err(why);
                }
            }
        }
        sleep(RETRY).await;
    }
}

async fn follow_gone(
    lead: &Lead,
    name: &gpuloom_fleet::PoolName,
    left: &mut String,
    failures: &mut u32,
) -> Result<(), String> {
    let found = lead
        .object(gpuloom_fleet::Kind::Pool, name.as_str())
        .await
        .map_err(|r| r.to_string())?;
    if found.is_none() {
        return Ok(());
    }
    let mut views = lead.watch_pool(name).await.map_err(|r| r.to_string())?;
    while let Some(view) = views.next().await.map_err(|r| r.to_string())? {
        *failures = 0;
        if view.gone {
            return Ok(());
        }
        *left = format!(
            "{} nodes and {} running jobs were left",
            view.provisioned, view.running_jobs
        );
    }
    Err("the lead ended the pool's stream".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use gpuloom_api::proto::pool_view::Phase;
    use gpuloom_fleet::{Capacity, GpuModel, GpuShape, OnDestroy, PoolName, PoolPlace, Seconds};

    fn spec() -> PoolSpec {
        PoolSpec {
            name: PoolName::new("t4").expect("a name"),
            gpu: GpuShape {
                model: GpuModel::new("T4").expect("a model"),
                per_node: 1,
            },
            place: PoolPlace::Local,
            min: 2,
            max: 4,
            initial_size: None,
            capacity: Capacity {
                on_shortfall: OnShortfall::Fail,
                max_wait: Seconds(60),
                spot_ratio_milli: 0,
                on_demand_base: 0,
            },
            on_destroy: OnDestroy::Drain,
            labels: Default::default(),
            update: Default::default(),
        }
    }

    fn view(wanted: u32, ready: u32, phase: Phase) -> PoolView {
        PoolView {
            wanted,
            ready,
            phase: phase.into(),
            shortfall: match phase {
                Phase::Degraded => "none left".to_owned(),
                _ => String::new(),
            },
            ..PoolView::default()
        }
    }

    #[test]
    fn a_wait_ends_when_the_pool_has_its_size_or_is_short_and_not_before() {
        let ended = |v: PoolView| judge(&spec(), &v).map(|e| matches!(e, Ended::Sized(_)));
        assert_eq!(ended(view(2, 0, Phase::Provisioning)), None);
        assert_eq!(ended(view(2, 2, Phase::Ready)), Some(true));
        assert_eq!(ended(view(2, 1, Phase::Degraded)), Some(false));
        // One is being replaced: nothing is short.
        let replaced = PoolView {
            shortfall: String::new(),
            ..view(2, 1, Phase::Degraded)
        };
        assert_eq!(ended(replaced), None);
        // Short with one node on its way: an error is told at once, true counts when it has joined.
        let joining = PoolView {
            provisioned: 1,
            ..view(2, 0, Phase::Degraded)
        };
        assert_eq!(ended(joining.clone()), Some(false));
        let mut patient = spec();
        patient.capacity.on_shortfall = OnShortfall::Degrade;
        assert!(judge(&patient, &joining).is_none());
        let joined = PoolView {
            ready: 1,
            ..joining
        };
        assert!(matches!(
            judge(&patient, &joined),
            Some(Ended::Short { .. })
        ));
        // The size of before a change of the bounds.
        assert_eq!(ended(view(1, 1, Phase::Ready)), None);
        // Said to be ready, and not.
        assert_eq!(ended(view(3, 2, Phase::Ready)), None);
        assert_eq!(
            ended(PoolView {
                gone: true,
                ..view(0, 0, Phase::Draining)
            }),
            Some(false)
        );
    }
}
