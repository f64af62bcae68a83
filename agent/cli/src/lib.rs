//! What a person types and sees: commands in, calls to a fleet, tables or JSON out.

mod args;
mod commands;
mod context;
mod exit;
mod output;
mod render;
mod submit;

pub use args::{Cli, Command, Globals, OutputFormat};
pub use commands::{completion, connect, run};
pub use context::ENVIRONMENT_HELP;
pub use exit::EXIT_CODES_HELP;
