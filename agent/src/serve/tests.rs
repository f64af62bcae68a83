//! A lead in this process, on a store in memory and a cloud that is none, with a node that only
//! speaks: everything between them is real, mTLS included.

use super::{FleetService, NodeService};
use crate::lead::admission::Admission;
use crate::lead::core::{Clock, Core};
use crate::lead::provision::{Book, Clouds, NodeTemplate, Provisioner};
use crate::lead::state::{Keep, State};
use gpuloom_api::tls::{Ca, CaPin, Credential, SecretKey};
use gpuloom_api::{
    Admittance, BearerToken, CallError, Client, Endpoints, RefusalCode, ServerConfig, fleet_server,
    join, membership_server, node_server, proto, serve,
};
use gpuloom_cloud::FakeCloud;
use gpuloom_fleet::{Backend, FleetName, JobId, Kind, Millis, NodeId, Object, PoolName};
use gpuloom_store::{OpenOptions, SqliteStore};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;

/// How long anything promised may take.
const PATIENCE: Duration = Duration::from_secs(60);

struct Lead {
    endpoints: Endpoints,
    pin: CaPin,
    admin: SecretKey,
    cloud: Arc<FakeCloud>,
    stop: CancellationToken,
}

fn object(json: &str) -> Object {
    serde_json::from_str(json).expect("an object")
}

fn spec(tenant: &str) -> gpuloom_fleet::JobSpec {
    let mut spec = gpuloom_fleet::JobSpec::try_from(proto::JobSpec {
        tenant: tenant.to_owned(),
        command: vec!["true".to_owned()],
        ..proto::JobSpec::default()
    })
    .expect("a job");
    spec.retries = 0;
    spec
}

// === impl Lead ===

impl Lead {
    async fn start() -> Self {
        let stop = CancellationToken::new();
        let fleet = FleetName::new("ml").expect("a name");
        let ca = Arc::new(Ca::create(&fleet, SystemTime::now()).expect("a CA"));
        let store = SqliteStore::in_memory(OpenOptions::default()).expect("a store");
        let clock: Clock = Arc::new(|| {
            let now = SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .expect("after 1970");
            Millis(u64::try_from(now.as_millis()).expect("before the end of time"))
        });
        let (core, _writer) = Core::start(
            State::new(Keep::default()),
            Arc::new(store),
            clock,
            stop.clone(),
        );
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
            .await
            .expect("a port");
        let endpoint = listener.local_addr().expect("an address").to_string();
        let own = ca.issue_lead(SystemTime::now()).expect("a certificate");
        let admin = SecretKey::generate().expect("a key");
        let cloud = Arc::new(FakeCloud::new());
        let template = NodeTemplate {
            fleet: fleet.clone(),
            fleet_id: "f1".to_owned(),
            endpoint: endpoint.clone(),
            ca_pin: ca.pin().to_string(),
            backend: Backend::Simulated,
            sim_state: None,
        };
        let clouds = Arc::new(Clouds::new(cloud.clone()));
        let admission = Admission::new(
            core.clone(),
            clouds.clone(),
            fleet.clone(),
            "f1".to_owned(),
            crate::instance::AttestConfig::default(),
            None,
        );
        let provisioner = Provisioner {
            core: core.clone(),
            clouds,
            offerings: Arc::default(),
            book: Arc::new(Book::new(core.clone(), template)),
            fleet,
            fleet_id: "f1".to_owned(),
            no_gpus: String::new(),
            numbers: Arc::default(),
        };
        tokio::spawn(provisioner.run(stop.clone()));
        let service = FleetService {
            core: core.clone(),
            admission: Arc::new(admission.expect("a verifier")),
            ca: ca.clone(),
            own: own.clone(),
            pin: ca.pin(),
            fleet_id: "f1".to_owned(),
            fleet_name: "ml".to_owned(),
            backend: "simulated",
        };
        let tokens = core.tokens();
        let config = ServerConfig::new(own)
            .admin(admin.public_key())
            .tokens(Arc::new(move |hash: &str| tokens.tenant_of(hash)));
        let routes = Routes::new(fleet_server(service.clone()))
            .add_service(membership_server(service))
            .add_service(node_server(NodeService::new(core)));
        tokio::spawn(serve(
            listener,
            config,
            routes,
            stop.clone().cancelled_owned(),
        ));
        let lead = Self {
            endpoints: endpoint.parse().expect("an endpoint"),
            pin: ca.pin(),
            admin,
            cloud,
            stop,
        };
        lead.declare().await;
        lead
    }

    async fn declare(&self) {
        let admin = self.admin().await;
        for json in [
            r#"{"kind":"tenant","spec":{"name":"a","parent":null,"weight":1}}"#,
            r#"{"kind":"tenant","spec":{"name":"b","parent":null,"weight":1}}"#,
            r#"{"kind":"pool","spec":{"name":"t4","gpu":{"model":"T4","per_node":1},
                "place":{"kind":"local"},"min":1,"max":2,"initial_size":null,
                "capacity":{"on_shortfall":"fail","max_wait":60},"on_destroy":"kill","labels":{}}}"#,
        ] {
            admin
                .declare(&object(json), "test", "s", 0)
                .await
                .expect("declared");
        }
    }

    async fn connect(&self, credential: Credential) -> Client {
        let connected = Client::connect(self.endpoints.clone(), self.pin, credential).await;
        connected.expect("connected")
    }

    async fn admin(&self) -> Client {
        self.connect(Credential::Admin(self.admin.clone())).await
    }

    async fn token(&self, purpose: proto::create_token_request::Purpose) -> BearerToken {
        let submit = purpose == proto::create_token_request::Purpose::Submit;
        let request = proto::CreateTokenRequest {
            purpose: purpose.into(),
            tenant: if submit {
                "b".to_owned()
            } else {
                String::new()
            },
            pool: if submit {
                String::new()
            } else {
                "t4".to_owned()
            },
            ttl_s: 600,
            label: String::new(),
        };
        let reply = self
            .admin()
            .await
            .create_token(request)
            .await
            .expect("a token");
        reply.token.parse().expect("a token that reads")
    }

    /// The pool's one instance joins and speaks: what it is told to run succeeds at once.
    async fn node(&self) -> NodeId {
        let (id, client) = self.joined().await;
        tokio::spawn(speak(client));
        self.pool_until(|v| v.ready > 0).await;
        id
    }

    /// Watches the pool until it is as wanted.
    async fn pool_until(&self, wanted: impl Fn(&proto::PoolView) -> bool) {
        let pool = PoolName::new("t4").expect("a name");
        let mut seen = self
            .admin()
            .await
            .watch_pool(&pool)
            .await
            .expect("a stream");
        while !wanted(&seen.next().await.expect("alive").expect("a view")) {}
    }

    /// The pool's one instance joins.
    async fn joined(&self) -> (NodeId, Client) {
        self.pool_until(|v| v.provisioned > 0).await;
        let instance = self.cloud.truth().remove(0);
        let id = NodeId::new(instance.id.as_str()).expect("an id");
        let token = self.token(proto::create_token_request::Purpose::Join).await;
        let by = Admittance::Token(token);
        let key = SecretKey::generate().expect("a key");
        // Twice: the answer to the first may have been lost.
        for _ in 0..2 {
            join(self.endpoints.clone(), self.pin, &by, &id, key.clone())
                .await
                .expect("joins");
        }
        let joined = join(self.endpoints.clone(), self.pin, &by, &id, key)
            .await
            .expect("joins");
        let other = SecretKey::generate().expect("a key");
        let again = join(self.endpoints.clone(), self.pin, &by, &id, other).await;
        assert_eq!(
            code(again),
            RefusalCode::Denied,
            "a token is good for one key"
        );
        let client = self.connect(Credential::Certificate(joined.identity)).await;
        (id, client)
    }
}

fn code<T>(result: Result<T, CallError>) -> RefusalCode {
    match result {
        Ok(_) => panic!("it was allowed"),
        Err(CallError::Refused(refusal)) => refusal.code,
        Err(other) => panic!("no refusal: {other}"),
    }
}

fn report(attempts: Vec<proto::AttemptReport>) -> proto::NodeReport {
    proto::NodeReport {
        backend: "simulated".to_owned(),
        endpoint: "127.0.0.1:1".to_owned(),
        devices: vec![proto::Device {
            id: "GPU-1".to_owned(),
            model: "T4".to_owned(),
            product: "Tesla T4".to_owned(),
            memory_bytes: 16 << 30,
            ..proto::Device::default()
        }],
        attempts,
        ..proto::NodeReport::default()
    }
}

/// A node whose jobs all succeed at once; it ends over its first order, comes back and knows nothing of it.
async fn speak(client: Client) {
    let mut ended_once = false;
    loop {
        let (tx, rx) = mpsc::channel(4);
        tx.send(report(Vec::new())).await.expect("room");
        let Ok(mut orders) = client.session(ReceiverStream::new(rx)).await else {
            return;
        };
        while let Ok(Some(order)) = orders.next().await {
            if !ended_once && !order.attempts.is_empty() {
                ended_once = true;
                break;
            }
            let ended = |a: &proto::AttemptOrder| proto::AttemptReport {
                attempt: a.attempt.clone(),
                state: "ended".to_owned(),
                started_at_ms: Some(1),
                ended_at_ms: Some(2),
                exit_code: Some(0),
                cause_json: r#"{"end":"exited"}"#.to_owned(),
                ..proto::AttemptReport::default()
            };
            let attempts = order.attempts.iter().map(ended).collect();
            if tx.send(report(attempts)).await.is_err() {
                return;
            }
        }
    }
}

#[tokio::test]
async fn a_job_goes_from_its_submission_to_its_end_over_the_wire() {
    let story = async {
        let lead = Lead::start().await;
        let node = lead.node().await;
        let admin = lead.admin().await;
        let ids = admin.submit(&spec("a"), "r1").await.expect("accepted");
        assert_eq!(admin.submit(&spec("a"), "r1").await.expect("the same"), ids);
        let mut job = admin.watch_job(ids[0]).await.expect("a stream");
        let mut last = None;
        while let Some(view) = job.next().await.expect("alive") {
            last = Some(view);
        }
        let last = last.expect("a view");
        assert_eq!((last.state.as_str(), last.attempts.len()), ("succeeded", 1));
        assert_eq!(last.attempts[0].node, node.to_string());
        let mut events = admin.events(0, false, 0).await.expect("a stream");
        let mut told = Vec::new();
        while let Some(event) = events.next().await.expect("alive") {
            told.push(event);
        }
        assert!(
            told.iter().zip(1..).all(|(e, n)| e.seq == n),
            "without gaps"
        );
        for word in ["submitted", "granted", "ended", "finished", "node_joined"] {
            assert!(told.iter().any(|e| e.json.contains(word)), "{word}");
        }
        // Withdrawn, the pool ends its instance and is gone.
        let pool = PoolName::new("t4").expect("a name");
        admin
            .withdraw(Kind::Pool, "t4", 0, false)
            .await
            .expect("withdrawn");
        let mut seen = admin.watch_pool(&pool).await.expect("a stream");
        while !seen.next().await.expect("alive").expect("a view").gone {}
        assert!(lead.cloud.truth().is_empty());
        assert!(admin.nodes(None).await.expect("a list").is_empty());
        lead.stop.cancel();
    };
    tokio::time::timeout(PATIENCE, story)
        .await
        .expect("in time");
}

#[tokio::test]
async fn a_tenants_token_reaches_its_own_tenant_and_nothing_else() {
    let story = async {
        let lead = Lead::start().await;
        let admin = lead.admin().await;
        // 2 GPUs on a node of 1 is refused, 1 waits: there is no node yet that speaks.
        let theirs = admin.submit(&spec("a"), "r1").await.expect("accepted")[0];
        let token = lead
            .token(proto::create_token_request::Purpose::Submit)
            .await;
        let b = lead.connect(Credential::Token(token.clone())).await;
        assert_eq!(b.hello().caller, "tenant:b");
        let own = b.submit(&spec("b"), "r1").await.expect("its own")[0];
        assert_eq!(b.job(own).await.expect("its own").id, own.to_string());
        its_own_only(&b, theirs, own).await;
        not_the_admins(&b).await;
        let id = &token.sha256()[..16];
        assert!(admin.revoke_token(id).await.expect("revoked"));
        assert_eq!(
            code(b.job(own).await),
            RefusalCode::Denied,
            "revoked at once"
        );
        let nobody = lead.connect(Credential::Anonymous).await;
        assert_eq!(nobody.hello().caller, "anonymous");
        assert_eq!(code(nobody.nodes(None).await), RefusalCode::Denied);
        lead.stop.cancel();
    };
    tokio::time::timeout(PATIENCE, story)
        .await
        .expect("in time");
}

/// Calls that a tenant may make, each with another's job or name.
async fn its_own_only(b: &Client, theirs: JobId, own: JobId) {
    use RefusalCode::{Denied, NotFound};
    let a = gpuloom_fleet::TenantName::new("a").expect("a name");
    assert_eq!(code(b.submit(&spec("a"), "r2").await), Denied);
    assert_eq!(code(b.job(theirs).await), NotFound);
    let mut watched = b.watch_job(theirs).await.expect("a stream");
    assert_eq!(code(watched.next().await), NotFound);
    assert_eq!(code(b.cancel(theirs).await), NotFound);
    let logs = proto::ReadLogsRequest {
        id: theirs.to_string(),
        ..proto::ReadLogsRequest::default()
    };
    assert_eq!(code(b.logs(logs).await), NotFound);
    let list = proto::ListJobsRequest {
        tenant: "a".to_owned(),
        ..proto::ListJobsRequest::default()
    };
    assert_eq!(code(b.jobs(list).await), Denied);
    let all = b
        .jobs(proto::ListJobsRequest::default())
        .await
        .expect("a list")
        .jobs;
    assert!(all.len() == 1 && all[0].id == own.to_string());
    assert_eq!(code(b.queue(Some(&a), 0).await), Denied);
    let queue = b.queue(None, 0).await.expect("a list");
    assert_eq!((queue.jobs.len(), queue.pending), (1, 1));
    assert_eq!(code(b.usage(Some(&a)).await), Denied);
    let usage = b.usage(None).await.expect("a list");
    assert!(usage.iter().all(|u| u.tenant == "b"));
    let top = b.top().await.expect("a view");
    assert!(top.usage.iter().all(|u| u.tenant == "b"));
    assert!(b.nodes(None).await.is_ok());
    assert_eq!(code(b.history("GPU-none", 0).await), NotFound);
    let tenants = b.list_objects(Some(Kind::Tenant)).await.expect("a list");
    assert!(tenants.len() == 1 && tenants[0].object.name() == "b");
}

/// A node that runs all it is told to, and sees a process on its GPU.
async fn busy(client: Client) {
    let (tx, rx) = mpsc::channel(4);
    tx.send(report(Vec::new())).await.expect("room");
    let mut orders = client
        .session(ReceiverStream::new(rx))
        .await
        .expect("orders");
    tokio::spawn(async move {
        while let Ok(Some(order)) = orders.next().await {
            let runs = |a: &proto::AttemptOrder| proto::AttemptReport {
                attempt: a.attempt.clone(),
                state: "running".to_owned(),
                started_at_ms: Some(1),
                ..proto::AttemptReport::default()
            };
            let now = SystemTime::now().duration_since(UNIX_EPOCH);
            let mut said = report(order.attempts.iter().map(runs).collect());
            said.readings = vec![proto::Reading {
                device: "GPU-1".to_owned(),
                at_ms: u64::try_from(now.expect("after 1970").as_millis()).expect("small"),
                processes: vec![proto::ProcessUse {
                    pid: 4242,
                    ..proto::ProcessUse::default()
                }],
                ..proto::Reading::default()
            }];
            if tx.send(said).await.is_err() {
                return;
            }
        }
    });
}

#[tokio::test]
async fn a_tenant_sees_that_a_gpu_is_held_and_not_by_whose_attempts_or_processes() {
    let story = async {
        let lead = Lead::start().await;
        let (_, client) = lead.joined().await;
        busy(client).await;
        let admin = lead.admin().await;
        let job = admin.submit(&spec("a"), "r1").await.expect("accepted")[0];
        let device = async |client: &Client| {
            let nodes = client.nodes(None).await.expect("a list");
            nodes.into_iter().flat_map(|n| n.devices).next()
        };
        let processes = |d: &proto::DeviceView| d.reading.as_ref().map(|r| r.processes.len());
        // The node's orders, and with them its reports, follow each change and each tick.
        let seen = loop {
            match device(&admin).await {
                Some(d) if processes(&d) == Some(1) && !d.attempts.is_empty() => break d,
                _ => tokio::task::yield_now().await,
            }
        };
        assert_eq!(seen.attempts, [format!("{job}#1")]);
        let token = lead
            .token(proto::create_token_request::Purpose::Submit)
            .await;
        let b = lead.connect(Credential::Token(token)).await;
        let top = b.top().await.expect("a view");
        let in_top = top.nodes.into_iter().flat_map(|n| n.devices).next();
        for shown in [device(&b).await, in_top] {
            let shown = shown.expect("the GPU");
            assert_eq!((shown.share_held_milli, processes(&shown)), (1000, Some(0)));
            assert_eq!(shown.attempts, Vec::<String>::new());
        }
        let of = |reply: proto::GetHistoryReply| {
            reply
                .readings
                .iter()
                .map(|r| r.processes.len())
                .sum::<usize>()
        };
        assert!(of(admin.history("GPU-1", 0).await.expect("readings")) > 0);
        assert_eq!(of(b.history("GPU-1", 0).await.expect("readings")), 0);
        lead.stop.cancel();
    };
    tokio::time::timeout(PATIENCE, story)
        .await
        .expect("in time");
}

/// Calls that are the admin's.
async fn not_the_admins(b: &Client) {
    use RefusalCode::Denied;
    let pool = PoolName::new("t4").expect("a name");
    let mine = object(r#"{"kind":"tenant","spec":{"name":"c","parent":null,"weight":1}}"#);
    assert_eq!(code(b.declare(&mine, "b", "s", 0).await), Denied);
    assert_eq!(code(b.withdraw(Kind::Tenant, "a", 0, false).await), Denied);
    assert_eq!(code(b.get_object(Kind::Tenant, "a", true).await), Denied);
    assert_eq!(code(b.watch_pool(&pool).await), Denied);
    assert_eq!(code(b.events(0, false, 0).await), Denied);
    let cordon = proto::SetNodeSchedulableRequest::default();
    assert_eq!(code(b.set_schedulable(cordon).await), Denied);
    let token = proto::CreateTokenRequest::default();
    assert_eq!(code(b.create_token(token).await), Denied);
    assert_eq!(code(b.revoke_token("0123456789abcdef").await), Denied);
    let (_tx, rx) = mpsc::channel(1);
    assert_eq!(code(b.session(ReceiverStream::new(rx)).await), Denied);
}
