//! The `gpu-probe` child process: the only one that calls NVML.
//!
//! One thread calls the driver and beats when it is idle; while a call hangs it does not beat, and
//! that is how the agent notices. A second thread reads requests, a third sleeps in the driver's
//! event wait. The process ends when its standard input does.

use std::io::{BufRead, Read, Write};
use std::process::ExitCode;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use gpuloom_fleet::{Backend, DeviceId};

use crate::door::Door;
use crate::error::GpuError;
use crate::events::Listener;
use crate::probe::DEFAULT_BEAT;
use crate::wire::{Answer, FromProbe, MAX_LINE, Message, Request, ToProbe};

/// The hidden subcommand of `gpuloom` that is to call [`probe_main`], before any runtime starts.
pub const PROBE_COMMAND: &str = "gpu-probe";

/// How long a probe that nobody talks to any more waits for its driver call to return before it
/// exits all the same. Ending a process inside a real driver call has frozen GPUs, so long.
const LEAVE_NVML_AFTER: Duration = Duration::from_secs(120);
const LEAVE_SIMULATED_AFTER: Duration = Duration::from_millis(500);

const REFUSED: u8 = 3;
const USAGE: u8 = 64;

struct Options {
    backend: Backend,
    share: Option<Vec<DeviceId>>,
    beat: Duration,
}

/// Where messages go: one line at a time, from any thread.
#[derive(Clone)]
struct Outbox {
    backend: Backend,
    out: Arc<Mutex<std::io::Stdout>>,
}

/// Runs the probe until its standard input ends. `args` are those after the subcommand, as
/// [`crate::Probe::start`] makes them. Call it before starting threads or a runtime, so that the
/// process stays small.
///
/// Exits 0 at the end of input, 3 when the driver cannot be opened (after saying why on standard
/// output), 64 on wrong arguments.
pub fn probe_main(args: impl IntoIterator<Item = String>) -> ExitCode {
    let options = match parse(args) {
        Ok(options) => options,
        Err(why) => {
            eprintln!("gpu-probe: {why}");
            return ExitCode::from(USAGE);
        }
    };
    let outbox = Outbox::new(options.backend);
    let (requests, inbox) = mpsc::channel();
    let leave_after = match options.backend {
        Backend::Nvml => LEAVE_NVML_AFTER,
        Backend::Simulated => LEAVE_SIMULATED_AFTER,
    };
    thread::spawn(move || {
        read_requests(&requests);
        drop(requests);
        thread::sleep(leave_after);
        std::process::exit(0);
    });
    match Door::open(options.backend, options.share) {
        Ok(door) => serve(door, &outbox, &inbox, options.beat),
        Err(error) => {
            outbox.send(Message::Refused(error));
            ExitCode::from(REFUSED)
        }
    }
}

fn parse(args: impl IntoIterator<Item = String>) -> Result<Options, String> {
    let mut options = Options {
        backend: Backend::Nvml,
        share: None,
        beat: DEFAULT_BEAT,
    };
    let mut args = args.into_iter();
    while let Some(name) = args.next() {
        let value = args.next().ok_or_else(|| format!("{name} needs a value"))?;
        let bad = || format!("{name}: {value:?} is not valid");
        match name.as_str() {
            "--backend" => {
                options.backend = match value.as_str() {
                    "nvml" => Backend::Nvml,
                    "simulated" => Backend::Simulated,
                    _ => return Err(bad()),
                }
            }
            "--device" => {
                let id = DeviceId::new(&value).map_err(|e| e.to_string())?;
                options.share.get_or_insert_default().push(id);
            }
            "--beat-ms" => {
                let ms = value.parse().ok().filter(|ms| (10..=60_000).contains(ms));
                options.beat = Duration::from_millis(ms.ok_or_else(bad)?);
            }
            _ => return Err(format!("unknown option {name}")),
        }
    }
    Ok(options)
}

fn read_requests(requests: &mpsc::Sender<ToProbe>) {
    let mut input = std::io::stdin().lock();
    let mut line = Vec::new();
    let limit = MAX_LINE as u64;
    while matches!(input.by_ref().take(limit).read_until(b'\n', &mut line), Ok(n) if n > 0) {
        let request = match serde_json::from_slice(&line) {
            Ok(request) => request,
            Err(e) => {
                eprintln!("gpu-probe: a request that does not read: {e}");
                return;
            }
        };
        if requests.send(request).is_err() {
            return;
        }
        line.clear();
    }
}

fn serve(
    mut door: Door,
    outbox: &Outbox,
    inbox: &mpsc::Receiver<ToProbe>,
    beat: Duration,
) -> ExitCode {
    // Known devices are needed before the first reading; a failure shows in the first answer.
    if let Err(e) = door.discover() {
        eprintln!("gpu-probe: {e}");
    }
    let listener = Listener::new(door.nvml(), door.ids());
    let mut alive = outbox.send(Message::Hello(door.driver().clone()));
    let events = outbox.clone();
    thread::spawn(move || listener.run(|xid| events.send(Message::Xid(xid))));
    while alive {
        let message = match inbox.recv_timeout(beat) {
            Ok(ToProbe { id, request }) => match answer(&mut door, &request) {
                Ok(answer) => Message::Answer { id, answer },
                Err(error) => Message::Refusal { id, error },
            },
            Err(RecvTimeoutError::Timeout) => Message::Beat,
            Err(RecvTimeoutError::Disconnected) => break,
        };
        alive = outbox.send(message);
    }
    ExitCode::SUCCESS
}

fn answer(door: &mut Door, request: &Request) -> Result<Answer, GpuError> {
    Ok(match request {
        Request::Discover => Answer::Discovery(Box::new(door.discover()?)),
        Request::Read { at, processes } => Answer::Readings(door.read(*at, *processes)),
    })
}

// === impl Outbox ===

impl Outbox {
    fn new(backend: Backend) -> Self {
        Self {
            backend,
            out: Arc::new(Mutex::new(std::io::stdout())),
        }
    }

    /// Whether the agent still reads.
    fn send(&self, message: Message) -> bool {
        let line = serde_json::to_vec(&FromProbe {
            backend: self.backend,
            message,
        });
        let Ok(mut line) = line else {
            return false;
        };
        line.push(b'\n');
        let mut out = self.out.lock().unwrap_or_else(PoisonError::into_inner);
        out.write_all(&line).and_then(|()| out.flush()).is_ok()
    }
}
