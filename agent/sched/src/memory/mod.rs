//! Who holds which part of a GPU's memory, how full it is, and what to move to make room.
//!
//! Architecture invariant: books only. Nothing here touches memory; a plan names the moves, the
//! caller carries each out through a [`Backend`], which moves memory and books together.

mod arena;
mod backend;
mod bins;
mod cost;
mod device;
mod figures;
mod holes;
pub mod mig;
mod node;
mod plan;
mod pools;
mod pressure;
mod tenants;
mod terms;
mod tree;

pub use arena::Arena;
pub use backend::{Backend, StepError, carry_out};
pub use cost::{Budget, Costs, MAX_CHUNKS, Way};
pub use device::{Denied, DeviceMemory};
pub use figures::{Fragmentation, Sizes};
pub use plan::{MAX_TRIES, Move, Plan, Strategy, plan};
pub use pools::{KEPT_EMPTY, MAX_SMALL, MIN_SLOT, Piece, PoolUse, Pools, SEGMENT};
pub use pressure::{BOUNDS, Change, FAILING, Level, MARGIN, Pressure, SOON_MS, Sample};
pub use tenants::{Account, Entitlement, EntitlementError, QuotaError};
pub use terms::{
    Block, Fit, Held, MAX_BLOCKS, MAX_GRANULES, MAX_OWNERS, NoRoom, NotMoved, Region, Request,
    ShapeError, StaleBlock, Ways,
};

#[cfg(test)]
mod tests;
