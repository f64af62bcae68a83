//! The lead: the one writer of a fleet's state.

pub(crate) mod batch;
pub(crate) mod core;
pub(crate) mod load;
pub(crate) mod orders;
pub(crate) mod record;
pub(crate) mod snapshot;
pub(crate) mod state;
