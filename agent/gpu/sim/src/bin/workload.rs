//! `gpuloom-sim-workload`: a program that uses simulated GPUs as a CUDA program uses real ones.
#![expect(unsafe_code, reason = "signals are blocked and awaited through libc")]

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use gpuloom_nvml_sim::{Machine, Owner, ProcessKind, STATE_ENV, SimError, parse_bytes};

const HELP: &str = "\
gpuloom-sim-workload: hold memory on simulated GPUs, like a CUDA program

Usage: gpuloom-sim-workload [OPTIONS]

Uses the devices of CUDA_VISIBLE_DEVICES (indices or UUIDs; unset means all) of the machine in
GPULOOM_SIM_STATE.

  --gpu-memory SIZE     memory on each device (default 1GiB)
  --utilization N       busy percentage of each device, 0-100 (default 80)
  --duration TIME       how long: 500ms, 5s, 2m (default: until a signal)
  --grow-to SIZE        ask for this much on each device ...
  --grow-after TIME     ... after this long (default 1s)
  --exit-code N         code when the duration has passed (default 0)
  --on-term WHAT        on SIGTERM: exit (default), ignore, or checkpoint:FILE
                        (write the time done to FILE; a run that finds FILE goes on from there)
  -h, --help            this text

Exit: --exit-code when done, 2 out of memory, 3 no device or machine, 4 device lost, 64 usage,
143 after SIGTERM";

/// How often a running workload looks whether its GPUs are still there.
const LOOK_EVERY: Duration = Duration::from_millis(200);

enum OnTerm {
    Exit,
    Ignore,
    Checkpoint(PathBuf),
}

struct Options {
    memory: u64,
    utilization: u32,
    duration: Option<Duration>,
    grow_to: Option<u64>,
    grow_after: Duration,
    exit_code: u8,
    on_term: OnTerm,
}

struct Failure(u8, String);

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if args.iter().any(|a| a == "-h" || a == "--help") {
        println!("{HELP}");
        return ExitCode::SUCCESS;
    }
    match options(&args).and_then(|options| work(&options)) {
        Ok(code) => ExitCode::from(code),
        Err(Failure(code, why)) => {
            eprintln!("gpuloom-sim-workload: {why}");
            ExitCode::from(code)
        }
    }
}

fn options(args: &[String]) -> Result<Options, Failure> {
    let mut options = Options {
        memory: 1 << 30,
        utilization: 80,
        duration: None,
        grow_to: None,
        grow_after: Duration::from_secs(1),
        exit_code: 0,
        on_term: OnTerm::Exit,
    };
    let mut args = args.iter();
    while let Some(name) = args.next() {
        let value = args
            .next()
            .ok_or_else(|| usage(format!("{name} needs a value")))?;
        let bad = || usage(format!("{name}: `{value}` is not valid; see --help"));
        match name.as_str() {
            "--gpu-memory" => options.memory = parse_bytes(value).ok_or_else(bad)?,
            "--utilization" => options.utilization = value.parse().map_err(|_| bad())?,
            "--duration" => options.duration = Some(parse_time(value).ok_or_else(bad)?),
            "--grow-to" => options.grow_to = Some(parse_bytes(value).ok_or_else(bad)?),
            "--grow-after" => options.grow_after = parse_time(value).ok_or_else(bad)?,
            "--exit-code" => options.exit_code = value.parse().map_err(|_| bad())?,
            "--on-term" => {
                options.on_term = match value.split_once(':') {
                    None if value == "exit" => OnTerm::Exit,
                    None if value == "ignore" => OnTerm::Ignore,
                    Some(("checkpoint", file)) if !file.is_empty() => {
                        OnTerm::Checkpoint(file.into())
                    }
                    _ => return Err(bad()),
                }
            }
            _ => return Err(usage(format!("unknown option {name}; see --help"))),
        }
    }
    Ok(options)
}

fn work(options: &Options) -> Result<u8, Failure> {
    let signals = block_signals();
    let path = std::env::var_os(STATE_ENV).map(PathBuf::from);
    let path = path.ok_or_else(|| Failure(3, format!("no CUDA driver: {STATE_ENV} is not set")))?;
    let machine = Machine::open(&path).map_err(failed)?;
    let devices = visible(&machine)?;
    let owner = Owner::current();
    let claim = |bytes: u64| {
        devices.iter().try_for_each(|index| {
            machine.claim(
                *index,
                owner,
                bytes,
                options.utilization,
                ProcessKind::Compute,
            )
        })
    };
    claim(options.memory).map_err(failed)?;
    let done_before = resumed(&options.on_term);
    println!(
        "holding {} MiB on {} device(s){}",
        options.memory >> 20,
        devices.len(),
        if done_before.is_zero() {
            String::new()
        } else {
            format!(", going on after {} ms", done_before.as_millis())
        }
    );
    let start = Instant::now();
    let end = options
        .duration
        .map(|d| start + d.saturating_sub(done_before));
    let mut grow = options
        .grow_to
        .map(|bytes| (start + options.grow_after, bytes));
    loop {
        let now = Instant::now();
        if let Some((_, bytes)) = grow.take_if(|(at, _)| *at <= now) {
            claim(bytes).map_err(failed)?;
            println!("grown to {} MiB", bytes >> 20);
        }
        if end.is_some_and(|end| end <= now) {
            return Ok(options.exit_code);
        }
        let next = [end, grow.map(|(at, _)| at)].into_iter().flatten().min();
        let pause = next.map_or(LOOK_EVERY, |at| (at - now).min(LOOK_EVERY));
        match wait_for_signal(&signals, pause) {
            Some(libc::SIGTERM) => match &options.on_term {
                OnTerm::Ignore => println!("SIGTERM ignored"),
                OnTerm::Exit => return Ok(143),
                OnTerm::Checkpoint(file) => {
                    save(file, done_before + start.elapsed())?;
                    return Ok(143);
                }
            },
            Some(_) => return Ok(130),
            None => still_there(&machine, &devices)?,
        }
    }
}

/// The devices that CUDA_VISIBLE_DEVICES names; all when unset; like CUDA, stops at the first
/// name it does not know.
fn visible(machine: &Machine) -> Result<Vec<usize>, Failure> {
    let none = || Failure(3, "no CUDA-capable device is detected".to_owned());
    let devices: Vec<usize> = match std::env::var("CUDA_VISIBLE_DEVICES") {
        Err(_) => (0..machine.device_count().map_err(failed)?).collect(),
        Ok(names) => names
            .split(',')
            .map_while(|name| machine.find(name.trim()).ok())
            .collect(),
    };
    if devices.is_empty() {
        Err(none())
    } else {
        Ok(devices)
    }
}

fn still_there(machine: &Machine, devices: &[usize]) -> Result<(), Failure> {
    for index in devices {
        if machine.device(*index).map_err(failed)?.lost {
            return Err(failed(SimError::Lost { device: *index }));
        }
    }
    Ok(())
}

fn failed(error: SimError) -> Failure {
    match error {
        SimError::OutOfMemory {
            device,
            requested,
            free,
        } => Failure(
            2,
            format!(
                "CUDA out of memory. Tried to allocate {} MiB (GPU {device}; {} MiB free)",
                requested >> 20,
                free >> 20
            ),
        ),
        SimError::Lost { device } => Failure(
            4,
            format!("CUDA error: unspecified launch failure (GPU {device} is lost)"),
        ),
        other => Failure(3, format!("CUDA error: {other}")),
    }
}

fn usage(why: String) -> Failure {
    Failure(64, why)
}

fn parse_time(text: &str) -> Option<Duration> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let number: u64 = text[..digits].parse().ok()?;
    match &text[digits..] {
        "ms" => Some(Duration::from_millis(number)),
        "s" => Some(Duration::from_secs(number)),
        "m" => number.checked_mul(60).map(Duration::from_secs),
        "h" => number.checked_mul(3_600).map(Duration::from_secs),
        _ => None,
    }
}

fn resumed(on_term: &OnTerm) -> Duration {
    let OnTerm::Checkpoint(file) = on_term else {
        return Duration::ZERO;
    };
    let saved = std::fs::read_to_string(file).ok();
    saved
        .and_then(|ms| ms.trim().parse().ok())
        .map_or(Duration::ZERO, Duration::from_millis)
}

fn save(file: &PathBuf, done: Duration) -> Result<(), Failure> {
    std::fs::write(file, format!("{}\n", done.as_millis())).map_err(|e| {
        Failure(
            3,
            format!("cannot write the checkpoint {}: {e}", file.display()),
        )
    })?;
    println!(
        "checkpoint after {} ms in {}",
        done.as_millis(),
        file.display()
    );
    Ok(())
}

fn block_signals() -> libc::sigset_t {
    // SAFETY: an all-zero sigset_t is a valid value that sigemptyset then sets up; the pointers are
    // to live locals.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, libc::SIGTERM);
        libc::sigaddset(&raw mut set, libc::SIGINT);
        libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut());
        set
    }
}

fn wait_for_signal(set: &libc::sigset_t, pause: Duration) -> Option<libc::c_int> {
    let limit = libc::timespec {
        tv_sec: libc::time_t::try_from(pause.as_secs()).unwrap_or(libc::time_t::MAX),
        tv_nsec: libc::c_long::from(pause.subsec_nanos()),
    };
    // SAFETY: both pointers are to live values; no siginfo is asked for.
    let signal = unsafe { libc::sigtimedwait(set, std::ptr::null_mut(), &raw const limit) };
    (signal > 0).then_some(signal)
}
