//! Carrying a plan's steps out: the memory and the books move together, or neither does.

use super::arena::Arena;
use super::cost::Way;
use super::plan::Move;
use super::terms::{NotMoved, StaleBlock};

/// What really moves memory. A step that fails leaves the block's contents at its old place.
pub trait Backend {
    /// Why a step failed.
    type Error;

    /// Maps the pages of `from..from + bytes` at `to` instead; the ranges may overlap.
    ///
    /// # Errors
    /// When the driver refuses.
    fn remap(&mut self, from: u64, to: u64, bytes: u64) -> Result<(), Self::Error>;

    /// Waits for the owner to acknowledge a pause, copies, and gives the owner the new address. The
    /// ranges may overlap: then in chunks no longer than they are apart, from the side away from it.
    ///
    /// # Errors
    /// When the owner does not acknowledge, or the copy fails.
    fn copy(&mut self, owner: u32, from: u64, to: u64, bytes: u64) -> Result<(), Self::Error>;

    /// Checkpoints the owner to the host and restores it with the block at `to`.
    ///
    /// # Errors
    /// When there is no checkpoint, or it cannot be restored.
    fn evict(&mut self, owner: u32, from: u64, to: u64, bytes: u64) -> Result<(), Self::Error>;

    /// Moves the owner's job to another device; its block here is free afterwards.
    ///
    /// # Errors
    /// When the job cannot be moved.
    fn migrate(&mut self, owner: u32, from: u64, bytes: u64) -> Result<(), Self::Error>;
}

/// Why a step was not taken; books and memory are as before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum StepError<E: std::error::Error + 'static> {
    /// The arena changed since it was planned.
    #[error("the arena changed since the plan was made: plan again")]
    Stale(#[source] NotMoved),
    /// The block is not where the plan found it.
    #[error("the block is at {at}, planned from {from}: plan again")]
    Elsewhere {
        /// Where it is.
        at: u64,
        /// Where the plan found it.
        from: u64,
    },
    /// The memory did not move.
    #[error("the memory did not move")]
    Backend(#[source] E),
}

/// Takes one step, in the memory and in the books.
///
/// # Errors
/// When the arena changed since the plan, or the backend fails.
pub fn carry_out<B: Backend<Error = E>, E: std::error::Error + 'static>(
    arena: &mut Arena,
    step: &Move,
    backend: &mut B,
) -> Result<(), StepError<E>> {
    let stale = |e: StaleBlock| StepError::Stale(e.into());
    let at = arena.offset(step.block).map_err(stale)?;
    if at != step.from {
        return Err(StepError::Elsewhere {
            at,
            from: step.from,
        });
    }
    let Some(to) = step.to else {
        backend
            .migrate(step.owner, step.from, step.bytes)
            .map_err(StepError::Backend)?;
        arena.free(step.block).map_err(stale)?;
        return Ok(());
    };
    arena.relocate(step.block, to).map_err(StepError::Stale)?;
    let moved = match step.way {
        Way::Remap => backend.remap(step.from, to, step.bytes),
        Way::Copy => backend.copy(step.owner, step.from, to, step.bytes),
        Way::Evict | Way::Migrate => backend.evict(step.owner, step.from, to, step.bytes),
    };
    moved.map_err(|e| match arena.relocate(step.block, step.from) {
        Ok(()) => StepError::Backend(e),
        Err(lost) => StepError::Stale(lost),
    })
}
