//! Keeps one probe process alive and notices when the driver hangs.
//!
//! ```text
//! Starting --hello--> Answering --3 beats missed--> Unresponsive --respawn once--> (hello) Answering
//!    |                    |                             |
//!    +---- ended, refused-+--> Down --pause, respawn    +-- already respawned: wait for a sign of life
//! ```
//! A probe that hangs is never killed: a killed NVML client has frozen GPUs. Its pipes are closed
//! and it ends by itself once the driver lets go.

use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use gpuloom_fleet::Backend;
use gpuloom_watch::XidEvent;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::driver::Driver;
use crate::error::GpuError;
use crate::probe::{ProbeOptions, ProbeState};
use crate::simulated::SIM_STATE_ENV;
use crate::wire::{Answer, FromProbe, MAX_LINE, Message, Request, ToProbe};

/// Beats an answering probe may miss.
pub const MISSED_BEATS: u32 = 3;
/// Xids kept until somebody takes them.
pub const MAX_PENDING_EVENTS: usize = 1_024;

/// Shortest and longest pause before a probe that ended is started again; it doubles in between.
const PAUSE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// A probe that answered this long has earned its respawn back.
const STEADY: Duration = Duration::from_secs(600);
/// How long the end of a probe is awaited.
const LEAVE: Duration = Duration::from_secs(2);
/// Messages read ahead.
const READ_AHEAD: usize = 64;

/// A question and where its answer goes.
#[derive(Debug)]
pub(crate) struct Command {
    pub(crate) request: Request,
    pub(crate) reply: oneshot::Sender<Result<Answer, GpuError>>,
}

/// The task behind a [`crate::Probe`].
pub(crate) struct Supervisor {
    options: ProbeOptions,
    commands: mpsc::Receiver<Command>,
    events: mpsc::Sender<XidEvent>,
    state: watch::Sender<ProbeState>,
    pid: Arc<AtomicU32>,
    next_id: u64,
    may_respawn: bool,
}

/// One process and what is known of it.
struct Running {
    child: Child,
    stdin: ChildStdin,
    messages: mpsc::Receiver<FromProbe>,
    heard: Instant,
    answering_since: Option<Instant>,
    driver: Option<Driver>,
    hung: bool,
    pending: Option<(u64, oneshot::Sender<Result<Answer, GpuError>>)>,
}

/// How a probe process came to its end.
enum End {
    /// Nobody needs it any more.
    Unneeded,
    /// It hangs and another one is to be tried.
    Hung,
    /// It ended or could not open the driver.
    Down(GpuError),
}

// === impl Supervisor ===

impl Supervisor {
    pub(crate) fn new(
        options: ProbeOptions,
        commands: mpsc::Receiver<Command>,
        events: mpsc::Sender<XidEvent>,
        state: watch::Sender<ProbeState>,
        pid: Arc<AtomicU32>,
    ) -> Self {
        Self {
            options,
            commands,
            events,
            state,
            pid,
            next_id: 0,
            may_respawn: true,
        }
    }

    pub(crate) async fn run(mut self) {
        let mut pause = PAUSE.0;
        loop {
            let end = match self.spawn() {
                Ok(mut running) => {
                    let end = self.serve(&mut running).await;
                    self.pid.store(0, Ordering::Relaxed);
                    if running
                        .answering_since
                        .is_some_and(|since| since.elapsed() >= PAUSE.1)
                    {
                        pause = PAUSE.0;
                    }
                    self.part_with(running, &end).await;
                    end
                }
                Err(error) => End::Down(error),
            };
            match end {
                End::Unneeded => return,
                End::Hung => tracing::warn!("starting one more gpu-probe beside the hanging one"),
                End::Down(error) => {
                    tracing::warn!(%error, pause_s = pause.as_secs(), "gpu-probe is down");
                    self.state.send_replace(ProbeState::Down {
                        error: error.clone(),
                    });
                    if !self.refuse_for(pause, &error).await {
                        return;
                    }
                    pause = (pause * 2).min(PAUSE.1);
                }
            }
        }
    }

    fn spawn(&self) -> Result<Running, GpuError> {
        let gone = |what: &str, e: std::io::Error| GpuError::ProbeGone {
            reason: format!("{what}: {e}"),
        };
        let program = match &self.options.program {
            Some(program) => program.clone(),
            None => std::env::current_exe().map_err(|e| gone("the running executable", e))?,
        };
        let mut command = tokio::process::Command::new(&program);
        command
            .args(&self.options.arguments)
            .args(probe_arguments(&self.options));
        // Nothing of the environment may decide which library is loaded.
        command.env_clear();
        if let (Backend::Simulated, Some(state)) = (self.options.backend, &self.options.sim_state) {
            command.env(SIM_STATE_ENV, state);
        }
        // A group of its own: an interrupt typed at the agent's terminal is not for it.
        command.process_group(0);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(false);
        let mut child = command
            .spawn()
            .map_err(|e| gone(&format!("starting {}", program.display()), e))?;
        let (Some(stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(GpuError::ProbeGone {
                reason: "it has no pipes".to_owned(),
            });
        };
        self.pid.store(child.id().unwrap_or(0), Ordering::Relaxed);
        let (sender, messages) = mpsc::channel(READ_AHEAD);
        tokio::spawn(read_messages(stdout, sender));
        Ok(Running {
            child,
            stdin,
            messages,
            heard: Instant::now(),
            answering_since: None,
            driver: None,
            hung: false,
            pending: None,
        })
    }

    async fn serve(&mut self, running: &mut Running) -> End {
        loop {
            let idle = running.pending.is_none();
            let silent_at = running.heard + self.patience(running);
            tokio::select! {
                message = running.messages.recv() => match message {
                    Some(message) => {
                        if let Some(end) = self.heard(running, message.message) {
                            return end;
                        }
                    }
                    None => return End::Down(ended(&mut running.child).await),
                },
                command = self.commands.recv(), if idle => match command {
                    Some(command) => self.pass_on(running, command).await,
                    None => return End::Unneeded,
                },
                () = sleep_until(silent_at), if !running.hung => {
                    if self.silent(running) {
                        return End::Hung;
                    }
                }
            }
        }
    }

    /// How long the probe may stay silent: longer while it opens the driver.
    fn patience(&self, running: &Running) -> Duration {
        match running.answering_since {
            None => self.options.start_timeout,
            Some(_) => self.options.beat * MISSED_BEATS + self.options.beat / 2,
        }
    }

    /// Takes a message; some end when the probe is to be given up.
    fn heard(&mut self, running: &mut Running, message: Message) -> Option<End> {
        // Xids come from a thread of their own and prove nothing about the driver's other calls.
        if let Message::Xid(xid) = message {
            if let Err(e) = self.events.try_send(xid) {
                tracing::warn!("an Xid is dropped: {e}");
            }
            return None;
        }
        running.heard = Instant::now();
        match message {
            Message::Refused(error) => return Some(End::Down(error)),
            Message::Hello(driver) => {
                running.answering_since = Some(Instant::now());
                running.driver = Some(driver);
                self.answers(running);
            }
            Message::Answer { id, answer } => running.complete(id, Ok(answer)),
            Message::Refusal { id, error } => running.complete(id, Err(error)),
            Message::Beat | Message::Xid(_) => {}
        }
        if running.hung {
            self.answers(running);
        }
        None
    }

    fn answers(&self, running: &mut Running) {
        if let Some(driver) = &running.driver {
            running.hung = false;
            self.state
                .send_replace(ProbeState::Answering(driver.clone()));
        }
    }

    async fn pass_on(&mut self, running: &mut Running, command: Command) {
        if running.hung || running.answering_since.is_none() {
            let reason = self.state.borrow().trouble().unwrap_or_default();
            answer(command.reply, Err(GpuError::Unresponsive { reason }));
            return;
        }
        self.next_id += 1;
        let line = serde_json::to_vec(&ToProbe {
            id: self.next_id,
            request: command.request,
        });
        let mut line = line.unwrap_or_default();
        line.push(b'\n');
        match running.stdin.write_all(&line).await {
            Ok(()) => running.pending = Some((self.next_id, command.reply)),
            Err(e) => {
                let reason = format!("writing to it: {e}");
                answer(command.reply, Err(GpuError::ProbeGone { reason }));
            }
        }
    }

    /// The probe has been silent too long. Returns whether another one is to be tried.
    fn silent(&mut self, running: &mut Running) -> bool {
        let reason = match running.answering_since {
            Some(_) => format!(
                "a driver call has not returned for {} ms ({MISSED_BEATS} beats missed)",
                running.heard.elapsed().as_millis()
            ),
            None => format!(
                "the driver did not open within {:?}",
                self.options.start_timeout
            ),
        };
        tracing::error!(%reason, "the GPU driver does not answer; no jobs are admitted");
        self.state.send_replace(ProbeState::Unresponsive {
            reason: reason.clone(),
        });
        running.hung = true;
        if let Some((_, reply)) = running.pending.take() {
            answer(reply, Err(GpuError::Unresponsive { reason }));
        }
        let steady = running
            .answering_since
            .is_some_and(|since| since.elapsed() >= STEADY);
        let again = running.answering_since.is_some() && (self.may_respawn || steady);
        self.may_respawn = false;
        again
    }

    /// Answers every question with the error until the pause is over; false when nobody is left
    /// to ask.
    async fn refuse_for(&mut self, pause: Duration, error: &GpuError) -> bool {
        let until = sleep(pause);
        tokio::pin!(until);
        loop {
            tokio::select! {
                () = &mut until => return true,
                command = self.commands.recv() => match command {
                    Some(command) => answer(command.reply, Err(error.clone())),
                    None => return false,
                },
            }
        }
    }

    /// Closes the probe's pipes; waits for its end unless it hangs.
    async fn part_with(&self, running: Running, end: &End) {
        let Running {
            mut child,
            stdin,
            messages,
            pending,
            hung,
            ..
        } = running;
        drop((stdin, messages));
        if let (Some((_, reply)), End::Down(error)) = (pending, end) {
            answer(reply, Err(error.clone()));
        }
        if !hung && timeout(LEAVE, child.wait()).await.is_err() {
            tracing::warn!(
                pid = child.id(),
                "gpu-probe has not ended yet; it is left to itself"
            );
        }
    }
}

// === impl Running ===

impl Running {
    fn complete(&mut self, id: u64, result: Result<Answer, GpuError>) {
        // An answer to a question that was given up on is only a sign of life.
        if let Some((_, reply)) = self.pending.take_if(|(pending, _)| *pending == id) {
            answer(reply, result);
        }
    }
}

fn probe_arguments(options: &ProbeOptions) -> Vec<String> {
    let backend = match options.backend {
        Backend::Nvml => "nvml",
        Backend::Simulated => "simulated",
    };
    let beat = options.beat.as_millis().to_string();
    let mut arguments = vec![
        "--backend".to_owned(),
        backend.to_owned(),
        "--beat-ms".to_owned(),
        beat,
    ];
    for id in options.share.iter().flatten() {
        arguments.extend(["--device".to_owned(), id.to_string()]);
    }
    arguments
}

async fn read_messages(stdout: ChildStdout, sender: mpsc::Sender<FromProbe>) {
    let mut reader = BufReader::new(stdout);
    let limit = u64::try_from(MAX_LINE).unwrap_or(u64::MAX);
    let mut line = Vec::new();
    loop {
        line.clear();
        match (&mut reader).take(limit).read_until(b'\n', &mut line).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        match serde_json::from_slice(&line) {
            Ok(message) => {
                if sender.send(message).await.is_err() {
                    return;
                }
            }
            Err(error) => {
                tracing::error!(%error, "gpu-probe said something that does not read");
                return;
            }
        }
    }
}

/// Why a probe that closed its output has gone.
async fn ended(child: &mut Child) -> GpuError {
    let reason = match timeout(LEAVE, child.wait()).await {
        Ok(Ok(status)) => status.to_string(),
        Ok(Err(e)) => format!("waiting for it: {e}"),
        Err(_) => "it closed its output".to_owned(),
    };
    GpuError::ProbeGone { reason }
}

fn answer(reply: oneshot::Sender<Result<Answer, GpuError>>, result: Result<Answer, GpuError>) {
    if reply.send(result).is_err() {
        tracing::debug!("nobody waits for this answer of gpu-probe any more");
    }
}
