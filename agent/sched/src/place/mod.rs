//! Which node a piece of work goes to so that little of the fleet is left unusable: fragmentation-aware, incremental.
//!
//! The score of a node is how much worse its remaining room gets for the work that is typical here
//! ([`Mix`]): the expected unusable GPU share of Weng et al., "Beware of Fragmentation" (ATC'23), plus
//! GPUs stranded without processors, plus the price of models that constrained work competes for.
//! The smallest score wins; equals go to the node that was added first, and on it to the first GPU.
//!
//! ```text
//! Shape -> tree of scores over nodes (one per shape) -> Placement
//!             ^ only nodes that changed since this shape was last asked are scored again
//! ```

mod gang;
mod mix;
mod placer;
mod score;
mod tree;

pub use gang::Racks;
pub use mix::Mix;
pub use placer::{MAX_NODES, MAX_SHAPES, Placer, Verdict};
pub use score::Scoring;

/// A whole GPU, in thousandths.
pub const WHOLE: u16 = 1000;
/// Most GPUs of one node.
pub const MAX_GPUS: usize = 64;

/// What one piece of work takes of one node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Shape {
    /// Processors, in thousandths.
    pub cpu_milli: u32,
    /// Memory of the machine, in MiB.
    pub memory_mib: u32,
    /// GPUs, 0 to [`MAX_GPUS`]; more than one only as whole ones.
    pub gpus: u8,
    /// Of each GPU, in thousandths, 1 to [`WHOLE`]; 0 without GPUs.
    pub share_milli: u16,
    /// GPU models it runs on.
    pub models: Models,
}

/// A set of GPU models, by the numbers a fleet gave them (0 to 63).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Models(pub u64);

/// A node's room.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Room {
    /// Processors left, in thousandths.
    pub cpu_milli: u32,
    /// Memory left, in MiB.
    pub memory_mib: u32,
    /// The number of its GPUs' model.
    pub model: u8,
    /// What is left of each GPU, in thousandths.
    pub gpus: Vec<u16>,
}

/// Where a piece of work went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placement {
    /// The node, by its place in the order of addition.
    pub node: usize,
    /// Its GPUs, ascending.
    pub gpus: Vec<u8>,
}

// === impl Models ===

impl Models {
    /// Any model.
    pub const ANY: Self = Self(u64::MAX);

    /// Whether `model` is among them; numbers above 63 never are.
    #[must_use]
    pub fn has(self, model: u8) -> bool {
        model < 64 && self.0 >> model & 1 == 1
    }
}

// === impl Shape ===

impl Shape {
    /// GPU share of all its GPUs together, in thousandths.
    #[must_use]
    pub fn gpu_milli(&self) -> u32 {
        u32::from(self.gpus) * u32::from(self.share_milli)
    }
}

// === impl Room ===

impl Room {
    /// GPU share left, in thousandths.
    #[must_use]
    pub fn free_milli(&self) -> u32 {
        self.gpus.iter().map(|g| u32::from(*g)).sum()
    }

    /// Whether `shape` fits here now.
    #[must_use]
    pub fn fits(&self, shape: &Shape) -> bool {
        if self.cpu_milli < shape.cpu_milli
            || self.memory_mib < shape.memory_mib
            || !shape.models.has(self.model)
        {
            return false;
        }
        let enough = self.gpus.iter().filter(|g| **g >= shape.share_milli);
        shape.gpus == 0 || enough.count() >= usize::from(shape.gpus)
    }

    /// Takes `shape` off, on these GPUs. The caller has made sure that it fits.
    pub(crate) fn take(&mut self, shape: &Shape, gpus: &[u8]) {
        self.cpu_milli = self.cpu_milli.saturating_sub(shape.cpu_milli);
        self.memory_mib = self.memory_mib.saturating_sub(shape.memory_mib);
        for g in gpus {
            let left = &mut self.gpus[usize::from(*g)];
            *left = left.saturating_sub(shape.share_milli);
        }
    }

    /// Puts `shape` back.
    pub(crate) fn give(&mut self, shape: &Shape, gpus: &[u8]) {
        self.cpu_milli += shape.cpu_milli;
        self.memory_mib += shape.memory_mib;
        for g in gpus {
            self.gpus[usize::from(*g)] += shape.share_milli;
        }
    }
}

#[cfg(test)]
mod tests;
