//! What the double knows beside moto: machines, rooms, templates, prices, identities and answers to tokens.

use super::wire::Params;
use super::{ACCOUNT, IMAGE};
use crate::boot::Yard;
use crate::faults::glob;
use crate::http::Response;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// How a double starts.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// At most so many instances in one page of a listing; `None`: moto's own size of page.
    pub page: Option<u32>,
    /// Each new machine is missing from its first so many listings.
    pub list_lag: u32,
    /// Boots what is launched; without it instances only exist.
    pub yard: Option<Yard>,
    /// Where retained disks are kept when machines boot, a folder for each.
    pub disks: PathBuf,
}

/// An instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    /// `i-...`.
    pub id: String,
    /// Its region.
    pub region: String,
    /// Its zone, e.g. `us-east-1a`.
    pub zone: String,
    /// Its subnet.
    pub subnet: String,
    /// E.g. `g4dn.xlarge`.
    pub instance_type: String,
    /// `on-demand` or `spot`.
    pub market: String,
    /// Its tags at the launch.
    pub tags: BTreeMap<String, String>,
    /// The user data, decoded.
    pub user_data: String,
    /// The parameters of its launch as moto was given them.
    pub launch: BTreeMap<String, String>,
    /// Its address: in the subnet, or of a machine that boots on this computer.
    pub private_address: String,
    /// The address that moto gave it.
    pub(super) moto_address: String,
    /// The access key of its role's credentials, which `GetCallerIdentity` knows.
    pub access_key: String,
    /// When it was launched, in milliseconds since 1970 of the double's clock.
    pub launched_ms: u64,
    /// It exists no more.
    pub ended: bool,
    /// Listings that it is still missing from.
    pub(super) hidden_for: u32,
}

/// A limit on machines of some kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Room {
    /// A pattern of `<zone>/<subnet>/<type>/<market>`.
    pub pattern: String,
    /// The most that live at a time.
    pub most: usize,
}

/// A launch template.
#[derive(Debug, Clone)]
pub(super) struct Template {
    pub(super) id: String,
    pub(super) name: String,
    /// The parameters under `LaunchTemplateData`.
    pub(super) data: BTreeMap<String, String>,
}

/// The first answer to a client token, once there is one; whoever asks again meanwhile waits for it.
pub(super) type Kept = Arc<tokio::sync::Mutex<Option<(String, Response)>>>;

#[derive(Debug, Default)]
pub(super) struct State {
    options: Options,
    inner: Mutex<Inner>,
    /// One launch at a time: room is counted and taken in one step.
    pub(super) launching: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct Inner {
    machines: Vec<Machine>,
    rooms: Vec<Room>,
    templates: Vec<Template>,
    list_lag: u32,
    spot_prices: BTreeMap<(String, String), String>,
    identities: BTreeMap<String, [String; 3]>,
    tokens: BTreeMap<String, Kept>,
    zones: BTreeMap<String, BTreeMap<String, String>>,
}

// === impl Machine ===

impl Machine {
    /// `<zone>/<subnet>/<type>/<market>`.
    #[must_use]
    pub fn offering(&self) -> String {
        let Self {
            zone,
            subnet,
            instance_type,
            market,
            ..
        } = self;
        format!("{zone}/{subnet}/{instance_type}/{market}")
    }

    /// The access key of the role's credentials that the instance of this id has.
    #[must_use]
    pub fn access_key_of(id: &str) -> String {
        let digest = hex::encode_upper(Sha256::digest(id));
        format!("ASIA{}", &digest[..16])
    }

    /// The role it runs as, from its instance profile; `None` without one.
    #[must_use]
    pub fn role(&self) -> Option<&str> {
        let name = self.launch.get("IamInstanceProfile.Name");
        let arn = self.launch.get("IamInstanceProfile.Arn");
        let profile = name.or(arn)?;
        profile.rsplit('/').next()
    }
}

// === impl State ===

impl State {
    pub(super) fn new(options: Options) -> Self {
        let inner = Inner {
            list_lag: options.list_lag,
            ..Inner::default()
        };
        Self {
            options,
            inner: Mutex::new(inner),
            launching: tokio::sync::Mutex::default(),
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn yard(&self) -> Option<&Yard> {
        self.options.yard.as_ref()
    }

    /// The folder of a volume.
    pub(super) fn disk(&self, volume: &str) -> PathBuf {
        self.options.disks.join(volume)
    }

    pub(super) fn page(&self) -> Option<u32> {
        self.options.page
    }

    pub(super) fn clear(&self) {
        let list_lag = self.options.list_lag;
        *self.inner() = Inner {
            list_lag,
            ..Inner::default()
        };
    }

    // --- machines

    pub(super) fn machines(&self) -> Vec<Machine> {
        self.inner().machines.clone()
    }

    pub(super) fn machine(&self, id: &str) -> Option<Machine> {
        self.inner().machines.iter().find(|m| m.id == id).cloned()
    }

    pub(super) fn add(&self, mut machine: Machine) {
        let mut inner = self.inner();
        machine.hidden_for = inner.list_lag;
        inner.machines.push(machine);
    }

    pub(super) fn end(&self, id: &str) {
        let mut inner = self.inner();
        for machine in inner.machines.iter_mut().filter(|m| m.id == id) {
            machine.ended = true;
        }
    }

    /// Whether this listing leaves the machine out; each that does brings it nearer.
    pub(super) fn hides(&self, id: &str) -> bool {
        let mut inner = self.inner();
        let found = inner.machines.iter_mut().find(|m| m.id == id);
        found.is_some_and(|machine| {
            let hidden = machine.hidden_for > 0;
            machine.hidden_for = machine.hidden_for.saturating_sub(1);
            hidden
        })
    }

    pub(super) fn set_list_lag(&self, listings: u32) {
        self.inner().list_lag = listings;
    }

    // --- rooms

    pub(super) fn set_room(&self, pattern: &str, most: usize) {
        let mut inner = self.inner();
        inner.rooms.retain(|room| room.pattern != pattern);
        inner.rooms.push(Room {
            pattern: pattern.to_owned(),
            most,
        });
    }

    pub(super) fn clear_rooms(&self) {
        self.inner().rooms.clear();
    }

    /// Whether one more of `offering` may live.
    pub(super) fn has_room(&self, offering: &str) -> bool {
        let inner = self.inner();
        let mut met = inner.rooms.iter().filter(|r| glob(&r.pattern, offering));
        met.all(|room| {
            let living = inner.machines.iter().filter(|m| !m.ended);
            let living = living.filter(|m| glob(&room.pattern, &m.offering()));
            living.count() < room.most
        })
    }

    // --- templates

    pub(super) fn add_template(&self, template: Template) {
        self.inner().templates.push(template);
    }

    pub(super) fn remove_template(&self, id: &str, name: &str) {
        let mut inner = self.inner();
        inner.templates.retain(|t| t.id != id && t.name != name);
    }

    pub(super) fn template(&self, name_or_id: &str) -> Option<Template> {
        let inner = self.inner();
        let mut all = inner.templates.iter();
        all.find(|t| t.name == name_or_id || t.id == name_or_id)
            .cloned()
    }

    pub(super) fn template_names(&self) -> Vec<String> {
        let inner = self.inner();
        inner.templates.iter().map(|t| t.name.clone()).collect()
    }

    // --- prices, identities, tokens, zones

    pub(super) fn set_spot_price(&self, instance_type: &str, zone: &str, dollars: &str) {
        let key = (instance_type.to_owned(), zone.to_owned());
        self.inner().spot_prices.insert(key, dollars.to_owned());
    }

    pub(super) fn spot_price(&self, instance_type: &str, zone: &str) -> Option<String> {
        let key = (instance_type.to_owned(), zone.to_owned());
        self.inner().spot_prices.get(&key).cloned()
    }

    pub(super) fn set_identity(&self, access_key: &str, identity: [String; 3]) {
        let key = access_key.to_owned();
        self.inner().identities.insert(key, identity);
    }

    /// Account, ARN and user id of whoever has this access key: what was set, else the living instance whose it is.
    pub(super) fn identity(&self, access_key: &str) -> Option<[String; 3]> {
        let inner = self.inner();
        if let Some(set) = inner.identities.get(access_key) {
            return Some(set.clone());
        }
        let mut living = inner.machines.iter().filter(|m| !m.ended);
        let machine = living.find(|m| m.access_key == access_key)?;
        let role = machine.role()?;
        let arn = format!("arn:aws:sts::{ACCOUNT}:assumed-role/{role}/{}", machine.id);
        let user = format!("AROADOUBLE:{}", machine.id);
        Some([ACCOUNT.to_owned(), arn, user])
    }

    pub(super) fn token(&self, key: &str) -> Kept {
        let mut inner = self.inner();
        inner.tokens.entry(key.to_owned()).or_default().clone()
    }

    pub(super) fn zones(&self, region: &str) -> Option<BTreeMap<String, String>> {
        self.inner().zones.get(region).cloned()
    }

    pub(super) fn set_zones(&self, region: &str, zones: BTreeMap<String, String>) {
        self.inner().zones.insert(region.to_owned(), zones);
    }
}

/// What moto's answer to `DescribeImages` would be for [`IMAGE`].
pub(super) fn knows_image(params: &Params) -> bool {
    let asked = params.values("ImageId");
    !asked.is_empty() && asked.iter().all(|id| id == IMAGE)
}
