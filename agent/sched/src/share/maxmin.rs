//! Weighted max-min fairness of one divisible-by-units resource, exact in integers.

use std::cmp::Ordering;

/// What one party asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claim<K> {
    /// Who; decides ties, so that the order of the claims does not matter. Unique.
    pub key: K,
    /// Units asked for.
    pub demand: u64,
    /// Share in proportion to the others', at least 1; 0 counts as 1.
    pub weight: u64,
}

/// Units for each claim, in the claims' order: nobody gets more than asked for, the sum is the
/// smaller of capacity and demand, and nobody can get more without somebody with no larger share per
/// weight getting less. What does not divide goes to the largest remainders, then to the smaller
/// keys. O(n log n). Source: Bertsekas & Gallager, "Data Networks" (1992), 6.5.2 (progressive filling).
#[must_use]
pub fn water_fill<K: Ord>(capacity: u64, claims: &[Claim<K>]) -> Vec<u64> {
    let mut order: Vec<usize> = (0..claims.len()).collect();
    order.sort_by(|a, b| first_sated(&claims[*a], &claims[*b]));
    let weight = |i: usize| u128::from(claims[i].weight.max(1));
    let mut shares = vec![0; claims.len()];
    let mut left = u128::from(capacity);
    let mut weights: u128 = (0..claims.len()).map(weight).sum();
    let mut at = 0;
    // Those whose demand is within their part get it, the others share the rest.
    while let Some(i) = order.get(at).copied() {
        let demand = u128::from(claims[i].demand);
        if demand * weights > left * weight(i) {
            break;
        }
        shares[i] = claims[i].demand;
        left -= demand;
        weights -= weight(i);
        at += 1;
    }
    let hungry = &order[at..];
    let mut spare = left;
    for i in hungry {
        let part = left * weight(*i) / weights;
        spare -= part;
        shares[*i] = u64::try_from(part).unwrap_or(u64::MAX);
    }
    let mut by_remainder: Vec<usize> = hungry.to_vec();
    by_remainder.sort_by(|a, b| {
        let rest = |i: usize| left * weight(i) % weights;
        let keys = || claims[*a].key.cmp(&claims[*b].key);
        rest(*b).cmp(&rest(*a)).then_with(keys)
    });
    // Fewer units are left than parties, and each of them asked for more than its part.
    for i in by_remainder {
        if spare == 0 {
            break;
        }
        spare -= 1;
        shares[i] += 1;
    }
    shares
}

/// Smaller demand per weight first, without dividing; equals by key.
fn first_sated<K: Ord>(a: &Claim<K>, b: &Claim<K>) -> Ordering {
    let left = u128::from(a.demand) * u128::from(b.weight.max(1));
    let right = u128::from(b.demand) * u128::from(a.weight.max(1));
    left.cmp(&right).then_with(|| a.key.cmp(&b.key))
}
