//! Holes by size: two levels of bins and a bitmap of those that hold something.
//!
//! 64 bins an octave where the exact size matters, so a bin's sizes lie at most 1.6% apart, and 16
//! where only speed does; below as many granules each size has its own. Source: Masmano et al.,
//! TLSF: a new dynamic memory allocator for real-time systems (ECRTS 2004).

use super::node::{NONE, Node};

/// Bins of an octave, as a power of two, where the exact size matters.
pub(crate) const FINE: u32 = 6;
/// As `FINE` where speed does: fewer lists, whose heads are therefore in the cache.
pub(crate) const COARSE: u32 = 4;
const OCTAVES: usize = 32;
/// More than the bins of either.
pub(crate) const BINS: usize = 27 << FINE;
/// Holes looked at in the bin whose sizes lie around the wanted one, when none above has any.
const LAST_LOOKS: usize = 32;

/// How the holes of one bin lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    /// The last that came first; O(1).
    Lifo,
    /// The smallest first.
    Smallest,
    /// The largest first.
    Largest,
}

/// The heads of the bins' lists.
#[derive(Debug, Clone)]
pub(crate) struct Bins<const FINE: u32> {
    octaves: u32,
    fine: [u64; OCTAVES],
    heads: [u32; BINS],
    order: Order,
}

/// The bin whose range holds `size`.
#[inline]
pub(crate) fn bin_of<const FINE: u32>(size: u32) -> u32 {
    if size < 1 << FINE {
        return size;
    }
    let top = 31 - size.leading_zeros();
    ((top - FINE) << FINE) + (size >> (top - FINE))
}

/// The largest size of a bin.
pub(crate) fn largest_of<const FINE: u32>(bin: u32) -> u32 {
    if bin < 1 << FINE {
        return bin;
    }
    let octave = (bin >> FINE) - 1;
    let base = (bin & ((1 << FINE) - 1)) + (1 << FINE);
    (base << octave) + ((1 << octave) - 1)
}

/// The first bin none of whose holes is smaller than `size`.
#[inline]
fn bin_above<const FINE: u32>(size: u32) -> u32 {
    if size < 1 << FINE {
        return size;
    }
    let slack = (1 << (31 - size.leading_zeros() - FINE)) - 1;
    bin_of::<FINE>(size.saturating_add(slack))
}

// === impl Bins ===

impl<const FINE: u32> Bins<FINE> {
    pub(crate) fn new(order: Order) -> Self {
        Self {
            octaves: 0,
            fine: [0; OCTAVES],
            heads: [NONE; BINS],
            order,
        }
    }

    /// Takes a hole in.
    #[inline]
    pub(crate) fn insert(&mut self, nodes: &mut [Node], i: u32) {
        let size = nodes[i as usize].size;
        let bin = bin_of::<FINE>(size);
        let (mut before, mut after) = (NONE, self.heads[bin as usize]);
        if self.order != Order::Lifo {
            while after != NONE && self.earlier(nodes[after as usize].size, size) {
                before = after;
                after = nodes[after as usize].right;
            }
        }
        let node = &mut nodes[i as usize];
        node.left = before;
        node.right = after;
        node.tag = bin;
        if after == NONE {
            self.octaves |= 1 << (bin >> FINE);
            self.fine[(bin >> FINE) as usize] |= 1u64 << (bin & ((1 << FINE) - 1));
        } else {
            nodes[after as usize].left = i;
        }
        if before == NONE {
            self.heads[bin as usize] = i;
        } else {
            nodes[before as usize].right = i;
        }
    }

    #[inline]
    fn earlier(&self, there: u32, new: u32) -> bool {
        match self.order {
            Order::Lifo => false,
            Order::Smallest => there < new,
            Order::Largest => there > new,
        }
    }

    /// Gives a hole up that is in its list.
    #[inline]
    pub(crate) fn remove(&mut self, nodes: &mut [Node], i: u32) {
        let Node {
            left,
            right,
            tag: bin,
            ..
        } = nodes[i as usize];
        if right != NONE {
            nodes[right as usize].left = left;
        }
        if left != NONE {
            nodes[left as usize].right = right;
            return;
        }
        self.heads[bin as usize] = right;
        if right == NONE {
            let octave = (bin >> FINE) as usize;
            self.fine[octave] &= !(1 << (bin & ((1 << FINE) - 1)));
            if self.fine[octave] == 0 {
                self.octaves &= !(1 << octave);
            }
        }
    }

    /// Changes where a hole lies; leaves it in its list where its bin stays the same.
    #[inline]
    pub(crate) fn resize(&mut self, nodes: &mut [Node], i: u32, offset: u32, size: u32) {
        self.remove(nodes, i);
        let node = &mut nodes[i as usize];
        node.offset = offset;
        node.size = size;
        self.insert(nodes, i);
    }

    /// The first bin from `bin` on that holds something.
    #[inline]
    fn next(&self, bin: u32) -> Option<u32> {
        let octave = bin >> FINE;
        let fine = self.fine.get(octave as usize)? & (u64::MAX << (bin & ((1 << FINE) - 1)));
        if fine != 0 {
            return Some((octave << FINE) + fine.trailing_zeros());
        }
        let octaves = self.octaves & u32::MAX.checked_shl(octave + 1)?;
        if octaves == 0 {
            return None;
        }
        let octave = octaves.trailing_zeros();
        Some((octave << FINE) + self.fine[octave as usize].trailing_zeros())
    }

    /// Some hole of at least `size`, of the smallest bin all of whose holes are; O(1). Where there
    /// is none, one of the first few of the bin around `size`, so that a fit in the same bin is not
    /// refused.
    #[inline]
    pub(crate) fn good(&self, nodes: &[Node], size: u32) -> Option<u32> {
        if let Some(bin) = self.next(bin_above::<FINE>(size)) {
            return Some(self.heads[bin as usize]);
        }
        let head = self.heads[bin_of::<FINE>(size) as usize];
        self.list(nodes, head)
            .take(LAST_LOOKS)
            .find(|i| nodes[*i as usize].size >= size)
    }

    /// The smallest hole with room for `size` at `align`; of equals the one that came last.
    pub(crate) fn best(&self, nodes: &[Node], size: u32, align: u32) -> Option<u32> {
        let mut bin = bin_of::<FINE>(size);
        loop {
            bin = self.next(bin)?;
            let found = self
                .list(nodes, self.heads[bin as usize])
                .find(|i| nodes[*i as usize].room(size, align).is_some());
            if found.is_some() {
                return found;
            }
            bin += 1;
        }
    }

    /// The largest hole with room for `size` at `align`.
    pub(crate) fn worst(&self, nodes: &[Node], size: u32, align: u32) -> Option<u32> {
        let mut octaves = self.octaves;
        while octaves != 0 {
            let octave = 31 - octaves.leading_zeros();
            let mut fine = self.fine[octave as usize];
            while fine != 0 {
                let bit = 63 - fine.leading_zeros();
                let head = self.heads[((octave << FINE) + bit) as usize];
                for i in self.list(nodes, head) {
                    if nodes[i as usize].size < size {
                        return None;
                    }
                    if nodes[i as usize].room(size, align).is_some() {
                        return Some(i);
                    }
                }
                fine &= !(1 << bit);
            }
            octaves &= !(1 << octave);
        }
        None
    }

    #[inline]
    fn list<'a>(&self, nodes: &'a [Node], head: u32) -> impl Iterator<Item = u32> + 'a {
        let some = |i: u32| (i != NONE).then_some(i);
        std::iter::successors(some(head), move |i| some(nodes[*i as usize].right))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check<const FINE: u32>() {
        let wide = u64::from(largest_of::<FINE>(1 << FINE)) >> FINE;
        assert_eq!(wide, 1, "the first size of more than one bin");
        let mut last = 0;
        for size in (1..100_000u32).chain((17..31).flat_map(|p| [(1 << p) - 1, 1 << p])) {
            let bin = bin_of::<FINE>(size);
            assert!(bin >= last && (bin as usize) < BINS, "{size}");
            last = bin;
            let largest = largest_of::<FINE>(bin);
            assert!(size <= largest, "{size}");
            let bound = u64::from(size) * ((1 << FINE) + 1);
            assert!(u64::from(largest) << FINE <= bound, "{size}");
            let above = bin_above::<FINE>(size);
            assert!(above == bin || above == bin + 1, "{size}");
            assert!(largest_of::<FINE>(above - 1) + 1 >= size, "{size}");
        }
    }

    #[test]
    fn bins_are_in_the_order_of_sizes_and_none_is_wider_than_its_part_of_an_octave() {
        check::<FINE>();
        check::<COARSE>();
    }
}
