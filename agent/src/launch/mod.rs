//! The job side of a node: starts, stops, adopts and reads the processes of attempts.
//!
//! ```text
//! agent --spawns--> shim (own session, outside the job's cgroup) --forks--> job (in .../<attempt>/work)
//! ```
//! Every fact a restart needs is a small file in the attempt's directory, written to the disk
//! before anything acts on it (see [`record`]). The agent may die at any moment: the shim goes on,
//! and the next agent adopts it. An agent without privileges has [`holder`] do what takes them; see
//! [`hands`]. No choices are left here: what to run was decided elsewhere.

mod adopt;
mod cgroup;
mod error;
mod fence;
mod hands;
mod holder;
mod launcher;
mod log_keep;
mod log_read;
mod log_write;
mod process;
mod record;
mod shim;
mod stop;
mod sys;
mod user;
mod wire;

pub use adopt::{Adopted, Found};
pub use cgroup::{Hierarchy, HostLimits};
pub use error::LaunchError;
pub use holder::holder_main;
pub use launcher::{LaunchConfig, Launcher, Order};
pub use log_keep::{LOG_BYTES_KEPT, LOGS_KEPT};
pub use log_read::{LogChunk, LogRequest, MAX_LOG_READERS};
pub use log_write::{LOG_FILE_BYTES, LOG_FILES};
pub use process::boot_id;
pub(crate) use record::now;
pub use record::{AttemptRecord, Exited, Started, StopRecord};
pub use shim::shim_main;
pub use stop::Gone;
pub use wire::{MAX_CONNECTIONS, MAX_MESSAGE, Why};

/// Names at which a failpoint may end this process: before and after each persisted step.
/// `launch.*` are hit by the agent, `shim.*` by an attempt's shim.
pub const FAILPOINTS: &[&str] = &[
    "launch.record.before",
    "launch.record.after",
    "launch.cgroup.before",
    "launch.cgroup.after",
    "launch.spawn.before",
    "launch.spawn.after",
    "launch.stop.before",
    "launch.stop.after",
    "launch.ended.before",
    "launch.ended.after",
    "launch.forget.before",
    "launch.forget.after",
    "shim.claim.before",
    "shim.claim.after",
    "shim.started.before",
    "shim.started.after",
    "shim.exit.before",
    "shim.exit.after",
];
