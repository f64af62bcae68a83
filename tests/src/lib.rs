//! What a user does, as tests do it: a fleet of its own for each, the real terraform, both programs.

mod audit;
mod built;
mod cloud;
mod fleet;
mod http;
mod leftovers;
mod process;
mod rig;
mod skip;
mod terraform;
mod wait;

pub use audit::{Audit, LimitOf};
pub use built::{Built, repository};
pub use cloud::{CloudRig, Kind, SECRETS};
pub use fleet::{Answer, Fleet, milli};
pub use http::get;
pub use process::{is_alive, kill, mentioning, session_of, start_time};
pub use rig::{PROVIDER, Rig};
pub use skip::{Needs, run};
pub use terraform::{Change, Mistake, Terraform};
pub use wait::{LONG, SHORT, until};
