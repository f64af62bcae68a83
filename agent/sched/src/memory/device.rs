//! One device's memory with its tenants: what the node keeps for reservations.

use super::arena::Arena;
use super::backend::{Backend, StepError, carry_out};
use super::cost::{Budget, Costs};
use super::figures::{Fragmentation, Sizes};
use super::plan::{Move, Plan, Strategy, plan};
use super::pressure::{Change, Pressure, Sample};
use super::tenants::{Account, Entitlement, EntitlementError, QuotaError, Tenants};
use super::terms::{Block, NoRoom, Request, StaleBlock};

/// Why a tenant does not get a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// Its quota, or what others are promised.
    #[error(transparent)]
    Quota(#[from] QuotaError),
    /// The device has no room.
    #[error(transparent)]
    NoRoom(#[from] NoRoom),
}

/// An arena, who may hold how much of it, and how full it is.
#[derive(Debug, Clone)]
pub struct DeviceMemory {
    arena: Arena,
    tenants: Tenants,
    sizes: Sizes,
    pressure: Pressure,
    retired: u64,
    requests: u64,
    failed: u64,
}

// === impl DeviceMemory ===

impl DeviceMemory {
    /// An empty arena, taken over.
    #[must_use]
    pub fn new(arena: Arena, pressure: Pressure) -> Self {
        Self {
            sizes: Sizes::new(arena.granule()),
            arena,
            tenants: Tenants::default(),
            pressure,
            retired: 0,
            requests: 0,
            failed: 0,
        }
    }

    /// The books.
    #[must_use]
    pub fn arena(&self) -> &Arena {
        &self.arena
    }

    /// Sets what a tenant is entitled to. A limit below what it holds takes nothing away; it gets
    /// nothing more.
    ///
    /// # Errors
    /// When more would be promised than can be kept.
    pub fn declare(&mut self, tenant: u32, entitled: Entitlement) -> Result<(), EntitlementError> {
        self.tenants
            .declare(tenant, entitled, self.arena.free_bytes())
    }

    /// What a tenant holds; `None`: not declared.
    #[must_use]
    pub fn account(&self, tenant: u32) -> Option<Account> {
        self.tenants.account(tenant)
    }

    /// Every declared tenant, by number.
    pub fn accounts(&self) -> impl Iterator<Item = (u32, &Account)> {
        self.tenants.iter()
    }

    /// Bytes that are kept free for tenants who do not use their guarantee.
    #[must_use]
    pub fn promised(&self) -> u64 {
        self.tenants.promised()
    }

    /// Lends a block to `request.owner`.
    ///
    /// # Errors
    /// When its quota or the room does not suffice; nothing is changed.
    pub fn allocate(&mut self, request: &Request) -> Result<Block, Denied> {
        let free = self.arena.free_bytes();
        let asked = self.arena.rounded(request.bytes).unwrap_or(u64::MAX);
        self.tenants.check(request.owner, asked, free)?;
        self.requests += 1;
        self.sizes.note(request.bytes);
        let block = self
            .arena
            .allocate(request)
            .inspect_err(|_| self.failed += 1)?;
        self.tenants.enter(request.owner, asked);
        Ok(block)
    }

    /// Takes a block back, and returns its bytes.
    ///
    /// # Errors
    /// When it was freed before.
    pub fn free(&mut self, block: Block) -> Result<u64, StaleBlock> {
        let owner = self.arena.region(block)?.held.map(|h| h.owner);
        let bytes = self.arena.free(block)?;
        if let Some(owner) = owner {
            self.tenants.strike(owner, bytes);
        }
        Ok(bytes)
    }

    /// Plans one cycle of moves.
    #[must_use]
    pub fn plan(&self, strategy: Strategy, costs: &Costs, budget: &Budget) -> Plan {
        plan(&self.arena, strategy, costs, budget)
    }

    /// Takes one step of a plan; the block of one that leaves is its tenant's no more.
    ///
    /// # Errors
    /// When the arena changed since the plan, or the backend fails; nothing is changed.
    pub fn carry_out<B: Backend<Error = E>, E: std::error::Error + 'static>(
        &mut self,
        step: &Move,
        backend: &mut B,
    ) -> Result<(), StepError<E>> {
        carry_out(&mut self.arena, step, backend)?;
        if step.to.is_none() {
            self.tenants.strike(step.owner, step.bytes);
        }
        Ok(())
    }

    /// How the free memory lies, in units of the 90th percentile of requests (a granule before the first).
    #[must_use]
    pub fn fragmentation(&self) -> Fragmentation {
        let unit = self.sizes.percentile(90).unwrap_or(1);
        Fragmentation::of(&self.arena, unit)
    }

    /// Bytes of the device that cannot be used: the driver's, or on retired pages.
    pub fn set_retired(&mut self, bytes: u64) {
        self.retired = bytes;
    }

    /// Looks at the pressure now; `Some` when its level changed.
    pub fn observe(&mut self, now_ms: u64) -> Option<Change> {
        let sample = Sample {
            now_ms,
            used: self.arena.used(),
            retired: self.retired,
            total: self.arena.capacity(),
            requests: std::mem::take(&mut self.requests),
            failed: std::mem::take(&mut self.failed),
        };
        self.pressure.observe(sample)
    }

    /// The level, trend and failure rate.
    #[must_use]
    pub fn pressure(&self) -> &Pressure {
        &self.pressure
    }
}
