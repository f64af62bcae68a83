//! How many pieces of a gang each node takes so that the whole is cheapest.

/// Most steps of the exact choice; beyond, the cheapest step per piece is taken again and again.
const MAX_STEPS: usize = 20_000_000;

/// Pieces for each node, at least `pieces` in all, with the least sum of costs: `costs[n][j]` is what j
/// pieces on node n cost, from 0 on, never falling. `None` when they do not fit. `true`: it is the least.
pub(crate) fn spread(costs: &[Vec<u128>], pieces: usize) -> Option<(Vec<usize>, bool)> {
    let room = costs.iter().map(|c| c.len().saturating_sub(1));
    if room.sum::<usize>() < pieces {
        return None;
    }
    // What costs nothing is taken first: exchanging a paid piece for a free one never costs more.
    let mut took: Vec<usize> = Vec::with_capacity(costs.len());
    let mut left = pieces;
    for c in costs {
        let free = c.iter().skip(1).take_while(|c| **c == 0).count().min(left);
        left -= free;
        took.push(free);
    }
    if left == 0 {
        return Some((took, true));
    }
    let steps = costs.iter().zip(&took).map(|(c, t)| c.len() - t);
    if costs.iter().zip(&took).all(|(c, t)| convex(c, *t)) {
        by_margin(costs, &mut took, left);
        return Some((took, true));
    }
    if steps.sum::<usize>().saturating_mul(left) <= MAX_STEPS {
        return Some((exact(costs, &took, left), true));
    }
    by_average(costs, &mut took, left);
    Some((took, false))
}

fn convex(costs: &[u128], from: usize) -> bool {
    costs[from..].windows(3).all(|w| w[1] - w[0] <= w[2] - w[1])
}

/// The cheapest next piece, again and again: exact where each node's next piece costs no less than its last.
fn by_margin(costs: &[Vec<u128>], took: &mut [usize], left: usize) {
    let margins = costs.iter().zip(took.iter()).enumerate();
    let mut margins: Vec<(u128, usize, usize)> = margins
        .flat_map(|(n, (c, t))| {
            let steps = c[*t..].windows(2).enumerate();
            steps.map(move |(j, w)| (w[1] - w[0], n, j))
        })
        .collect();
    // Equal margins of one node come in order; all of a node's earlier margins are no larger.
    margins.sort_unstable();
    for (_, n, _) in margins.into_iter().take(left) {
        took[n] += 1;
    }
}

/// Over nodes, for each number of pieces: the least cost so far.
fn exact(costs: &[Vec<u128>], free: &[usize], left: usize) -> Vec<usize> {
    let mut least = vec![u128::MAX; left + 1];
    least[0] = 0;
    let mut chosen: Vec<Vec<u32>> = Vec::with_capacity(costs.len());
    for (c, free) in costs.iter().zip(free) {
        let mut next = vec![u128::MAX; left + 1];
        let mut with = vec![0u32; left + 1];
        for (j, cost) in (0u32..).zip(&c[*free..]) {
            let step = usize::try_from(j).unwrap_or(usize::MAX).min(left);
            for had in 0..=left - step {
                let sum = least[had].saturating_add(*cost);
                if sum < next[had + step] {
                    (next[had + step], with[had + step]) = (sum, j);
                }
            }
        }
        chosen.push(with);
        least = next;
    }
    // Exactly what is needed: costs never fall, so more is never cheaper.
    let mut took = free.to_vec();
    let mut at = left;
    for (n, with) in chosen.iter().enumerate().rev() {
        let step = usize::try_from(with[at]).unwrap_or(0);
        took[n] += step;
        at -= step.min(left);
    }
    took
}

/// The step with the least cost per piece, again and again; the last may take more than is left.
fn by_average(costs: &[Vec<u128>], took: &mut [usize], mut left: usize) {
    while left > 0 {
        let steps = costs.iter().zip(took.iter()).enumerate();
        let steps = steps.flat_map(|(n, (c, t))| {
            let later = c[*t..].iter().enumerate().skip(1);
            later.map(move |(j, cost)| ((cost - c[*t]) / j.min(left) as u128, n, j))
        });
        let Some((_, n, j)) = steps.min() else {
            return;
        };
        took[n] += j;
        left = left.saturating_sub(j);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn cost(costs: &[Vec<u128>], took: &[usize]) -> u128 {
        costs.iter().zip(took).map(|(c, t)| c[*t]).sum()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]

        /// Whichever way is taken, it costs what the least of all ways costs.
        #[test]
        fn the_spread_is_the_cheapest(
            steps in prop::collection::vec(prop::collection::vec(0u128..6, 0..4), 1..5), pieces in 0usize..9,
        ) {
            let costs: Vec<Vec<u128>> = steps
                .iter()
                .map(|s| {
                    let mut sum = 0;
                    let mut c = vec![0];
                    c.extend(s.iter().map(|d| { sum += d; sum }));
                    c
                })
                .collect();
            let mut least = None;
            let mut took = vec![0; costs.len()];
            'all: loop {
                if took.iter().sum::<usize>() >= pieces {
                    let c = cost(&costs, &took);
                    least = Some(least.map_or(c, |l: u128| l.min(c)));
                }
                for n in 0..=took.len() {
                    if n == took.len() {
                        break 'all;
                    }
                    took[n] += 1;
                    if took[n] < costs[n].len() {
                        break;
                    }
                    took[n] = 0;
                }
            }
            let found = spread(&costs, pieces);
            prop_assert_eq!(found.as_ref().map(|(t, _)| cost(&costs, t)), least);
            if let Some((took, _)) = found {
                prop_assert!(took.iter().sum::<usize>() >= pieces);
            }
        }
    }
}
