//! More promised than is there: guarantees always hold, the rest by chance, and those who can be evicted pay.

use std::collections::BTreeMap;

/// Most holders of one resource.
pub const MAX_HOLDERS: usize = 100_000;
/// Deviations above the mean that 95% stay below (normal), in thousandths, rounded up.
pub const Z_P95: u32 = 1_645;
/// Deviations above the mean that 99% stay below (normal), in thousandths, rounded up.
pub const Z_P99: u32 = 2_327;

/// What a holder may use, and what it is expected to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Holder {
    /// Units it gets whenever it asks.
    pub guaranteed: u64,
    /// Units it never gets more than; at least `guaranteed`.
    pub limit: u64,
    /// Units it uses on average.
    pub mean: u64,
    /// Standard deviation of its use, in units.
    pub deviation: u64,
    /// Whether it gave a way to take units above its guarantee back.
    pub evictable: bool,
    /// Smaller ones are evicted first.
    pub priority: i32,
}

/// How much risk is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terms {
    /// Deviations above the mean that have to fit, in thousandths: [`Z_P99`].
    pub z_milli: u32,
    /// How much holders peak together, in thousandths: 0 never more than by chance, 1000 always.
    pub correlation_milli: u32,
}

/// One resource, its holders, what they use, and what is being taken back.
///
/// At every moment: guarantees add up to at most the capacity, and so does use. Units above a
/// guarantee are lent; when a guarantee is claimed they are taken back, and the claim is granted
/// only when they are: memory that is still in use is never granted twice.
#[derive(Debug, Clone)]
pub struct Overbook {
    capacity: u64,
    terms: Terms,
    holders: BTreeMap<u64, Held>,
    guaranteed: u128,
    means: u128,
    deviations: u128,
    variances: u128,
    used: u64,
    /// Claims that wait for evictions, in order.
    waiting: Vec<(u64, u64)>,
}

#[derive(Debug, Clone, Copy)]
struct Held {
    terms: Holder,
    used: u64,
    /// Units it was told to give back.
    owes: u64,
}

/// Why a holder was not let in, or a claim refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OverbookError {
    /// Guarantees would exceed what is there.
    #[error("guarantees would add up to {sum} of {capacity} units: guarantee {} fewer", sum - u128::from(*capacity))]
    Guarantees {
        /// With the new one.
        sum: u128,
        /// What is there.
        capacity: u64,
    },
    /// Use would exceed what is there too often.
    #[error(
        "mean use would be {mean} of {capacity} units, which leaves no room for {deviation} units of deviation at the risk allowed: lower its limit or wait until others leave"
    )]
    Chance {
        /// Mean use with the new one.
        mean: u128,
        /// What is there.
        capacity: u64,
        /// Deviation of all together, the terms' share of it.
        deviation: u128,
    },
    /// Its limit lies above its guarantee, but nothing can be taken back from it.
    #[error(
        "its limit of {limit} lies above its guarantee of {guaranteed}, but it gave no way to evict it: make it evictable, or guarantee its limit"
    )]
    NotEvictable {
        /// Its limit.
        limit: u64,
        /// Its guarantee.
        guaranteed: u64,
    },
    /// Its limit lies below its guarantee.
    #[error("its limit of {limit} lies below its guarantee of {guaranteed}: raise the limit")]
    Limit {
        /// Its limit.
        limit: u64,
        /// Its guarantee.
        guaranteed: u64,
    },
    /// More than its limit.
    #[error("it would use {asked} units, its limit is {limit}: ask for less")]
    AboveLimit {
        /// With the claim.
        asked: u64,
        /// Its limit.
        limit: u64,
    },
    /// Nobody of that number.
    #[error("holder {id} is not known: let it in first")]
    Unknown {
        /// Which.
        id: u64,
    },
    /// The number is in use.
    #[error("holder {id} is known already: choose another id")]
    Known {
        /// Which.
        id: u64,
    },
    /// Too many.
    #[error("{MAX_HOLDERS} holders share it already: use another device")]
    TooMany,
}

/// What became of a claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claim {
    /// It has the units.
    Granted,
    /// It gets them when these have given back so many units each ([`Overbook::gave_back`]).
    AfterEviction(Vec<(u64, u64)>),
    /// Above its guarantee nothing is taken from others: nothing is free now.
    NotNow {
        /// Units that are free.
        free: u64,
    },
}

// === impl Overbook ===

impl Overbook {
    /// Nobody holds any of `capacity`.
    #[must_use]
    pub fn new(capacity: u64, terms: Terms) -> Self {
        Self {
            capacity,
            terms,
            holders: BTreeMap::new(),
            guaranteed: 0,
            means: 0,
            deviations: 0,
            variances: 0,
            used: 0,
            waiting: Vec::new(),
        }
    }

    /// Lets a holder in when all guarantees fit and use stays within capacity with the probability
    /// of the terms. O(log n).
    ///
    /// # Errors
    /// [`OverbookError`]: nothing changes then.
    pub fn admit(&mut self, id: u64, holder: Holder) -> Result<(), OverbookError> {
        let Holder {
            guaranteed, limit, ..
        } = holder;
        if self.holders.contains_key(&id) {
            return Err(OverbookError::Known { id });
        }
        if self.holders.len() >= MAX_HOLDERS {
            return Err(OverbookError::TooMany);
        }
        if limit < guaranteed {
            return Err(OverbookError::Limit { limit, guaranteed });
        }
        if limit > guaranteed && !holder.evictable {
            return Err(OverbookError::NotEvictable { limit, guaranteed });
        }
        let sum = self.guaranteed + u128::from(guaranteed);
        if sum > u128::from(self.capacity) {
            return Err(OverbookError::Guarantees {
                sum,
                capacity: self.capacity,
            });
        }
        self.count(&holder, true);
        if !self.within_chance() {
            let (mean, deviation) = (self.means, self.deviation());
            self.count(&holder, false);
            return Err(OverbookError::Chance {
                mean,
                capacity: self.capacity,
                deviation,
            });
        }
        self.holders.insert(
            id,
            Held {
                terms: holder,
                used: 0,
                owes: 0,
            },
        );
        Ok(())
    }

    /// The holder left; its units are free. Names the claims that are granted now.
    pub fn remove(&mut self, id: u64) -> Vec<u64> {
        if let Some(held) = self.holders.remove(&id) {
            self.count(&held.terms, false);
            self.used -= held.used;
        }
        self.waiting.retain(|(who, _)| *who != id);
        self.grant_waiting()
    }

    /// What the holder was seen to use since it was let in. Afterwards [`Self::within_chance`] may
    /// no longer hold: nobody is let in until it does.
    ///
    /// # Errors
    /// [`OverbookError::Unknown`].
    pub fn observed(&mut self, id: u64, mean: u64, deviation: u64) -> Result<(), OverbookError> {
        let held = self.holders.get_mut(&id);
        let held = held.ok_or(OverbookError::Unknown { id })?;
        let before = held.terms;
        held.terms = Holder {
            mean,
            deviation,
            ..before
        };
        let after = held.terms;
        self.count(&before, false);
        self.count(&after, true);
        Ok(())
    }

    /// Whether use stays within capacity with the probability of the terms:
    /// `mean + z * sqrt((1 - r) * sum of variances + r * (sum of deviations)^2) <= capacity`, in integers.
    #[must_use]
    pub fn within_chance(&self) -> bool {
        let Some(room) = u128::from(self.capacity).checked_sub(self.means) else {
            return false;
        };
        let room = room.saturating_mul(1000);
        self.margin_squared() <= room.saturating_mul(room)
    }

    /// The holder asks for `units` more. Within its guarantee it gets them, after evictions where
    /// others use them; above it, only what is free and was not claimed.
    ///
    /// # Errors
    /// [`OverbookError::AboveLimit`] or [`OverbookError::Unknown`].
    pub fn claim(&mut self, id: u64, units: u64) -> Result<Claim, OverbookError> {
        let held = self.holders.get(&id).ok_or(OverbookError::Unknown { id })?;
        let pending: u64 = self.waiting_for(id);
        let asked = held.used.saturating_add(pending).saturating_add(units);
        let limit = held.terms.limit;
        if asked > limit {
            return Err(OverbookError::AboveLimit { asked, limit });
        }
        let free = self.capacity - self.used;
        let claimed: u64 = self.waiting.iter().map(|(_, n)| n).sum();
        if units <= free.saturating_sub(claimed) && held.owes == 0 {
            self.lend(id, units);
            return Ok(Claim::Granted);
        }
        if asked > held.terms.guaranteed {
            return Ok(Claim::NotNow { free });
        }
        let owed: u64 = self.holders.values().map(|h| h.owes).sum();
        let short = claimed.saturating_add(units);
        let short = short.saturating_sub(free).saturating_sub(owed);
        self.waiting.push((id, units));
        Ok(Claim::AfterEviction(self.evict(short)))
    }

    /// The holder gave `units` back, asked to or not. Names the claims that are granted now.
    pub fn gave_back(&mut self, id: u64, units: u64) -> Vec<u64> {
        if let Some(held) = self.holders.get_mut(&id) {
            let units = units.min(held.used);
            held.used -= units;
            held.owes = held.owes.saturating_sub(units).min(held.used);
            self.used -= units;
        }
        self.grant_waiting()
    }

    /// Units a holder uses; 0 for nobody.
    #[must_use]
    pub fn used_by(&self, id: u64) -> u64 {
        self.holders.get(&id).map_or(0, |h| h.used)
    }

    /// Units in use.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.used
    }

    /// Claims that wait for evictions.
    #[must_use]
    pub fn claims_waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Units guaranteed to all together; never above the capacity.
    #[must_use]
    pub fn guaranteed(&self) -> u128 {
        self.guaranteed
    }

    /// Limits of all together as a part of the capacity, in thousandths: above 1000 it is overbooked.
    #[must_use]
    pub fn ratio_milli(&self) -> u64 {
        let limits = self.holders.values().map(|h| u128::from(h.terms.limit));
        let sum: u128 = limits.sum();
        let ratio = sum * 1000 / u128::from(self.capacity.max(1));
        u64::try_from(ratio).unwrap_or(u64::MAX)
    }

    fn waiting_for(&self, id: u64) -> u64 {
        let own = self.waiting.iter().filter(|(who, _)| *who == id);
        own.map(|(_, n)| n).sum()
    }

    fn lend(&mut self, id: u64, units: u64) {
        if let Some(held) = self.holders.get_mut(&id) {
            held.used += units;
            self.used += units;
        }
    }

    fn grant_waiting(&mut self) -> Vec<u64> {
        let mut granted = Vec::new();
        while let Some((id, units)) = self.waiting.first().copied() {
            if units > self.capacity - self.used {
                break;
            }
            self.waiting.remove(0);
            self.lend(id, units);
            granted.push(id);
        }
        granted
    }

    /// Tells holders to give back `short` units above their guarantees: smaller priority first,
    /// then those with most above their guarantee (fewest are disturbed), then by number.
    fn evict(&mut self, mut short: u64) -> Vec<(u64, u64)> {
        let mut order: Vec<(i32, std::cmp::Reverse<u64>, u64)> = self
            .holders
            .iter()
            .filter(|(_, h)| h.used - h.owes > h.terms.guaranteed)
            .map(|(id, h)| {
                let above = h.used - h.owes - h.terms.guaranteed;
                (h.terms.priority, std::cmp::Reverse(above), *id)
            })
            .collect();
        order.sort_unstable();
        let mut told = Vec::new();
        for (_, std::cmp::Reverse(above), id) in order {
            if short == 0 {
                break;
            }
            let units = above.min(short);
            short -= units;
            if let Some(held) = self.holders.get_mut(&id) {
                held.owes += units;
            }
            told.push((id, units));
        }
        told
    }

    fn count(&mut self, holder: &Holder, add: bool) {
        let deviation = u128::from(holder.deviation);
        let sums = [
            (&mut self.guaranteed, u128::from(holder.guaranteed)),
            (&mut self.means, u128::from(holder.mean)),
            (&mut self.deviations, deviation),
            (&mut self.variances, deviation * deviation),
        ];
        for (sum, n) in sums {
            *sum = if add {
                sum.saturating_add(n)
            } else {
                sum.saturating_sub(n)
            };
        }
    }

    /// `(1000 * z * deviation)^2`, saturating.
    fn margin_squared(&self) -> u128 {
        let z = u128::from(self.terms.z_milli);
        let together = u128::from(self.terms.correlation_milli.min(1000));
        let squared = self.deviations.saturating_mul(self.deviations);
        let apart = self.variances.saturating_mul(1000 - together);
        let variance = apart.saturating_add(squared.saturating_mul(together));
        (z * z).saturating_mul(variance.div_ceil(1000))
    }

    /// `z * deviation` in units, rounded up.
    fn deviation(&self) -> u128 {
        self.margin_squared().isqrt().div_ceil(1000)
    }
}
