//! `gpuloom-sim`: makes a simulated machine, shows it and breaks it on purpose.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use gpuloom_nvml_sim::{
    Fault, Machine, MachineSpec, MemoryAnswer, PROFILES, STATE_ENV, parse_bytes,
};

const HELP: &str = "\
gpuloom-sim: make a simulated GPU machine, show it, break it on purpose

Usage: gpuloom-sim [--state FILE] COMMAND

DEVICE is an index (0) or a UUID (GPU-...); SIZE is like 10GiB or 512MiB.

Machine
  create LAYOUT [--seed N]         make it: 8xA100-80G or 4xT4,2xH100 (kept if it is there)
  list [--json]                    devices, their load, faults and processes
  models                           models a layout may name
Faults
  xid DEVICE CODE                  post an Xid event
  lose DEVICE                      fall off the bus (Xid 79, then 'GPU is lost')
  hang DEVICE|all                  calls block until healed
  no-permission DEVICE             calls answer 'insufficient permissions'
  reset-required DEVICE            calls answer 'GPU requires reset'
  memory-na DEVICE                 memory figures are 'not available'
  memory-unsupported DEVICE        memory questions are 'not supported'
  leak DEVICE SIZE                 memory that no process holds
  slow-reclaim DEVICE MS           memory of dead processes returns late
  ecc DEVICE CORRECTED UNCORRECTED add ECC errors
  row-remap DEVICE pending|failed  row remapping waits for a reset, or failed
  recovery-action DEVICE CODE      what the driver recommends (0-4)
  heal DEVICE|all                  end every fault, leak and override
Load
  grow DEVICE PID SIZE             make a live process hold more memory
  utilization DEVICE PERCENT|auto  override the utilization
  temperature DEVICE C|auto        override the temperature
  reap                             return the memory of dead processes now

Options
  --state FILE    the machine's file; otherwise $GPULOOM_SIM_STATE
  -h, --help      this text

Exit: 0 done, 1 refused, 2 wrong usage";

/// Prints a line; a reader that has left, as `head` does, ends the program quietly.
macro_rules! say {
    ($($words:tt)*) => {
        if writeln!(std::io::stdout(), $($words)*).is_err() {
            std::process::exit(0);
        }
    };
}

enum Failure {
    Usage(String),
    Refused(String),
}

type Outcome = Result<(), Failure>;

fn main() -> ExitCode {
    match run(std::env::args().skip(1).collect()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Refused(why)) => {
            eprintln!("gpuloom-sim: {why}");
            ExitCode::from(1)
        }
        Err(Failure::Usage(why)) => {
            eprintln!("gpuloom-sim: {why}\nTry `gpuloom-sim --help`.");
            ExitCode::from(2)
        }
    }
}

fn run(mut args: Vec<String>) -> Outcome {
    if args.is_empty() || args.iter().any(|a| a == "-h" || a == "--help") {
        say!("{HELP}");
        return Ok(());
    }
    let state = option(&mut args, "--state")?;
    let seed = option(&mut args, "--seed")?;
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    if words == ["models"] {
        PROFILES
            .iter()
            .for_each(|p| say!("{:<9} {}", p.model, p.nvml_name));
        return Ok(());
    }
    let path = state
        .map(PathBuf::from)
        .or_else(|| std::env::var_os(STATE_ENV).map(PathBuf::from));
    let path = path.ok_or_else(|| {
        Failure::Usage(format!("which machine? give --state FILE or {STATE_ENV}"))
    })?;
    if let ["create", layout] = words[..] {
        let spec: MachineSpec = layout.parse().map_err(refused)?;
        let machine = Machine::create(&path, &spec, number(seed.as_deref().unwrap_or("0"))?);
        say!("{}: {spec}", machine.map_err(refused)?.path().display());
        return Ok(());
    }
    act(&Machine::open(&path).map_err(refused)?, &words)
}

fn act(machine: &Machine, words: &[&str]) -> Outcome {
    match words {
        ["list"] => list(machine),
        ["list", "--json"] => list_json(machine),
        ["reap"] => {
            say!(
                "{} claims of dead processes returned",
                machine.reap().map_err(refused)?
            );
            Ok(())
        }
        ["heal", "all"] => machine.heal_all().map_err(refused),
        ["hang", "all"] => machine.hang_all().map_err(refused),
        [verb, device, rest @ ..] => {
            let index = machine.find(device).map_err(refused)?;
            on_device(machine, verb, index, rest)
        }
        _ => Err(Failure::Usage(format!(
            "`{}` is no command",
            words.join(" ")
        ))),
    }
}

fn on_device(machine: &Machine, verb: &str, index: usize, rest: &[&str]) -> Outcome {
    let fault = match (verb, rest) {
        ("xid", [code]) => return machine.post_xid(index, number(code)?).map_err(refused),
        ("heal", []) => return machine.heal(index).map_err(refused),
        ("grow", [pid, size]) => {
            return machine
                .grow(index, small(pid)?, bytes(size)?)
                .map_err(refused);
        }
        ("lose", []) => Fault::Lost,
        ("hang", []) => Fault::Hang,
        ("no-permission", []) => Fault::NoPermission,
        ("reset-required", []) => Fault::ResetRequired,
        ("memory-na", []) => Fault::Memory(MemoryAnswer::NotAvailable),
        ("memory-unsupported", []) => Fault::Memory(MemoryAnswer::NotSupported),
        ("leak", [size]) => Fault::Leak(bytes(size)?),
        ("slow-reclaim", [ms]) => Fault::SlowReclaim(small(ms)?),
        ("ecc", [corrected, uncorrected]) => Fault::Ecc {
            corrected: number(corrected)?,
            uncorrected: number(uncorrected)?,
        },
        ("row-remap", ["pending"]) => Fault::RowRemapPending,
        ("row-remap", ["failed"]) => Fault::RowRemapFailed,
        ("recovery-action", [code]) => Fault::RecoveryAction(small(code)?),
        ("utilization", [value]) => Fault::Utilization(or_auto(value)?),
        ("temperature", [value]) => Fault::Temperature(or_auto(value)?),
        _ => {
            let words = [&[verb, "DEVICE"], rest].concat().join(" ");
            return Err(Failure::Usage(format!("`{words}` is no command")));
        }
    };
    machine.inject(index, fault).map_err(refused)
}

fn list(machine: &Machine) -> Outcome {
    say!(
        "{:>3}  {:<9} {:<40} {:>15}  {:>4}  {:>4}  STATE",
        "#",
        "MODEL",
        "UUID",
        "MEMORY MiB",
        "UTIL",
        "TEMP"
    );
    for d in machine.devices().map_err(refused)? {
        let memory = format!("{}/{}", d.used_bytes >> 20, d.profile.memory_mib);
        let state = match (d.lost, d.hung) {
            (true, _) => "lost",
            (_, true) => "hung",
            _ => "ok",
        };
        say!(
            "{:>3}  {:<9} {:<40} {memory:>15}  {:>3}%  {:>3}C  {state}",
            d.index,
            d.profile.model,
            d.uuid,
            d.utilization,
            d.temperature_c
        );
        for p in &d.processes {
            say!(
                "       pid {} holds {} MiB, {}% busy",
                p.pid,
                p.bytes >> 20,
                p.utilization
            );
        }
        if d.leaked_bytes > 0 {
            say!("       nobody holds {} MiB", d.leaked_bytes >> 20);
        }
    }
    Ok(())
}

fn list_json(machine: &Machine) -> Outcome {
    let devices = machine.devices().map_err(refused)?;
    let rows: Vec<String> = devices
        .iter()
        .map(|d| {
            let processes: Vec<String> = d
                .processes
                .iter()
                .map(|p| {
                    let (pid, bytes, busy) = (p.pid, p.bytes, p.utilization);
                    format!(r#"{{"pid":{pid},"bytes":{bytes},"utilization_percent":{busy}}}"#)
                })
                .collect();
            format!(
                concat!(
                    r#"{{"index":{},"uuid":"{}","model":"{}","used_bytes":{},"free_bytes":{},"#,
                    r#""leaked_bytes":{},"utilization_percent":{},"temperature_c":{},"#,
                    r#""power_mw":{},"lost":{},"hung":{},"processes":[{}]}}"#
                ),
                d.index,
                d.uuid,
                d.profile.model,
                d.used_bytes,
                d.free_bytes,
                d.leaked_bytes,
                d.utilization,
                d.temperature_c,
                d.power_mw,
                d.lost,
                d.hung,
                processes.join(",")
            )
        })
        .collect();
    say!("[{}]", rows.join(",\n "));
    Ok(())
}

fn option(args: &mut Vec<String>, name: &str) -> Result<Option<String>, Failure> {
    let Some(at) = args.iter().position(|a| a == name) else {
        return Ok(None);
    };
    args.remove(at);
    if at == args.len() {
        return Err(Failure::Usage(format!("{name} needs a value")));
    }
    Ok(Some(args.remove(at)))
}

fn refused(error: gpuloom_nvml_sim::SimError) -> Failure {
    let cause = std::error::Error::source(&error)
        .map(|s| format!(": {s}"))
        .unwrap_or_default();
    Failure::Refused(format!("{error}{cause}"))
}

fn number(text: &str) -> Result<u64, Failure> {
    text.parse()
        .map_err(|_| Failure::Usage(format!("`{text}` is not a whole number")))
}

fn small(text: &str) -> Result<u32, Failure> {
    text.parse()
        .map_err(|_| Failure::Usage(format!("`{text}` is not a whole number below 2^32")))
}

fn bytes(text: &str) -> Result<u64, Failure> {
    parse_bytes(text).ok_or_else(|| Failure::Usage(format!("`{text}` is not a size like 10GiB")))
}

fn or_auto(text: &str) -> Result<Option<u32>, Failure> {
    if text == "auto" {
        Ok(None)
    } else {
        small(text).map(Some)
    }
}
