//! The calls of people and the provider.

use super::{Client, Repeat, Updates};
use crate::connect::CallError;
use crate::proto;
use crate::refusal::RefusalCode;
use gpuloom_fleet::{JobId, JobSpec, Kind, Millis, Object, PoolName, TenantName};

/// What a declaration did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Declared {
    /// The object's generation now.
    pub generation: u64,
    /// True when the rest of an interrupted creation was taken over.
    pub adopted: bool,
}

/// What a withdrawal did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Withdrawn {
    /// False when there was no such object.
    pub existed: bool,
    /// False while the object still waits for what it holds to end (pools).
    pub gone: bool,
}

/// A declared object as the lead shows it.
#[derive(Debug, Clone, PartialEq)]
pub struct ObjectView {
    /// What was declared.
    pub object: Object,
    /// Counts up with every change.
    pub generation: u64,
    /// Who declared it.
    pub owner: String,
    /// Withdrawn, and waits for what it holds to end.
    pub withdrawing: bool,
    /// A built-in priority class nobody declared.
    pub builtin: bool,
    /// When the present generation was declared.
    pub declared_at: Millis,
    /// Pools: what it has.
    pub pool: Option<proto::PoolView>,
}

// === impl ObjectView ===

impl TryFrom<proto::ObjectRecord> for ObjectView {
    type Error = gpuloom_fleet::Problems;

    fn try_from(r: proto::ObjectRecord) -> Result<Self, Self::Error> {
        Ok(Self {
            object: r.object.unwrap_or_default().try_into()?,
            generation: r.generation,
            owner: r.owner,
            withdrawing: r.withdrawing,
            builtin: r.builtin,
            declared_at: Millis(r.declared_at_ms),
            pool: r.pool,
        })
    }
}

fn text(name: Option<impl AsRef<str>>) -> String {
    name.map(|n| n.as_ref().to_owned()).unwrap_or_default()
}

// === impl Client: objects ===

impl Client {
    /// Declares `object`. `expected_generation` 0 creates; `session` tells one run of a
    /// configuration from another. Not repeated by itself: a creation whose answer was lost is
    /// adopted when it is declared again by a new session.
    pub async fn declare(
        &self,
        object: &Object,
        owner: &str,
        session: &str,
        expected_generation: u64,
    ) -> Result<Declared, CallError> {
        let request = proto::DeclareRequest {
            object: Some(object.into()),
            owner: owner.to_owned(),
            session: session.to_owned(),
            expected_generation,
        };
        let reply = self
            .call(Repeat::Unsafe, request, |mut c, r| async move {
                c.declare(r).await
            })
            .await?;
        Ok(Declared {
            generation: reply.generation,
            adopted: reply.adopted,
        })
    }

    /// Withdraws an object; one that is gone already is no error. `expected_generation` 0 takes
    /// whatever generation it has; `abandon` withdraws a pool with its jobs.
    pub async fn withdraw(
        &self,
        kind: Kind,
        name: &str,
        expected_generation: u64,
        abandon: bool,
    ) -> Result<Withdrawn, CallError> {
        let request = proto::WithdrawRequest {
            kind: kind.to_string(),
            name: name.to_owned(),
            expected_generation,
            abandon,
        };
        let reply = self
            .call(Repeat::Safe, request, |mut c, r| async move {
                c.withdraw(r).await
            })
            .await?;
        Ok(Withdrawn {
            existed: reply.existed,
            gone: reply.gone,
        })
    }

    /// The object, or `None` when there is none. `confirm` tells the lead that its owner has seen
    /// it, which ends the time in which an interrupted creation is adopted.
    pub async fn get_object(
        &self,
        kind: Kind,
        name: &str,
        confirm: bool,
    ) -> Result<Option<ObjectView>, CallError> {
        let request = proto::GetObjectRequest {
            kind: kind.to_string(),
            name: name.to_owned(),
            confirm,
        };
        let reply = self
            .call(Repeat::Safe, request, |mut c, r| async move {
                c.get_object(r).await
            })
            .await;
        match reply {
            Ok(record) => Ok(Some(record.try_into()?)),
            Err(CallError::Refused(r)) if r.code == RefusalCode::NotFound => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Every object of `kind`, or of all kinds.
    pub async fn list_objects(&self, kind: Option<Kind>) -> Result<Vec<ObjectView>, CallError> {
        let request = proto::ListObjectsRequest {
            kind: kind.map(|k| k.to_string()).unwrap_or_default(),
        };
        let reply = self
            .call(Repeat::Safe, request, |mut c, r| async move {
                c.list_objects(r).await
            })
            .await?;
        let views: Result<Vec<_>, _> = reply.objects.into_iter().map(TryInto::try_into).collect();
        Ok(views?)
    }

    /// The pool's view whenever it changes, first at once; ends after one with `gone`.
    pub async fn watch_pool(&self, name: &PoolName) -> Result<Updates<proto::PoolView>, CallError> {
        let request = proto::WatchPoolRequest {
            name: name.to_string(),
        };
        let call =
            |mut c: proto::fleet_client::FleetClient<_>, r| async move { c.watch_pool(r).await };
        self.call(Repeat::Safe, request, call)
            .await
            .map(Updates::new)
    }
}

// === impl Client: jobs ===

impl Client {
    /// Submits a job, or an array of them. Repeating a `request_id` (1 to 64 bytes) answers with
    /// the first submission's jobs, so a broken connection never submits twice.
    pub async fn submit(&self, spec: &JobSpec, request_id: &str) -> Result<Vec<JobId>, CallError> {
        let request = proto::SubmitRequest {
            spec: Some(spec.into()),
            request_id: request_id.to_owned(),
        };
        let reply = self
            .call(Repeat::Safe, request, |mut c, r| async move {
                c.submit(r).await
            })
            .await?;
        let ids: Result<Vec<JobId>, _> = reply.ids.iter().map(|id| id.parse()).collect();
        ids.map_err(|e| CallError::Unreadable { why: e.to_string() })
    }

    /// Jobs that match, newest first.
    pub async fn jobs(
        &self,
        filter: proto::ListJobsRequest,
    ) -> Result<proto::ListJobsReply, CallError> {
        self.call(Repeat::Safe, filter, |mut c, r| async move {
            c.list_jobs(r).await
        })
        .await
    }

    /// One job, with why it waits or how it ended.
    pub async fn job(&self, id: JobId) -> Result<proto::JobView, CallError> {
        let request = proto::GetJobRequest { id: id.to_string() };
        self.call(Repeat::Safe, request, |mut c, r| async move {
            c.get_job(r).await
        })
        .await
    }

    /// The job whenever it changes, first at once; ends after a final state.
    pub async fn watch_job(&self, id: JobId) -> Result<Updates<proto::JobView>, CallError> {
        let request = proto::GetJobRequest { id: id.to_string() };
        let call =
            |mut c: proto::fleet_client::FleetClient<_>, r| async move { c.watch_job(r).await };
        self.call(Repeat::Safe, request, call)
            .await
            .map(Updates::new)
    }

    /// Cancels a job, or every element of an array; ended ones stay as they are.
    pub async fn cancel(&self, id: JobId) -> Result<proto::CancelReply, CallError> {
        let request = proto::CancelRequest { id: id.to_string() };
        self.call(Repeat::Safe, request, |mut c, r| async move {
            c.cancel(r).await
        })
        .await
    }

    /// What a job wrote; with `follow` until it has ended.
    pub async fn logs(
        &self,
        request: proto::ReadLogsRequest,
    ) -> Result<Updates<proto::LogChunk>, CallError> {
        let call =
            |mut c: proto::fleet_client::FleetClient<_>, r| async move { c.read_logs(r).await };
        self.call(Repeat::Safe, request, call)
            .await
            .map(Updates::new)
    }
}

// === impl Client: views ===

impl Client {
    /// The nodes of `pool`, or of every pool.
    pub async fn nodes(&self, pool: Option<&PoolName>) -> Result<Vec<proto::NodeView>, CallError> {
        let request = proto::ListNodesRequest { pool: text(pool) };
        let reply = self
            .call(Repeat::Safe, request, |mut c, r| async move {
                c.list_nodes(r).await
            })
            .await?;
        Ok(reply.nodes)
    }

    /// Pending jobs in the order they will start, at most `limit`; 0: 1,000.
    pub async fn queue(
        &self,
        tenant: Option<&TenantName>,
        limit: u64,
    ) -> Result<proto::ListQueueReply, CallError> {
        let request = proto::ListQueueRequest {
            tenant: text(tenant),
            limit,
        };
        self.call(Repeat::Safe, request, |mut c, r| async move {
            c.list_queue(r).await
        })
        .await
    }

    /// What `tenant`, or every tenant, uses and may use.
    pub async fn usage(&self, tenant: Option<&TenantName>) -> Result<Vec<proto::Usage>, CallError> {
        let request = proto::ListUsageRequest {
            tenant: text(tenant),
        };
        let reply = self
            .call(Repeat::Safe, request, |mut c, r| async move {
                c.list_usage(r).await
            })
            .await?;
        Ok(reply.usage)
    }

    /// The fleet at a glance.
    pub async fn top(&self) -> Result<proto::Top, CallError> {
        let request = proto::GetTopRequest {};
        self.call(Repeat::Safe, request, |mut c, r| async move {
            c.get_top(r).await
        })
        .await
    }

    /// The newest `limit` readings of a device, oldest first; 0: every one kept.
    pub async fn history(
        &self,
        device: &str,
        limit: u32,
    ) -> Result<proto::GetHistoryReply, CallError> {
        let request = proto::GetHistoryRequest {
            device: device.to_owned(),
            limit,
        };
        self.call(Repeat::Safe, request, |mut c, r| async move {
            c.get_history(r).await
        })
        .await
    }

    /// Events after `after_seq`, oldest first, at most `limit` (0: all kept); with `follow` also
    /// those to come.
    pub async fn events(
        &self,
        after_seq: u64,
        follow: bool,
        limit: u64,
    ) -> Result<Updates<proto::Event>, CallError> {
        let request = proto::ListEventsRequest {
            after_seq,
            follow,
            limit,
        };
        let call =
            |mut c: proto::fleet_client::FleetClient<_>, r| async move { c.list_events(r).await };
        self.call(Repeat::Safe, request, call)
            .await
            .map(Updates::new)
    }
}

// === impl Client: operations ===

impl Client {
    /// Cordons, drains or uncordons a node. False when it was so already.
    pub async fn set_schedulable(
        &self,
        request: proto::SetNodeSchedulableRequest,
    ) -> Result<bool, CallError> {
        let reply = self
            .call(Repeat::Safe, request, |mut c, r| async move {
                c.set_node_schedulable(r).await
            })
            .await?;
        Ok(reply.changed)
    }

    /// Makes a token; the secret is shown this once.
    pub async fn create_token(
        &self,
        request: proto::CreateTokenRequest,
    ) -> Result<proto::CreateTokenReply, CallError> {
        self.call(Repeat::Unsafe, request, |mut c, r| async move {
            c.create_token(r).await
        })
        .await
    }

    /// Revokes a token by its id. False when there was none.
    pub async fn revoke_token(&self, id: &str) -> Result<bool, CallError> {
        let request = proto::RevokeTokenRequest { id: id.to_owned() };
        let reply = self
            .call(Repeat::Safe, request, |mut c, r| async move {
                c.revoke_token(r).await
            })
            .await?;
        Ok(reply.existed)
    }
}
