//! The provider block: who declares, with which key, and where fleets of this machine live.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use gpuloom_api::tls::SecretKey;
use sha2::{Digest, Sha256};
use tfplug::{Attribute, Block, ConfigureCtx, Diagnostic, Diagnostics, Schema, Value, validators};

use crate::clouds::Clouds;
use crate::convert::Connection;
use crate::lead::{Lead, Leads, Unreachable};
use crate::lead_instance::LeadAt;
use crate::local::Local;

/// The environment variable that holds the admin key or its path.
pub(crate) const ADMIN_KEY_ENV: &str = "GPULOOM_ADMIN_KEY";
/// Who declares unless the provider block says so.
const OWNER: &str = "terraform";
/// The largest admin key file that is read.
const MAX_KEY_BYTES: u64 = 64 * 1024;

/// What every handler of this process works with.
#[derive(Debug)]
pub(crate) struct Settings {
    /// Who declares.
    pub(crate) owner: String,
    /// This process: one random text for each walk of Terraform's graph.
    pub(crate) session: String,
    /// Fleets of this machine.
    pub(crate) local: Local,
    /// The clouds' drivers.
    pub(crate) clouds: Clouds,
    key: AdminKey,
    leads: Leads,
    /// Names of fleets that this process creates or has created.
    claimed: Mutex<BTreeSet<String>>,
    /// Where the leads are that this process has seen, by fleet id.
    seen: Mutex<BTreeMap<String, LeadAt>>,
}

#[derive(Debug)]
enum AdminKey {
    Key(SecretKey),
    /// Neither in the provider block nor in the environment.
    Missing,
    /// Known only after apply.
    Unknown,
}

pub(crate) fn schema() -> Schema {
    Schema::new(0)
        .description(
            "Declares GPU fleets: a lead that schedules and enforces, pools of nodes with GPUs, tenants with their \
             quotas, and policies.",
        )
        .attribute(
            Attribute::string("admin_key")
                .optional()
                .sensitive()
                .description(format!(
                    "The fleet's admin key (a P-256 private key in PKCS#8 PEM, made by `gpuloom keygen`): the PEM text \
                     or the path of a file. Default: the environment variable `{ADMIN_KEY_ENV}`. It is never stored; \
                     a fleet gets its public half."
                ))
                .validate(validators::length(1..=65_536)),
        )
        .attribute(
            Attribute::string("owner")
                .optional()
                .description(format!(
                    "Who declares, as fleets show it: another owner's objects are never taken over by a create. Default: `{OWNER}`."
                ))
                .validate(validators::pattern("1 to 128 bytes without control characters", |s| {
                    !s.is_empty() && s.len() <= 128 && !s.chars().any(char::is_control)
                })),
        )
        .block(
            Block::single(
                "local",
                [
                    Attribute::string("root")
                        .optional()
                        .description(
                            "Where fleets on this machine keep their data, an absolute path. Default: the environment \
                             variable `GPULOOM_LOCAL_ROOT`, else `/var/lib/gpuloom/local` for root and \
                             `~/.local/state/gpuloom/local` for others.",
                        )
                        .validate(validators::pattern("an absolute path", |s| Path::new(s).is_absolute())),
                    Attribute::string("agent_binary")
                        .optional()
                        .description(
                            "The `gpuloom` binary that runs on this machine's instances, an absolute path. Default: the \
                             one beside this provider's own binary, else the one on PATH. A changed binary upgrades \
                             fleets at the next apply.",
                        )
                        .validate(validators::pattern("an absolute path", |s| Path::new(s).is_absolute())),
                ],
            )
            .description("Fleets on this machine."),
        )
}

#[cfg(test)]
impl Settings {
    /// Settings of a test, with this root, agent and key.
    pub(crate) fn of_test(root: &Path, agent: &Path, key: SecretKey) -> Self {
        let local = Value::object([
            ("root", root.display().to_string()),
            ("agent_binary", agent.display().to_string()),
        ]);
        Self {
            owner: OWNER.to_owned(),
            session: session().expect("random numbers"),
            local: Local::from_config(&local),
            key: AdminKey::Key(key),
            leads: Leads::default(),
            claimed: Mutex::default(),
            clouds: Clouds::default(),
            seen: Mutex::default(),
        }
    }
}

/// Reads the provider block. Unknown values are no error: what needs them says so when it does.
pub(crate) fn configure(ctx: &ConfigureCtx) -> Result<Settings, Diagnostics> {
    let config = &ctx.config;
    let owner = config.get("owner");
    Ok(Settings {
        owner: owner.as_str().unwrap_or(OWNER).to_owned(),
        session: session()?,
        local: Local::from_config(config.get("local")),
        key: AdminKey::find(config.get("admin_key"))?,
        leads: Leads::default(),
        claimed: Mutex::default(),
        clouds: Clouds::default(),
        seen: Mutex::default(),
    })
}

fn session() -> Result<String, Diagnostics> {
    let mut bits = [0u8; 16];
    getrandom::fill(&mut bits)
        .map_err(|e| Diagnostic::error("The system has no random numbers", e.to_string()))?;
    Ok(hex::encode(bits))
}

// === impl AdminKey ===

impl AdminKey {
    fn find(written: &Value) -> Result<Self, Diagnostics> {
        if written.is_unknown() {
            return Ok(Self::Unknown);
        }
        let (text, from) = match written.as_str() {
            Some(text) => (text.to_owned(), "admin_key"),
            None => match std::env::var(ADMIN_KEY_ENV) {
                Ok(text) if !text.is_empty() => (text, ADMIN_KEY_ENV),
                _ => return Ok(Self::Missing),
            },
        };
        read_key(&text).map(Self::Key).map_err(|why| {
            let fix =
                "Make a key with `gpuloom keygen`; state its PEM text or the path of its file.";
            let wrong = Diagnostic::error(
                format!("{from} holds no admin key"),
                format!("{why}. {fix}"),
            );
            if from == "admin_key" {
                wrong.at("admin_key").into()
            } else {
                wrong.into()
            }
        })
    }
}

/// A key from its PEM text or the file of that path; `~/` is the home directory. The error never
/// repeats the text, which may be secret.
fn read_key(text: &str) -> Result<SecretKey, String> {
    if text.trim_start().starts_with("-----BEGIN") {
        return SecretKey::from_pem(text).map_err(|e| e.to_string());
    }
    if text.contains('\n') {
        return Err("It is neither PEM nor a path".to_owned());
    }
    let path = match (text.strip_prefix("~/"), std::env::var_os("HOME")) {
        (Some(rest), Some(home)) => PathBuf::from(home).join(rest),
        _ => PathBuf::from(text),
    };
    let shown = path.display();
    let size = std::fs::metadata(&path)
        .map_err(|e| format!("The file {shown} cannot be read: {e}"))?
        .len();
    if size > MAX_KEY_BYTES {
        return Err(format!(
            "The file {shown} has {size} bytes, more than any key"
        ));
    }
    let pem = std::fs::read_to_string(&path)
        .map_err(|e| format!("The file {shown} cannot be read: {e}"))?;
    SecretKey::from_pem(&pem).map_err(|e| format!("The file {shown} holds no key: {e}"))
}

// === impl Settings ===

impl Settings {
    /// The private half of the admin key.
    ///
    /// # Errors
    /// What to set, when there is none or it is not known yet.
    pub(crate) fn key(&self) -> Result<&SecretKey, Diagnostics> {
        match &self.key {
            AdminKey::Key(key) => Ok(key),
            AdminKey::Missing => Err(Diagnostic::error(
                "No admin key",
                format!(
                    "Set admin_key in the provider block or the environment variable {ADMIN_KEY_ENV} to the PEM text \
                     or the path of the fleet's admin key. `gpuloom keygen` makes one."
                ),
            )
            .into()),
            AdminKey::Unknown => Err(Diagnostic::error(
                "The admin key is not known yet",
                "admin_key depends on something that is known only after apply. Apply that first, for instance with \
                 -target.",
            )
            .into()),
        }
    }

    /// The lead of a fleet, or why it cannot be asked.
    pub(crate) async fn reach(&self, connection: &Connection) -> Result<Lead, Unreachable> {
        let key = self.key().map_err(Unreachable::Refused)?;
        self.leads.reach(connection, key).await
    }

    /// The lead of a fleet that has to answer.
    ///
    /// # Errors
    /// Why it does not.
    pub(crate) async fn lead(&self, connection: &Connection) -> Result<Lead, Diagnostics> {
        self.reach(connection).await.map_err(|unreachable| match unreachable {
            Unreachable::Silent(why) => Diagnostic::error(
                "The fleet's lead does not answer",
                format!("{why}. A fleet on this machine is started again by applying its gpuloom_fleet."),
            )
            .into(),
            Unreachable::Refused(diagnostics) => diagnostics,
        })
    }

    /// Connects to a fleet anew at the next call.
    pub(crate) fn forget(&self, fleet_id: &str) {
        self.leads.forget(fleet_id);
    }

    /// What tells this admin's leads on a cloud from others of the same name: the first 16 hexadecimal digits of the
    /// SHA-256 of the admin's public key.
    pub(crate) fn lead_tag(&self) -> Result<String, Diagnostics> {
        let public = self.key()?.public_key().to_string();
        let digest = hex::encode(Sha256::digest(public));
        Ok(digest[..16].to_owned())
    }

    /// Remembers where the lead of a fleet is, for what else belongs to it.
    pub(crate) fn saw(&self, fleet_id: &str, at: LeadAt) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.insert(fleet_id.to_owned(), at);
    }

    /// Where the lead of a fleet is, as far as this process knows.
    pub(crate) fn seen(&self, fleet_id: &str) -> Option<LeadAt> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.get(fleet_id).cloned()
    }

    /// False when a fleet of this name was claimed before: its name is declared twice.
    pub(crate) fn claim_fleet(&self, name: &str) -> bool {
        let mut claimed = self.claimed.lock().unwrap_or_else(PoisonError::into_inner);
        claimed.insert(name.to_owned())
    }
}
