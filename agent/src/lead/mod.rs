//! The lead: the one writer of a fleet's state.
//!
//! ```text
//! serve --commands--> core (one task: State + Store) --orders--> sessions with nodes
//! provision --------> core                          --changes--> watchers, provision
//! ```
//! Every change is decided on the state, written to the store, and only then seen by anybody.

pub(crate) mod admission;
mod announce;
pub(crate) mod batch;
pub(crate) mod core;
pub(crate) mod load;
pub(crate) mod orders;
pub(crate) mod provision;
pub(crate) mod record;
mod run;
pub(crate) mod snapshot;
pub(crate) mod state;
pub(crate) mod view;

pub use core::FAILPOINTS;
pub use load::LoadError;
pub use provision::InventoryError;
pub(crate) use provision::open_cloud;
pub use record::RecordError;
pub use run::{LeadError, run};
