//! The three dialects of the metadata service, on a clock that a test moves.
//!
//! An [`Authority`] stands for what signs and vouches in a cloud: STS, Google's key set, Azure's root. It
//! has keys of its own. Each machine has a [`Double`] of the metadata service, which answers for one
//! instance and announces what a test tells it to.

mod announce;
mod authority;
mod dialect;
mod signed;
mod sts;

pub use announce::Announcement;
pub use authority::Authority;

use crate::clock::Clock;
use crate::http::{Answer, Handler, Request, Server};
use announce::Announced;
use std::collections::BTreeSet;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;

/// Whose metadata service it plays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// IMDSv2.
    Aws,
    /// Compute Engine's.
    Gcp,
    /// Azure's.
    Azure,
}

/// The instance it answers for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instance {
    /// What its cloud's API calls it: `i-...`, or its name.
    pub id: String,
    /// Azure's `vmId`; ignored by the others.
    pub vm_id: String,
    /// Account, project or subscription.
    pub account: String,
    /// Region or location.
    pub region: String,
    /// Zone.
    pub zone: String,
    /// Type or size.
    pub instance_type: String,
    /// Its address.
    pub private_address: String,
    /// Its public address; empty when it has none.
    pub public_address: String,
    /// Whether it was given an instance profile or a service account; ignored on Azure.
    pub identity: bool,
}

/// What is to be played.
#[derive(Debug, Clone)]
pub struct Options {
    /// The dialect.
    pub dialect: Dialect,
    /// The instance.
    pub instance: Instance,
    /// Who signs for its cloud.
    pub authority: Authority,
    /// Its time.
    pub clock: Clock,
    /// Where it answers; port 0 lets the system choose.
    pub listen: SocketAddr,
}

/// A metadata service; dropping it ends it.
#[derive(Debug)]
pub struct Double {
    server: Server,
    state: Arc<State>,
}

/// What it was asked, and what it says.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) dialect: Dialect,
    pub(crate) instance: Instance,
    pub(crate) authority: Authority,
    pub(crate) clock: Clock,
    pub(crate) told: Mutex<Told>,
    /// Counts changes of what is announced, for calls that wait.
    pub(crate) changes: watch::Sender<u64>,
}

#[derive(Debug, Default)]
pub(crate) struct Told {
    pub(crate) announced: Announced,
    pub(crate) sessions: BTreeSet<String>,
    pub(crate) sessions_opened: u64,
    pub(crate) acknowledged: Vec<String>,
    pub(crate) paths: Vec<String>,
    /// How long the first look at Azure's events takes.
    pub(crate) first_events_delay: Duration,
    pub(crate) events_looked_at: bool,
}

// === impl Double ===

impl Double {
    /// Answers for one instance until it is dropped.
    ///
    /// # Errors
    /// When the address cannot be listened on.
    pub async fn start(options: Options) -> io::Result<Self> {
        let state = Arc::new(State {
            dialect: options.dialect,
            instance: options.instance,
            authority: options.authority,
            clock: options.clock,
            told: Mutex::default(),
            changes: watch::Sender::new(1),
        });
        let server = Server::start_at(options.listen, state.clone()).await?;
        Ok(Self { server, state })
    }

    /// `http://127.0.0.1:port`, for `GPULOOM_METADATA_ENDPOINT`.
    #[must_use]
    pub fn endpoint(&self) -> String {
        self.server.url()
    }

    /// Announces something from now on, beside what is announced already.
    pub fn announce(&self, what: Announcement) {
        let now = self.state.clock.now_ms();
        self.state
            .lock()
            .announced
            .add(self.state.dialect, what, now);
        self.state.changes.send_modify(|n| *n += 1);
    }

    /// Announces nothing any more.
    pub fn withdraw(&self) {
        self.state.lock().announced.clear();
        self.state.changes.send_modify(|n| *n += 1);
    }

    /// Ends IMDSv2's sessions before their time.
    pub fn end_sessions(&self) {
        self.state.lock().sessions.clear();
    }

    /// IMDSv2's sessions opened so far.
    #[must_use]
    pub fn sessions_opened(&self) -> u64 {
        self.state.lock().sessions_opened
    }

    /// Makes the first look at Azure's events take so long.
    pub fn delay_first_events(&self, by: Duration) {
        self.state.lock().first_events_delay = by;
    }

    /// Azure's events that were acknowledged, in their order.
    #[must_use]
    pub fn acknowledged(&self) -> Vec<String> {
        self.state.lock().acknowledged.clone()
    }

    /// What was asked, oldest first: `GET /path?query`. At most the newest 10,000.
    #[must_use]
    pub fn asked(&self) -> Vec<String> {
        self.state.lock().paths.clone()
    }
}

// === impl State ===

impl State {
    pub(crate) fn lock(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Handler for State {
    async fn handle(self: Arc<Self>, request: Request) -> Answer {
        {
            let mut told = self.lock();
            if told.paths.len() >= 10_000 {
                told.paths.remove(0);
            }
            let line = format!("{} {}?{}", request.method, request.path, request.query);
            told.paths.push(line.trim_end_matches('?').to_owned());
        }
        let response = match self.dialect {
            Dialect::Aws => dialect::aws(&self, &request),
            Dialect::Gcp => dialect::gcp(&self, &request).await,
            Dialect::Azure => dialect::azure(&self, &request).await,
        };
        response.into()
    }
}
