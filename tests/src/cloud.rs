//! A cloud for one test: its double, which boots what is launched, and how a pool on it is written.

use crate::built::Built;
use gpuloom_doubles::boot::{Attendant, BootOptions, Machines, Yard};
use gpuloom_doubles::clock::Clock;
use gpuloom_doubles::control::{Control, Seen};
use gpuloom_doubles::imds::{Authority, Dialect};
use gpuloom_doubles::{aws, azure, gcp};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::runtime::Runtime;

/// Whose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Amazon EC2.
    Aws,
    /// Compute Engine.
    Gcp,
    /// Azure.
    Azure,
}

#[derive(Debug)]
enum Double {
    Aws(aws::Double),
    Gcp(gcp::Double),
    Azure(azure::Double),
}

/// A running cloud whose instances are processes of this computer. They end with it.
#[derive(Debug)]
pub struct CloudRig {
    kind: Kind,
    double: Double,
    subnets: Vec<String>,
    dir: PathBuf,
    env: Vec<(String, String)>,
    // Last: what stands on it goes first.
    runtime: Runtime,
}

/// The secrets of this test's credentials: none may show up anywhere.
pub const SECRETS: [&str; 2] = ["double-of-aws", azure::SECRET];

// === impl CloudRig ===

impl CloudRig {
    /// Starts it; its machines live below `dir`.
    ///
    /// # Panics
    /// When the double cannot start, with what is missing.
    #[must_use]
    pub fn start(kind: Kind, dir: &Path, built: &Built) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .expect("a runtime");
        let dir = dir.join("c");
        std::fs::create_dir_all(dir.join("disks")).expect("the folder is ours");
        let (double, subnets, env) = runtime.block_on(start(kind, &dir, built));
        Self {
            kind,
            double,
            subnets,
            dir,
            env,
            runtime,
        }
    }

    /// What terraform and the lead it starts have in their environment.
    #[must_use]
    pub fn env(&self) -> Vec<(&str, &str)> {
        let pairs = self.env.iter();
        pairs.map(|(k, v)| (k.as_str(), v.as_str())).collect()
    }

    /// The block of a pool: every zone there is, one type with one GPU of [`Self::model`].
    #[must_use]
    pub fn block(&self) -> String {
        let endpoint = self.endpoint();
        match self.kind {
            Kind::Aws => format!(
                "aws {{\n    region = \"us-east-1\"\n    subnets = {}\n    instance_types = [\"g4dn.xlarge\"]\n    \
                 image = \"{}\"\n    instance_profile = \"node\"\n    endpoint = \"{endpoint}\"\n  }}",
                json!(self.subnets),
                aws::IMAGE
            ),
            Kind::Gcp => format!(
                "gcp {{\n    project = \"{0}\"\n    region = \"us-central1\"\n    machine_types = [\"g2-standard-4\"]\n    \
                 image = \"projects/{0}/global/images/family/gpuloom\"\n    service_account = \"{1}\"\n    \
                 endpoint = \"{endpoint}\"\n  }}",
                gcp::PROJECT,
                gcp::EMAIL
            ),
            Kind::Azure => format!(
                "azure {{\n    subscription = \"{}\"\n    resource_group = \"{}\"\n    location = \"{}\"\n    zones = \
                 [\"1\", \"2\"]\n    vm_sizes = [\"Standard_NC4as_T4_v3\"]\n    image = \
                 \"canonical:ubuntu-24_04-lts:server:latest\"\n    subnet_id = \"{}\"\n    ssh_public_key = \
                 \"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIA ops\"\n    endpoint = \"{endpoint}\"\n  }}",
                azure::SUBSCRIPTION,
                azure::GROUP,
                azure::LOCATION,
                azure::SUBNET
            ),
        }
    }

    /// The GPU of its instances.
    #[must_use]
    pub fn model(&self) -> &'static str {
        match self.kind {
            Kind::Gcp => "L4",
            Kind::Aws | Kind::Azure => "T4",
        }
    }

    fn endpoint(&self) -> String {
        match &self.double {
            Double::Aws(double) => double.endpoint(),
            Double::Gcp(double) => double.endpoint(),
            Double::Azure(double) => double.endpoint(),
        }
    }

    fn control(&self) -> &Control {
        match &self.double {
            Double::Aws(double) => double.control(),
            Double::Gcp(double) => double.control(),
            Double::Azure(double) => double.control(),
        }
    }

    fn get(&self, path: &str) -> Value {
        let url = format!("{}/_double/{path}", self.endpoint());
        let answer = self.runtime.block_on(async {
            let answer = gpuloom_doubles::http::client().get(url).send().await;
            answer.expect("the double answers").json().await
        });
        answer.expect("JSON")
    }

    fn post(&self, path: &str, body: &Value) {
        let url = format!("{}/_double/{path}", self.endpoint());
        let body = body.to_string();
        let (status, said) = self.runtime.block_on(async {
            let request = gpuloom_doubles::http::client().post(url).body(body);
            let answer = request.send().await.expect("the double answers");
            (answer.status(), answer.text().await.unwrap_or_default())
        });
        assert!(status.is_success(), "{path}: {said}");
    }

    /// The instances that exist, as the double has them.
    #[must_use]
    pub fn instances(&self) -> Vec<Seen> {
        let all: Vec<Seen> = serde_json::from_value(self.get("instances")).expect("instances");
        all.into_iter().filter(Seen::exists).collect()
    }

    /// Takes an instance away behind everybody's back.
    pub fn kill(&self, id: &str) {
        self.post(&format!("instances/{id}/kill"), &Value::Null);
    }

    /// Announces the end of a spot instance in so many milliseconds.
    pub fn preempt(&self, id: &str, in_ms: u64) {
        let notice = json!({"kind": "preempt", "in_ms": in_ms});
        self.post(&format!("instances/{id}/notice"), &notice);
    }

    /// Leaves room for so many instances in the zone or subnet that is tried first.
    pub fn set_first_room(&self, most: usize) {
        match &self.double {
            Double::Aws(double) => double.set_room(&format!("*/{}/*", self.subnets[0]), most),
            Double::Gcp(double) => double.set_room("us-central1-a/*", most),
            Double::Azure(double) => double.set_room("1/*", most),
        }
    }

    /// Leaves room for so many instances in all.
    pub fn set_room(&self, most: usize) {
        match &self.double {
            Double::Aws(double) => double.set_room("*", most),
            Double::Gcp(double) => double.set_room("*", most),
            Double::Azure(double) => double.set_room("*", most),
        }
    }

    /// Takes all limits away.
    pub fn clear_rooms(&self) {
        match &self.double {
            Double::Aws(double) => double.clear_rooms(),
            Double::Gcp(double) => double.clear_rooms(),
            Double::Azure(double) => double.clear_rooms(),
        }
    }

    /// Requests that were none of the cloud's contract.
    #[must_use]
    pub fn violations(&self) -> Vec<String> {
        self.control().violations()
    }

    /// The ends of all machines' logs, for a test that failed.
    #[must_use]
    pub fn logs(&self) -> String {
        let mut text = String::new();
        for entry in std::fs::read_dir(self.dir.join("m")).into_iter().flatten() {
            let Ok(entry) = entry else { continue };
            for log in ["log/user-data", "log/agent"] {
                let read = std::fs::read(entry.path().join(log)).unwrap_or_default();
                let tail =
                    String::from_utf8_lossy(&read[read.len().saturating_sub(3_000)..]).into_owned();
                text.push_str(&format!("--- {} {log}\n{tail}\n", entry.path().display()));
            }
        }
        text
    }
}

impl Drop for CloudRig {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.logs());
            for call in self.control().log().iter().rev().take(20).rev() {
                eprintln!("{:?} {} {}", call.status, call.action, call.line);
            }
        }
    }
}

// === functions ===

async fn start(
    kind: Kind,
    dir: &Path,
    built: &Built,
) -> (Double, Vec<String>, Vec<(String, String)>) {
    let clock = Clock::default();
    let authority = Authority::start(clock.clone()).await.expect("keys");
    let mut env = authority.env(dir).expect("the folder is ours");
    let boot = BootOptions {
        gpuloom: built.gpuloom.clone(),
        dir: dir.join("m"),
    };
    let machines = Machines::new(boot).expect("machines");
    let mut add = |key: &str, value: &str| env.push((key.to_owned(), value.to_owned()));
    let disks = dir.join("disks");
    let (double, subnets) = match kind {
        Kind::Aws => {
            let attendant = Attendant::new(Dialect::Aws, authority, clock);
            let options = aws::Options {
                yard: Some(Yard::new(machines, attendant, Vec::new())),
                disks,
                ..aws::Options::default()
            };
            let double = aws::Double::start(options).await;
            let double = double.unwrap_or_else(|e| panic!("{e}"));
            let subnets = double.subnets("us-east-1").await.expect("subnets");
            add("AWS_ACCESS_KEY_ID", "AKIADOUBLE");
            add("AWS_SECRET_ACCESS_KEY", SECRETS[0]);
            let subnets = subnets.into_iter().map(|(subnet, _)| subnet).take(2);
            (Double::Aws(double), subnets.collect())
        }
        Kind::Gcp => {
            let attendant = Attendant::new(Dialect::Gcp, authority, clock);
            let host = Yard::new(machines, attendant, Vec::new());
            let options = gcp::Options {
                host: Some(Arc::new(host)),
                ..gcp::Options::default()
            };
            let double = gcp::Double::start(options).await.expect("a double");
            (Double::Gcp(double), Vec::new())
        }
        Kind::Azure => {
            let attendant = Attendant::new(Dialect::Azure, authority, clock);
            let boots = azure::Boots {
                machines,
                disks,
                env: Vec::new(),
                watcher: Arc::new(attendant),
            };
            let options = azure::Options {
                boots: Some(boots),
                ..azure::Options::default()
            };
            let double = azure::Double::start(options).await.expect("a double");
            add("AZURE_TENANT_ID", azure::TENANT);
            add("AZURE_CLIENT_ID", azure::CLIENT);
            add("AZURE_CLIENT_SECRET", azure::SECRET);
            add("AZURE_AUTHORITY_HOST", &double.endpoint());
            (Double::Azure(double), Vec::new())
        }
    };
    (double, subnets, env)
}
