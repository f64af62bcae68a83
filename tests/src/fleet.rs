//! A fleet as people use it: `gpuloom ... -o json`; and as the API shows it.

use crate::wait::{SHORT, until};
use gpuloom_api::tls::{Credential, SecretKey};
use gpuloom_api::{Client, Endpoints};
use serde_json::Value;
use std::future::Future;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// A fleet and who asks it.
#[derive(Debug, Clone)]
pub struct Fleet {
    pub(crate) program: PathBuf,
    pub(crate) dir: PathBuf,
    /// `host:port` of its lead.
    pub endpoint: String,
    /// The pin of its CA.
    pub ca_pin: String,
    pub(crate) credential: (&'static str, String),
}

/// How `gpuloom` ended.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The exit code; 128 + n for signal n.
    pub code: i32,
    /// All of stdout.
    pub stdout: String,
    /// All of stderr.
    pub stderr: String,
}

/// A JSON amount in thousandths or bytes; unknown or absent is no amount.
#[must_use]
pub fn milli(value: &Value) -> Option<u64> {
    value.as_u64()
}

// === impl Answer ===

impl Answer {
    /// Runs the command to its end.
    pub fn of(command: &mut Command) -> Self {
        let output = command.stdin(Stdio::null()).output().expect("it starts");
        use std::os::unix::process::ExitStatusExt as _;
        let signal = output.status.signal().map(|n| 128 + n);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Self {
            code: output.status.code().or(signal).unwrap_or(-1),
            stdout: text(&output.stdout),
            stderr: text(&output.stderr),
        }
    }

    /// Stdout as JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|e| panic!("no JSON ({e}): {self:?}"))
    }
}

// === impl Fleet ===

impl Fleet {
    /// The same fleet with a tenant's token.
    #[must_use]
    pub fn with_token(&self, token: &str) -> Self {
        Self {
            credential: ("GPULOOM_TOKEN", token.to_owned()),
            ..self.clone()
        }
    }

    /// The same fleet with another admin key.
    #[must_use]
    pub fn with_key(&self, key: &std::path::Path) -> Self {
        Self {
            credential: ("GPULOOM_ADMIN_KEY", key.display().to_string()),
            ..self.clone()
        }
    }

    /// `gpuloom` for this fleet.
    #[must_use]
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        for (key, _) in std::env::vars_os() {
            if key.to_string_lossy().starts_with("GPULOOM_") {
                command.env_remove(key);
            }
        }
        command
            .args(args)
            .env("XDG_CONFIG_HOME", self.dir.join("config"))
            .env("GPULOOM_ENDPOINT", &self.endpoint)
            .env("GPULOOM_CA_PIN", &self.ca_pin)
            .env(self.credential.0, &self.credential.1)
            .current_dir(&self.dir);
        command
    }

    /// Runs `gpuloom` to its end.
    pub fn run(&self, args: &[&str]) -> Answer {
        Answer::of(&mut self.command(args))
    }

    /// Starts `gpuloom` with its stdout piped.
    pub fn start(&self, args: &[&str]) -> Child {
        self.command(args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("gpuloom starts")
    }

    /// Runs `gpuloom`, which has to succeed.
    #[track_caller]
    pub fn ok(&self, args: &[&str]) -> Answer {
        let answer = self.run(args);
        assert_eq!(answer.code, 0, "gpuloom {args:?}: {}", answer.stderr);
        answer
    }

    /// What `gpuloom ... -o json` prints.
    #[track_caller]
    pub fn json(&self, args: &[&str]) -> Value {
        self.ok(&[&["-o", "json"], args].concat()).json()
    }

    /// Runs `gpuloom`, which has to refuse: with this exit code and these words.
    #[track_caller]
    pub fn refuses(&self, args: &[&str], code: i32, words: &str) {
        let answer = self.run(args);
        assert_eq!(answer.code, code, "gpuloom {args:?}: {answer:?}");
        assert!(
            answer.stderr.contains(words),
            "gpuloom {args:?} does not say {words:?}: {}",
            answer.stderr
        );
    }

    /// Submits a job; its id.
    #[track_caller]
    pub fn submit(&self, args: &[&str]) -> String {
        let answer = self.ok(&[&["submit"], args].concat());
        answer.stdout.trim().to_owned()
    }

    /// A job as it stands.
    #[track_caller]
    pub fn job(&self, id: &str) -> Value {
        self.json(&["why", id])
    }

    /// What is said of why a job waits, or how it ended.
    #[track_caller]
    pub fn why(&self, id: &str) -> String {
        let job = self.job(id);
        let lines = job["why"].as_array().cloned().unwrap_or_default();
        let lines: Vec<_> = lines.iter().filter_map(Value::as_str).collect();
        lines.join("; ")
    }

    /// Waits until a job is as it should be.
    #[track_caller]
    pub fn job_is(
        &self,
        id: &str,
        what: &str,
        limit: Duration,
        is: impl Fn(&Value) -> bool,
    ) -> Value {
        until(&format!("job {id} {what}"), limit, || {
            let job = self.job(id);
            if is(&job) {
                Ok(job)
            } else {
                Err(job.to_string())
            }
        })
    }

    /// Waits until a job has this state.
    #[track_caller]
    pub fn state_is(&self, id: &str, state: &str, limit: Duration) -> Value {
        self.job_is(id, state, limit, |job| job["state"] == state)
    }

    /// Waits until a job's last attempt runs; that attempt.
    #[track_caller]
    pub fn runs(&self, id: &str, limit: Duration) -> Value {
        let job = self.job_is(id, "runs", limit, |job| {
            last_attempt(job)["state"] == "running"
        });
        last_attempt(&job).clone()
    }

    /// Cancels every job that has not ended and waits until none is left: a tenant with live jobs is not destroyed.
    #[track_caller]
    pub fn cancel_all(&self) {
        until("no job waits or runs", SHORT, || {
            let queue = self.json(&["queue"]);
            let jobs = queue["jobs"].as_array().cloned().unwrap_or_default();
            let ids: Vec<_> = jobs.iter().filter_map(|j| j["id"].as_str()).collect();
            if ids.is_empty() {
                return Ok(());
            }
            self.ok(&[&["cancel"], &ids[..]].concat());
            Err(format!("{ids:?}"))
        });
    }

    /// A pool's size and status.
    #[track_caller]
    pub fn pool(&self, name: &str) -> Value {
        self.json(&["get", "pool", name])["status"].clone()
    }

    /// Waits until a pool's status is as it should be.
    #[track_caller]
    pub fn pool_is(
        &self,
        name: &str,
        what: &str,
        limit: Duration,
        is: impl Fn(&Value) -> bool,
    ) -> Value {
        until(&format!("pool {name} {what}"), limit, || {
            let status = self.pool(name);
            if is(&status) {
                Ok(status)
            } else {
                Err(status.to_string())
            }
        })
    }

    /// What a tenant uses and may use, over the whole fleet.
    #[track_caller]
    pub fn usage(&self, tenant: &str) -> Value {
        let rows = self.json(&["quota", "--tenant", tenant])["usage"].clone();
        let rows = rows.as_array().cloned().unwrap_or_default();
        let whole = rows.iter().find(|row| row["pool"].is_null());
        whole
            .unwrap_or_else(|| panic!("no usage of {tenant}: {rows:?}"))
            .clone()
    }

    /// Every event of the audit trail, oldest first.
    #[track_caller]
    pub fn events(&self) -> Vec<Value> {
        let answer = self.ok(&["-o", "json", "events"]);
        let read = |line: &str| serde_json::from_str(line).expect("an event is a line of JSON");
        answer.stdout.lines().map(read).collect()
    }

    /// A tenant's token.
    #[track_caller]
    pub fn token(&self, tenant: &str) -> String {
        let made = self.json(&["token", "create", "--tenant", tenant, "--ttl", "1h"]);
        made["token"].as_str().expect("a token").to_owned()
    }

    /// Asks the API as the admin.
    #[track_caller]
    pub fn api<T, F: Future<Output = T>>(&self, ask: impl FnOnce(Client) -> F) -> T {
        let pem = std::fs::read_to_string(&self.credential.1).expect("the admin's key");
        let key = SecretKey::from_pem(&pem).expect("a key");
        let endpoints = Endpoints::new([&self.endpoint]).expect("an endpoint");
        let pin = self.ca_pin.parse().expect("a pin");
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        runtime.block_on(async {
            let client = Client::connect(endpoints, pin, Credential::Admin(key)).await;
            ask(client.expect("the lead answers")).await
        })
    }
}

/// A job's last attempt; null before its first.
pub(crate) fn last_attempt(job: &Value) -> &Value {
    job["attempts"]
        .as_array()
        .and_then(|attempts| attempts.last())
        .unwrap_or(&Value::Null)
}
