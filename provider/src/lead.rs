//! One client for each fleet in this process, made when it is first needed and shared from then on.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use gpuloom_api::proto::{HelloReply, PoolView};
use gpuloom_api::tls::{CaPin, Credential, SecretKey};
use gpuloom_api::{CallError, Client, Declared, Endpoints, RefusalCode, Updates, Withdrawn};
use gpuloom_fleet::{Kind, Object, PoolName};
use tfplug::{Diagnostic, Diagnostics};
use tokio::time::Instant;

use crate::convert::Connection;
use crate::say;

/// How long a fleet that did not answer counts as silent without being asked again: a thousand
/// objects of a fleet that is gone wait for one time-out, not for a thousand.
const SILENCE_KEPT: Duration = Duration::from_secs(10);

/// A fleet's lead that answers and takes us for its admin.
#[derive(Debug, Clone)]
pub(crate) struct Lead {
    client: Client,
}

/// Why a lead cannot be asked.
#[derive(Debug, Clone)]
pub(crate) enum Unreachable {
    /// Nobody answers: it may be gone.
    Silent(String),
    /// Somebody answers and does not serve us: nothing is known about the fleet's objects.
    Refused(Diagnostics),
}

/// An object as the lead has it.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    pub(crate) object: Object,
    pub(crate) generation: u64,
    /// Pools: how it stands; empty for other kinds.
    pub(crate) pool: PoolView,
}

/// Clients by connection.
#[derive(Debug, Default)]
pub(crate) struct Leads(Mutex<BTreeMap<Connection, Arc<Slot>>>);

type Slot = tokio::sync::Mutex<Option<Tried>>;

#[derive(Debug, Clone)]
struct Tried {
    at: Instant,
    result: Result<Lead, Unreachable>,
}

// === impl Leads ===

impl Leads {
    /// The client of a fleet; the first caller connects, the others wait for it.
    pub(crate) async fn reach(
        &self,
        connection: &Connection,
        key: &SecretKey,
    ) -> Result<Lead, Unreachable> {
        let slot = {
            let mut leads = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(leads.entry(connection.clone()).or_default())
        };
        let mut slot = slot.lock().await;
        if let Some(tried) = slot.as_ref()
            && (tried.result.is_ok() || tried.at.elapsed() < SILENCE_KEPT)
        {
            return tried.result.clone();
        }
        let result = Lead::connect(connection, key).await;
        *slot = Some(Tried {
            at: Instant::now(),
            result: result.clone(),
        });
        result
    }

    /// Connects anew at the next call: the fleet was started, restarted or ended.
    pub(crate) fn forget(&self, fleet_id: &str) {
        let mut leads = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        leads.retain(|connection, _| connection.id != fleet_id);
    }
}

// === impl Lead ===

impl Lead {
    /// Connects as admin and makes sure that this is the fleet that was meant.
    pub(crate) async fn connect(
        connection: &Connection,
        key: &SecretKey,
    ) -> Result<Self, Unreachable> {
        let lead = Self::connect_anyhow(&connection.endpoints, &connection.ca_pin, key).await?;
        let hello = lead.hello();
        if hello.fleet_id == connection.id {
            return Ok(lead);
        }
        let detail = format!(
            "{} is fleet {:?} of id {}, and fleet id {} was expected. Take the connection from the fleet itself.",
            connection.endpoints.join(", "),
            hello.fleet_name,
            hello.fleet_id,
            connection.id
        );
        let wrong = Diagnostic::error("Another fleet answers", detail).at("fleet.id");
        Err(Unreachable::Refused(wrong.into()))
    }

    /// Connects as admin to whatever fleet of this pin answers.
    pub(crate) async fn connect_anyhow(
        endpoints: &[String],
        ca_pin: &str,
        key: &SecretKey,
    ) -> Result<Self, Unreachable> {
        let refused = |error: String| {
            Unreachable::Refused(
                Diagnostic::error("The fleet's connection cannot be used", error).into(),
            )
        };
        let pin: CaPin = ca_pin
            .parse()
            .map_err(|e: gpuloom_api::tls::TlsError| refused(e.to_string()))?;
        let endpoints = Endpoints::new(endpoints).map_err(|e| refused(e.to_string()))?;
        let shown = endpoints.to_string();
        let client = match Client::connect(endpoints, pin, Credential::Admin(key.clone())).await {
            Ok(client) => client,
            Err(error) if is_silence(&error) => return Err(Unreachable::Silent(error.to_string())),
            Err(error) => {
                let tried = format!("Cannot connect to the fleet at {shown}");
                return Err(Unreachable::Refused(say::failed(&tried, &error, None)));
            }
        };
        if client.hello().caller == "admin" {
            return Ok(Self { client });
        }
        let detail = format!(
            "The fleet {:?} at {shown} was made with another admin key: it takes us for {:?}. Set admin_key in the \
             provider block, or GPULOOM_ADMIN_KEY, to the private half of the key the fleet was created with.",
            client.hello().fleet_name,
            client.hello().caller
        );
        Err(Unreachable::Refused(
            Diagnostic::error("Wrong admin key", detail).into(),
        ))
    }

    /// What the fleet said of itself when it was reached.
    pub(crate) fn hello(&self) -> &HelloReply {
        self.client.hello()
    }

    /// The fleet's name.
    pub(crate) fn fleet_name(&self) -> &str {
        &self.hello().fleet_name
    }

    /// The client itself, for what only one caller asks.
    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// Declares an object. An answer that got lost is looked up, never guessed at.
    pub(crate) async fn declare(
        &self,
        object: &Object,
        owner: &str,
        session: &str,
        expected: u64,
    ) -> Result<Declared, CallError> {
        let first = self.client.declare(object, owner, session, expected).await;
        if !matches!(first, Err(CallError::NoAnswer { .. })) {
            return first;
        }
        let found = self
            .client
            .get_object(object.kind(), object.name(), false)
            .await?;
        match found {
            Some(found) if found.object == *object && found.owner == owner => Ok(Declared {
                generation: found.generation,
                adopted: false,
            }),
            _ => self.client.declare(object, owner, session, expected).await,
        }
    }

    /// Withdraws an object; see [`Client::withdraw`].
    pub(crate) async fn withdraw(
        &self,
        kind: Kind,
        name: &str,
        expected: u64,
        abandon: bool,
    ) -> Result<Withdrawn, CallError> {
        self.client.withdraw(kind, name, expected, abandon).await
    }

    /// The object, if it exists; the lead learns that its owner has seen it. A built-in priority
    /// class that nobody declared does not exist for Terraform.
    pub(crate) async fn object(&self, kind: Kind, name: &str) -> Result<Option<Found>, CallError> {
        let view = self.client.get_object(kind, name, true).await?;
        Ok(view.filter(|v| !v.builtin).map(|v| Found {
            object: v.object,
            generation: v.generation,
            pool: v.pool.unwrap_or_default(),
        }))
    }

    /// The pool's views as it changes.
    pub(crate) async fn watch_pool(&self, name: &PoolName) -> Result<Updates<PoolView>, CallError> {
        self.client.watch_pool(name).await
    }
}

/// True when nobody answered: the lead may be gone, starting, or out of reach.
pub(crate) fn is_silence(error: &CallError) -> bool {
    match error {
        CallError::Unreachable { .. } | CallError::NoAnswer { .. } => true,
        CallError::Refused(refusal) => refusal.code == RefusalCode::Unavailable,
        _ => false,
    }
}
