//! A lead from its start to its end.

use super::admission::Admission;
use super::announce::announce;
use super::core::{Clock, Core};
use super::load::{LoadError, load};
use super::provision::{Book, Clouds, Inventory, InventoryError, NodeTemplate, Provisioner};
use super::record::{FleetRecord, Piece};
use super::state::{Draft, Keep};
use super::view;
use crate::config::LeadConfig;
use crate::files::{FileError, read_if_there, write_whole};
use crate::metrics::Figures;
use crate::serve::{FleetService, Health, NodeService, serve_http};
use gpuloom_api::tls::{Ca, KeyAndCertificate, PublicKey, TlsError};
use gpuloom_api::{
    Refusal, ServeError, ServerConfig, fleet_server, membership_server, node_server,
};
use gpuloom_cloud::failpoint;
use gpuloom_cloud_attest::VerifierError;
use gpuloom_cloud_local::{LocalCloud, LocalOptions};
use gpuloom_fleet::{Backend, Millis, TenantName};
use gpuloom_store::{OpenOptions, SqliteStore, Store, StoreError};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;

/// Why a lead does not run.
#[derive(Debug, thiserror::Error)]
pub enum LeadError {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What the store holds.
    #[error("the fleet's state does not read")]
    Load(#[from] LoadError),
    /// A file of the lead.
    #[error(transparent)]
    File(#[from] FileError),
    /// The CA or a key.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The configured admin key.
    #[error("lead.admin_public_key does not read; `gpuloom keygen` prints one: {0}")]
    AdminKey(TlsError),
    /// The store is another fleet's.
    #[error("{path} is fleet {have}, the configuration says {want}: give each fleet a data directory of its own", path = path.display())]
    OtherFleet {
        /// The data directory.
        path: PathBuf,
        /// The fleet in the store.
        have: String,
        /// The fleet in the configuration.
        want: String,
    },
    /// The CA is gone while the fleet exists.
    #[error("{path} is missing but the fleet exists: restore it from a backup; without it no node can be trusted", path = path.display())]
    NoCa {
        /// The missing file.
        path: PathBuf,
    },
    /// The address.
    #[error("cannot listen on {address}: is another lead running, or the port taken?")]
    Listen {
        /// Which address.
        address: SocketAddr,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// The machine's GPUs.
    #[error(transparent)]
    Inventory(#[from] InventoryError),
    /// What checks instances' proofs of identity.
    #[error(transparent)]
    Attest(#[from] VerifierError),
    /// The first record.
    #[error("the fleet cannot be founded: {0}")]
    Found(Refusal),
    /// The API server.
    #[error(transparent)]
    Serve(#[from] ServeError),
    /// A task ended in a panic.
    #[error("the lead's writer broke off: this is a fault of gpuloom, see the log")]
    Writer,
}

/// Runs a lead until `stop`; `ready` is called once it serves.
pub async fn run(
    config: LeadConfig,
    metrics_listen: SocketAddr,
    stop: CancellationToken,
    ready: impl FnOnce(),
) -> Result<(), LeadError> {
    let admin: PublicKey = config
        .admin_public_key
        .parse()
        .map_err(LeadError::AdminKey)?;
    let store = open_store(&config.data_dir.join("store.db"))?;
    let state = load(store.as_ref(), keep(&config)).await?;
    let founded = state.fleet.clone();
    if let Some(have) = founded.as_ref().filter(|f| f.name != config.fleet.as_str()) {
        return Err(LeadError::OtherFleet {
            path: config.data_dir.clone(),
            have: have.name.clone(),
            want: config.fleet.to_string(),
        });
    }
    let ca = Arc::new(open_ca(&config, founded.is_some())?);
    let rubbish = state.rubbish();
    let inner = CancellationToken::new();
    let (core, writer) = Core::start(state, store, clock(), inner.clone());
    if !rubbish.is_empty() {
        core.write("tick", move |_, _| Ok((rubbish, ())))
            .await
            .map_err(LeadError::Found)?;
    }
    let fleet = match founded {
        Some(fleet) => fleet,
        None => found(&core, &config).await?,
    };
    let inventory = Inventory::take(&config).await?;
    let (listener, address) = listen(&config).await?;
    let own = ca.issue_lead(SystemTime::now())?;
    publish(&config.data_dir, &ca, &fleet, address)?;
    let health = health(core.clone(), inventory.backend);
    let http = serve_http(metrics_listen, health, stop.clone()).await;
    let (metrics, _http) = http.map_err(|source| LeadError::Listen {
        address: metrics_listen,
        source,
    })?;
    write_attribute(&config.data_dir, "metrics-endpoint", &metrics.to_string())?;
    let provisioner = provisioner(&core, &config, &inventory, &ca, &fleet, address);
    let told = [
        ("ca-pin", ca.pin().to_string()),
        ("fleet-id", fleet.id.clone()),
    ];
    let announcing = announce(config.clone(), provisioner.clouds.clone(), told);
    let announcing = tokio::spawn(announcing);
    let clouds = provisioner.clouds.clone();
    let provisioning = tokio::spawn(provisioner.run(stop.clone()));
    let admission = Admission::new(
        core.clone(),
        clouds,
        config.fleet.clone(),
        fleet.id.clone(),
        config.attest.clone(),
        config.instance.clone(),
    )?;
    let serving = serve(
        &core,
        admission,
        &ca,
        own,
        admin,
        &fleet,
        inventory.backend,
        listener,
        stop.clone(),
    );
    tracing::info!(fleet = %fleet.name, %address, pin = %ca.pin(), "the lead serves");
    ready();
    let ended = supervise(serving, writer, &inner).await;
    provisioning.abort();
    announcing.abort();
    ended
}

/// The lead ends when its server has, or when its writer cannot go on.
async fn supervise(
    serving: impl Future<Output = Result<(), ServeError>>,
    mut writer: tokio::task::JoinHandle<Result<(), StoreError>>,
    inner: &CancellationToken,
) -> Result<(), LeadError> {
    tokio::select! {
        served = serving => {
            served?;
            inner.cancel();
            writer.await.map_err(|_| LeadError::Writer)??;
            Ok(())
        }
        ended = &mut writer => match ended {
            Ok(Ok(())) | Err(_) => Err(LeadError::Writer),
            Ok(Err(error)) => Err(error.into()),
        },
    }
}

fn keep(config: &LeadConfig) -> Keep {
    Keep {
        jobs: config.jobs_kept,
        events: config.events_kept,
        node_timeout_s: config.node_timeout_s,
        history: config.history,
    }
}

fn open_store(path: &Path) -> Result<Arc<dyn Store>, LeadError> {
    let options = OpenOptions {
        failpoint: Some(Arc::new(failpoint::hit)),
        ..OpenOptions::default()
    };
    Ok(Arc::new(SqliteStore::open(path, options)?))
}

/// Wall time at the start, and monotonic from there: a clock that is set does not end jobs.
fn clock() -> Clock {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let start = Instant::now();
    Arc::new(move || {
        let now = since + start.elapsed();
        Millis(u64::try_from(now.as_millis()).unwrap_or(u64::MAX))
    })
}

fn open_ca(config: &LeadConfig, founded: bool) -> Result<Ca, LeadError> {
    let dir = config.data_dir.join("ca");
    let (certificate, key) = (dir.join("ca.pem"), dir.join("ca.key"));
    match (read_if_there(&certificate)?, read_if_there(&key)?) {
        (Some(certificate), Some(key)) => Ok(Ca::from_pem(&certificate, &key)?),
        (have, _) if founded => Err(LeadError::NoCa {
            path: if have.is_some() { key } else { certificate },
        }),
        _ => {
            let ca = Ca::create(&config.fleet, SystemTime::now())?;
            write_whole(&key, ca.key_pem().as_bytes(), 0o600)?;
            write_whole(&certificate, ca.certificate_pem().as_bytes(), 0o644)?;
            Ok(ca)
        }
    }
}

async fn found(core: &Core, config: &LeadConfig) -> Result<FleetRecord, LeadError> {
    let mut bytes = [0u8; 8];
    getrandom::fill(&mut bytes)
        .map_err(|e| LeadError::Found(Refusal::internal(format!("no random numbers: {e}"))))?;
    let (id, name) = (hex::encode(bytes), config.fleet.to_string());
    let found = move |s: &super::state::State, now| {
        let fleet = FleetRecord {
            id,
            name,
            created: now,
        };
        let mut draft = Draft::new(s);
        draft.put(Piece::Fleet(fleet.clone()));
        Ok((draft.finish(), fleet))
    };
    core.write("found", found).await.map_err(LeadError::Found)
}

/// Binds the configured address; port 0 means the one of the last time, if it is free.
async fn listen(config: &LeadConfig) -> Result<(TcpListener, SocketAddr), LeadError> {
    let failed = |address| move |source| LeadError::Listen { address, source };
    let mut address = config.listen;
    if address.port() == 0 {
        let before = read_if_there(&config.data_dir.join("attributes/endpoint"))?;
        let port = before.and_then(|t| t.trim().rsplit(':').next()?.parse().ok());
        address.set_port(port.unwrap_or(0));
    }
    let listener = TcpListener::bind(address).await.map_err(failed(address))?;
    let bound = listener.local_addr().map_err(failed(address))?;
    Ok((listener, bound))
}

/// The address on which this machine's nodes reach the lead.
fn reachable(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V4(a) if a.ip().is_unspecified() => ([127, 0, 0, 1], a.port()).into(),
        SocketAddr::V6(a) if a.ip().is_unspecified() => {
            (std::net::Ipv6Addr::LOCALHOST, a.port()).into()
        }
        bound => bound,
    }
}

fn write_attribute(data_dir: &Path, key: &str, value: &str) -> Result<(), FileError> {
    write_whole(
        &data_dir.join("attributes").join(key),
        value.as_bytes(),
        0o644,
    )
}

/// What the lead's driver and people need to reach it.
fn publish(
    data_dir: &Path,
    ca: &Ca,
    fleet: &FleetRecord,
    address: SocketAddr,
) -> Result<(), LeadError> {
    let pin = ca.pin().to_string();
    write_whole(&data_dir.join("ca/ca.pin"), pin.as_bytes(), 0o644)?;
    write_attribute(data_dir, "ca-pin", &pin)?;
    write_attribute(data_dir, "fleet-id", &fleet.id)?;
    write_attribute(data_dir, "endpoint", &reachable(address).to_string())?;
    Ok(())
}

fn provisioner(
    core: &Core,
    config: &LeadConfig,
    inventory: &Inventory,
    ca: &Ca,
    fleet: &FleetRecord,
    address: SocketAddr,
) -> Provisioner {
    // Without a path of its own no instance can be started; the driver then says so.
    let binary = std::env::current_exe().unwrap_or_default();
    let mut options = LocalOptions::new(config.local_root.clone(), binary, inventory.gpus.clone());
    if inventory.backend == Backend::Simulated {
        options.machine = config.data_dir.join("sim");
    }
    let template = NodeTemplate {
        fleet: config.fleet.clone(),
        fleet_id: fleet.id.clone(),
        endpoint: reachable(address).to_string(),
        ca_pin: ca.pin().to_string(),
        backend: inventory.backend,
        sim_state: inventory.sim_state.clone(),
    };
    Provisioner {
        core: core.clone(),
        clouds: Arc::new(Clouds::new(Arc::new(LocalCloud::new(options)))),
        offerings: Arc::default(),
        book: Arc::new(Book::new(core.clone(), template)),
        fleet: config.fleet.clone(),
        fleet_id: fleet.id.clone(),
        no_gpus: inventory.problem.clone(),
        numbers: Arc::default(),
    }
}

#[expect(
    clippy::too_many_arguments,
    reason = "the parts of a server, each once"
)]
fn serve(
    core: &Core,
    admission: Admission,
    ca: &Arc<Ca>,
    own: KeyAndCertificate,
    admin: PublicKey,
    fleet: &FleetRecord,
    backend: Backend,
    listener: TcpListener,
    stop: CancellationToken,
) -> impl Future<Output = Result<(), ServeError>> + use<> {
    let service = FleetService {
        core: core.clone(),
        admission: Arc::new(admission),
        ca: ca.clone(),
        own: own.clone(),
        pin: ca.pin(),
        fleet_id: fleet.id.clone(),
        fleet_name: fleet.name.clone(),
        backend: backend_word(backend),
    };
    let tokens = core.tokens();
    let lookup = move |hash: &str| -> Option<TenantName> { tokens.tenant_of(hash) };
    let config = ServerConfig::new(own).admin(admin).tokens(Arc::new(lookup));
    let routes = Routes::new(fleet_server(service.clone()))
        .add_service(membership_server(service))
        .add_service(node_server(NodeService::new(core.clone())));
    gpuloom_api::serve(listener, config, routes, stop.cancelled_owned())
}

fn backend_word(backend: Backend) -> &'static str {
    match backend {
        Backend::Nvml => "nvml",
        Backend::Simulated => "simulated",
    }
}

/// Well when the writer answers.
fn health(core: Core, backend: Backend) -> Health {
    Arc::new(move || {
        let core = core.clone();
        Box::pin(async move {
            core.read(move |s, now| figures(s, now, backend))
                .await
                .map_err(|r| r.to_string())
        })
    })
}

fn figures(state: &super::state::State, now: Millis, backend: Backend) -> Figures {
    let mut figures = Figures::new("lead", backend_word(backend));
    let top = view::top(state, None, now);
    figures.jobs(&[("pending", top.jobs_pending), ("active", top.jobs_active)]);
    let pools: Vec<_> = state
        .pools
        .iter()
        .map(|(name, s)| {
            let counts = [
                ("wanted", s.wanted),
                ("provisioned", s.provisioned),
                ("ready", state.ready_nodes(name)),
            ];
            (name.to_string(), counts)
        })
        .collect();
    figures.pools(&pools);
    figures.tenants(&top.usage);
    figures.nodes(&top.nodes);
    figures
}
