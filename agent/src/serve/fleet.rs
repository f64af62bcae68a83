//! The fleet's API: reads the request, asks the one writer, answers.

use super::jobs::{Filter, id, limit, optional, whose};
use super::stream::{Replies, watched};
use super::{logs, session, stream::fed};
use crate::lead::admission::{Admission, key_hash};
use crate::lead::core::Core;
use crate::lead::load::events_after;
use crate::lead::record::TokenPurpose;
use crate::lead::state::{Declare, Join, NewToken, Submit, Withdraw};
use crate::lead::view;
use gpuloom_api::proto::{self, fleet_server::Fleet};
use gpuloom_api::tls::{Ca, CaPin, KeyAndCertificate, PublicKey};
use gpuloom_api::{BearerToken, Identity, Refusal, negotiate};
use gpuloom_fleet::{DeviceId, Event, JobId, JobSpec, Kind, NodeId, Object, PoolName};
use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;
use tonic::{Request, Response, Status};

/// Events sent at a time.
const EVENTS_AT_ONCE: usize = 500;

/// What the lead serves to people, the provider and joining nodes.
#[derive(Clone)]
pub(crate) struct FleetService {
    pub(crate) core: Core,
    pub(crate) admission: Arc<Admission>,
    pub(crate) ca: Arc<Ca>,
    /// The lead's own key, towards nodes.
    pub(crate) own: KeyAndCertificate,
    pub(crate) pin: CaPin,
    pub(crate) fleet_id: String,
    pub(crate) fleet_name: String,
    /// `nvml` or `simulated`.
    pub(crate) backend: &'static str,
}

type Answer<T> = Result<Response<T>, Status>;

impl fmt::Debug for FleetService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FleetService")
            .field("fleet", &self.fleet_name)
            .finish_non_exhaustive()
    }
}

fn kind(text: &str) -> Result<Kind, Refusal> {
    id("kind", text)
}

// === impl FleetService ===

impl FleetService {
    async fn token(
        &self,
        r: proto::CreateTokenRequest,
    ) -> Result<proto::CreateTokenReply, Refusal> {
        use proto::create_token_request::Purpose;
        let random = |e: gpuloom_api::RandomError| Refusal::internal(e.to_string());
        let (token, purpose) = match r.purpose() {
            Purpose::Submit => {
                let tenant = id("tenant", &r.tenant)?;
                (
                    BearerToken::new_submit().map_err(random)?,
                    TokenPurpose::Submit { tenant },
                )
            }
            Purpose::Join => {
                let purpose = TokenPurpose::Join {
                    pool: id("pool", &r.pool)?,
                    used_by: None,
                };
                (BearerToken::new_join().map_err(random)?, purpose)
            }
            Purpose::Unspecified => {
                let fix = "say whether it is to submit or to join";
                return Err(Refusal::invalid_field(
                    "purpose",
                    r.purpose,
                    "is missing",
                    fix,
                ));
            }
        };
        let new = NewToken {
            hash: token.sha256(),
            purpose,
            ttl_s: r.ttl_s,
            label: r.label,
        };
        let short = new.hash[..16].to_owned();
        let expires_at = self
            .core
            .write("token", move |s, now| s.create_token(&new, now))
            .await?;
        Ok(proto::CreateTokenReply {
            token: token.expose().to_owned(),
            id: short,
            expires_at_ms: expires_at.0,
        })
    }

    async fn admit(&self, r: proto::JoinRequest) -> Result<proto::JoinReply, Refusal> {
        let node: NodeId = id("node_id", &r.node_id)?;
        // Signed before it is stored: a bad request uses no token up. Nobody gets the certificate
        // unless the join is stored.
        let bad = |e: gpuloom_api::tls::TlsError| {
            let fix = "let `gpuloom agent` make the request";
            Refusal::invalid_field("csr_der", "", e.to_string(), fix)
        };
        let signed = self.ca.sign_node(&r.csr_der, &node, SystemTime::now());
        let certificate = signed.map_err(bad)?;
        // Each request is signed anew and differs; who asks again is known by the key.
        let key = PublicKey::of_certificate(&certificate).map_err(bad)?;
        let agent_version = session::word(r.agent_version);
        if let Some(proof) = &r.proof {
            let pool: PoolName = id("pool", &r.pool)?;
            let judged = self.admission.judge(proof, pool, node, &key, agent_version);
            let ask = judged.await?;
            self.core
                .write("join", move |s, now| s.join_instance(&ask, now))
                .await?;
            return Ok(self.signed(&certificate));
        }
        let mut ask = Join {
            token_hash: String::new(),
            node,
            request: key_hash(&key),
            agent_version,
        };
        if r.token.is_empty() {
            self.core
                .write("join", move |s, now| s.come_back(&ask, now))
                .await?;
            return Ok(self.signed(&certificate));
        }
        let token: BearerToken = r.token.parse().map_err(|e: gpuloom_api::ParseTokenError| {
            Refusal::denied(e.to_string(), "check the file the token came from")
        })?;
        ask.token_hash = token.sha256();
        self.core
            .write("join", move |s, now| s.join(&ask, now))
            .await?;
        Ok(self.signed(&certificate))
    }

    /// What a node gets for its request.
    pub(super) fn signed(&self, certificate: &[u8]) -> proto::JoinReply {
        proto::JoinReply {
            certificate_der: certificate.to_vec(),
            ca_der: self.ca.certificate().to_vec(),
            fleet_id: self.fleet_id.clone(),
        }
    }

    async fn object(&self, r: proto::GetObjectRequest) -> Result<proto::ObjectRecord, Refusal> {
        let kind = kind(&r.kind)?;
        if r.confirm {
            let name = r.name.clone();
            self.core
                .write("confirm", move |s, _| Ok((s.confirm(kind, &name), ())))
                .await?;
        }
        let name = r.name.clone();
        let found = self
            .core
            .read(move |s, _| view::object(s, kind, &name))
            .await?;
        found.ok_or_else(|| Refusal::not_found(kind, &r.name, "declare it first"))
    }

    /// Events after `after`; from memory when it has them, else from the store.
    async fn events(&self, after: u64, most: usize) -> Result<Vec<Event>, Refusal> {
        let (held, batches) = self
            .core
            .read(move |s, _| {
                let first = s.events.front().map_or(s.next_event, |e| e.seq);
                let held = (after + 1 >= first).then(|| {
                    let newer = s.events.iter().filter(|e| e.seq > after);
                    newer.take(most).cloned().collect::<Vec<_>>()
                });
                let batches = match held {
                    Some(_) => Vec::new(),
                    None => s.event_batches.iter().copied().collect(),
                };
                (held, batches)
            })
            .await?;
        match held {
            Some(events) => Ok(events),
            None => events_after(self.core.store.as_ref(), &batches, after, most)
                .await
                .map_err(|e| Refusal::corrupt(e.to_string(), "run `gpuloom store check`")),
        }
    }
}

fn event(e: &Event) -> proto::Event {
    proto::Event {
        seq: e.seq,
        at_ms: e.at.0,
        json: serde_json::to_string(e).unwrap_or_default(),
    }
}

#[tonic::async_trait]
impl Fleet for FleetService {
    type WatchPoolStream = Replies<proto::PoolView>;
    type WatchJobStream = Replies<proto::JobView>;
    type ReadLogsStream = Replies<proto::LogChunk>;
    type ListEventsStream = Replies<proto::Event>;

    async fn hello(&self, request: Request<proto::HelloRequest>) -> Answer<proto::HelloReply> {
        let caller = Identity::of(&request).to_string();
        let r = request.into_inner();
        Ok(Response::new(proto::HelloReply {
            protocol: negotiate(r.min_protocol, r.max_protocol)?,
            fleet_id: self.fleet_id.clone(),
            fleet_name: self.fleet_name.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            caller,
            backend: self.backend.to_owned(),
        }))
    }

    async fn declare(
        &self,
        request: Request<proto::DeclareRequest>,
    ) -> Answer<proto::DeclareReply> {
        let by = Identity::of(&request).to_string();
        let r = request.into_inner();
        let object: Object = r
            .object
            .unwrap_or_default()
            .try_into()
            .map_err(Refusal::from)?;
        let ask = Declare {
            object,
            owner: r.owner,
            session: r.session,
            expected_generation: r.expected_generation,
        };
        let declared = self
            .core
            .write("declare", move |s, now| s.declare(&ask, &by, now))
            .await?;
        Ok(Response::new(proto::DeclareReply {
            generation: declared.generation,
            adopted: declared.adopted,
        }))
    }

    async fn withdraw(
        &self,
        request: Request<proto::WithdrawRequest>,
    ) -> Answer<proto::WithdrawReply> {
        let by = Identity::of(&request).to_string();
        let r = request.into_inner();
        let ask = Withdraw {
            kind: kind(&r.kind)?,
            name: r.name,
            expected_generation: r.expected_generation,
            abandon: r.abandon,
        };
        let done = self
            .core
            .write("withdraw", move |s, now| s.withdraw(&ask, &by, now))
            .await?;
        Ok(Response::new(proto::WithdrawReply {
            existed: done.existed,
            gone: done.gone,
        }))
    }

    async fn get_object(
        &self,
        request: Request<proto::GetObjectRequest>,
    ) -> Answer<proto::ObjectRecord> {
        Ok(Response::new(self.object(request.into_inner()).await?))
    }

    async fn list_objects(
        &self,
        request: Request<proto::ListObjectsRequest>,
    ) -> Answer<proto::ListObjectsReply> {
        let tenant = Identity::of(&request).tenant().cloned();
        let kind: Option<Kind> = optional("kind", &request.into_inner().kind)?;
        let read = move |s: &_, _| view::objects(s, kind, tenant.as_ref());
        let objects = self.core.read(read).await?;
        Ok(Response::new(proto::ListObjectsReply { objects }))
    }

    async fn watch_pool(
        &self,
        request: Request<proto::WatchPoolRequest>,
    ) -> Answer<Self::WatchPoolStream> {
        let name: PoolName = id("name", &request.into_inner().name)?;
        let see = move |s: &_, _| Ok(view::pool(s, &name));
        Ok(Response::new(watched(
            self.core.clone(),
            see,
            |v: &proto::PoolView| v.gone,
        )))
    }

    async fn submit(&self, request: Request<proto::SubmitRequest>) -> Answer<proto::SubmitReply> {
        let caller = Identity::of(&request);
        let r = request.into_inner();
        let spec: JobSpec = r
            .spec
            .unwrap_or_default()
            .try_into()
            .map_err(Refusal::from)?;
        caller.require_tenant(&spec.tenant)?;
        let ask = Submit {
            spec,
            request_id: r.request_id,
        };
        let by = caller.to_string();
        let ids = self
            .core
            .write("submit", move |s, now| s.submit(&ask, &by, now))
            .await?;
        let ids = ids.iter().map(JobId::to_string).collect();
        Ok(Response::new(proto::SubmitReply { ids }))
    }

    async fn list_jobs(
        &self,
        request: Request<proto::ListJobsRequest>,
    ) -> Answer<proto::ListJobsReply> {
        let caller = Identity::of(&request);
        let filter = Filter::new(caller.tenant(), request.into_inner())?;
        Ok(Response::new(
            self.core.read(move |s, _| filter.list(s)).await?,
        ))
    }

    async fn get_job(&self, request: Request<proto::GetJobRequest>) -> Answer<proto::JobView> {
        let tenant = Identity::of(&request).tenant().cloned();
        let job: JobId = id("id", &request.into_inner().id)?;
        let view = self
            .core
            .read(move |s, _| one_job(s, job, tenant.as_ref()))
            .await??;
        Ok(Response::new(view))
    }

    async fn watch_job(
        &self,
        request: Request<proto::GetJobRequest>,
    ) -> Answer<Self::WatchJobStream> {
        let tenant = Identity::of(&request).tenant().cloned();
        let job: JobId = id("id", &request.into_inner().id)?;
        let see = move |s: &_, _| one_job(s, job, tenant.as_ref());
        let last = |v: &proto::JobView| !matches!(v.state.as_str(), "pending" | "active");
        Ok(Response::new(watched(self.core.clone(), see, last)))
    }

    async fn cancel(&self, request: Request<proto::CancelRequest>) -> Answer<proto::CancelReply> {
        let caller = Identity::of(&request);
        let job: JobId = id("id", &request.into_inner().id)?;
        let cancel = move |s: &crate::lead::state::State, now| {
            s.cancel(job, caller.tenant(), &caller.to_string(), now)
        };
        let (cancelled, already_ended) = self.core.write("cancel", cancel).await?;
        Ok(Response::new(proto::CancelReply {
            cancelled,
            already_ended,
        }))
    }

    async fn read_logs(
        &self,
        request: Request<proto::ReadLogsRequest>,
    ) -> Answer<Self::ReadLogsStream> {
        let tenant = Identity::of(&request).tenant().cloned();
        let r = request.into_inner();
        let job: JobId = id("id", &r.id)?;
        let (core, own) = (self.core.clone(), self.own.clone());
        let chunks = logs::read(core, own, self.pin, job, tenant, r).await?;
        Ok(Response::new(chunks))
    }

    async fn list_nodes(
        &self,
        request: Request<proto::ListNodesRequest>,
    ) -> Answer<proto::ListNodesReply> {
        let tenant = Identity::of(&request).tenant().cloned();
        let pool: Option<PoolName> = optional("pool", &request.into_inner().pool)?;
        let nodes = self
            .core
            .read(move |s, _| view::nodes(s, pool.as_ref(), tenant.as_ref()))
            .await?;
        Ok(Response::new(proto::ListNodesReply { nodes }))
    }

    async fn list_queue(
        &self,
        request: Request<proto::ListQueueRequest>,
    ) -> Answer<proto::ListQueueReply> {
        let caller = Identity::of(&request);
        let r = request.into_inner();
        let tenant = whose(caller.tenant(), &r.tenant)?;
        let most = limit(r.limit);
        let reply = self
            .core
            .read(move |s, _| view::queue(s, tenant.as_ref(), most))
            .await?;
        Ok(Response::new(reply))
    }

    async fn list_usage(
        &self,
        request: Request<proto::ListUsageRequest>,
    ) -> Answer<proto::ListUsageReply> {
        let caller = Identity::of(&request);
        let tenant = whose(caller.tenant(), &request.into_inner().tenant)?;
        let usage = self
            .core
            .read(move |s, _| s.tenant_usage(tenant.as_ref()))
            .await?;
        let usage = usage.iter().map(Into::into).collect();
        Ok(Response::new(proto::ListUsageReply { usage }))
    }

    async fn get_top(&self, request: Request<proto::GetTopRequest>) -> Answer<proto::Top> {
        let tenant = Identity::of(&request).tenant().cloned();
        let top = self
            .core
            .read(move |s, now| view::top(s, tenant.as_ref(), now))
            .await?;
        Ok(Response::new(top))
    }

    async fn get_history(
        &self,
        request: Request<proto::GetHistoryRequest>,
    ) -> Answer<proto::GetHistoryReply> {
        let tenant = Identity::of(&request).tenant().cloned();
        let r = request.into_inner();
        let device: DeviceId = id("device", &r.device)?;
        let most = if r.limit == 0 {
            usize::MAX
        } else {
            r.limit as usize
        };
        let name = device.clone();
        let read = move |s: &crate::lead::state::State, _| {
            let known = s
                .nodes
                .values()
                .any(|n| n.devices.iter().any(|d| d.id == device));
            let history = s.live.values().find_map(|l| l.histories.of(&device));
            let readings = history.map(|h| {
                let skip = h.len().saturating_sub(most);
                let newest = h.iter().skip(skip);
                newest
                    .map(|r| view::reading(r, tenant.as_ref()))
                    .collect::<Vec<_>>()
            });
            (known || readings.is_some()).then(|| proto::GetHistoryReply {
                readings: readings.unwrap_or_default(),
                capacity: u32::try_from(s.keep.history).unwrap_or(u32::MAX),
            })
        };
        let found = self.core.read(read).await?;
        let missing = || Refusal::not_found("device", name, "see `gpuloom devices`");
        Ok(Response::new(found.ok_or_else(missing)?))
    }

    async fn list_events(
        &self,
        request: Request<proto::ListEventsRequest>,
    ) -> Answer<Self::ListEventsStream> {
        let r = request.into_inner();
        let service = self.clone();
        let mut left = if r.limit == 0 { u64::MAX } else { r.limit };
        let feed = move |tx: tokio::sync::mpsc::Sender<Result<proto::Event, Status>>| async move {
            let mut changes = service.core.changes();
            let mut after = r.after_seq;
            loop {
                changes.mark_unchanged();
                let most = usize::try_from(left).map_or(EVENTS_AT_ONCE, |n| n.min(EVENTS_AT_ONCE));
                let events = match service.events(after, most).await {
                    Ok(events) => events,
                    Err(refusal) => {
                        let _ = tx.send(Err(refusal.into())).await;
                        return;
                    }
                };
                let all = events.len() < most;
                for e in &events {
                    after = e.seq;
                    left -= 1;
                    if tx.send(Ok(event(e))).await.is_err() {
                        return;
                    }
                }
                if left == 0 || (all && !r.follow) {
                    return;
                }
                if all {
                    tokio::select! {
                        changed = changes.changed() => if changed.is_err() { return },
                        () = tx.closed() => return,
                    }
                }
            }
        };
        Ok(Response::new(fed(feed)))
    }

    async fn set_node_schedulable(
        &self,
        request: Request<proto::SetNodeSchedulableRequest>,
    ) -> Answer<proto::SetNodeSchedulableReply> {
        let r = request.into_inner();
        let node: NodeId = id("node", &r.node)?;
        let set = move |s: &crate::lead::state::State, _| {
            s.set_schedulable(&node, r.schedulable, r.drain, &r.reason)
        };
        let changed = self.core.write("cordon", set).await?;
        Ok(Response::new(proto::SetNodeSchedulableReply { changed }))
    }

    async fn create_token(
        &self,
        request: Request<proto::CreateTokenRequest>,
    ) -> Answer<proto::CreateTokenReply> {
        Ok(Response::new(self.token(request.into_inner()).await?))
    }

    async fn revoke_token(
        &self,
        request: Request<proto::RevokeTokenRequest>,
    ) -> Answer<proto::RevokeTokenReply> {
        let id = request.into_inner().id;
        let existed = self
            .core
            .write("revoke", move |s, _| Ok(s.revoke_token(&id)))
            .await?;
        Ok(Response::new(proto::RevokeTokenReply { existed }))
    }

    async fn join(&self, request: Request<proto::JoinRequest>) -> Answer<proto::JoinReply> {
        Ok(Response::new(self.admit(request.into_inner()).await?))
    }
}

fn one_job(
    state: &crate::lead::state::State,
    job: JobId,
    tenant: Option<&gpuloom_fleet::TenantName>,
) -> Result<proto::JobView, Refusal> {
    let ids = state.visible(job, tenant)?;
    match ids.as_slice() {
        [only] => Ok(view::job(state, &state.jobs[only])),
        many => {
            let fix = format!("name one element, {job}.0 to {job}.{}", many.len() - 1);
            let message = format!("is an array of {} jobs", many.len());
            Err(Refusal::invalid_field("id", job, message, fix))
        }
    }
}
