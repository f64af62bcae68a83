//! The real `terraform`, for the few tests where nothing else proves the point.
//!
//! A [`Cli`] is one working directory with its own CLI configuration: providers come through `dev_overrides` alone, so
//! `terraform init` is neither needed nor possible, and the machine's own `~/.terraformrc` is never read.

use std::ffi::{OsStr, OsString};
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use serde_json::Value as Json;
use tempfile::TempDir;

use crate::HostError;

/// What a person reads when terraform is missing.
pub const MISSING: &str = "terraform (1.11 or later) is not on PATH; install it from \
    https://developer.hashicorp.com/terraform/install and run the tests again";
/// The longest any one subcommand may take before [`Running::wait`] kills it.
pub const MAX_RUN: Duration = Duration::from_secs(300);

/// A working directory for the real terraform.
#[derive(Debug)]
pub struct Cli {
    terraform: PathBuf,
    dir: TempDir,
    overrides: Vec<(String, PathBuf)>,
    env: Vec<(OsString, OsString)>,
}

/// How one subcommand ended.
#[derive(Debug, Clone)]
pub struct Output {
    /// The exit status.
    pub status: ExitStatus,
    /// All of stdout.
    pub stdout: String,
    /// All of stderr.
    pub stderr: String,
    /// From start to end.
    pub took: Duration,
}

/// A subcommand that is still running, in a process group of its own.
#[derive(Debug)]
pub struct Running {
    child: Child,
    pid: Pid,
    started: Instant,
    lines: Receiver<String>,
    stdout: String,
    stderr: JoinHandle<String>,
}

// === impl Cli ===

impl Cli {
    /// Finds terraform on PATH and makes an empty working directory.
    ///
    /// # Errors
    /// [`HostError::Terraform`] with [`MISSING`] when it is not on PATH; [`HostError::Io`] without a temporary directory.
    pub fn new() -> Result<Self, HostError> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let terraform = find(&path).ok_or_else(|| HostError::Terraform(MISSING.to_owned()))?;
        let dir = tempfile::Builder::new()
            .prefix("tfplug-cli-")
            .tempdir()
            .map_err(HostError::Io)?;
        std::fs::create_dir(dir.path().join("work")).map_err(HostError::Io)?;
        let cli = Self {
            terraform,
            dir,
            overrides: Vec::new(),
            env: Vec::new(),
        };
        cli.write_config()?;
        Ok(cli)
    }

    /// Serves `source` ("namespace/name") from `binary`, whatever the binary's file name.
    ///
    /// # Errors
    /// [`HostError::Terraform`] when the binary does not exist, [`HostError::Io`] when the link cannot be made.
    pub fn provider(mut self, source: &str, binary: &Path) -> Result<Self, HostError> {
        let name = source.rsplit('/').next().unwrap_or(source);
        if !binary.is_file() {
            return Err(HostError::Terraform(format!(
                "the provider binary {} does not exist: build it first",
                binary.display()
            )));
        }
        let directory = self.dir.path().join("overrides").join(name);
        std::fs::create_dir_all(&directory).map_err(HostError::Io)?;
        let link = directory.join(format!("terraform-provider-{name}"));
        std::os::unix::fs::symlink(binary, link).map_err(HostError::Io)?;
        self.overrides.push((source.to_owned(), directory));
        self.write_config()?;
        Ok(self)
    }

    /// Sets an environment variable for terraform and so for the providers it starts.
    #[must_use]
    pub fn env(mut self, key: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.env.push((key.into(), value.into()));
        self
    }

    /// The directory that holds the `.tf` files and the state.
    #[must_use]
    pub fn work_dir(&self) -> PathBuf {
        self.dir.path().join("work")
    }

    /// Writes one file into the working directory, replacing it.
    ///
    /// # Errors
    /// [`HostError::Io`].
    pub fn write(&self, name: &str, text: &str) -> Result<(), HostError> {
        let path = self.work_dir().join(name);
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).map_err(HostError::Io)?;
        }
        std::fs::write(path, text).map_err(HostError::Io)
    }

    /// Starts a subcommand without waiting for it.
    ///
    /// # Errors
    /// [`HostError::Spawn`].
    pub fn start<A: AsRef<OsStr>>(&self, args: &[A]) -> Result<Running, HostError> {
        Running::start(self.command(args), &self.terraform)
    }

    /// Runs a subcommand to its end, whatever its exit status.
    ///
    /// # Errors
    /// [`HostError::Spawn`], or [`HostError::Timeout`] after [`MAX_RUN`].
    pub fn run<A: AsRef<OsStr>>(&self, args: &[A]) -> Result<Output, HostError> {
        self.start(args)?.wait(MAX_RUN)
    }

    /// `terraform validate -json`: the report, valid or not.
    ///
    /// # Errors
    /// As [`Cli::run`]; [`HostError::Terraform`] when the output is not JSON.
    pub fn validate(&self) -> Result<Json, HostError> {
        self.run(&["validate", "-json", "-no-color"])?.json()
    }

    /// `terraform plan` into `tfplan`, then the plan as JSON (`resource_changes` and so on).
    ///
    /// # Errors
    /// [`HostError::Terraform`] with terraform's own words when it fails.
    pub fn plan(&self) -> Result<Json, HostError> {
        self.run(&["plan", "-input=false", "-no-color", "-out=tfplan"])?
            .success()?;
        self.run(&["show", "-json", "tfplan"])?.success()?.json()
    }

    /// Whether `terraform plan` has nothing to do: exit code 0 of `-detailed-exitcode`.
    ///
    /// # Errors
    /// [`HostError::Terraform`] when the plan fails.
    pub fn plan_is_empty(&self) -> Result<bool, HostError> {
        let output = self.run(&["plan", "-input=false", "-no-color", "-detailed-exitcode"])?;
        match output.status.code() {
            Some(0) => Ok(true),
            Some(2) => Ok(false),
            _ => Err(output.failure()),
        }
    }

    /// `terraform apply -auto-approve -json`: its events, whatever the exit status.
    ///
    /// # Errors
    /// As [`Cli::run`].
    pub fn apply(&self) -> Result<Output, HostError> {
        self.run(&[
            "apply",
            "-auto-approve",
            "-input=false",
            "-no-color",
            "-json",
        ])
    }

    /// `terraform destroy -auto-approve -json`: its events, whatever the exit status.
    ///
    /// # Errors
    /// As [`Cli::run`].
    pub fn destroy(&self) -> Result<Output, HostError> {
        self.run(&[
            "destroy",
            "-auto-approve",
            "-input=false",
            "-no-color",
            "-json",
        ])
    }

    /// The state as `terraform show -json` tells it.
    ///
    /// # Errors
    /// [`HostError::Terraform`] when it fails.
    pub fn state(&self) -> Result<Json, HostError> {
        self.run(&["show", "-json"])?.success()?.json()
    }

    /// The root module's resources in state: address and attribute values.
    ///
    /// # Errors
    /// As [`Cli::state`].
    pub fn resources(&self) -> Result<Vec<(String, Json)>, HostError> {
        let state = self.state()?;
        let resources = state
            .pointer("/values/root_module/resources")
            .and_then(Json::as_array);
        Ok(resources
            .into_iter()
            .flatten()
            .map(|one| {
                (
                    one["address"].as_str().unwrap_or_default().to_owned(),
                    one["values"].clone(),
                )
            })
            .collect())
    }

    fn command<A: AsRef<OsStr>>(&self, args: &[A]) -> Command {
        let mut command = Command::new(&self.terraform);
        for (key, _) in std::env::vars_os() {
            if key.to_string_lossy().starts_with("TF_") {
                command.env_remove(key);
            }
        }
        command
            .args(args)
            .current_dir(self.work_dir())
            .env("TF_CLI_CONFIG_FILE", self.config_file())
            .env("TF_IN_AUTOMATION", "1")
            .env("CHECKPOINT_DISABLE", "1")
            .envs(self.env.iter().map(|(key, value)| (key, value)));
        command
    }

    fn config_file(&self) -> PathBuf {
        self.dir.path().join("terraform.rc")
    }

    fn write_config(&self) -> Result<(), HostError> {
        let mut text = String::from("provider_installation {\n  dev_overrides {\n");
        for (source, directory) in &self.overrides {
            text.push_str(&format!(
                "    {source:?} = {:?}\n",
                directory.display().to_string()
            ));
        }
        text.push_str("  }\n  direct {}\n}\n");
        std::fs::write(self.config_file(), text).map_err(HostError::Io)
    }
}

/// The first `terraform` in these directories.
fn find(path: &OsStr) -> Option<PathBuf> {
    std::env::split_paths(path)
        .map(|directory| directory.join("terraform"))
        .find(|file| file.is_file())
}

// === impl Output ===

impl Output {
    /// Itself when the exit status is 0.
    ///
    /// # Errors
    /// [`HostError::Terraform`] with all that terraform said.
    pub fn success(self) -> Result<Self, HostError> {
        if self.status.success() {
            Ok(self)
        } else {
            Err(self.failure())
        }
    }

    /// Stdout as one JSON document.
    ///
    /// # Errors
    /// [`HostError::Terraform`] when it is none.
    pub fn json(&self) -> Result<Json, HostError> {
        serde_json::from_str(&self.stdout).map_err(|source| {
            HostError::Terraform(format!("stdout is not JSON ({source}): {}", self.all()))
        })
    }

    /// Stdout of a `-json` run: one event a line; lines that are no JSON are left out.
    #[must_use]
    pub fn events(&self) -> Vec<Json> {
        self.stdout
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect()
    }

    /// The diagnostics among [`Output::events`] with this severity: `error` or `warning`, as "summary: detail".
    #[must_use]
    pub fn diagnostics(&self, severity: &str) -> Vec<String> {
        self.events()
            .iter()
            .filter_map(|event| event.get("diagnostic"))
            .filter(|diagnostic| diagnostic["severity"] == severity)
            .map(|diagnostic| {
                let text = |name: &str| diagnostic[name].as_str().unwrap_or_default().to_owned();
                format!("{}: {}", text("summary"), text("detail"))
            })
            .collect()
    }

    /// Stdout and stderr together.
    #[must_use]
    pub fn all(&self) -> String {
        format!("{}\n{}", self.stdout, self.stderr)
    }

    fn failure(&self) -> HostError {
        HostError::Terraform(format!("{}: {}", self.status, self.all()))
    }
}

// === impl Running ===

impl Running {
    fn start(mut command: Command, terraform: &Path) -> Result<Self, HostError> {
        use std::os::unix::process::CommandExt as _;
        let failed = |source| HostError::Spawn {
            binary: terraform.to_owned(),
            source,
        };
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .map_err(failed)?;
        let pid = i32::try_from(child.id())
            .ok()
            .and_then(Pid::from_raw)
            .ok_or_else(|| HostError::Terraform("terraform has no process id".to_owned()))?;
        let (sender, lines) = channel();
        if let Some(stdout) = child.stdout.take() {
            std::thread::spawn(move || {
                for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                    if sender.send(line).is_err() {
                        break;
                    }
                }
            });
        }
        let pipe = child.stderr.take();
        let stderr = std::thread::spawn(move || {
            let mut text = Vec::new();
            if let Some(mut pipe) = pipe {
                pipe.read_to_end(&mut text).ok();
            }
            String::from_utf8_lossy(&text).into_owned()
        });
        Ok(Self {
            child,
            pid,
            started: Instant::now(),
            lines,
            stdout: String::new(),
            stderr,
        })
    }

    /// Waits until stdout has a line containing `text`.
    ///
    /// # Errors
    /// [`HostError::Terraform`] with what was said instead when it ends first or takes longer than `limit`.
    pub fn wait_for(&mut self, text: &str, limit: Duration) -> Result<String, HostError> {
        let deadline = Instant::now() + limit;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) => {
                    self.stdout.push_str(&line);
                    self.stdout.push('\n');
                    if line.contains(text) {
                        return Ok(line);
                    }
                }
                Err(reason) => {
                    let why = if reason == RecvTimeoutError::Timeout {
                        "in time"
                    } else {
                        "before its end"
                    };
                    return Err(HostError::Terraform(format!(
                        "no line with {text:?} {why}: {}",
                        self.stdout
                    )));
                }
            }
        }
    }

    /// Ctrl-C: SIGINT to terraform and every provider of it, as a terminal sends it.
    ///
    /// # Errors
    /// [`HostError::Signal`] when it has ended.
    pub fn interrupt(&self) -> Result<(), HostError> {
        kill_process_group(self.pid, Signal::INT).map_err(|source| HostError::Signal {
            pid: self.pid.as_raw_nonzero().get(),
            source,
        })
    }

    /// SIGKILL to terraform alone: its providers lose their client.
    ///
    /// # Errors
    /// [`HostError::Signal`] when it has ended.
    pub fn kill(&self) -> Result<(), HostError> {
        kill_process(self.pid, Signal::KILL).map_err(|source| HostError::Signal {
            pid: self.pid.as_raw_nonzero().get(),
            source,
        })
    }

    /// Waits for the end; after `limit` the whole group is killed.
    ///
    /// # Errors
    /// [`HostError::Timeout`] after `limit`.
    pub fn wait(mut self, limit: Duration) -> Result<Output, HostError> {
        let deadline = self.started + limit;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) => {
                    self.stdout.push_str(&line);
                    self.stdout.push('\n');
                }
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {
                    kill_process_group(self.pid, Signal::KILL).ok();
                    self.child.wait().map_err(HostError::Io)?;
                    return Err(HostError::Timeout {
                        what: "terraform's end",
                        after: limit,
                    });
                }
            }
        }
        let status = self.child.wait().map_err(HostError::Io)?;
        let stderr = self.stderr.join().unwrap_or_default();
        Ok(Output {
            status,
            stdout: self.stdout,
            stderr,
            took: self.started.elapsed(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_terraform_is_noticed_and_the_message_says_where_to_get_it() {
        let empty = tempfile::tempdir().expect("a directory");
        assert_eq!(find(empty.path().as_os_str()), None);
        let file = empty.path().join("terraform");
        std::fs::write(&file, "").expect("a file");
        assert_eq!(find(empty.path().as_os_str()), Some(file));
        assert!(MISSING.contains("https://") && MISSING.contains("PATH"));
    }

    #[test]
    fn a_provider_that_is_not_built_is_noticed() {
        let Ok(cli) = Cli::new() else {
            panic!("{MISSING}")
        };
        let refused = cli
            .provider("a/b", Path::new("/no/such/binary"))
            .expect_err("not built");
        assert!(refused.to_string().contains("build it first"), "{refused}");
    }
}
