//! Azure Resource Manager: virtual machines, scale sets and operations, every request held against its types.
//!
//! Operations take as many looks as [`Options::polls`] says; a look is a read of the operation or of its resource.

mod answer;
mod contract;
mod machine;
mod path;
mod power;
mod resource;
mod sizes;
mod state;
#[cfg(test)]
mod tests;
mod wire;

pub use power::{Boots, Watcher};
pub use sizes::Size;

use crate::control::{Control, Seen};
use crate::faults::Faults;
use crate::http::Server;
use contract::Contract;
use power::Booted;
use state::State;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The subscription that exists.
pub const SUBSCRIPTION: &str = "11111111-2222-3333-4444-555555555555";
/// The resource group that exists.
pub const GROUP: &str = "gpuloom-test";
/// The only location.
pub const LOCATION: &str = "eastus";
/// The tenant of the secret below.
pub const TENANT: &str = "99999999-8888-7777-6666-555555555555";
/// The client that may do everything.
pub const CLIENT: &str = "00000000-aaaa-bbbb-cccc-dddddddddddd";
/// Its secret, of this double alone.
pub const SECRET: &str = "double-of-azure";
/// The subnet that exists.
pub const SUBNET: &str = "/subscriptions/11111111-2222-3333-4444-555555555555/resourceGroups/gpuloom-test/providers/\
                          Microsoft.Network/virtualNetworks/net/subnets/default";

/// How the double behaves.
#[derive(Debug, Clone)]
pub struct Options {
    /// What is sold.
    pub sizes: Vec<Size>,
    /// Looks until an operation ends.
    pub polls: u32,
    /// Listings that do not show a new machine yet and show a removed one still.
    pub lag: u32,
    /// Rows on a page of a listing.
    pub page: usize,
    /// Quotas in vCPUs by name: a family's, `cores`, `lowPriorityCores`; 10,000 where none is stated.
    pub quotas: BTreeMap<String, u32>,
    /// The folder with the type descriptions; by default `$GPULOOM_DATA/azure`.
    pub types: Option<PathBuf>,
    /// Boots machines that have come up; without it they only exist.
    pub boots: Option<Boots>,
}

/// A running double; dropping it ends its machines.
#[derive(Debug)]
pub struct Double {
    cloud: Arc<Arm>,
    server: Server,
}

/// What answers.
#[derive(Debug)]
struct Arm {
    options: Options,
    contract: Contract,
    control: Control,
    state: Mutex<State>,
    tokens: Mutex<BTreeSet<String>>,
    booted: Booted,
}

// === impl Options ===

impl Default for Options {
    fn default() -> Self {
        let data = std::env::var_os("GPULOOM_DATA");
        Self {
            sizes: Size::usual(),
            polls: 2,
            lag: 0,
            page: 2,
            quotas: BTreeMap::new(),
            types: data.map(|d| PathBuf::from(d).join("azure")),
            boots: None,
        }
    }
}

// === impl Double ===

impl Double {
    /// Starts it. Without type descriptions it says on stderr that bodies are not checked.
    ///
    /// # Errors
    /// When they are there and do not read, or when there is no port.
    pub async fn start(options: Options) -> io::Result<Self> {
        let contract = Contract::read(options.types.as_deref()).map_err(io::Error::other)?;
        if !contract.validates() {
            eprintln!(
                "the Azure double does not check bodies: set GPULOOM_DATA to a folder whose azure/ has the types of \
                 Azure/bicep-types-az"
            );
        }
        let cloud = Arc::new(Arm {
            state: Mutex::new(State::new(&options)),
            booted: Booted::default(),
            contract,
            control: Control::default(),
            tokens: Mutex::default(),
            options,
        });
        let server = Server::start(cloud.clone()).await?;
        Ok(Self { cloud, server })
    }

    /// `http://127.0.0.1:<port>`: Resource Manager's endpoint and the token endpoints'; the control endpoint is
    /// `/_double/` there.
    #[must_use]
    pub fn endpoint(&self) -> String {
        self.server.url()
    }

    /// Faults, log, violations, clock.
    #[must_use]
    pub fn control(&self) -> &Control {
        &self.cloud.control
    }

    /// What goes wrong. Actions are `virtualMachines.put`, `operations.get`, `token` and so on;
    /// `virtualMachines.create` meets a creation that was accepted, by `<zone>/<size>/<market>/<name>`: with `Capacity`,
    /// `Quota` or a `Status` (its body is the code) the operation fails.
    #[must_use]
    pub fn faults(&self) -> &Faults {
        &self.cloud.control.faults
    }

    /// Bodies are held against the types.
    #[must_use]
    pub fn validates(&self) -> bool {
        self.cloud.contract.validates()
    }

    /// Lets at most `room` machines exist whose `<zone>/<size>/<market>` is as `pattern` has it; the zone is `-` for
    /// regional ones. What is over it is accepted, and its operation fails.
    pub fn set_room(&self, pattern: &str, room: usize) {
        let mut state = self.cloud.state();
        state.rooms.retain(|(p, _)| p != pattern);
        state.rooms.push((pattern.to_owned(), room));
    }

    /// Takes all limits of [`Self::set_room`] away.
    pub fn clear_rooms(&self) {
        self.cloud.state().rooms.clear();
    }

    /// So many vCPUs may be used of a quota: a family's name, `cores` or `lowPriorityCores`.
    pub fn set_quota(&self, quota: &str, vcpus: u32) {
        self.cloud.state().quotas.insert(quota.to_owned(), vcpus);
    }

    /// Listings lag this much from now on.
    pub fn set_lag(&self, listings: u32) {
        self.cloud.state().lag = listings;
    }

    /// The next machine that ends leaves its network interface and OS disk behind.
    pub fn leave_behind(&self) {
        self.cloud.state().leaves_behind = true;
    }

    /// Every machine that exists, whatever a listing says.
    #[must_use]
    pub fn machines(&self) -> Vec<Seen> {
        self.cloud.seen()
    }

    /// The names of what exists beside machines, as `disks/x`, ordered.
    #[must_use]
    pub fn others(&self) -> Vec<String> {
        let state = self.cloud.state();
        let others = state
            .resources
            .values()
            .filter(|r| r.kind != path::Kind::Machine);
        let mut names: Vec<String> = others
            .map(|r| format!("{}/{}", r.kind.word(), r.name))
            .collect();
        names.sort();
        names
    }

    /// Takes a machine away with its interface and OS disk, as an eviction or a deletion in the portal does.
    ///
    /// # Errors
    /// When there is no such machine.
    pub fn kill(&self, name: &str) -> Result<(), String> {
        self.cloud.kill(name)
    }

    /// Deallocates a machine: it exists, but is down.
    ///
    /// # Errors
    /// When there is no such machine.
    pub fn stop(&self, name: &str) -> Result<(), String> {
        self.cloud.stop(name)
    }
}

// === impl Arm ===

impl Arm {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tokens(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.tokens.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
