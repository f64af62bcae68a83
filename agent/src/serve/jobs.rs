//! Reading requests about jobs.

use crate::lead::record::JobRecord;
use crate::lead::state::State;
use crate::lead::view;
use gpuloom_api::{Refusal, proto};
use gpuloom_fleet::{JobId, TenantName};
use std::str::FromStr;

/// Jobs listed when no limit is given.
const DEFAULT_LIMIT: usize = 1_000;
/// Most jobs listed.
const MAX_LIMIT: usize = 10_000;
const STATES: [&str; 6] = [
    "pending",
    "active",
    "succeeded",
    "failed",
    "timed_out",
    "cancelled",
];

/// `text` as an id or name, or a refusal that names the field.
pub(super) fn id<T: FromStr<Err = gpuloom_fleet::ParseIdError>>(
    field: &str,
    text: &str,
) -> Result<T, Refusal> {
    text.parse().map_err(|e: gpuloom_fleet::ParseIdError| {
        Refusal::invalid_field(
            field,
            text,
            "is not well formed",
            format!("use {}", e.expected),
        )
    })
}

/// As [`id`]; empty is `None`.
pub(super) fn optional<T: FromStr<Err = gpuloom_fleet::ParseIdError>>(
    field: &str,
    text: &str,
) -> Result<Option<T>, Refusal> {
    if text.is_empty() {
        Ok(None)
    } else {
        id(field, text).map(Some)
    }
}

/// What of a list a caller gets: all for 0, at most [`MAX_LIMIT`].
pub(super) fn limit(asked: u64) -> usize {
    match usize::try_from(asked) {
        Ok(0) => DEFAULT_LIMIT,
        Ok(n) => n.min(MAX_LIMIT),
        Err(_) => MAX_LIMIT,
    }
}

/// The tenant a list is about: a token's own, or the one asked for.
pub(super) fn whose(
    caller: Option<&TenantName>,
    asked: &str,
) -> Result<Option<TenantName>, Refusal> {
    let asked: Option<TenantName> = optional("tenant", asked)?;
    match (caller, asked) {
        (Some(own), Some(other)) if *own != other => {
            let message = format!("the token is tenant {own}'s, this is about {other}");
            Err(Refusal::denied(
                message,
                format!("use a token of tenant {other} or the admin key"),
            ))
        }
        (Some(own), _) => Ok(Some(own.clone())),
        (None, asked) => Ok(asked),
    }
}

/// Which jobs a list holds.
pub(super) struct Filter {
    tenant: Option<TenantName>,
    states: Vec<String>,
    pool: String,
    labels: Vec<(String, String)>,
    number: Option<u64>,
    limit: usize,
}

// === impl Filter ===

impl Filter {
    pub(super) fn new(
        caller: Option<&TenantName>,
        r: proto::ListJobsRequest,
    ) -> Result<Self, Refusal> {
        if let Some(bad) = r.states.iter().find(|s| !STATES.contains(&s.as_str())) {
            let fix = format!("use {}", STATES.join(", "));
            return Err(Refusal::invalid_field("states", bad, "is not a state", fix));
        }
        let number = optional::<JobId>("number", &r.number)?.map(|id| id.number);
        Ok(Self {
            tenant: whose(caller, &r.tenant)?,
            states: r.states,
            pool: r.pool,
            labels: r.labels.into_iter().collect(),
            number,
            limit: limit(r.limit),
        })
    }

    fn keeps(&self, record: &JobRecord) -> bool {
        let job = &record.job;
        let spec = &job.spec;
        self.tenant.as_ref().is_none_or(|t| spec.tenant == *t)
            && (self.states.is_empty() || self.states.iter().any(|s| s == job.state.as_str()))
            && (self.pool.is_empty() || spec.pool.as_ref().is_some_and(|p| p.as_str() == self.pool))
            && self
                .labels
                .iter()
                .all(|(k, v)| spec.labels.get(k) == Some(v))
            && self.number.is_none_or(|n| job.id.number == n)
    }

    /// The newest first.
    pub(super) fn list(&self, state: &State) -> proto::ListJobsReply {
        let mut found = state.jobs.values().rev().filter(|r| self.keeps(r));
        let jobs = found
            .by_ref()
            .take(self.limit)
            .map(|r| view::job(state, r))
            .collect();
        proto::ListJobsReply {
            jobs,
            more: found.next().is_some(),
        }
    }
}
