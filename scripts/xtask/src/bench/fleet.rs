//! A fleet on this machine for a benchmark: brought up by the real terraform, ended with it.

use super::build;
use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tfplug_host::terraform::Cli;

const WORKLOAD: &str = "gpuloom-sim-workload";

/// A running fleet; dropping it destroys it.
pub(crate) struct Fleet {
    cli: Cli,
    bin: PathBuf,
    root: TempDir,
    endpoint: String,
    ca_pin: String,
}

/// What a process has used so far.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Use {
    /// Resident memory, in MiB.
    pub(crate) rss_mib: f64,
    /// Processor time, in seconds.
    pub(crate) cpu_s: f64,
}

// === impl Fleet ===

impl Fleet {
    /// Builds release binaries and applies: one simulated machine, and one pool of `nodes` nodes
    /// with `per_node` GPUs each.
    pub(crate) fn up(simulate: &str, model: &str, nodes: u32, per_node: u32) -> Result<Self> {
        let bin = build::release()?;
        let root = tempfile::Builder::new()
            .prefix("gpuloom-bench-")
            .tempdir()?;
        open_to_all(root.path())?;
        fs::copy(bin.join(WORKLOAD), root.path().join(WORKLOAD))?;
        let key = root.path().join("admin.pem");
        let made = Command::new(bin.join("gpuloom"))
            .arg("keygen")
            .arg("--out")
            .arg(&key)
            .output()?;
        if !made.status.success() {
            bail!("keygen: {}", String::from_utf8_lossy(&made.stderr));
        }
        let cli = Cli::new()?
            .provider("gpuloom/gpuloom", &bin.join("terraform-provider-gpuloom"))?
            .env("GPULOOM_ADMIN_KEY", &key)
            .env("GPULOOM_LOCAL_ROOT", root.path().join("instances"));
        cli.write("main.tf", &hcl(simulate, model, nodes, per_node))?;
        cli.apply()?.success()?;
        let mut fleet = Self {
            cli,
            bin,
            root,
            endpoint: String::new(),
            ca_pin: String::new(),
        };
        fleet.endpoint = fleet.output("endpoint")?;
        fleet.ca_pin = fleet.output("ca_pin")?;
        Ok(fleet)
    }

    fn output(&self, name: &str) -> Result<String> {
        let out = self.cli.run(&["output", "-raw", name])?.success()?;
        Ok(out.stdout.trim().to_owned())
    }

    /// Runs `gpuloom` as the fleet's admin; its JSON.
    pub(crate) fn gpuloom(&self, args: &[&str]) -> Result<Value> {
        let out = Command::new(self.bin.join("gpuloom"))
            .args(["-o", "json"])
            .args(args)
            .env("GPULOOM_ENDPOINT", &self.endpoint)
            .env("GPULOOM_CA_PIN", &self.ca_pin)
            .env("GPULOOM_ADMIN_KEY", self.root.path().join("admin.pem"))
            .output()?;
        if !out.status.success() {
            bail!(
                "gpuloom {}: {}",
                args.join(" "),
                String::from_utf8_lossy(&out.stderr)
            );
        }
        Ok(serde_json::from_slice(&out.stdout)?)
    }

    /// What a job wrote to stdout.
    pub(crate) fn logs(&self, job: &str) -> Result<String> {
        let out = Command::new(self.bin.join("gpuloom"))
            .args(["logs", job])
            .env("GPULOOM_ENDPOINT", &self.endpoint)
            .env("GPULOOM_CA_PIN", &self.ca_pin)
            .env("GPULOOM_ADMIN_KEY", self.root.path().join("admin.pem"))
            .output()?;
        Ok(String::from_utf8_lossy(&out.stdout).into_owned())
    }

    /// The simulator's workload, where the jobs' user can reach it.
    pub(crate) fn workload(&self) -> String {
        self.root.path().join(WORKLOAD).display().to_string()
    }

    /// The agents' process ids by instance.
    pub(crate) fn agents(&self) -> Result<Vec<(String, i32)>> {
        let mut agents = Vec::new();
        for entry in fs::read_dir(self.root.path().join("instances"))? {
            let entry = entry?;
            // The driver's own files begin with a dot.
            if entry.file_name().to_string_lossy().starts_with('.') {
                continue;
            }
            let Ok(lock) = fs::read_to_string(entry.path().join("lock")) else {
                continue;
            };
            let pid = lock
                .split_whitespace()
                .next()
                .context("a pid in the lock file")?
                .parse()?;
            agents.push((entry.file_name().to_string_lossy().into_owned(), pid));
        }
        agents.sort();
        Ok(agents)
    }

    /// Asks until `done` or the deadline.
    pub(crate) fn wait<T>(
        &self,
        what: &str,
        limit: Duration,
        done: impl Fn(&Self) -> Result<Option<T>>,
    ) -> Result<T> {
        let start = Instant::now();
        loop {
            if let Some(found) = done(self)? {
                return Ok(found);
            }
            if start.elapsed() > limit {
                bail!("{what}: not within {limit:?}");
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        if let Err(error) = self
            .cli
            .destroy()
            .and_then(tfplug_host::terraform::Output::success)
        {
            eprintln!(
                "the benchmark's fleet in {} was not destroyed: {error}",
                self.root.path().display()
            );
        }
    }
}

/// Jobs run as another user and reach the simulated machine's file below this folder.
fn open_to_all(dir: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(dir, fs::Permissions::from_mode(0o755))?;
    Ok(())
}

fn hcl(simulate: &str, model: &str, nodes: u32, per_node: u32) -> String {
    format!(
        r#"terraform {{
  required_providers {{
    gpuloom = {{ source = "gpuloom/gpuloom" }}
  }}
}}
provider "gpuloom" {{}}
resource "gpuloom_fleet" "bench" {{
  name = "bench"
  local {{ simulate = "{simulate}" }}
}}
resource "gpuloom_pool" "bench" {{
  fleet = gpuloom_fleet.bench.connection
  name  = "bench"
  gpu   = {{ model = "{model}", per_node = {per_node} }}
  local {{}}
  autoscaling {{
    min = {nodes}
    max = {nodes}
  }}
  on_destroy = "kill"
}}
resource "gpuloom_tenant" "bench" {{
  fleet = gpuloom_fleet.bench.connection
  name  = "bench"
}}
output "endpoint" {{ value = gpuloom_fleet.bench.connection.endpoints[0] }}
output "ca_pin" {{ value = gpuloom_fleet.bench.connection.ca_pin }}
"#
    )
}

/// A process and its children that are not jobs: what they use, by command name.
pub(crate) fn used(pid: i32) -> Result<Use> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let after = stat.rsplit_once(')').context("a stat line")?.1;
    let fields: Vec<&str> = after.split_whitespace().collect();
    let ticks: f64 = fields.get(11).context("utime")?.parse::<f64>()?
        + fields.get(12).context("stime")?.parse::<f64>()?;
    // Linux reports processor time in ticks of 1/100 s on every architecture we run on (USER_HZ).
    Ok(Use {
        rss_mib: super::start::resident_mib(pid)?,
        cpu_s: ticks / 100.0,
    })
}

/// The `gpu-probe` child of an agent.
pub(crate) fn probe_of(agent: i32) -> Result<Option<i32>> {
    let children =
        fs::read_to_string(format!("/proc/{agent}/task/{agent}/children")).unwrap_or_default();
    for thread in fs::read_dir(format!("/proc/{agent}/task"))? {
        let path = thread?.path().join("children");
        let all = format!(
            "{children} {}",
            fs::read_to_string(path).unwrap_or_default()
        );
        for child in all.split_whitespace() {
            let line = fs::read(format!("/proc/{child}/cmdline")).unwrap_or_default();
            if String::from_utf8_lossy(&line).contains("gpu-probe") {
                return Ok(Some(child.parse()?));
            }
        }
    }
    Ok(None)
}
