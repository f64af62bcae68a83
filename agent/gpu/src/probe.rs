//! The agent's side of the door: questions, answers and whether the driver is well.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use gpuloom_fleet::{Backend, DeviceId, Millis};
use gpuloom_watch::{Reading, XidEvent};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use crate::driver::{Discovery, Driver};
use crate::error::GpuError;
use crate::supervise::{self, Command, MAX_PENDING_EVENTS};
use crate::wire::{Answer, Request};

/// What [`ProbeState::trouble`] says of a driver that is being opened: a moment of each start.
pub const OPENING: &str = "the GPU driver is being opened";
/// Time between two signs of life of an idle probe.
pub const DEFAULT_BEAT: Duration = Duration::from_secs(1);
/// Process lists are asked for in every second reading: they cost the driver milliseconds under
/// its global lock, everything else microseconds.
pub const DEFAULT_PROCESSES_EVERY: u32 = 2;

/// How long the driver may take to open: without persistence mode, seconds per GPU.
const DEFAULT_START_TIMEOUT: Duration = Duration::from_secs(60);
/// Questions waiting for their turn.
const MAX_PENDING_COMMANDS: usize = 16;

/// How a probe is started.
#[derive(Debug, Clone)]
pub struct ProbeOptions {
    /// The program; itself normally. `None`: the running executable.
    pub program: Option<PathBuf>,
    /// Arguments before the probe's own, [`crate::PROBE_COMMAND`] normally.
    pub arguments: Vec<String>,
    /// The real driver or the simulated one. Never guessed.
    pub backend: Backend,
    /// The simulated machine's file; only with [`Backend::Simulated`], and needed there.
    pub sim_state: Option<PathBuf>,
    /// The node's share of the machine; `None` is every device.
    pub share: Option<Vec<DeviceId>>,
    /// Time between two signs of life, 10 ms to 60 s. Three missed: the driver does not answer.
    pub beat: Duration,
    /// How long the first sign of life may take.
    pub start_timeout: Duration,
    /// In every how many readings processes are listed; 0 and 1: in each.
    pub processes_every: u32,
}

/// Whether the driver answers. Jobs may be admitted in [`ProbeState::Answering`] only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProbeState {
    /// The probe is starting, for the first time or again.
    Starting,
    /// All is well.
    Answering(Driver),
    /// A driver call hangs. The probe is started again once; then its end is awaited.
    Unresponsive {
        /// How it was noticed.
        reason: String,
    },
    /// The probe ended or could not open the driver; it is started again after a pause.
    Down {
        /// Why.
        error: GpuError,
    },
}

/// A handle on the probe process. Dropping it ends the probe, gently.
#[derive(Debug)]
pub struct Probe {
    commands: mpsc::Sender<Command>,
    state: watch::Receiver<ProbeState>,
    pid: Arc<AtomicU32>,
    processes_every: u32,
    readings: AtomicU32,
    supervisor: JoinHandle<()>,
}

// === impl ProbeOptions ===

impl ProbeOptions {
    /// The real driver, every device, this executable's `gpu-probe` subcommand.
    #[must_use]
    pub fn nvml() -> Self {
        Self {
            program: None,
            arguments: vec![crate::PROBE_COMMAND.to_owned()],
            backend: Backend::Nvml,
            sim_state: None,
            share: None,
            beat: DEFAULT_BEAT,
            start_timeout: DEFAULT_START_TIMEOUT,
            processes_every: DEFAULT_PROCESSES_EVERY,
        }
    }

    /// The simulated driver on the machine in the file `state`; else as [`ProbeOptions::nvml`].
    #[must_use]
    pub fn simulated(state: impl Into<PathBuf>) -> Self {
        Self {
            backend: Backend::Simulated,
            sim_state: Some(state.into()),
            ..Self::nvml()
        }
    }
}

// === impl ProbeState ===

impl ProbeState {
    /// Whether jobs may be admitted.
    #[must_use]
    pub fn admits(&self) -> bool {
        matches!(self, Self::Answering(_))
    }

    /// What is wrong, for people; `None` when nothing is.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        match self {
            Self::Answering(_) => None,
            Self::Starting => Some(OPENING.to_owned()),
            Self::Unresponsive { reason } => Some(reason.clone()),
            Self::Down { error } => Some(error.to_string()),
        }
    }
}

// === impl Probe ===

impl Probe {
    /// Starts the probe and waits until the driver is open. Xids arrive in the receiver; when
    /// nobody takes them, those past [`MAX_PENDING_EVENTS`] are dropped with a warning.
    ///
    /// # Errors
    /// [`GpuError::NoLibrary`], [`GpuError::NoDriver`], [`GpuError::NoSimulator`]: a person must
    /// act. [`GpuError::Unresponsive`] after `start_timeout`, [`GpuError::ProbeGone`] when the
    /// process cannot be started or ends at once. Nothing is left running then.
    pub async fn start(
        options: ProbeOptions,
    ) -> Result<(Self, mpsc::Receiver<XidEvent>), GpuError> {
        let processes_every = options.processes_every.max(1);
        let (commands, inbox) = mpsc::channel(MAX_PENDING_COMMANDS);
        let (events, xids) = mpsc::channel(MAX_PENDING_EVENTS);
        let (set_state, mut state) = watch::channel(ProbeState::Starting);
        let pid = Arc::new(AtomicU32::new(0));
        let parts = supervise::Supervisor::new(options, inbox, events, set_state, pid.clone());
        let supervisor = tokio::spawn(parts.run());
        let first = state.wait_for(|s| *s != ProbeState::Starting).await;
        let failed = match first.as_deref() {
            Ok(ProbeState::Answering(_)) => None,
            Ok(ProbeState::Unresponsive { reason }) => Some(GpuError::Unresponsive {
                reason: reason.clone(),
            }),
            Ok(ProbeState::Down { error }) => Some(error.clone()),
            Ok(ProbeState::Starting) | Err(_) => Some(gone()),
        };
        drop(first);
        if let Some(error) = failed {
            supervisor.abort();
            return Err(error);
        }
        let readings = AtomicU32::new(0);
        let probe = Self {
            commands,
            state,
            pid,
            processes_every,
            readings,
            supervisor,
        };
        Ok((probe, xids))
    }

    /// Looks for the devices of the share anew.
    ///
    /// # Errors
    /// [`GpuError::Unresponsive`] or [`GpuError::ProbeGone`] while the probe is not answering;
    /// [`GpuError::Call`] when the driver refuses.
    pub async fn discover(&self) -> Result<Discovery, GpuError> {
        match self.ask(Request::Discover).await? {
            Answer::Discovery(discovery) => Ok(*discovery),
            Answer::Readings(_) => Err(mixed_up()),
        }
    }

    /// Reads every device of the share once; nothing is asked of the driver in between. Processes
    /// are listed in every [`ProbeOptions::processes_every`]th reading, the first included.
    ///
    /// # Errors
    /// As [`Probe::discover`].
    pub async fn read(&self, now: Millis) -> Result<Vec<Reading>, GpuError> {
        let turn = self.readings.fetch_add(1, Ordering::Relaxed);
        self.read_with(now, turn.is_multiple_of(self.processes_every))
            .await
    }

    /// As [`Probe::read`], with processes now or not.
    ///
    /// # Errors
    /// As [`Probe::discover`].
    pub async fn read_with(&self, at: Millis, processes: bool) -> Result<Vec<Reading>, GpuError> {
        match self.ask(Request::Read { at, processes }).await? {
            Answer::Readings(readings) => Ok(readings),
            Answer::Discovery(_) => Err(mixed_up()),
        }
    }

    async fn ask(&self, request: Request) -> Result<Answer, GpuError> {
        let (reply, answer) = oneshot::channel();
        let command = Command { request, reply };
        self.commands.send(command).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }

    /// Whether the driver answers, now.
    #[must_use]
    pub fn state(&self) -> ProbeState {
        self.state.borrow().clone()
    }

    /// Follows the state.
    #[must_use]
    pub fn watch_state(&self) -> watch::Receiver<ProbeState> {
        self.state.clone()
    }

    /// Process id of the current probe; `None` while there is none.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        Some(self.pid.load(Ordering::Relaxed)).filter(|pid| *pid != 0)
    }

    /// Ends the probe and waits until it has gone, at most two seconds: one that hangs in the
    /// driver is left to end by itself.
    pub async fn stop(self) {
        drop(self.commands);
        if self.supervisor.await.is_err() {
            tracing::warn!("the gpu-probe supervisor ended abnormally");
        }
    }
}

fn gone() -> GpuError {
    GpuError::ProbeGone {
        reason: "its supervisor has ended".to_owned(),
    }
}

fn mixed_up() -> GpuError {
    GpuError::ProbeGone {
        reason: "it answered another question".to_owned(),
    }
}
