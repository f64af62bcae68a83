//! Small requests from segments of one size class, so that they do not cut the arena into slivers.
//!
//! A segment is 2 MiB lent by the arena, cut into equal slots; requests of up to 1 MiB go there,
//! larger ones to the arena itself. No share of the arena is set aside for any class: segments come
//! and go with the need. An empty segment is kept for its class until the arena has no room, then
//! all of them go back and the request is tried again.

use super::arena::Arena;
use super::terms::{Block, NoRoom, Request, StaleBlock, Ways};

/// Bytes of a segment, and what it is aligned to.
pub const SEGMENT: u64 = 2 << 20;
/// The largest request that a slot serves, in bytes.
pub const MAX_SMALL: u64 = SEGMENT / 2;
/// The smallest slot, in bytes.
pub const MIN_SLOT: u64 = 512;
/// Empty segments that each class keeps.
pub const KEPT_EMPTY: u32 = 1;
/// Size classes: four an octave, so that a slot is at most a quarter larger than what is asked.
const CLASSES: usize = 45;
const WORDS: usize = 64;
/// No segment.
const NONE: u32 = u32::MAX;

/// A slot of a segment, or a block of the arena.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Piece {
    /// A block of its own.
    Whole(Block),
    /// A slot; stale once it was freed.
    Slot {
        /// Which segment.
        segment: u32,
        /// Which of its slots.
        slot: u16,
        /// The segment's, counted up each time it is taken from the arena.
        generation: u32,
    },
}

/// What the pools hold.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PoolUse {
    /// Segments taken from the arena.
    pub segments: u64,
    /// Those of them without a slot in use.
    pub empty: u64,
    /// Bytes of slots in use, rounded up to their class.
    pub slots_used: u64,
    /// Bytes that were asked for in those slots.
    pub asked: u64,
}

#[derive(Debug, Clone)]
struct Segment {
    block: Option<Block>,
    generation: u32,
    class: u16,
    slots: u16,
    used: u16,
    /// Segments of the class with a free slot, a list; spare records through `after`.
    before: u32,
    after: u32,
    /// Words with a free slot, then the slots: 1 is free.
    words: u64,
    free: [u64; WORDS],
}

/// The segments of one owner in one arena.
#[derive(Debug, Clone)]
pub struct Pools {
    owner: u32,
    ways: Ways,
    /// Of each class, the first segment with a free slot.
    heads: [u32; CLASSES],
    empty: [u32; CLASSES],
    segments: Vec<Segment>,
    spare: u32,
    held: PoolUse,
}

/// The class whose slots are the smallest that hold `bytes` (1 to [`MAX_SMALL`]).
fn class_of(bytes: u64) -> usize {
    let units = bytes.div_ceil(MIN_SLOT).max(1);
    if units <= 4 {
        return usize::try_from(units - 1).unwrap_or(0);
    }
    let octave = (units - 1).ilog2() - 2;
    let step = ((units - 1) >> octave) - 4;
    (octave * 4 + 4) as usize + usize::try_from(step).unwrap_or(0)
}

/// Bytes of a slot of a class.
fn slot_of(class: usize) -> u64 {
    if class < 4 {
        return (class as u64 + 1) * MIN_SLOT;
    }
    let octave = (class - 4) / 4;
    let step = ((class - 4) % 4) as u64;
    ((step + 5) << octave) * MIN_SLOT
}

// === impl Pools ===

impl Pools {
    /// Pools without a segment; the blocks they take from the arena are `owner`'s and may be moved
    /// in these ways.
    #[must_use]
    pub fn new(owner: u32, ways: Ways) -> Self {
        Self {
            owner,
            ways,
            heads: [NONE; CLASSES],
            empty: [0; CLASSES],
            segments: Vec::new(),
            spare: NONE,
            held: PoolUse::default(),
        }
    }

    /// Lends `bytes`, at least 1; O(1) apart from taking a segment. A slot of class size is aligned
    /// to [`MIN_SLOT`]. The same `arena` has to be given each time.
    ///
    /// # Errors
    /// When the arena has no room, even with every empty segment given back.
    pub fn allocate(&mut self, arena: &mut Arena, bytes: u64) -> Result<Piece, NoRoom> {
        if bytes == 0 {
            return Err(NoRoom::Nothing);
        }
        if bytes > MAX_SMALL {
            let whole = self.request(bytes, 1);
            return self.lend(arena, &whole).map(Piece::Whole);
        }
        let class = class_of(bytes);
        if self.heads[class] == NONE {
            self.open(arena, class)?;
        }
        let segment = self.heads[class];
        let s = &mut self.segments[segment as usize];
        if s.used == 0 {
            self.empty[class] -= 1;
            self.held.empty -= 1;
        }
        let word = s.words.trailing_zeros();
        let bit = s.free[word as usize].trailing_zeros();
        s.free[word as usize] &= !(1 << bit);
        if s.free[word as usize] == 0 {
            s.words &= !(1 << word);
        }
        s.used += 1;
        let generation = s.generation;
        if s.used == s.slots {
            self.unlink(segment);
        }
        self.held.slots_used += slot_of(class);
        self.held.asked += bytes;
        let slot = u16::try_from(word * 64 + bit).unwrap_or(u16::MAX);
        Ok(Piece::Slot {
            segment,
            slot,
            generation,
        })
    }

    /// Takes a piece back; `bytes` is what was asked for, for the figures.
    ///
    /// # Errors
    /// When it was freed before.
    pub fn free(&mut self, arena: &mut Arena, piece: Piece, bytes: u64) -> Result<(), StaleBlock> {
        let (segment, slot) = match piece {
            Piece::Whole(block) => return arena.free(block).map(|_| ()),
            Piece::Slot { segment, slot, .. } => (segment, slot),
        };
        self.check(piece)?;
        let s = &mut self.segments[segment as usize];
        let (word, bit) = (slot / 64, slot % 64);
        s.free[usize::from(word)] |= 1 << bit;
        s.words |= 1 << word;
        let full = s.used == s.slots;
        s.used -= 1;
        let (class, used) = (usize::from(s.class), s.used);
        self.held.slots_used -= slot_of(class);
        self.held.asked = self.held.asked.saturating_sub(bytes);
        if full {
            self.link(segment);
        }
        if used == 0 {
            self.empty[class] += 1;
            self.held.empty += 1;
            if self.empty[class] > KEPT_EMPTY {
                self.close(arena, segment);
            }
        }
        Ok(())
    }

    /// Where a piece starts in the arena, in bytes; another place once its segment was moved.
    ///
    /// # Errors
    /// When it was freed.
    pub fn offset(&self, arena: &Arena, piece: Piece) -> Result<u64, StaleBlock> {
        match piece {
            Piece::Whole(block) => arena.offset(block),
            Piece::Slot { segment, slot, .. } => {
                let block = self.check(piece)?;
                let class = usize::from(self.segments[segment as usize].class);
                Ok(arena.offset(block)? + u64::from(slot) * slot_of(class))
            }
        }
    }

    /// Gives every empty segment back to the arena, and returns their bytes.
    pub fn trim(&mut self, arena: &mut Arena) -> u64 {
        let mut given = 0;
        for segment in 0..u32::try_from(self.segments.len()).unwrap_or(NONE) {
            let s = &self.segments[segment as usize];
            if s.block.is_some() && s.used == 0 {
                self.close(arena, segment);
                given += SEGMENT;
            }
        }
        given
    }

    /// What the pools hold.
    #[must_use]
    pub fn held(&self) -> PoolUse {
        self.held
    }

    fn request(&self, bytes: u64, align: u64) -> Request {
        Request {
            bytes,
            align,
            owner: self.owner,
            ways: self.ways,
        }
    }

    /// From the arena, after giving back what is empty if need be.
    fn lend(&mut self, arena: &mut Arena, request: &Request) -> Result<Block, NoRoom> {
        match arena.allocate(request) {
            Err(NoRoom::Exhausted { .. } | NoRoom::Fragmented { .. } | NoRoom::Blocks(_))
                if self.trim(arena) > 0 =>
            {
                arena.allocate(request)
            }
            other => other,
        }
    }

    fn check(&self, piece: Piece) -> Result<Block, StaleBlock> {
        let Piece::Slot {
            segment,
            slot,
            generation,
        } = piece
        else {
            return Err(StaleBlock {
                index: NONE,
                generation: 0,
            });
        };
        self.segments
            .get(segment as usize)
            .filter(|s| s.generation == generation && slot < s.slots)
            .filter(|s| s.free[usize::from(slot / 64)] & (1 << (slot % 64)) == 0)
            .and_then(|s| s.block)
            .ok_or(StaleBlock {
                index: segment,
                generation,
            })
    }

    /// Takes a segment for a class.
    fn open(&mut self, arena: &mut Arena, class: usize) -> Result<(), NoRoom> {
        let request = self.request(SEGMENT, SEGMENT.min(arena.capacity()));
        let block = self.lend(arena, &request)?;
        let slots = SEGMENT / slot_of(class);
        let mut free = [0; WORDS];
        let mut words = 0;
        for slot in 0..slots {
            free[usize::try_from(slot / 64).unwrap_or(0)] |= 1u64 << (slot % 64);
            words |= 1u64 << (slot / 64);
        }
        let mut opened = Segment {
            block: Some(block),
            generation: 0,
            class: u16::try_from(class).unwrap_or(0),
            slots: u16::try_from(slots).unwrap_or(u16::MAX),
            used: 0,
            before: NONE,
            after: NONE,
            words,
            free,
        };
        let segment = if self.spare == NONE {
            self.segments.push(opened);
            u32::try_from(self.segments.len() - 1).unwrap_or(NONE)
        } else {
            let segment = self.spare;
            let old = &mut self.segments[segment as usize];
            self.spare = old.after;
            opened.generation = old.generation.wrapping_add(1);
            *old = opened;
            segment
        };
        self.empty[class] += 1;
        self.held.empty += 1;
        self.held.segments += 1;
        self.link(segment);
        Ok(())
    }

    /// Gives an empty segment back.
    fn close(&mut self, arena: &mut Arena, segment: u32) {
        self.unlink(segment);
        let s = &mut self.segments[segment as usize];
        if let Some(block) = s.block.take() {
            // It is live: only `close` frees a segment's block.
            let _ = arena.free(block);
        }
        s.after = self.spare;
        self.empty[usize::from(s.class)] -= 1;
        self.spare = segment;
        self.held.empty -= 1;
        self.held.segments -= 1;
    }

    fn link(&mut self, segment: u32) {
        let class = usize::from(self.segments[segment as usize].class);
        let head = self.heads[class];
        let s = &mut self.segments[segment as usize];
        s.before = NONE;
        s.after = head;
        if head != NONE {
            self.segments[head as usize].before = segment;
        }
        self.heads[class] = segment;
    }

    fn unlink(&mut self, segment: u32) {
        let s = &self.segments[segment as usize];
        let (before, after, class) = (s.before, s.after, usize::from(s.class));
        if before == NONE {
            self.heads[class] = after;
        } else {
            self.segments[before as usize].after = after;
        }
        if after != NONE {
            self.segments[after as usize].before = before;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_is_the_smallest_of_its_kind_and_at_most_a_quarter_too_large() {
        assert_eq!(class_of(MAX_SMALL), CLASSES - 6);
        let mut last = 0;
        for bytes in (1..=MAX_SMALL).step_by(509).chain([MAX_SMALL]) {
            let class = class_of(bytes);
            assert!(class < CLASSES && class >= last);
            last = class;
            assert!(slot_of(class) >= bytes, "{bytes}");
            assert!(class == 0 || slot_of(class - 1) < bytes, "{bytes}");
            let rounded = bytes.next_multiple_of(MIN_SLOT);
            assert!(slot_of(class) * 4 <= rounded * 5, "{bytes}");
        }
    }
}
