//! `cloud-faults`: launches and terminations through the real drivers while a third of all calls go wrong.
//!
//! The program plays the cloud's double and starts itself as the driver's process, which it kills now and then. What
//! the driver has done is in its journal: each launch with its token before it is sent, as a lead stores it. In the
//! end the double has exactly the instances of the journal, and after they are ended it has none.

mod drive;
mod faults;
mod journal;
mod places;
mod play;

use clap::{Parser, Subcommand};
use std::path::PathBuf;
use std::process::ExitCode;

/// Launches and terminations against a cloud's double that fails.
#[derive(Debug, Parser)]
struct Args {
    #[command(subcommand)]
    part: Part,
}

#[derive(Debug, Subcommand)]
enum Part {
    /// Plays a cloud, drives it and prints the figures as JSON; exit 1 when one is short of its goal.
    Play {
        /// Whose driver.
        cloud: places::Which,
        /// Launches and terminations.
        #[arg(long, default_value_t = 10_000)]
        operations: u64,
        /// How often the driver's process is killed with signal 9.
        #[arg(long, default_value_t = 10)]
        kills: u32,
        /// Decides faults and operations.
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// The longest it may take, in seconds.
        #[arg(long, default_value_t = 3_600)]
        within_s: u64,
    },
    /// Drives (started by `play`).
    Drive {
        /// Whose driver.
        cloud: places::Which,
        /// Where the double answers.
        #[arg(long)]
        endpoint: String,
        /// What was done and is to be done.
        #[arg(long)]
        journal: PathBuf,
        /// Launches and terminations; 0 ends everything.
        #[arg(long)]
        operations: u64,
        /// Decides the operations.
        #[arg(long)]
        seed: u64,
    },
}

#[tokio::main]
async fn main() -> ExitCode {
    let done = match Args::parse().part {
        Part::Play {
            cloud,
            operations,
            kills,
            seed,
            within_s,
        } => {
            let play = play::Play {
                cloud,
                operations,
                kills,
                seed,
                within_s,
            };
            play.run().await
        }
        Part::Drive {
            cloud,
            endpoint,
            journal,
            operations,
            seed,
        } => drive::run(cloud, &endpoint, &journal, operations, seed)
            .await
            .map(|()| true),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
