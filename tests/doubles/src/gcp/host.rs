//! What gives a launched instance a life: nothing, or a machine that boots ([`crate::boot`]).

use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt;

/// An instance as its metadata service would show it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    /// Its number, as identity tokens name it.
    pub id: u64,
    /// Its name.
    pub name: String,
    /// Its zone.
    pub zone: String,
    /// E.g. `g2-standard-4`.
    pub machine_type: String,
    /// Bought as spot.
    pub spot: bool,
    /// `PROVISIONING`, `RUNNING`, `STOPPING`, `TERMINATED`.
    pub status: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its metadata, `startup-script` among it.
    pub metadata: BTreeMap<String, String>,
    /// Its service account's address; `None`: it has none.
    pub service_account: Option<String>,
    /// Its GPUs as a layout of the simulator, e.g. `1xT4`.
    pub gpus: Option<String>,
    /// Disks that outlive it: the device's name inside, the disk's name.
    pub disks: Vec<(String, String)>,
    /// Its address in its network.
    pub private_address: Option<String>,
    /// Its address everywhere.
    pub public_address: Option<String>,
    /// When it was made, in milliseconds since 1970 of the double's clock.
    pub launched_ms: u64,
    /// It exists no more.
    pub ended: bool,
}

/// What runs instances.
pub trait Host: fmt::Debug + Send + Sync {
    /// Starts one; its address.
    ///
    /// # Errors
    /// A sentence when it does not start.
    fn launched(&self, machine: &Machine) -> Result<String, String>;
    /// Ends one, as a power cut.
    fn ended(&self, name: &str);
    /// Tells one through its metadata service.
    ///
    /// # Errors
    /// A sentence when it cannot be told.
    fn notice(&self, name: &str, notice: &Value) -> Result<(), String>;
}

// === impl Machine ===

impl Machine {
    /// Its user data.
    #[must_use]
    pub fn script(&self) -> &str {
        self.metadata
            .get("startup-script")
            .map_or("", String::as_str)
    }

    /// `<zone>/<type>/<market>`.
    #[must_use]
    pub fn offering(&self) -> String {
        let market = if self.spot { "spot" } else { "on-demand" };
        format!("{}/{}/{market}", self.zone, self.machine_type)
    }
}
