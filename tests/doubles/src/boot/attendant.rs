//! The metadata services of machines, each on its machine's own address.

use super::METADATA_PORT;
use crate::clock::Clock;
use crate::imds::{self, Announcement, Authority, Dialect};
use serde_json::Value;
use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::runtime::Handle;

/// Starts and ends metadata services; clones are the same one. Lives in a runtime of tokio.
#[derive(Clone)]
pub struct Attendant {
    dialect: Dialect,
    authority: Authority,
    clock: Clock,
    services: Arc<Mutex<BTreeMap<String, imds::Double>>>,
    runtime: Handle,
}

// === impl Attendant ===

impl Attendant {
    /// No service yet; `authority` signs for all of them.
    ///
    /// # Panics
    /// Outside of a runtime of tokio.
    #[must_use]
    pub fn new(dialect: Dialect, authority: Authority, clock: Clock) -> Self {
        Self {
            dialect,
            authority,
            clock,
            services: Arc::default(),
            runtime: Handle::current(),
        }
    }

    /// Starts the service of an instance on the instance's private address. When this returns it answers.
    ///
    /// # Errors
    /// When the address is none or is taken.
    pub fn attend(&self, instance: imds::Instance) -> io::Result<()> {
        let ip: IpAddr = instance.private_address.parse().map_err(io::Error::other)?;
        let id = instance.id.clone();
        let options = imds::Options {
            dialect: self.dialect,
            instance,
            authority: self.authority.clone(),
            clock: self.clock.clone(),
            listen: SocketAddr::new(ip, METADATA_PORT),
        };
        // Callers are in the runtime, where nothing may block on it: another thread may.
        let started = std::thread::scope(|scope| {
            let start = || self.runtime.block_on(imds::Double::start(options));
            scope.spawn(start).join()
        });
        let service = started.map_err(|_| io::Error::other("the service panicked"))??;
        self.services().insert(id, service);
        Ok(())
    }

    /// Ends the service of an instance.
    pub fn leave(&self, id: &str) {
        self.services().remove(id);
    }

    /// Announces on an instance: `{"kind": "preempt" | "maintenance" | "freeze" | "rebalance", "in_ms": n}`.
    ///
    /// # Errors
    /// When there is no such instance or the notice does not read.
    pub fn notice(&self, id: &str, notice: &Value) -> Result<(), String> {
        let in_ms = notice["in_ms"].as_u64().unwrap_or(30_000);
        let what = match notice["kind"].as_str() {
            Some("preempt") => Announcement::Preempt { in_ms },
            Some("maintenance") => Announcement::Maintenance { in_ms },
            Some("freeze") => Announcement::Freeze { in_ms },
            Some("rebalance") => Announcement::Rebalance,
            _ => return Err(format!("{notice} names no kind of notice that is known")),
        };
        let services = self.services();
        let found = services
            .get(id)
            .ok_or_else(|| format!("instance {id} did not boot"))?;
        found.announce(what);
        Ok(())
    }

    fn services(&self) -> MutexGuard<'_, BTreeMap<String, imds::Double>> {
        self.services.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Attendant {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Attendant")
            .field("dialect", &self.dialect)
            .finish_non_exhaustive()
    }
}
