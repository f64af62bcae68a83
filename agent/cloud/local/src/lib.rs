//! The machine itself as a cloud: an instance is a detached agent process with its own directory and its own GPUs.
//!
//! ```text
//! <root>/.new-<id>/   being made: nothing runs, no GPU is taken            (removed when found later)
//! <root>/<id>/        exists: instance.json says what it is and which GPUs are its own
//!     lock            flock held by the agent while it lives; content `pid starttime`
//!     terminating     its end was begun: never started again
//! <root>/.gone-<id>/  ended, verified: only its files are left             (removed when found later)
//! ```
//! Architecture invariant: what exists is what the directories and locks say; nothing is remembered elsewhere.

mod cloud;
mod directory;
mod gpus;
mod lock;
mod process;
mod spawn;
mod terminate;

pub use cloud::{LocalCloud, LocalOptions};
pub use gpus::LocalGpu;

/// The places at which a test can end the process, in the order of a launch and then of a termination.
pub const FAILPOINTS: &[&str] = &[
    "local.stage.before",
    "local.stage.after",
    "local.publish.after",
    "local.spawn.after",
    "local.alive.after",
    "local.mark.before",
    "local.mark.after",
    "local.stop.after",
    "local.sweep.after",
    "local.retire.after",
    "local.remove.after",
];
