//! One region of an arena: a block that is lent out, a hole, or a spare record.

/// No region: the number of a record that is never a hole, so that writes to it need no check.
pub(crate) const NONE: u32 = 0;

/// A region's record: half a cache line, apart from the memory it describes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Node {
    /// Where the region starts, in granules.
    pub(crate) offset: u32,
    /// Its length in granules, at least 1.
    pub(crate) size: u32,
    /// The region that ends where this one starts.
    pub(crate) below: u32,
    /// The region that starts where this one ends.
    pub(crate) above: u32,
    /// Holes: previous of the bin, or left child. Spare records: the next one.
    pub(crate) left: u32,
    /// Holes: next of the bin, or right child.
    pub(crate) right: u32,
    /// Odd while lent out; counts up at each change, so that an old handle is known as such.
    pub(crate) generation: u32,
    /// Blocks: owner, ways and alignment. Holes: their bin, or in a tree the
    /// largest hole of the subtree.
    pub(crate) tag: u32,
}

// === impl Node ===

impl Node {
    /// The record that stands for no region.
    pub(crate) fn none() -> Self {
        Self {
            generation: 1,
            ..Self::hole(0, 0)
        }
    }

    #[inline]
    pub(crate) fn hole(offset: u32, size: u32) -> Self {
        Self {
            offset,
            size,
            below: NONE,
            above: NONE,
            left: NONE,
            right: NONE,
            generation: 0,
            tag: 0,
        }
    }

    #[inline]
    pub(crate) fn is_hole(&self) -> bool {
        self.generation & 1 == 0
    }

    #[inline]
    pub(crate) fn end(&self) -> u32 {
        self.offset + self.size
    }

    /// Where in the region a block of `size` starts that is aligned to `align` (a power of two).
    #[inline]
    pub(crate) fn room(&self, size: u32, align: u32) -> Option<u32> {
        let at = align_up(self.offset, align)?;
        let end = at.checked_add(size)?;
        (end <= self.end()).then_some(at)
    }
}

/// The first multiple of `align` (a power of two) not below `offset`.
#[inline]
pub(crate) fn align_up(offset: u32, align: u32) -> Option<u32> {
    Some(offset.checked_add(align - 1)? & !(align - 1))
}
