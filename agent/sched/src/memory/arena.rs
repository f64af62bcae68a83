//! Memory by offsets: who holds which range of one device, without touching the memory.
//!
//! ```text
//!   hole ──allocate──▶ block ──free──▶ hole, joined with the holes on both sides
//!                        │ ▲
//!                        └─┘ relocate: another offset, the same handle
//! ```
//! No two holes touch, the regions cover the arena exactly, and no operation allocates: records
//! are reserved once for the largest number of blocks.

use super::bins::{Bins, COARSE, FINE, Order};
use super::node::{NONE, Node};
use super::terms::{
    Block, Fit, Held, MAX_BLOCKS, MAX_GRANULES, MAX_OWNERS, NoRoom, NotMoved, Region, Request,
    ShapeError, StaleBlock, Ways,
};
use super::tree::Tree;

#[derive(Debug, Clone)]
enum Index {
    Coarse(Box<Bins<COARSE>>),
    Fine(Box<Bins<FINE>>),
    Tree(Tree),
}

/// One device's memory, or the part of it that is lent out.
#[derive(Debug, Clone)]
pub struct Arena {
    nodes: Vec<Node>,
    index: Index,
    /// Spare records, a list through `left`.
    spare: u32,
    /// The region at offset 0.
    lowest: u32,
    fit: Fit,
    shift: u32,
    capacity: u32,
    free: u32,
    blocks: u32,
    max_blocks: u32,
    /// Where the last block ended; for [`Fit::Next`].
    cursor: u32,
}

const WAY_BITS: u32 = 4;
const ALIGN_BITS: u32 = 5;

#[inline]
fn tag(owner: u32, ways: Ways, align: u32) -> u32 {
    (((owner << ALIGN_BITS) | align.trailing_zeros()) << WAY_BITS) | u32::from(ways.0)
}

// === impl Arena ===

impl Arena {
    /// An arena of `capacity` bytes (whole granules of them) with room for `max_blocks` blocks.
    ///
    /// # Errors
    /// When one of them is out of range.
    pub fn new(capacity: u64, granule: u64, max_blocks: u32, fit: Fit) -> Result<Self, ShapeError> {
        if !granule.is_power_of_two() {
            return Err(ShapeError::Granule(granule));
        }
        let granules = capacity / granule;
        let units = u32::try_from(granules)
            .ok()
            .filter(|g| (1..=MAX_GRANULES).contains(g))
            .ok_or(ShapeError::Capacity { capacity, granules })?;
        if !(1..=MAX_BLOCKS).contains(&max_blocks) {
            return Err(ShapeError::Blocks(max_blocks));
        }
        let fine = |order| Index::Fine(Box::new(Bins::new(order)));
        let index = match fit {
            Fit::Segregated => Index::Coarse(Box::new(Bins::new(Order::Lifo))),
            Fit::Best => fine(Order::Smallest),
            Fit::Worst => fine(Order::Largest),
            Fit::First | Fit::Next => Index::Tree(Tree::new()),
        };
        // A hole beside each block, and two for the block that moves.
        let mut nodes = Vec::with_capacity(max_blocks as usize * 2 + 4);
        nodes.push(Node::none());
        nodes.push(Node::hole(0, units));
        let mut arena = Self {
            nodes,
            index,
            spare: NONE,
            lowest: 1,
            fit,
            shift: granule.trailing_zeros(),
            capacity: units,
            free: units,
            blocks: 0,
            max_blocks,
            cursor: 0,
        };
        arena.enter(1);
        Ok(arena)
    }

    /// Lends a block out.
    ///
    /// # Errors
    /// When the request is out of range, or there is no room; the arena is then unchanged.
    #[inline]
    pub fn allocate(&mut self, request: &Request) -> Result<Block, NoRoom> {
        let (size, align) = self.units(request)?;
        if self.blocks == self.max_blocks {
            return Err(NoRoom::Blocks(self.max_blocks));
        }
        let hole = self
            .find(size, align)
            .ok_or_else(|| self.no_room(u64::from(size)))?;
        let at = self.nodes[hole as usize].room(size, align);
        let at = at.ok_or_else(|| self.no_room(u64::from(size)))?;
        let i = self.record();
        self.carve(hole, i, at, size);
        let node = &mut self.nodes[i as usize];
        node.tag = tag(request.owner, request.ways, align);
        node.generation = node.generation.wrapping_add(1);
        self.blocks += 1;
        self.free -= size;
        self.cursor = at + size;
        Ok(Block {
            index: i,
            generation: node.generation,
        })
    }

    /// Takes a block back, and returns its bytes.
    ///
    /// # Errors
    /// When the block was freed before.
    #[inline]
    pub fn free(&mut self, block: Block) -> Result<u64, StaleBlock> {
        let i = self.check(block)?;
        let node = &mut self.nodes[i as usize];
        let size = node.size;
        node.generation = node.generation.wrapping_add(1);
        self.blocks -= 1;
        self.free += size;
        if self.dissolve(i) {
            self.put_back(i);
        }
        Ok(u64::from(size) << self.shift)
    }

    /// Moves a block to `to` in the books; the caller moves what is in it. The new place may
    /// overlap the old one.
    ///
    /// # Errors
    /// When the block was freed, or `to` is not free or not aligned for it; nothing is changed.
    pub fn relocate(&mut self, block: Block, to: u64) -> Result<(), NotMoved> {
        let i = self.check(block)?;
        let Node {
            offset, size, tag, ..
        } = self.nodes[i as usize];
        let taken = NotMoved::Taken {
            to,
            bytes: u64::from(size) << self.shift,
        };
        let at = u32::try_from(to >> self.shift).map_err(|_| taken)?;
        let end = at.checked_add(size).ok_or(taken)?;
        let align = 1u32 << ((tag >> WAY_BITS) & ((1 << ALIGN_BITS) - 1));
        if (u64::from(at) << self.shift) != to || at & (align - 1) != 0 || end > self.capacity {
            return Err(taken);
        }
        if at == offset {
            return Ok(());
        }
        let hole = if at < offset + size && offset < end {
            NONE
        } else {
            self.hole_at(at).ok_or(taken)?
        };
        let (low, high) = self.bounds(if hole == NONE { i } else { hole }, i);
        if at < low || end > high {
            return Err(taken);
        }
        // Another record becomes the hole, since the handle names this one.
        let left = self.record();
        self.nodes[left as usize] = Node {
            generation: self.nodes[left as usize].generation,
            ..self.nodes[i as usize]
        };
        self.relink(left);
        if self.dissolve(left) {
            self.put_back(left);
        }
        let hole = self.hole_at(at).ok_or(taken)?;
        self.carve(hole, i, at, size);
        self.nodes[i as usize].tag = tag;
        Ok(())
    }

    /// Where a block starts, in bytes.
    ///
    /// # Errors
    /// When the block was freed.
    pub fn offset(&self, block: Block) -> Result<u64, StaleBlock> {
        let i = self.check(block)?;
        Ok(u64::from(self.nodes[i as usize].offset) << self.shift)
    }

    /// A block's range and terms.
    ///
    /// # Errors
    /// When the block was freed.
    pub fn region(&self, block: Block) -> Result<Region, StaleBlock> {
        let i = self.check(block)?;
        Ok(self.view(i))
    }

    /// Every region, lowest first.
    pub fn regions(&self) -> impl Iterator<Item = Region> + '_ {
        self.chain().map(|i| self.view(i))
    }

    /// Bytes in all.
    #[must_use]
    pub fn capacity(&self) -> u64 {
        u64::from(self.capacity) << self.shift
    }

    /// Bytes in holes.
    #[must_use]
    pub fn free_bytes(&self) -> u64 {
        u64::from(self.free) << self.shift
    }

    /// Bytes lent out, rounded up to granules.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.capacity() - self.free_bytes()
    }

    /// Blocks lent out.
    #[must_use]
    pub fn blocks(&self) -> u32 {
        self.blocks
    }

    /// Bytes of a granule.
    #[must_use]
    pub fn granule(&self) -> u64 {
        1 << self.shift
    }

    /// `bytes` rounded up to granules; `None` above the arena's capacity.
    #[must_use]
    pub fn rounded(&self, bytes: u64) -> Option<u64> {
        let rounded = bytes.checked_next_multiple_of(self.granule())?;
        (rounded <= self.capacity()).then_some(rounded)
    }

    /// Host memory that the books take, in bytes.
    #[must_use]
    pub fn metadata_bytes(&self) -> u64 {
        let index = match self.index {
            Index::Coarse(_) => size_of::<Bins<COARSE>>(),
            Index::Fine(_) => size_of::<Bins<FINE>>(),
            Index::Tree(_) => 0,
        };
        let nodes = self.nodes.capacity() * size_of::<Node>();
        u64::try_from(size_of::<Self>() + index + nodes).unwrap_or(u64::MAX)
    }

    #[inline]
    fn units(&self, request: &Request) -> Result<(u32, u32), NoRoom> {
        let Request {
            bytes,
            align,
            owner,
            ..
        } = *request;
        if bytes == 0 {
            return Err(NoRoom::Nothing);
        }
        if !align.is_power_of_two() || align > self.capacity() {
            return Err(NoRoom::Align(align));
        }
        if owner >= MAX_OWNERS {
            return Err(NoRoom::Owner(owner));
        }
        let units = ((bytes - 1) >> self.shift) + 1;
        if units > u64::from(self.free) {
            return Err(NoRoom::Exhausted {
                asked: units.checked_shl(self.shift).unwrap_or(u64::MAX),
                free: self.free_bytes(),
            });
        }
        let align = u32::try_from(align >> self.shift).unwrap_or(u32::MAX);
        Ok((u32::try_from(units).unwrap_or(u32::MAX), align.max(1)))
    }

    #[cold]
    fn no_room(&self, units: u64) -> NoRoom {
        NoRoom::Fragmented {
            asked: units << self.shift,
            free: self.free_bytes(),
        }
    }

    #[inline]
    fn find(&self, size: u32, align: u32) -> Option<u32> {
        match (&self.index, self.fit) {
            (Index::Coarse(bins), _) => {
                if align == 1 {
                    return bins.good(&self.nodes, size);
                }
                let wide = size.checked_add(align - 1);
                wide.and_then(|wide| bins.good(&self.nodes, wide))
                    .or_else(|| bins.best(&self.nodes, size, align))
            }
            (Index::Fine(bins), Fit::Worst) => bins.worst(&self.nodes, size, align),
            (Index::Fine(bins), _) => bins.best(&self.nodes, size, align),
            (Index::Tree(tree), Fit::Next) => tree
                .first(&self.nodes, self.cursor, size, align)
                .or_else(|| tree.first(&self.nodes, 0, size, align)),
            (Index::Tree(tree), _) => tree.first(&self.nodes, 0, size, align),
        }
    }

    #[inline]
    fn check(&self, block: Block) -> Result<u32, StaleBlock> {
        match self.nodes.get(block.index as usize) {
            Some(node) if node.generation == block.generation && !node.is_hole() => Ok(block.index),
            _ => Err(StaleBlock {
                index: block.index,
                generation: block.generation,
            }),
        }
    }

    /// A spare record, or a new one: there are twice as many as blocks, and some.
    #[inline]
    fn record(&mut self) -> u32 {
        let i = self.spare;
        if i != NONE {
            self.spare = self.nodes[i as usize].left;
            return i;
        }
        self.nodes.push(Node::hole(0, 0));
        u32::try_from(self.nodes.len() - 1).unwrap_or(NONE)
    }

    #[inline]
    fn put_back(&mut self, i: u32) {
        self.nodes[i as usize].left = self.spare;
        self.spare = i;
    }

    #[inline]
    fn enter(&mut self, i: u32) {
        match &mut self.index {
            Index::Coarse(bins) => bins.insert(&mut self.nodes, i),
            Index::Fine(bins) => bins.insert(&mut self.nodes, i),
            Index::Tree(tree) => tree.insert(&mut self.nodes, i),
        }
    }

    #[inline]
    fn leave(&mut self, i: u32) {
        match &mut self.index {
            Index::Coarse(bins) => bins.remove(&mut self.nodes, i),
            Index::Fine(bins) => bins.remove(&mut self.nodes, i),
            Index::Tree(tree) => tree.remove(&mut self.nodes, i),
        }
    }

    #[inline]
    fn resize(&mut self, i: u32, offset: u32, size: u32) {
        match &mut self.index {
            Index::Coarse(bins) => bins.resize(&mut self.nodes, i, offset, size),
            Index::Fine(bins) => bins.resize(&mut self.nodes, i, offset, size),
            Index::Tree(tree) => tree.resize(&mut self.nodes, i, offset, size),
        }
    }

    /// Tells a region's neighbours about it.
    #[inline]
    fn relink(&mut self, i: u32) {
        let Node { below, above, .. } = self.nodes[i as usize];
        match below {
            NONE => self.lowest = i,
            below => self.nodes[below as usize].above = i,
        }
        self.nodes[above as usize].below = i;
    }

    /// Makes record `i` the block at `at` within a hole; what is left on either side stays a hole.
    #[inline]
    fn carve(&mut self, hole: u32, i: u32, at: u32, size: u32) {
        let h = self.nodes[hole as usize];
        let (front, back) = (at - h.offset, h.end() - at - size);
        let (mut below, mut above) = (h.below, h.above);
        if front > 0 && back > 0 {
            self.resize(hole, h.offset, front);
            below = hole;
            let rest = self.record();
            let generation = self.nodes[rest as usize].generation;
            self.nodes[rest as usize] = Node {
                generation,
                below: i,
                above,
                ..Node::hole(at + size, back)
            };
            self.nodes[above as usize].below = rest;
            above = rest;
            self.enter(rest);
        } else if back > 0 {
            self.resize(hole, at + size, back);
            above = hole;
        } else if front > 0 {
            self.resize(hole, h.offset, front);
            below = hole;
        } else {
            self.leave(hole);
            self.put_back(hole);
        }
        let node = &mut self.nodes[i as usize];
        node.offset = at;
        node.size = size;
        node.below = below;
        node.above = above;
        self.relink(i);
    }

    /// Makes a region's range free, joined with the holes beside it; `true`: the record is spare.
    #[inline]
    fn dissolve(&mut self, i: u32) -> bool {
        let Node {
            offset,
            size,
            below,
            above,
            ..
        } = self.nodes[i as usize];
        let low = self.nodes[below as usize].is_hole();
        let high = self.nodes[above as usize].is_hole();
        if low {
            let mut grown = self.nodes[below as usize].size + size;
            let mut next = above;
            if high {
                grown += self.nodes[above as usize].size;
                next = self.nodes[above as usize].above;
                self.leave(above);
                self.put_back(above);
            }
            self.nodes[below as usize].above = next;
            self.nodes[next as usize].below = below;
            let start = self.nodes[below as usize].offset;
            self.resize(below, start, grown);
            true
        } else if high {
            self.nodes[above as usize].below = below;
            match below {
                NONE => self.lowest = above,
                below => self.nodes[below as usize].above = above,
            }
            let grown = self.nodes[above as usize].size + size;
            self.resize(above, offset, grown);
            true
        } else {
            self.enter(i);
            false
        }
    }

    /// From where to where a region reaches once block `i` and it are free.
    fn bounds(&self, region: u32, i: u32) -> (u32, u32) {
        let free = |n: u32| n != NONE && (n == i || self.nodes[n as usize].is_hole());
        let (mut low, mut high) = (region, region);
        while free(self.nodes[low as usize].below) {
            low = self.nodes[low as usize].below;
        }
        while free(self.nodes[high as usize].above) {
            high = self.nodes[high as usize].above;
        }
        (
            self.nodes[low as usize].offset,
            self.nodes[high as usize].end(),
        )
    }

    /// The hole that holds an offset: the lists have no index by address, so it is walked to.
    fn hole_at(&self, at: u32) -> Option<u32> {
        self.chain()
            .take_while(|i| self.nodes[*i as usize].offset <= at)
            .last()
            .filter(|i| self.nodes[*i as usize].is_hole())
    }

    fn chain(&self) -> impl Iterator<Item = u32> + '_ {
        let some = |i: u32| (i != NONE).then_some(i);
        std::iter::successors(some(self.lowest), move |i| {
            some(self.nodes[*i as usize].above)
        })
    }

    fn view(&self, i: u32) -> Region {
        let node = &self.nodes[i as usize];
        let align = (node.tag >> WAY_BITS) & ((1 << ALIGN_BITS) - 1);
        let ways = Ways((node.tag & ((1 << WAY_BITS) - 1)) as u8);
        Region {
            offset: u64::from(node.offset) << self.shift,
            bytes: u64::from(node.size) << self.shift,
            held: (!node.is_hole()).then_some(Held {
                block: Block {
                    index: i,
                    generation: node.generation,
                },
                owner: node.tag >> (WAY_BITS + ALIGN_BITS),
                ways,
                align: 1 << (align + self.shift),
            }),
        }
    }
}
