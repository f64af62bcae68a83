//! What can be typed.

use crate::context::ENVIRONMENT_HELP;
use crate::exit::EXIT_CODES_HELP;
use crate::submit::SubmitArgs;
use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use gpuloom_fleet::{JobId, Kind, NodeId, PoolName, Seconds, TenantName};
use std::path::PathBuf;

/// Submits jobs to a gpuloom fleet and shows what it does.
#[derive(Debug, Parser)]
#[command(name = "gpuloom", version, propagate_version = true)]
#[command(after_help = EXIT_CODES_HELP, after_long_help = ENVIRONMENT_HELP)]
pub struct Cli {
    /// What every command takes.
    #[command(flatten)]
    pub globals: Globals,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What every command takes.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Fleet")]
pub struct Globals {
    /// Where the fleet answers: host:port, several with commas [env: GPULOOM_ENDPOINT]
    #[arg(long, global = true, value_name = "HOST:PORT")]
    pub endpoint: Option<String>,
    /// Pin of the fleet's CA: sha256:<64 hex digits> [env: GPULOOM_CA_PIN]
    #[arg(long, global = true, value_name = "PIN")]
    pub ca_pin: Option<String>,
    /// A tenant's token [env: GPULOOM_TOKEN]
    #[arg(
        long,
        global = true,
        value_name = "TOKEN",
        conflicts_with = "admin_key"
    )]
    pub token: Option<String>,
    /// The admin's private key: PEM, or a file that holds it [env: GPULOOM_ADMIN_KEY]
    #[arg(long, global = true, value_name = "PEM|FILE")]
    pub admin_key: Option<String>,
    /// Output for people or for programs
    #[arg(short, long, global = true, value_enum, default_value_t)]
    pub output: OutputFormat,
    /// Say on stderr which fleet answers, and whom it takes you for
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
}

/// Output for people or for programs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum OutputFormat {
    /// Aligned columns.
    #[default]
    Table,
    /// One JSON document; names and units do not change within a major version.
    Json,
}

/// The commands of people. Global flags are in [`Globals`].
#[derive(Debug, Clone, Subcommand)]
pub enum Command {
    /// Submit a job, or an array of jobs
    Submit(SubmitArgs),
    /// Submit a job and follow it to its end; Ctrl-C cancels it
    Run(SubmitArgs),
    /// List jobs, newest first
    Jobs(JobsArgs),
    /// Say why a job waits, or how it ended
    Why {
        /// The job, e.g. 17 or 17.3
        job: JobId,
    },
    /// Show what a job wrote
    Logs(LogsArgs),
    /// Cancel jobs
    Cancel {
        /// Jobs, e.g. 17 (all of an array) or 17.3
        #[arg(required = true, num_args = 1..)]
        jobs: Vec<JobId>,
    },
    /// List waiting jobs in the order they will start
    Queue {
        /// Only this tenant's
        #[arg(long)]
        tenant: Option<TenantName>,
        /// At most this many
        #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u64).range(1..=10_000))]
        limit: u64,
    },
    /// List nodes
    Nodes {
        /// Only this pool's
        #[arg(long)]
        pool: Option<PoolName>,
    },
    /// List GPUs with their load, or one GPU's history
    Devices {
        /// Only this pool's
        #[arg(long)]
        pool: Option<PoolName>,
        /// Readings of this GPU (UUID), oldest first
        #[arg(long, value_name = "DEVICE", conflicts_with = "pool")]
        history: Option<String>,
        /// With --history: at most this many of the newest readings; 0: every one kept
        #[arg(long, default_value_t = 0, requires = "history")]
        limit: u32,
    },
    /// Show the fleet at a glance, renewed until q or Ctrl-C
    Top {
        /// Show it once; also what happens when the output is no terminal
        #[arg(long)]
        once: bool,
        /// Time between two pictures, 1s to 1h
        #[arg(long, default_value = "2s", value_parser = interval)]
        interval: Seconds,
    },
    /// Show what tenants use and may use
    Quota {
        /// Only this tenant
        #[arg(long)]
        tenant: Option<TenantName>,
    },
    /// List pools, or wait for one
    Pools {
        /// What to do; without it pools are listed
        #[command(subcommand)]
        command: Option<PoolsCommand>,
    },
    /// List declared objects
    Objects {
        /// Only this kind
        kind: Option<Kind>,
    },
    /// Show one declared object as JSON
    Get {
        /// pool, tenant, quota, priority_class, limit_range or autoscaling_policy
        kind: Kind,
        /// Its name
        name: String,
    },
    /// Give a node no new jobs
    Cordon {
        /// The node
        node: NodeId,
        /// Shown beside the node
        #[arg(long, default_value = "")]
        reason: String,
    },
    /// Give a node jobs again
    Uncordon {
        /// The node
        node: NodeId,
    },
    /// Give a node no new jobs and let it end when its jobs have
    Drain {
        /// The node
        node: NodeId,
        /// Shown beside the node
        #[arg(long, default_value = "")]
        reason: String,
    },
    /// Make or revoke tokens
    #[command(subcommand)]
    Token(TokenCommand),
    /// Make an admin key; prints the public half for the fleet
    Keygen {
        /// Where the private half goes; must not exist. Without it: stdout
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Show the audit trail
    Events {
        /// Go on with events to come
        #[arg(short, long)]
        follow: bool,
        /// Only events after this one
        #[arg(long, default_value_t = 0, value_name = "SEQ")]
        after: u64,
        /// At most this many; 0: all that are kept
        #[arg(long, default_value_t = 0)]
        limit: u64,
    },
    /// Print a completion script
    Completion {
        /// For which shell
        shell: Shell,
    },
}

/// Which jobs to list.
#[derive(Debug, Clone, Default, Args)]
pub struct JobsArgs {
    /// Only this tenant's
    #[arg(long)]
    pub tenant: Option<TenantName>,
    /// Only in these states: pending, active, succeeded, failed, timed_out, cancelled
    #[arg(long, value_delimiter = ',', value_parser = STATES)]
    pub state: Vec<String>,
    /// Only of this pool
    #[arg(long)]
    pub pool: Option<PoolName>,
    /// Only with this label; may be repeated
    #[arg(long, value_name = "KEY=VALUE", value_parser = crate::submit::pair)]
    pub label: Vec<(String, String)>,
    /// At most this many
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    pub limit: u64,
    /// Every element of this array job
    pub number: Option<JobId>,
}

const STATES: [&str; 6] = [
    "pending",
    "active",
    "succeeded",
    "failed",
    "timed_out",
    "cancelled",
];

/// Which output to show.
#[derive(Debug, Clone, Args)]
pub struct LogsArgs {
    /// The job, e.g. 17 or 17.3
    pub job: JobId,
    /// Go on until the job has ended
    #[arg(short, long)]
    pub follow: bool,
    /// Which attempt; without it the last
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    pub attempt: Option<u32>,
    /// Only one of its streams
    #[arg(long, value_enum)]
    pub stream: Option<LogStream>,
    /// Only about this much of the end, e.g. 64KiB
    #[arg(long, value_name = "SIZE")]
    pub tail: Option<gpuloom_fleet::Bytes>,
}

/// One of a job's output streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogStream {
    /// What it wrote to stdout.
    Stdout,
    /// What it wrote to stderr.
    Stderr,
}

/// What to do with pools.
#[derive(Debug, Clone, Subcommand)]
pub enum PoolsCommand {
    /// Wait until every wanted node of a pool takes jobs
    Wait {
        /// The pool
        pool: PoolName,
        /// Fail when it takes longer
        #[arg(long, default_value = "10m")]
        timeout: Seconds,
    },
}

/// What to do with tokens.
#[derive(Debug, Clone, Subcommand)]
pub enum TokenCommand {
    /// Make a token; it is shown this once
    Create {
        /// For jobs of this tenant
        #[arg(long, required_unless_present = "pool", conflicts_with = "pool")]
        tenant: Option<TenantName>,
        /// For one node to join this pool
        #[arg(long)]
        pool: Option<PoolName>,
        /// How long it is good for; tenants: up to 365d, nodes: up to 1d
        #[arg(long, default_value = "1d")]
        ttl: Seconds,
        /// For people
        #[arg(long, default_value = "")]
        label: String,
    },
    /// Revoke a token
    Revoke {
        /// The id shown when it was made
        id: String,
    },
}

fn interval(text: &str) -> Result<Seconds, String> {
    let seconds: Seconds = text.parse().map_err(|e| format!("{e}"))?;
    if (1..=3600).contains(&seconds.0) {
        Ok(seconds)
    } else {
        Err("use 1s to 1h".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(line.split_whitespace())
    }

    #[test]
    fn the_commands_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn what_people_type_is_read() {
        for line in [
            "gpuloom submit --tenant a --gpus 0.5 --gpu-memory 16GiB -- python train.py --lr 1",
            "gpuloom run --tenant a --walltime 1h30m --retries 2 -- true",
            "gpuloom jobs --state pending,active --label team=a -o json",
            "gpuloom -o json why 17.3",
            "gpuloom logs -f 17 --tail 64KiB --stream stderr",
            "gpuloom cancel 17 18.2",
            "gpuloom devices --history GPU-1 --limit 10",
            "gpuloom top --once --endpoint a:1,b:2",
            "gpuloom pools",
            "gpuloom pools wait t4 --timeout 5m",
            "gpuloom get priority_class urgent",
            "gpuloom token create --tenant a --ttl 30d",
            "gpuloom token create --pool t4 --ttl 10m",
            "gpuloom events -f --after 17",
            "gpuloom completion bash",
        ] {
            assert!(parse(line).is_ok(), "{line}: {:?}", parse(line).err());
        }
    }

    #[test]
    fn what_cannot_be_used_is_named_with_what_would_be() {
        for (line, expected) in [
            (
                "gpuloom submit --gpus 0.1234 -- a",
                "a number of GPUs such as \"2\" or \"0.25\"",
            ),
            (
                "gpuloom submit --gpu-memory 16Gb -- a",
                "a size in bytes such as \"16GiB\"",
            ),
            (
                "gpuloom submit --walltime 1.5h -- a",
                "a duration such as \"90s\"",
            ),
            (
                "gpuloom submit --after 17:maybe -- a",
                "JOB:ok, JOB:failed or JOB:any",
            ),
            ("gpuloom submit --env NOVALUE -- a", "KEY=VALUE"),
            ("gpuloom submit --array 0 -- a", "1..=10000"),
            ("gpuloom submit --tenant Team -- a", "lower-case letters"),
            ("gpuloom submit --tenant a", "required"),
            (
                "gpuloom why seventeen",
                "a job id such as \"17\" or \"17.3\"",
            ),
            ("gpuloom jobs --state done", "possible values: pending"),
            ("gpuloom jobs --limit 0", "1..=10000"),
            ("gpuloom get bucket x", "a kind: pool, tenant"),
            ("gpuloom top --interval 0s", "use 1s to 1h"),
            ("gpuloom token create", "--tenant"),
            (
                "gpuloom token create --tenant a --pool b",
                "cannot be used with",
            ),
            (
                "gpuloom jobs --token t --admin-key k",
                "cannot be used with",
            ),
            ("gpuloom devices --limit 3", "--history"),
        ] {
            let error = parse(line).err();
            let error = error.unwrap_or_else(|| panic!("{line} was accepted"));
            assert_eq!(error.exit_code(), 2, "{line}");
            assert!(error.to_string().contains(expected), "{line}: {error}");
        }
    }

    #[test]
    fn help_tells_the_exit_codes_and_the_environment() {
        let help = Cli::command().render_long_help().to_string();
        assert!(
            help.contains("130  interrupted") && help.contains("GPULOOM_CONFIG"),
            "{help}"
        );
    }
}
