//! EC2 and STS: moto_server behind a proxy that adds what it lacks.
//!
//! Added: client tokens, fleet requests with capacity and an error for each offering, spot prices, listings that
//! lag, faults, identities of instances, and a log of every request. Everything else is moto's.

mod endpoints;
mod fleet;
mod identity;
mod listing;
mod moto;
mod prices;
mod proxy;
mod runner;
mod state;
#[cfg(test)]
mod tests;
mod wire;
mod xml;

pub use moto::MotoError;
pub use state::{Machine, Options, Room};
pub use wire::error_body;

use crate::control::Control;
use crate::faults::Faults;
use crate::http::Server;
use moto::Moto;
use state::State;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The image that every region has: its root device is `/dev/sda1`, its architecture x86_64.
pub const IMAGE: &str = "ami-0123456789abcdef0";

/// The account of everything in it.
pub const ACCOUNT: &str = "123456789012";

/// A running double; dropping it ends moto and every machine.
#[derive(Debug)]
pub struct Double {
    cloud: Arc<Ec2>,
    server: Server,
}

/// What answers: the state and the moto behind it.
#[derive(Debug)]
struct Ec2 {
    state: State,
    moto: Moto,
    control: Control,
}

// === impl Double ===

impl Double {
    /// Starts moto and the proxy in front of it.
    ///
    /// # Errors
    /// [`MotoError`], which says how to get moto when it is missing.
    pub async fn start(options: Options) -> Result<Self, MotoError> {
        let moto = Moto::start().await?;
        let cloud = Arc::new(Ec2 {
            state: State::new(options),
            moto,
            control: Control::default(),
        });
        let server = Server::start(cloud.clone())
            .await
            .map_err(MotoError::Listen)?;
        Ok(Self { cloud, server })
    }

    /// `http://127.0.0.1:<port>`: EC2's and STS's endpoint; the control endpoint is `/_double/` there.
    #[must_use]
    pub fn endpoint(&self) -> String {
        self.server.url()
    }

    /// Faults, log, clock.
    #[must_use]
    pub fn control(&self) -> &Control {
        &self.cloud.control
    }

    /// What goes wrong. A rule for `CreateFleet` meets whole requests, one for `CreateFleet.offering` meets each
    /// `<zone>/<subnet>/<type>/<market>` of them.
    #[must_use]
    pub fn faults(&self) -> &Faults {
        &self.cloud.control.faults
    }

    /// Forgets everything: instances, templates, faults, log.
    ///
    /// # Errors
    /// When moto does not answer.
    pub async fn reset(&self) -> Result<(), MotoError> {
        self.cloud.reset().await
    }

    /// The subnets of a region's default VPC with their zones, ordered by zone.
    ///
    /// # Errors
    /// When moto does not answer.
    pub async fn subnets(&self, region: &str) -> Result<Vec<(String, String)>, MotoError> {
        let zones = self.cloud.zones(region).await?;
        let mut subnets: Vec<_> = zones.into_iter().collect();
        subnets.sort_by(|a, b| a.1.cmp(&b.1));
        Ok(subnets)
    }

    /// Every machine that was ever launched, in order, the ended ones too.
    #[must_use]
    pub fn machines(&self) -> Vec<Machine> {
        self.cloud.state.machines()
    }

    /// The machines that exist now, whatever a listing says.
    #[must_use]
    pub fn living(&self) -> Vec<Machine> {
        let mut machines = self.cloud.state.machines();
        machines.retain(|machine| !machine.ended);
        machines
    }

    /// Takes a machine away, as a power cut or a spot reclaim does.
    ///
    /// # Errors
    /// When moto does not answer; there being no such machine is fine.
    pub async fn kill(&self, id: &str) -> Result<(), MotoError> {
        self.cloud.kill(id).await
    }

    /// Stops a machine: it exists, but is down.
    ///
    /// # Errors
    /// When moto does not answer.
    pub async fn stop(&self, id: &str) -> Result<(), MotoError> {
        self.cloud.stop(id).await
    }

    /// Lets at most `left` machines live whose `<zone>/<subnet>/<type>/<market>` is as `pattern` has it.
    pub fn set_room(&self, pattern: &str, left: usize) {
        self.cloud.state.set_room(pattern, left);
    }

    /// Takes all limits of [`Self::set_room`] away.
    pub fn clear_rooms(&self) {
        self.cloud.state.clear_rooms();
    }

    /// Each machine that is launched from now on is missing from its first so many listings.
    pub fn set_list_lag(&self, listings: u32) {
        self.cloud.state.set_list_lag(listings);
    }

    /// Announces on a machine that booted: see [`crate::boot::Yard::notice`].
    ///
    /// # Errors
    /// When it did not boot, or the notice does not read.
    pub fn notice(&self, id: &str, notice: &serde_json::Value) -> Result<(), String> {
        let yard = self.cloud.state.yard().ok_or("machines do not boot here")?;
        yard.notice(id, notice)
    }

    /// States the spot price of a type in a zone, in dollars an hour.
    pub fn set_spot_price(&self, instance_type: &str, zone: &str, dollars: &str) {
        self.cloud
            .state
            .set_spot_price(instance_type, zone, dollars);
    }

    /// What `GetCallerIdentity` says of requests signed with this access key: `(account, arn, user id)`.
    pub fn set_identity(&self, access_key: &str, account: &str, arn: &str, user_id: &str) {
        self.cloud
            .state
            .set_identity(access_key, [account, arn, user_id].map(str::to_owned));
    }

    /// The names of the launch templates there are.
    #[must_use]
    pub fn templates(&self) -> Vec<String> {
        self.cloud.state.template_names()
    }

    /// One template's parameters as they were sent, by name.
    #[must_use]
    pub fn template(&self, name: &str) -> Option<BTreeMap<String, String>> {
        self.cloud.state.template(name).map(|t| t.data)
    }
}
