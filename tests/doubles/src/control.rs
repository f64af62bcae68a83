//! What every double has beside its cloud's API: faults, a log, violations of the contract, a clock, and `/_double/...` to reach them.

use crate::clock::Clock;
use crate::faults::{Effect, FaultRule, Faults};
use crate::http::{Answer, Request, Response};
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The most entries a log keeps; the oldest go first.
pub const MAX_LOG: usize = 200_000;
/// The most bytes of a request that its entry keeps.
pub const MAX_LOGGED: usize = 64 << 10;

/// The part all doubles share; clones are the same one.
#[derive(Debug, Clone, Default)]
pub struct Control {
    /// What goes wrong.
    pub faults: Faults,
    /// The double's time.
    pub clock: Clock,
    told: Arc<Mutex<Told>>,
}

#[derive(Debug, Default)]
struct Told {
    log: std::collections::VecDeque<Logged>,
    mutations: u64,
    violations: Vec<String>,
}

/// A request that was answered, or was not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Logged {
    /// When, by the double's clock.
    pub at_ms: u64,
    /// The cloud's name of what was asked: `RunInstances`, `instances.insert`, `virtualMachines.put`.
    pub action: String,
    /// Whether it asks for a change.
    pub mutating: bool,
    /// `POST /path?query`, as sent.
    pub line: String,
    /// The body, at most [`MAX_LOGGED`] bytes of it.
    pub body: String,
    /// The status; `None` when the connection was closed without an answer.
    pub status: Option<u16>,
    /// What was done to it.
    pub fault: Option<Effect>,
}

/// An instance as the cloud shows it, whatever its API says of it at the moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// What the driver calls it.
    pub id: String,
    /// `pending`, `running`, `stopped`, `terminating` or `terminated`.
    pub state: String,
    /// Its zone, or subnet where the cloud's offerings name that.
    pub zone: String,
    /// `g4dn.xlarge`.
    pub instance_type: String,
    /// Bought on the spot market.
    pub spot: bool,
    /// Its tags or labels.
    pub tags: BTreeMap<String, String>,
    /// Where it answers.
    pub private_address: Option<String>,
    /// The user data it was launched with, decoded.
    pub user_data: String,
}

/// The instances of a double, for tests.
#[async_trait]
pub trait Instances: Send + Sync {
    /// All of them, those just terminated too.
    async fn instances(&self) -> Vec<Seen>;
    /// Takes an instance away behind everybody's back, as a power cut and a console user do.
    async fn kill(&self, id: &str) -> Result<(), String>;
    /// Announces what `notice` says through the instance's metadata service.
    async fn notice(&self, id: &str, notice: &Value) -> Result<(), String>;
}

/// What a double is asked, as its log has it.
#[derive(Debug, Clone, Copy)]
pub struct Call<'a> {
    /// The cloud's name of it.
    pub action: &'a str,
    /// Whether it asks for a change.
    pub mutating: bool,
    /// The request itself.
    pub request: &'a Request,
}

// === impl Seen ===

impl Seen {
    /// True until it is terminated.
    #[must_use]
    pub fn exists(&self) -> bool {
        self.state != "terminated"
    }
}

// === impl Control ===

impl Control {
    /// Answers a call: does the fault that the rules ask for, or carries it out; and logs it. `refuse` says what
    /// Capacity, Quota, Throttle and ServerError are on this cloud's wire.
    pub async fn answer<F: Future<Output = Response>>(
        &self,
        call: Call<'_>,
        refuse: impl FnOnce(&Effect) -> Response,
        carry_out: impl FnOnce() -> F,
    ) -> Answer {
        let fault = self.faults.hit(call.action, &call.request.all());
        let answer = match &fault {
            None => carry_out().await.into(),
            Some(Effect::Status { code, body }) => {
                let kind = if body.starts_with('<') {
                    "text/xml"
                } else {
                    "application/json"
                };
                Response::new(*code, kind, body.clone()).into()
            }
            Some(Effect::DropBefore) => Answer::Drop,
            Some(Effect::DropAfter) => {
                carry_out().await;
                Answer::Drop
            }
            Some(Effect::Delay { ms }) => {
                let answer = carry_out().await;
                tokio::time::sleep(Duration::from_millis(*ms)).await;
                answer.into()
            }
            Some(effect) => refuse(effect).into(),
        };
        self.note(call, &answer, fault);
        answer
    }

    /// Logs a call that was answered elsewhere than in [`Control::answer`].
    pub fn note(&self, call: Call<'_>, answer: &Answer, fault: Option<Effect>) {
        let request = call.request;
        let mut body = request.text();
        if body.len() > MAX_LOGGED {
            let end = (0..=MAX_LOGGED).rev().find(|at| body.is_char_boundary(*at));
            body.truncate(end.unwrap_or_default());
        }
        let mark = if request.query.is_empty() { "" } else { "?" };
        let entry = Logged {
            at_ms: self.clock.now_ms(),
            action: call.action.to_owned(),
            mutating: call.mutating,
            line: format!("{} {}{mark}{}", request.method, request.path, request.query),
            body,
            status: match answer {
                Answer::Reply(response) => Some(response.status),
                Answer::Drop => None,
            },
            fault,
        };
        let mut told = self.told();
        told.mutations += u64::from(call.mutating);
        if told.log.len() >= MAX_LOG {
            told.log.pop_front();
        }
        told.log.push_back(entry);
    }

    /// Every request so far, oldest first.
    #[must_use]
    pub fn log(&self) -> Vec<Logged> {
        self.told().log.iter().cloned().collect()
    }

    /// How many requests asked for a change, those that the log has dropped too.
    #[must_use]
    pub fn mutations(&self) -> u64 {
        self.told().mutations
    }

    /// Forgets the log and its count of changes; violations stay.
    pub fn forget(&self) {
        let mut told = self.told();
        told.log.clear();
        told.mutations = 0;
    }

    /// Notes that a request is none of the cloud's contract, with what is wrong.
    pub fn violated(&self, what: impl Into<String>) {
        self.told().violations.push(what.into());
    }

    /// What was not of the contract.
    #[must_use]
    pub fn violations(&self) -> Vec<String> {
        self.told().violations.clone()
    }

    /// Answers `/_double/...`; `None` for every other path. The endpoints:
    /// `GET faults log violations instances clock`, `POST faults` (a rule) `instances/<id>/kill`
    /// `instances/<id>/notice` `clock` (`{"advance_ms": n}`), `DELETE faults faults/<id> log`.
    pub async fn serve(&self, request: &Request, instances: &dyn Instances) -> Option<Response> {
        let path = request.path.strip_prefix("/_double/")?;
        let parts: Vec<&str> = path.split('/').collect();
        let done = |result: Result<(), String>| match result {
            Ok(()) => Response::json(200, &json!({})),
            Err(why) => Response::json(400, &json!({ "error": why })),
        };
        let response = match (request.method.as_str(), parts.as_slice()) {
            ("GET", ["faults"]) => Response::json(200, &self.faults.rules()),
            ("POST", ["faults"]) => self.add_rule(request),
            ("DELETE", ["faults"]) => {
                self.faults.clear();
                Response::json(200, &json!({}))
            }
            ("DELETE", ["faults", id]) => done(match id.parse() {
                Ok(id) => {
                    self.faults.remove(id);
                    Ok(())
                }
                Err(_) => Err(format!("{id:?} is no rule's number")),
            }),
            ("GET", ["log"]) => Response::json(200, &self.log()),
            ("DELETE", ["log"]) => {
                self.forget();
                Response::json(200, &json!({}))
            }
            ("GET", ["violations"]) => Response::json(200, &self.violations()),
            ("GET", ["instances"]) => Response::json(200, &instances.instances().await),
            ("POST", ["instances", id, "kill"]) => done(instances.kill(id).await),
            ("POST", ["instances", id, "notice"]) => match request.json() {
                Ok(notice) => done(instances.notice(id, &notice).await),
                Err(e) => done(Err(e.to_string())),
            },
            ("GET", ["clock"]) => Response::json(200, &json!({ "now_ms": self.clock.now_ms() })),
            ("POST", ["clock"]) => done(self.advance(request)),
            _ => Response::json(404, &json!({ "error": "no such control endpoint" })),
        };
        Some(response)
    }

    fn add_rule(&self, request: &Request) -> Response {
        let rule: Result<FaultRule, _> = serde_json::from_slice(&request.body);
        let added = rule
            .map_err(|e| e.to_string())
            .and_then(|rule| self.faults.add(rule));
        match added {
            Ok(id) => Response::json(200, &json!({ "id": id })),
            Err(why) => Response::json(400, &json!({ "error": why })),
        }
    }

    fn advance(&self, request: &Request) -> Result<(), String> {
        let body = request.json().map_err(|e| e.to_string())?;
        let ms = body["advance_ms"]
            .as_u64()
            .ok_or("state advance_ms as a number")?;
        self.clock.advance(Duration::from_millis(ms));
        Ok(())
    }

    fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::{Handler, Server, client};

    #[derive(Default)]
    struct OneInstance {
        control: Control,
        launched: Mutex<u32>,
    }

    #[async_trait]
    impl Instances for OneInstance {
        async fn instances(&self) -> Vec<Seen> {
            Vec::new()
        }
        async fn kill(&self, id: &str) -> Result<(), String> {
            Err(format!("there is no instance {id}"))
        }
        async fn notice(&self, _: &str, _: &Value) -> Result<(), String> {
            Ok(())
        }
    }

    impl Handler for OneInstance {
        async fn handle(self: Arc<Self>, request: Request) -> Answer {
            if let Some(response) = self.control.serve(&request, &*self).await {
                return response.into();
            }
            let call = Call {
                action: "Launch",
                mutating: true,
                request: &request,
            };
            let launch = || async {
                *self.launched.lock().expect("no panic holds it") += 1;
                Response::empty(204)
            };
            let refuse = |effect: &Effect| Response::text(503, format!("{effect:?}"));
            self.control.answer(call, refuse, launch).await
        }
    }

    #[tokio::test]
    async fn rules_are_set_and_the_log_is_read_over_http() {
        let double = Arc::new(OneInstance::default());
        let server = Server::start(double.clone()).await.expect("a port");
        let (client, url) = (client(), server.url());
        let control = |path: &str| format!("{url}/_double/{path}");
        for effect in ["\"capacity\"", "\"drop_after\"", "\"drop_before\""] {
            let rule = format!("{{\"action\": \"L*\", \"effect\": {effect}, \"times\": 1}}");
            let added = client.post(control("faults")).body(rule).send().await;
            assert_eq!(added.expect("answers").status(), 200);
        }
        let bad = client.post(control("faults")).body("{}").send().await;
        assert_eq!(bad.expect("answers").status(), 400);

        let launch = || client.post(&url).body("x").send();
        let refused = launch().await.expect("answers");
        assert_eq!(refused.text().await.expect("text"), "Capacity");
        assert!(launch().await.is_err(), "dropped after it was done");
        assert!(launch().await.is_err(), "dropped before");
        assert_eq!(launch().await.expect("answers").status(), 204);
        assert_eq!(*double.launched.lock().expect("no panic holds it"), 2);

        let log = client.get(control("log")).send().await.expect("answers");
        let log: Vec<Value> = log.json().await.expect("JSON");
        let seen: Vec<_> = log.iter().map(|l| (&l["status"], &l["fault"])).collect();
        assert_eq!(
            seen,
            [
                (&json!(503), &json!("capacity")),
                (&json!(null), &json!("drop_after")),
                (&json!(null), &json!("drop_before")),
                (&json!(204), &json!(null))
            ]
        );
        assert_eq!(double.control.mutations(), 4);
        let killed = client.post(control("instances/i-1/kill")).send().await;
        let killed = killed.expect("answers").text().await.expect("text");
        assert!(killed.contains("i-1"), "{killed}");
    }
}
