//! A provider as a child process: started as go-plugin starts it, listened to, signalled and ended.

use std::ffi::OsString;
use std::hash::{BuildHasher, Hasher};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader};
use tokio::process::{Child, ChildStdout, Command};
use tokio::task::JoinHandle;

use crate::cert::ClientIdentity;
use crate::handshake::Handshake;
use crate::{HostError, hclog};

/// The name of the environment variable that tells a provider it was started by Terraform.
pub const MAGIC_COOKIE_KEY: &str = "TF_PLUGIN_MAGIC_COOKIE";
/// The value of [`MAGIC_COOKIE_KEY`]; a fact of the protocol, not a secret.
pub const MAGIC_COOKIE_VALUE: &str =
    "d602bf8f470bc67ca7faa0386276bbdd4330efaf76d1a219cb4d6991ca9872b2";
/// How long go-plugin waits after `Shutdown` before it kills.
pub const SHUTDOWN_GRACE: Duration = Duration::from_secs(2);
/// The longest handshake line read, in bytes.
const MAX_HANDSHAKE_BYTES: u64 = 64 * 1024;
/// The most stderr kept per process, in lines; later lines are dropped.
const MAX_LOG_LINES: usize = 100_000;

/// How a provider process is started. The default is what Terraform does.
#[derive(Debug, Clone)]
pub struct SpawnOptions {
    /// Variables set on top of this process's environment.
    pub env: Vec<(OsString, OsString)>,
    /// Arguments; Terraform passes none.
    pub args: Vec<OsString>,
    /// Whether `PLUGIN_CLIENT_CERT` is set and the connection is mutual TLS. False is `TF_DISABLE_PLUGIN_TLS=1`.
    pub tls: bool,
    /// How long the provider may take until its handshake line. Terraform waits a minute.
    pub start_timeout: Duration,
    /// The directory the provider runs in; this process's when `None`.
    pub working_dir: Option<PathBuf>,
}

/// A running provider after its handshake.
#[derive(Debug)]
pub struct ProviderProcess {
    child: Child,
    pid: Pid,
    handshake: Handshake,
    handshake_after: Duration,
    stderr: Arc<Mutex<Vec<String>>>,
    late_stdout: Arc<Mutex<Vec<u8>>>,
    readers: Vec<JoinHandle<()>>,
}

// === impl SpawnOptions ===

impl Default for SpawnOptions {
    fn default() -> Self {
        Self {
            env: Vec::new(),
            args: Vec::new(),
            tls: true,
            start_timeout: Duration::from_secs(20),
            working_dir: None,
        }
    }
}

impl SpawnOptions {
    /// Adds one environment variable.
    #[must_use]
    pub fn env(mut self, key: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.env.push((key.into(), value.into()));
        self
    }

    /// Turns mutual TLS off, as `TF_DISABLE_PLUGIN_TLS=1` does.
    #[must_use]
    pub fn without_tls(mut self) -> Self {
        self.tls = false;
        self
    }
}

// === impl ProviderProcess ===

impl ProviderProcess {
    /// Starts `binary` and waits for its handshake line.
    ///
    /// # Errors
    /// [`HostError::Spawn`] when it cannot be started, [`HostError::Handshake`] when its first stdout line is not the
    /// handshake, [`HostError::Exited`] when it ends before, [`HostError::Timeout`] when it says nothing.
    pub async fn spawn(
        binary: &Path,
        options: &SpawnOptions,
        identity: Option<&ClientIdentity>,
    ) -> Result<Self, HostError> {
        let started = Instant::now();
        let mut child = command(binary, options, identity)
            .spawn()
            .map_err(|source| HostError::Spawn {
                binary: binary.to_owned(),
                source,
            })?;
        let pid = child
            .id()
            .and_then(|id| i32::try_from(id).ok())
            .and_then(Pid::from_raw)
            .ok_or_else(|| {
                HostError::Handshake("the provider ended before its handshake".to_owned())
            })?;
        let stderr = Arc::default();
        let mut readers = Vec::new();
        if let Some(pipe) = child.stderr.take() {
            readers.push(tokio::spawn(collect_lines(pipe, Arc::clone(&stderr))));
        }
        let Some(pipe) = child.stdout.take() else {
            return Err(HostError::Handshake(
                "the provider's stdout is not a pipe".to_owned(),
            ));
        };
        let mut stdout = BufReader::new(pipe);
        let line = match tokio::time::timeout(options.start_timeout, first_line(&mut stdout)).await
        {
            Ok(line) => line?,
            Err(_) => {
                return Err(HostError::Timeout {
                    what: "the handshake line",
                    after: options.start_timeout,
                });
            }
        };
        let handshake_after = started.elapsed();
        if line.is_empty() {
            let status = child.wait().await.map_err(|source| HostError::Spawn {
                binary: binary.to_owned(),
                source,
            })?;
            for reader in readers {
                reader.await.ok();
            }
            return Err(HostError::Exited {
                status,
                stderr: lock(&stderr).join("\n"),
            });
        }
        let handshake = Handshake::parse(&line, options.tls)?;
        let late_stdout = Arc::default();
        readers.push(tokio::spawn(collect_bytes(
            stdout,
            Arc::clone(&late_stdout),
        )));
        Ok(Self {
            child,
            pid,
            handshake,
            handshake_after,
            stderr,
            late_stdout,
            readers,
        })
    }

    /// The parsed handshake line.
    #[must_use]
    pub fn handshake(&self) -> &Handshake {
        &self.handshake
    }

    /// From `fork` to the complete handshake line.
    #[must_use]
    pub fn handshake_after(&self) -> Duration {
        self.handshake_after
    }

    /// The process id.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.pid.as_raw_nonzero().get()
    }

    /// Every stderr line so far, without newlines.
    #[must_use]
    pub fn stderr(&self) -> Vec<String> {
        lock(&self.stderr).clone()
    }

    /// What was written to stdout after the handshake line: must stay empty.
    #[must_use]
    pub fn late_stdout(&self) -> Vec<u8> {
        lock(&self.late_stdout).clone()
    }

    /// Every stderr line that Terraform would not take as a log entry, with the reason.
    #[must_use]
    pub fn bad_log_lines(&self) -> Vec<String> {
        lock(&self.stderr)
            .iter()
            .filter_map(|line| hclog::parse(line).err())
            .collect()
    }

    /// Sends SIGINT, as a terminal does on Ctrl-C to the whole process group.
    ///
    /// # Errors
    /// [`HostError::Signal`] when the process is gone.
    pub fn interrupt(&self) -> Result<(), HostError> {
        kill_process(self.pid, Signal::INT).map_err(|source| HostError::Signal {
            pid: self.pid(),
            source,
        })
    }

    /// Sends SIGKILL and waits for the end.
    ///
    /// # Errors
    /// [`HostError::Timeout`] when the kernel does not reap it in [`SHUTDOWN_GRACE`].
    pub async fn kill(&mut self) -> Result<ExitStatus, HostError> {
        self.child.start_kill().ok();
        self.wait(SHUTDOWN_GRACE).await
    }

    /// Waits for the process to end by itself and for its last stderr lines.
    ///
    /// # Errors
    /// [`HostError::Timeout`] when it is still running after `limit`.
    pub async fn wait(&mut self, limit: Duration) -> Result<ExitStatus, HostError> {
        let status = match tokio::time::timeout(limit, self.child.wait()).await {
            Ok(Ok(status)) => status,
            Ok(Err(source)) => return Err(HostError::Io(source)),
            Err(_) => {
                return Err(HostError::Timeout {
                    what: "the provider's end",
                    after: limit,
                });
            }
        };
        for reader in self.readers.drain(..) {
            tokio::time::timeout(limit, reader).await.ok();
        }
        Ok(status)
    }

    /// Whether the process has ended.
    pub fn has_exited(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(Some(_)))
    }
}

/// The command with the environment that go-plugin gives.
fn command(binary: &Path, options: &SpawnOptions, identity: Option<&ClientIdentity>) -> Command {
    let mut command = Command::new(binary);
    command
        .args(&options.args)
        .env(MAGIC_COOKIE_KEY, MAGIC_COOKIE_VALUE)
        .env("PLUGIN_PROTOCOL_VERSIONS", protocol_versions())
        .env("PLUGIN_MIN_PORT", "10000")
        .env("PLUGIN_MAX_PORT", "25000")
        .env_remove("PLUGIN_CLIENT_CERT")
        .envs(options.env.iter().map(|(key, value)| (key, value)))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    if let Some(identity) = identity.filter(|_| options.tls) {
        command.env("PLUGIN_CLIENT_CERT", &identity.pem);
    }
    if let Some(directory) = &options.working_dir {
        command.current_dir(directory);
    }
    command
}

/// "5,6" or "6,5": Terraform builds the list from a Go map, so the order changes from run to run (trap 3).
fn protocol_versions() -> &'static str {
    let coin = std::hash::RandomState::new().build_hasher().finish();
    if coin & 1 == 0 { "5,6" } else { "6,5" }
}

async fn first_line(stdout: &mut BufReader<ChildStdout>) -> Result<Vec<u8>, HostError> {
    let mut line = Vec::new();
    stdout
        .take(MAX_HANDSHAKE_BYTES)
        .read_until(b'\n', &mut line)
        .await
        .map_err(HostError::Io)?;
    Ok(line)
}

async fn collect_lines(pipe: impl AsyncRead + Unpin, into: Arc<Mutex<Vec<String>>>) {
    let mut reader = BufReader::new(pipe);
    let mut line = Vec::new();
    while matches!(reader.read_until(b'\n', &mut line).await, Ok(read) if read > 0) {
        let text = String::from_utf8_lossy(&line)
            .trim_end_matches(['\n', '\r'])
            .to_owned();
        let mut lines = lock(&into);
        if lines.len() < MAX_LOG_LINES {
            lines.push(text);
        }
        drop(lines);
        line.clear();
    }
}

async fn collect_bytes(mut reader: BufReader<ChildStdout>, into: Arc<Mutex<Vec<u8>>>) {
    let mut chunk = [0_u8; 4096];
    while let Ok(read @ 1..) = reader.read(&mut chunk).await {
        lock(&into).extend_from_slice(&chunk[..read]);
    }
}

/// A panicking reader leaves what it had collected: still worth reading.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
