//! Chores of the repository: reference pages, benchmarks and release packages.

mod bench;
mod catalog;
mod docs;
mod package;

use clap::{Parser, Subcommand};
use std::path::PathBuf;
use std::process::ExitCode;

/// Chores of the repository.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask")]
struct Args {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Debug, Subcommand)]
enum Chore {
    /// Write docs/ from the provider's schema and examples/, in the registry's layout.
    Docs {
        /// Change nothing; fail when a page is out of date.
        #[arg(long)]
        check: bool,
    },
    /// Compile the embedded catalog of GPU offerings from checkouts of its sources.
    Catalog {
        #[command(flatten)]
        sources: catalog::Sources,
        /// Change nothing; fail when the catalog is not what the sources come to.
        #[arg(long)]
        check: bool,
    },
    /// Build a release: the provider's zip, manifest and checksums, and the agent's archive.
    Package {
        /// Where to; must be empty or missing.
        #[arg(long)]
        out: PathBuf,
        /// The release's tag; refused when it is not the version that is built.
        #[arg(long)]
        tag: Option<String>,
    },
    /// Measure: figure, goal, peer and ratio side by side; exit 1 when a goal is missed.
    Bench {
        /// One benchmark by name; all of them without one.
        name: Option<String>,
        /// Under a minute: the same goals on less input (benchmarks of the scheduling core).
        #[arg(long)]
        quick: bool,
        /// Print the rows as JSON.
        #[arg(long)]
        json: bool,
    },
}

fn main() -> ExitCode {
    let done = match Args::parse().chore {
        Chore::Docs { check } => docs::run(&root(), check),
        Chore::Catalog { sources, check } => catalog::run(&root(), &sources, check),
        Chore::Package { out, tag } => tag
            .map_or(Ok(()), |tag| package::check_tag(&tag))
            .and_then(|()| package::run(&root(), &out)),
        Chore::Bench { name, quick, json } => bench::run(name.as_deref(), quick, json),
    };
    match done {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The repository's root.
fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..")
}
