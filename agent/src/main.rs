//! `gpuloom`: the agent, its children, and the command line.

use clap::{Args, CommandFactory as _, Parser, Subcommand, ValueEnum};
use gpuloom_agent::commands::{self, CommandError, OfferingsArgs, SimulateArgs, SweepArgs};
use gpuloom_cli::{Command, ENVIRONMENT_HELP, EXIT_CODES_HELP, Globals, OutputFormat};
use gpuloom_fleet::Millis;
use gpuloom_store::SqliteStore;
use std::ffi::OsString;
use std::io::{BufRead, IsTerminal as _};
use std::path::PathBuf;
use std::process::ExitCode;
use tracing_subscriber::EnvFilter;

/// Schedules GPU jobs over a fleet and enforces who gets what.
#[derive(Debug, Parser)]
#[command(name = "gpuloom", version, propagate_version = true)]
#[command(after_help = EXIT_CODES_HELP, after_long_help = ENVIRONMENT_HELP)]
struct Program {
    #[command(flatten)]
    globals: Globals,
    #[command(subcommand)]
    command: Everything,
}

#[derive(Debug, Subcommand)]
enum Everything {
    #[command(flatten)]
    People(Command),
    /// Run a lead or a node until SIGTERM
    Agent(AgentArgs),
    /// Look after a lead's store: back it up, check it, restore it
    Store {
        #[command(subcommand)]
        what: StoreWhat,
    },
    /// List what clouds sell with GPUs, cheapest first
    Offerings(OfferingsArgs),
    /// Replay a trace on the code that schedules fleets, and say what came of it
    Simulate(SimulateArgs),
    /// Find by tag what a fleet left behind in its clouds, and end it
    Sweep(SweepArgs),
    /// Write the manual page to standard output
    #[command(hide = true)]
    Man,
}

#[derive(Debug, Args)]
struct AgentArgs {
    /// The agent's configuration (TOML)
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Check the configuration and end
    #[arg(long)]
    check: bool,
    /// How to write the log on standard error
    #[arg(long, value_enum, default_value_t)]
    log_format: LogFormat,
}

#[derive(Debug, Clone, Copy, Default, ValueEnum)]
enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One object a line.
    Json,
}

#[derive(Debug, Subcommand)]
enum StoreWhat {
    /// Write a consistent, checked copy to a new file; the lead may run meanwhile
    Backup {
        /// The store, e.g. <data_dir>/store.db
        #[arg(long, value_name = "FILE")]
        path: PathBuf,
        /// The copy; must not exist
        #[arg(value_name = "COPY")]
        to: PathBuf,
    },
    /// Compare everything with its checksums; the lead must be stopped (a backup is checked too)
    Check {
        /// The store, e.g. <data_dir>/store.db
        #[arg(long, value_name = "FILE")]
        path: PathBuf,
    },
    /// Put a backup in the store's place, the lead stopped; what was there is kept beside it
    Restore {
        /// The backup
        #[arg(value_name = "BACKUP")]
        backup: PathBuf,
        /// The store, e.g. <data_dir>/store.db
        #[arg(long, value_name = "FILE")]
        to: PathBuf,
    },
}

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    // The agent's own children: before any thread is started.
    match args.next().as_ref().and_then(|a| a.to_str()) {
        Some(gpuloom_gpu::PROBE_COMMAND) => {
            let texts = args.map(|a| a.to_string_lossy().into_owned());
            return gpuloom_gpu::probe_main(texts);
        }
        Some("shim") => {
            let rest: Vec<OsString> = args.collect();
            return gpuloom_agent::launch::shim_main(&rest);
        }
        Some("jobs-holder") => {
            let rest: Vec<OsString> = args.collect();
            return gpuloom_agent::launch::holder_main(&rest);
        }
        _ => {}
    }
    let program = Program::parse();
    match program.command {
        Everything::People(command) => people(command, program.globals),
        Everything::Agent(args) => {
            logging(args.log_format);
            told(gpuloom_agent::agent(&args.config, args.check).map_err(anyhow::Error::from))
        }
        Everything::Store { what } => told(store(what)),
        Everything::Offerings(args) => in_clouds(show_offerings(&args, &program.globals)),
        Everything::Simulate(args) => {
            let as_json = program.globals.output == OutputFormat::Json;
            let done = commands::simulate(&args, as_json, &mut std::io::stdout());
            done.map_or_else(|e| complain(&e), |()| ExitCode::SUCCESS)
        }
        Everything::Sweep(args) => in_clouds(sweep(&args, &program.globals)),
        Everything::Man => told(man()),
    }
}

/// 0, or 1 after saying on standard error what went wrong and why.
fn told(ended: anyhow::Result<()>) -> ExitCode {
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("gpuloom: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// A reader that has seen enough is no error.
fn man() -> anyhow::Result<()> {
    match clap_mangen::Man::new(Program::command()).render(&mut std::io::stdout()) {
        Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        done => Ok(done?),
    }
}

fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
}

fn people(command: Command, globals: Globals) -> ExitCode {
    match runtime() {
        Ok(runtime) => {
            let exit = runtime.block_on(gpuloom_cli::run(command, globals));
            // A reader of standard input may wait for ever.
            runtime.shutdown_background();
            exit
        }
        Err(error) => told(Err(error.into())),
    }
}

/// Runs a command that talks to clouds; its exit code, after saying what went wrong.
fn in_clouds(command: impl Future<Output = Result<(), CommandError>>) -> ExitCode {
    let runtime = match runtime() {
        Ok(runtime) => runtime,
        Err(error) => return told(Err(error.into())),
    };
    let ended = runtime.block_on(async {
        tokio::select! {
            ended = command => ended.map_or_else(|e| complain(&e), |()| ExitCode::SUCCESS),
            _ = tokio::signal::ctrl_c() => ExitCode::from(130),
        }
    });
    // A reader of standard input may wait for ever.
    runtime.shutdown_background();
    ended
}

fn complain(error: &CommandError) -> ExitCode {
    match error {
        // A reader that has seen enough is no error.
        CommandError::Output(e) if e.kind() == std::io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        error => {
            eprintln!("gpuloom: {error}");
            ExitCode::from(error.code())
        }
    }
}

async fn show_offerings(args: &OfferingsArgs, globals: &Globals) -> Result<(), CommandError> {
    let as_json = globals.output == OutputFormat::Json;
    let (mut out, mut warn) = (std::io::stdout(), std::io::stderr());
    commands::offerings(args, as_json, now(), &mut out, &mut warn).await
}

async fn sweep(args: &SweepArgs, globals: &Globals) -> Result<(), CommandError> {
    let as_json = globals.output == OutputFormat::Json;
    let known = if args.lead_is_gone {
        None
    } else {
        commands::known(args, gpuloom_cli::connect(globals).await).await?
    };
    let mut out = std::io::stdout();
    let mut typed = std::io::stdin()
        .is_terminal()
        .then(|| std::io::stdin().lock());
    let answers = typed.as_mut().map(|a| a as &mut dyn BufRead);
    commands::sweep(args, known.as_ref(), as_json, now(), &mut out, answers).await
}

fn now() -> Millis {
    let ms = jiff::Timestamp::now().as_millisecond();
    Millis(u64::try_from(ms).unwrap_or(0))
}

fn logging(format: LogFormat) {
    let filter = EnvFilter::try_from_env("GPULOOM_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    match format {
        LogFormat::Text => log.with_ansi(false).init(),
        LogFormat::Json => log.json().init(),
    }
}

fn store(what: StoreWhat) -> anyhow::Result<()> {
    match what {
        StoreWhat::Backup { path, to } => {
            let revision = SqliteStore::backup_file(&path, &to)?;
            println!(
                "{} is sound and holds revision {revision} of {}",
                to.display(),
                path.display()
            );
        }
        StoreWhat::Check { path } => {
            let report = SqliteStore::check_file(&path)?;
            for problem in &report.problems {
                println!("{problem}");
            }
            anyhow::ensure!(
                report.problems.is_empty(),
                "{} has {} problems; nothing was changed. Restore a backup with `gpuloom store restore BACKUP --to {}`",
                path.display(),
                report.problems.len(),
                path.display(),
            );
            println!(
                "{} is sound: revision {}, {} records",
                path.display(),
                report.revision,
                report.records
            );
        }
        StoreWhat::Restore { backup, to } => match SqliteStore::restore(&backup, &to)? {
            Some(kept) => println!("restored; what was there is {}", kept.display()),
            None => println!("restored"),
        },
    }
    Ok(())
}
