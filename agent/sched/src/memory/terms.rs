//! What is asked of an arena, what it answers, and why not.

/// The most granules an arena has: 1 TiB at 512 bytes.
pub const MAX_GRANULES: u32 = 1 << 31;
/// The most blocks an arena lends out at once.
pub const MAX_BLOCKS: u32 = 1 << 24;
/// The most owners of one arena.
pub const MAX_OWNERS: u32 = 1 << 22;

/// Which hole a new block gets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Fit {
    /// A hole of the smallest size class all of whose holes are large enough; O(1).
    #[default]
    Segregated,
    /// The smallest hole that is large enough, exactly.
    Best,
    /// The lowest hole that is large enough; O(log holes).
    First,
    /// As `First` from where the last block was put, then from the start; O(log holes).
    Next,
    /// The largest hole.
    Worst,
}

/// The ways in which a block may legally be moved; none: it stays where it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ways(pub(crate) u8);

/// A block that is lent out. A handle outlives moves, and is known as stale after the block is freed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Block {
    pub(crate) index: u32,
    pub(crate) generation: u32,
}

/// What is asked of an arena.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request {
    /// At least 1; rounded up to granules.
    pub bytes: u64,
    /// A power of two in bytes; 1 where any granule does.
    pub align: u64,
    /// Whose it is, below [`MAX_OWNERS`].
    pub owner: u32,
    /// How it may be moved.
    pub ways: Ways,
}

/// A range of the arena, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Region {
    /// Where it starts.
    pub offset: u64,
    /// How long it is, at least one granule.
    pub bytes: u64,
    /// Who holds it; `None`: a hole.
    pub held: Option<Held>,
}

/// A block's handle and terms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    /// The handle.
    pub block: Block,
    /// Whose it is.
    pub owner: u32,
    /// How it may be moved.
    pub ways: Ways,
    /// What its offset is a multiple of, in bytes.
    pub align: u64,
}

/// Why an arena cannot be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ShapeError {
    /// The granule is not a power of two.
    #[error("granule of {0} bytes: give a power of two")]
    Granule(u64),
    /// No granule, or too many.
    #[error("capacity of {capacity} bytes is {granules} granules: give 1 to {MAX_GRANULES}")]
    Capacity {
        /// What was given.
        capacity: u64,
        /// That in whole granules.
        granules: u64,
    },
    /// No block, or too many.
    #[error("{0} blocks: give 1 to {MAX_BLOCKS}")]
    Blocks(u32),
}

/// Why a block was not given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoRoom {
    /// Nothing was asked for.
    #[error("0 bytes asked for: ask for at least 1")]
    Nothing,
    /// The alignment cannot be had.
    #[error("alignment of {0} bytes: give a power of two, at most the arena's capacity")]
    Align(u64),
    /// There is no such owner.
    #[error("owner {0}: give a number below {MAX_OWNERS}")]
    Owner(u32),
    /// As many blocks are lent out as there are records for.
    #[error("{0} blocks are lent out: free one, or make the arena with room for more")]
    Blocks(u32),
    /// Fewer bytes are free than were asked for.
    #[error("{asked} bytes asked for and {free} free: free some")]
    Exhausted {
        /// Rounded up to granules.
        asked: u64,
        /// In all holes.
        free: u64,
    },
    /// Enough bytes are free, in no hole that is large enough.
    #[error("{asked} bytes asked for, {free} free in holes that are each too small: defragment")]
    Fragmented {
        /// Rounded up to granules.
        asked: u64,
        /// In all holes.
        free: u64,
    },
}

/// The handle's block was freed, or is of another arena.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("block {index} of generation {generation} is not lent out: it was freed before")]
pub struct StaleBlock {
    pub(crate) index: u32,
    pub(crate) generation: u32,
}

/// Why a block was not moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotMoved {
    /// The block is gone.
    #[error(transparent)]
    Stale(#[from] StaleBlock),
    /// Something is in the way, or the offset is none the block may have.
    #[error("{bytes} bytes do not fit at offset {to}: plan again")]
    Taken {
        /// Where it was to go.
        to: u64,
        /// Its size.
        bytes: u64,
    },
}

// === impl Ways ===

impl Ways {
    /// The block stays where it is.
    pub const NONE: Self = Self(0);
    /// Its whole 2 MiB pages may be mapped elsewhere (CUDA virtual memory management); nothing is
    /// copied, and the address its process sees stays.
    pub const REMAP: Self = Self(1);
    /// It is reached through a handle: it may be copied once its owner acknowledges a pause.
    pub const COPY: Self = Self(2);
    /// Its process can be checkpointed out of the device and restored.
    pub const EVICT: Self = Self(4);
    /// Its job may be moved to another device.
    pub const MIGRATE: Self = Self(8);

    /// Either's ways.
    #[must_use]
    pub const fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether all of `other` are among them.
    #[must_use]
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

// === impl Request ===

impl Request {
    /// `bytes` for owner 0 at any granule, never moved.
    #[must_use]
    pub const fn of(bytes: u64) -> Self {
        Self {
            bytes,
            align: 1,
            owner: 0,
            ways: Ways::NONE,
        }
    }
}
