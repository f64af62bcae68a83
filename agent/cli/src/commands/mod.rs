//! Each command: its calls, then what it shows.

mod admin;
mod follow;
mod jobs;
mod top;
mod views;

use crate::args::{Cli, Command, Globals, OutputFormat};
use crate::context::Context;
use crate::exit::{CliError, Exit};
use crate::output::{self, Style, note, print};
use clap::CommandFactory;
use clap_complete::Shell;
use gpuloom_api::Client;
use serde_json::{Value, json};
use std::process::ExitCode;

/// A connection to the fleet, and how to show what it says.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) client: Client,
    pub(crate) output: OutputFormat,
    pub(crate) style: Style,
}

/// Does `command` and ends with its exit code; what went wrong is told on stderr.
pub async fn run(command: Command, globals: Globals) -> ExitCode {
    match interruptible(command, &globals).await {
        Ok(exit) => exit.into(),
        Err(error) if error.is_broken_pipe() => Exit::OK.into(),
        Err(error) => {
            note(&complaint(&error, globals.output));
            error.exit().into()
        }
    }
}

/// A connection to the fleet that `globals`, the environment or the context file name; `None` when none of them names
/// one.
///
/// # Errors
/// What cannot be used, or why there is no answer, and the exit code for it.
pub async fn connect(globals: &Globals) -> Result<Option<Client>, (String, u8)> {
    let told = |error: CliError| (error.to_string(), error.exit().0);
    if !Context::is_stated(globals).map_err(told)? {
        return Ok(None);
    }
    let context = Context::load(globals).map_err(told)?;
    let client = Client::connect(context.endpoints, context.pin, context.credential).await;
    client.map(Some).map_err(|e| told(e.into()))
}

/// The completion script of `root` for `shell`.
pub fn completion(mut root: clap::Command, shell: Shell) -> String {
    let mut script = Vec::new();
    let name = root.get_name().to_owned();
    clap_complete::generate(shell, &mut root, name, &mut script);
    String::from_utf8_lossy(&script).into_owned()
}

/// What is told of an error: a sentence, or one line of JSON for programs.
fn complaint(error: &CliError, output: OutputFormat) -> String {
    match output {
        OutputFormat::Table => format!("gpuloom: {error}"),
        OutputFormat::Json => {
            let (word, code) = (error.word(), error.exit().0);
            let message = error.to_string();
            json!({ "error": { "code": word, "message": message, "exit_code": code } }).to_string()
        }
    }
}

async fn interruptible(command: Command, globals: &Globals) -> Result<Exit, CliError> {
    if let Command::Run(args) = command {
        // Its Ctrl-C cancels the job.
        return follow::run(&Session::open(globals).await?, &args).await;
    }
    tokio::select! {
        done = dispatch(command, globals) => done,
        _ = tokio::signal::ctrl_c() => Ok(Exit::INTERRUPTED),
    }
}

async fn dispatch(command: Command, globals: &Globals) -> Result<Exit, CliError> {
    let command = match offline(command, globals)? {
        Ok(exit) => return Ok(exit),
        Err(command) => command,
    };
    let s = Session::open(globals).await?;
    match command {
        Command::Submit(args) => jobs::submit(&s, &args).await,
        Command::Run(args) => follow::run(&s, &args).await,
        Command::Jobs(args) => jobs::list(&s, args).await,
        Command::Why { job } => jobs::why(&s, job).await,
        Command::Logs(args) => jobs::logs(&s, args).await,
        Command::Cancel { jobs } => jobs::cancel(&s, &jobs).await,
        Command::Queue { tenant, limit } => jobs::queue(&s, tenant, limit).await,
        Command::Nodes { pool } => views::nodes(&s, pool).await,
        Command::Devices {
            history: Some(device),
            limit,
            ..
        } => views::history(&s, &device, limit).await,
        Command::Devices { pool, .. } => views::devices(&s, pool).await,
        Command::Top { once, interval } => top::top(&s, once, interval).await,
        Command::Quota { tenant } => views::quota(&s, tenant).await,
        Command::Pools { command } => views::pools(&s, command).await,
        Command::Objects { kind } => views::objects(&s, kind).await,
        Command::Get { kind, name } => views::get(&s, kind, &name).await,
        Command::Events {
            follow,
            after,
            limit,
        } => views::events(&s, follow, after, limit).await,
        Command::Cordon { node, reason } => admin::cordon(&s, node, reason, false).await,
        Command::Drain { node, reason } => admin::cordon(&s, node, reason, true).await,
        Command::Uncordon { node } => admin::uncordon(&s, node).await,
        Command::Token(command) => admin::token(&s, command).await,
        Command::Keygen { .. } | Command::Completion { .. } => Ok(Exit::OK),
    }
}

/// What needs no fleet: done, or the command handed back.
fn offline(command: Command, globals: &Globals) -> Result<Result<Exit, Command>, CliError> {
    match command {
        Command::Keygen { out } => admin::keygen(out.as_deref(), globals.output).map(Ok),
        Command::Completion { shell } => {
            print(&completion(Cli::command(), shell))?;
            Ok(Ok(Exit::OK))
        }
        other => Ok(Err(other)),
    }
}

// === impl Session ===

impl Session {
    async fn open(globals: &Globals) -> Result<Self, CliError> {
        let context = Context::load(globals)?;
        let endpoints = context.endpoints.to_string();
        let client = Client::connect(context.endpoints, context.pin, context.credential).await?;
        if globals.verbose > 0 {
            let hello = client.hello();
            note(&format!(
                "fleet {} ({}) at {endpoints}, version {}, protocol {}, backend {}; you are {}",
                hello.fleet_name,
                hello.fleet_id,
                hello.version,
                hello.protocol,
                hello.backend,
                hello.caller
            ));
        }
        Ok(Self {
            client,
            output: globals.output,
            style: Style::of_stdout(),
        })
    }

    /// Shows `text` to people, `value` to programs.
    pub(crate) fn show(
        &self,
        text: impl FnOnce(Style) -> String,
        value: impl FnOnce() -> Value,
    ) -> Result<Exit, CliError> {
        match self.output {
            OutputFormat::Table => print(&text(self.style))?,
            OutputFormat::Json => output::print_json(&value())?,
        }
        Ok(Exit::OK)
    }
}

#[cfg(test)]
mod tests;
