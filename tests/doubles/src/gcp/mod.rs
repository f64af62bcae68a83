//! Compute Engine: instances, operations and failures, every request held against the discovery document.
//!
//! Played are the methods that a driver of instances needs; each other one is answered 501 and noted as a violation.
//! Capacity and quota are met by operations, as Google's are; a rule for `regionInstances.bulkInsert` or
//! `instances.insert` meets whole requests, one for `regionInstances.bulkInsert.offering` or
//! `instances.insert.offering` each `<zone>/<type>/<market>` of them.

mod account;
mod compute;
mod contract;
mod filter;
mod host;
mod launch;
mod state;
mod stock;
#[cfg(test)]
mod tests;
mod wire;

pub use account::EMAIL;
pub use host::{Host, Machine};

use crate::control::{Call, Control, Instances, Seen};
use crate::faults::{Effect, Faults};
use crate::http::{Answer, Handler, Request, Response, Server};
use account::Account;
use async_trait::async_trait;
use compute::Method;
use contract::{Asked, Contract};
use serde_json::Value;
use state::{Event, State};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The project of everything in it.
pub const PROJECT: &str = "gpuloom-test";

/// How a double starts.
#[derive(Debug, Clone)]
pub struct Options {
    /// So many looks until an operation is done.
    pub polls: u32,
    /// Each new instance is missing from its first so many listings.
    pub list_lag: u32,
    /// At most so many in one page of a list.
    pub page: usize,
    /// An insert that finds no room leaves the new disks that would outlive the instance.
    pub strand_disks: bool,
    /// What gives instances a life; `None`: they only stand in lists.
    pub host: Option<Arc<dyn Host>>,
}

/// A running double; dropping it ends it.
#[derive(Debug)]
pub struct Double {
    cloud: Arc<Compute>,
    server: Server,
}

#[derive(Debug)]
struct Compute {
    state: Mutex<State>,
    control: Control,
    contract: Result<Arc<Contract>, String>,
    account: Mutex<Option<Account>>,
}

// === impl Options ===

impl Default for Options {
    fn default() -> Self {
        Self {
            polls: 2,
            list_lag: 0,
            page: 500,
            strand_disks: false,
            host: None,
        }
    }
}

// === impl Double ===

impl Double {
    /// Starts it on a free port of 127.0.0.1.
    ///
    /// # Errors
    /// When there is none.
    pub async fn start(options: Options) -> io::Result<Self> {
        let control = Control::default();
        let state = State {
            options,
            clock: control.clock.clone(),
            ..State::default()
        };
        let contract = Contract::find();
        if let Err(why) = &contract {
            eprintln!("the Compute Engine double validates nothing: {why}");
        }
        let cloud = Arc::new(Compute {
            state: Mutex::new(state),
            control,
            contract,
            account: Mutex::default(),
        });
        let server = Server::start(cloud.clone()).await?;
        Ok(Self { cloud, server })
    }

    /// `http://127.0.0.1:<port>`: Compute Engine's endpoint; the control endpoint is `/_double/` there.
    #[must_use]
    pub fn endpoint(&self) -> String {
        self.server.url()
    }

    /// Faults, log, clock, violations.
    #[must_use]
    pub fn control(&self) -> &Control {
        &self.cloud.control
    }

    /// What goes wrong.
    #[must_use]
    pub fn faults(&self) -> &Faults {
        &self.cloud.control.faults
    }

    /// The revision of the contract that requests are held against; an error says why none is.
    ///
    /// # Errors
    /// A sentence that says how to get the contract.
    pub fn contract(&self) -> Result<String, String> {
        let contract = self.cloud.contract.as_ref();
        contract.map(|c| c.revision.clone()).map_err(Clone::clone)
    }

    /// Makes a service account's key file in `dir`, for `GOOGLE_APPLICATION_CREDENTIALS`. From then on every request
    /// needs a token signed with it.
    ///
    /// # Errors
    /// When the key cannot be made or its file cannot be written.
    pub fn key_file(&self, dir: &Path) -> io::Result<PathBuf> {
        let (account, path) = Account::make(dir, PROJECT, &self.endpoint())?;
        *lock(&self.cloud.account) = Some(account);
        Ok(path)
    }

    /// Every instance that was ever launched: the ended ones, then the living.
    #[must_use]
    pub fn machines(&self) -> Vec<Machine> {
        let ended = self.cloud.state().ended.clone();
        ended.into_iter().chain(self.living()).collect()
    }

    /// The instances that exist now, whatever a listing says.
    #[must_use]
    pub fn living(&self) -> Vec<Machine> {
        let state = self.cloud.state();
        state.instances.values().map(state::Held::machine).collect()
    }

    /// The disks that exist now: zone, name, and whether an instance has it.
    #[must_use]
    pub fn disks(&self) -> Vec<(String, String, bool)> {
        let state = self.cloud.state();
        let disks = state.disks.iter();
        disks
            .map(|((zone, name), of)| (zone.clone(), name.clone(), of["users"].is_array()))
            .collect()
    }

    /// Takes an instance away, as a spot reclaim does; there being none is fine.
    pub fn kill(&self, name: &str) {
        self.cloud.take_away(name);
    }

    /// Stops an instance: it exists, but is down.
    pub fn stop(&self, name: &str) {
        let mut state = self.cloud.state();
        if let Some(place) = state.place(name) {
            state.set_status(&place, "TERMINATED");
        }
    }

    /// Changes an instance's label behind everybody's back.
    pub fn set_label(&self, name: &str, key: &str, value: &str) {
        let mut state = self.cloud.state();
        let Some(place) = state.place(name) else {
            return;
        };
        if let Some(held) = state.instances.get_mut(&place) {
            held.resource["labels"][key] = Value::from(value);
            let print = state::fingerprint(&held.resource["labels"]);
            held.resource["labelFingerprint"] = Value::from(print);
        }
    }

    /// Lets at most `most` instances live whose `<zone>/<type>/<market>` is as `pattern` has it.
    pub fn set_room(&self, pattern: &str, most: usize) {
        let mut state = self.cloud.state();
        state.rooms.retain(|(p, _)| p != pattern);
        state.rooms.push((pattern.to_owned(), most));
    }

    /// The same by the project's quota.
    pub fn set_quota(&self, pattern: &str, most: usize) {
        let mut state = self.cloud.state();
        state.quotas.retain(|(p, _)| p != pattern);
        state.quotas.push((pattern.to_owned(), most));
    }

    /// Takes all limits away.
    pub fn clear_rooms(&self) {
        let mut state = self.cloud.state();
        state.rooms.clear();
        state.quotas.clear();
    }

    /// Each instance that is launched from now on is missing from its first so many listings.
    pub fn set_list_lag(&self, listings: u32) {
        self.cloud.state().options.list_lag = listings;
    }

    /// Lets an image not exist: `projects/P/global/images/I`.
    pub fn remove_image(&self, path: &str) {
        self.cloud.state().missing_images.insert(path.to_owned());
    }
}

// === impl Compute ===

impl Compute {
    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    fn take_away(&self, name: &str) -> bool {
        let mut state = self.state();
        let place = state.place(name);
        if let Some(place) = &place {
            state.end(place);
        }
        drop(state);
        self.tell_host();
        place.is_some()
    }

    /// Does with the host what happened to instances.
    fn tell_host(&self) {
        let (events, host) = {
            let mut state = self.state();
            (
                std::mem::take(&mut state.events),
                state.options.host.clone(),
            )
        };
        let Some(host) = host else {
            return;
        };
        for event in events {
            match event {
                Event::Ended(name) => host.ended(&name),
                Event::Launched(machine) => match host.launched(&machine) {
                    Ok(address) => {
                        let mut state = self.state();
                        let place = (machine.zone, machine.name);
                        if let Some(held) = state.instances.get_mut(&place) {
                            held.resource["networkInterfaces"][0]["networkIP"] =
                                Value::from(address);
                        }
                    }
                    Err(why) => self
                        .control
                        .violated(format!("{} does not boot: {why}", machine.name)),
                },
            }
        }
    }

    /// What is wrong with a request; each is noted.
    fn violations(&self, request: &Request, parts: &[String]) -> Vec<String> {
        let Ok(contract) = &self.contract else {
            return Vec::new();
        };
        let body = match request.json() {
            Ok(body) => body,
            Err(e) => return vec![format!("the body is no JSON: {e}")],
        };
        let asked = Asked {
            http: &request.method,
            path: parts,
            query: &request.parameters(),
            body: &body,
        };
        contract.check(&asked).1
    }

    /// Notes where an answer of ours is none of the contract.
    fn check_answer(&self, action: &str, answer: &Response) {
        let (Ok(contract), 200) = (&self.contract, answer.status) else {
            return;
        };
        let body: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        for wrong in contract.check_answer(&format!("compute.{action}"), &body) {
            self.control
                .violated(format!("the double's own answer to {action}: {wrong}"));
        }
    }

    fn refused(&self, request: &Request, action: &str, response: Response) -> Answer {
        let call = Call {
            action,
            mutating: false,
            request,
        };
        let answer = response.into();
        self.control.note(call, &answer, None);
        answer
    }
}

impl Handler for Compute {
    async fn handle(self: Arc<Self>, request: Request) -> Answer {
        if let Some(response) = self.control.serve(&request, &*self).await {
            return response.into();
        }
        let Some(parts) = compute::parts(&request.path) else {
            return self.refused(&request, "unknown", wire::not_found(&request.path));
        };
        let wrong = self.violations(&request, &parts);
        if !wrong.is_empty() {
            let text = wrong.join("; ");
            self.control
                .violated(format!("{} {}: {text}", request.method, request.path));
            return self.refused(&request, "violation", wire::invalid(&text));
        }
        let Some(method) = Method::of(&request.method, &parts) else {
            let text = format!(
                "{} {} is not played by this double",
                request.method, request.path
            );
            self.control.violated(text.clone());
            return self.refused(
                &request,
                "unknown",
                wire::error(501, "notImplemented", &text),
            );
        };
        let allowed = lock(&self.account)
            .as_ref()
            .map_or(Ok(()), |a| a.check(request.header("authorization")));
        if let Err(why) = allowed {
            return self.refused(&request, method.action, wire::error(401, "authError", &why));
        }
        let call = Call {
            action: method.action,
            mutating: method.mutating,
            request: &request,
        };
        let refuse = |effect: &Effect| match (method.launches(), effect) {
            (true, Effect::Capacity | Effect::Quota) => {
                let mut state = self.state();
                method.carry_out(&mut state, &self.control.faults, &request, Some(effect))
            }
            _ => wire::refuse(effect),
        };
        let carry_out = || async {
            let answer = {
                let mut state = self.state();
                method.carry_out(&mut state, &self.control.faults, &request, None)
            };
            self.check_answer(method.action, &answer);
            self.tell_host();
            answer
        };
        self.control.answer(call, refuse, carry_out).await
    }
}

#[async_trait]
impl Instances for Compute {
    async fn instances(&self) -> Vec<Seen> {
        let state = self.state();
        let living = state.instances.values().map(state::Held::machine);
        state
            .ended
            .iter()
            .cloned()
            .chain(living)
            .map(seen)
            .collect()
    }

    async fn kill(&self, id: &str) -> Result<(), String> {
        let there = self.take_away(id);
        there
            .then_some(())
            .ok_or_else(|| format!("there is no instance {id}"))
    }

    async fn notice(&self, id: &str, notice: &Value) -> Result<(), String> {
        let host = self.state().options.host.clone();
        let host = host.ok_or("nothing runs these instances")?;
        host.notice(id, notice)
    }
}

// === functions ===

fn seen(machine: Machine) -> Seen {
    let state = match (machine.ended, machine.status.as_str()) {
        (true, _) => "terminated",
        (_, "RUNNING") => "running",
        (_, "STOPPING") => "terminating",
        (_, "TERMINATED") => "stopped",
        _ => "pending",
    };
    Seen {
        state: state.to_owned(),
        user_data: machine.script().to_owned(),
        id: machine.name,
        zone: machine.zone,
        instance_type: machine.machine_type,
        spot: machine.spot,
        tags: machine.labels,
        private_address: machine.private_address,
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
