//! Whose turn it is in a tree of tenants while work comes, starts and ends: hierarchical dominant resource fairness, kept.

use super::hierarchy::Tree;

/// Most resources.
pub const MAX_RESOURCES: usize = 16;

/// The order of [`Tree::fill`], brought up to date with every change instead of run to its end:
/// O(depth x resources x log siblings) a change, O(depth) a turn.
///
/// A tenant above others counts as holding the sum of its children's holdings, each scaled down to the
/// least dominant share among those that wait. Source: Bhattacharya et al., SoCC'13, 4.3.
#[derive(Debug, Clone)]
pub struct Order {
    capacity: Vec<f64>,
    tenants: Vec<Tenant>,
    /// The children of each tenant; the last are those below the root.
    below: Vec<Siblings>,
}

#[derive(Debug, Clone)]
struct Tenant {
    /// Whose child it is: a place in `below`.
    parent: usize,
    /// Which of the children.
    place: usize,
    leaf: bool,
    weight: f64,
    /// Units a leaf holds.
    units: Vec<u64>,
    /// Units it counts as holding.
    held: Vec<f64>,
    /// Whether it, or somebody below it, waits.
    waits: bool,
    /// Dominant share by weight.
    share: f64,
}

/// Children of one tenant in a complete binary tree of sums and winners.
#[derive(Debug, Clone)]
struct Siblings {
    members: Vec<usize>,
    leaves: usize,
    resources: usize,
    /// Heap order, `resources` numbers each: holdings by own dominant share, added up.
    scaled: Vec<f64>,
    /// The least dominant share among those that wait; infinite: nobody waits.
    least: Vec<f64>,
    /// The member with the least share by weight among those that wait; equals: the first.
    turn: Vec<Option<(f64, usize)>>,
}

// === impl Order ===

impl Order {
    /// Nobody holds or waits for anything. Resources beyond [`MAX_RESOURCES`] are ignored.
    #[must_use]
    pub fn new(tree: &Tree, capacity: &[u64]) -> Self {
        let capacity: Vec<f64> = capacity
            .iter()
            .take(MAX_RESOURCES)
            .map(|c| exact(*c))
            .collect();
        let resources = capacity.len();
        let root = tree.nodes.len();
        let mut below: Vec<Siblings> = tree
            .children
            .iter()
            .map(|c| Siblings::new(c.clone(), resources))
            .collect();
        below.push(Siblings::new(tree.roots.clone(), resources));
        let mut tenants: Vec<Tenant> = tree
            .nodes
            .iter()
            .enumerate()
            .map(|(i, node)| Tenant {
                parent: node.parent.unwrap_or(root),
                place: 0,
                leaf: tree.children[i].is_empty(),
                weight: exact(node.weight.max(1)),
                units: vec![0; resources],
                held: vec![0.0; resources],
                waits: false,
                share: 0.0,
            })
            .collect();
        for siblings in &below {
            for (place, member) in siblings.members.iter().enumerate() {
                tenants[*member].place = place;
            }
        }
        Self {
            capacity,
            tenants,
            below,
        }
    }

    /// The leaf whose turn it is, among those that wait: from the root down to the child with the
    /// least dominant share by weight, equals by place.
    #[must_use]
    pub fn next(&self) -> Option<usize> {
        let mut among = self.below.last()?;
        loop {
            let (_, tenant) = among.turn[1]?;
            if self.tenants[tenant].leaf {
                return Some(tenant);
            }
            among = &self.below[tenant];
        }
    }

    /// Whether a leaf has work that could start: `false` when none waits, or its next piece fits
    /// nowhere. `false` comes back for those above others and unknown ones.
    pub fn set_waiting(&mut self, leaf: usize, waits: bool) -> bool {
        let Some(t) = self.tenants.get_mut(leaf).filter(|t| t.leaf) else {
            return false;
        };
        if t.waits != waits {
            t.waits = waits;
            self.update(leaf);
        }
        true
    }

    /// A leaf's work started: it holds so many units more. `false`: no leaf.
    pub fn took(&mut self, leaf: usize, units: &[u64]) -> bool {
        self.change(leaf, units, u64::saturating_add)
    }

    /// A leaf's work ended.
    pub fn gave_back(&mut self, leaf: usize, units: &[u64]) -> bool {
        self.change(leaf, units, u64::saturating_sub)
    }

    /// A tenant's dominant share by weight, 1 is all there is of a resource; `None` when unknown. Above
    /// others it is what the order counts, not the plain sum.
    #[must_use]
    pub fn share(&self, tenant: usize) -> Option<f64> {
        self.tenants.get(tenant).map(|t| t.share)
    }

    fn change(&mut self, leaf: usize, units: &[u64], by: impl Fn(u64, u64) -> u64) -> bool {
        let Some(t) = self.tenants.get_mut(leaf).filter(|t| t.leaf) else {
            return false;
        };
        for ((held, own), n) in t.held.iter_mut().zip(&mut t.units).zip(units) {
            *own = by(*own, *n);
            *held = exact(*own);
        }
        self.update(leaf);
        true
    }

    /// Brings everybody above up to date.
    fn update(&mut self, from: usize) {
        let mut at = from;
        loop {
            let t = &mut self.tenants[at];
            let parts = t.held.iter().zip(&self.capacity).filter(|(_, c)| **c > 0.0);
            let dominant = parts.map(|(h, c)| h / c).fold(0.0, f64::max);
            t.share = dominant / t.weight;
            let above = t.parent;
            let siblings = &mut self.below[above];
            siblings.set(t, at, dominant);
            let Some(parent) = self.tenants.get_mut(above) else {
                return;
            };
            let least = siblings.least[1];
            parent.waits = least.is_finite();
            if parent.waits {
                let sums = &siblings.scaled[siblings.resources..];
                for (held, sum) in parent.held.iter_mut().zip(sums) {
                    *held = least * sum;
                }
            }
            at = above;
        }
    }
}

// === impl Siblings ===

impl Siblings {
    fn new(members: Vec<usize>, resources: usize) -> Self {
        // Never a single place: the root of the heap then is its only leaf, and has no parent.
        let leaves = members.len().next_power_of_two().max(2);
        Self {
            leaves,
            resources,
            scaled: vec![0.0; 2 * leaves * resources],
            least: vec![f64::INFINITY; 2 * leaves],
            turn: vec![None; 2 * leaves],
            members,
        }
    }

    fn set(&mut self, tenant: &Tenant, member: usize, dominant: f64) {
        let mut at = self.leaves + tenant.place;
        let r = self.resources;
        let scale = if tenant.waits && dominant > 0.0 {
            1.0 / dominant
        } else {
            0.0
        };
        for (sum, held) in self.scaled[at * r..][..r].iter_mut().zip(&tenant.held) {
            *sum = held * scale;
        }
        self.least[at] = if tenant.waits {
            dominant
        } else {
            f64::INFINITY
        };
        self.turn[at] = tenant.waits.then_some((tenant.share, member));
        at /= 2;
        while at > 0 {
            let (left, right) = (2 * at, 2 * at + 1);
            for i in 0..r {
                self.scaled[at * r + i] = self.scaled[left * r + i] + self.scaled[right * r + i];
            }
            self.least[at] = self.least[left].min(self.least[right]);
            self.turn[at] = match (self.turn[left], self.turn[right]) {
                (Some(a), Some(b)) => Some(if b.0 < a.0 { b } else { a }),
                (a, b) => a.or(b),
            };
            at /= 2;
        }
    }
}

fn exact(units: u64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "a share, not a count")]
    let units = units as f64;
    units
}

#[cfg(test)]
mod tests {
    use super::super::hierarchy::Node;
    use super::*;
    use proptest::prelude::*;

    fn node(parent: Option<usize>, weight: u64) -> Node {
        Node {
            parent,
            weight,
            task: Vec::new(),
            tasks: 0,
        }
    }

    #[test]
    fn complementary_demand_below_one_parent_starves_nobody() {
        let nodes = vec![
            node(None, 1),
            node(None, 1),
            node(Some(1), 1),
            node(Some(1), 1),
        ];
        let tree = Tree::new(nodes).expect("a tree");
        let mut order = Order::new(&tree, &[100, 100]);
        let mut left = [100u64, 100];
        let mut tasks = [0u64; 4];
        for leaf in [0, 2, 3] {
            assert!(order.set_waiting(leaf, true));
        }
        assert!(!order.set_waiting(1, true), "no leaf");
        while let Some(leaf) = order.next() {
            let r = usize::from(leaf == 3);
            if left[r] == 0 {
                order.set_waiting(leaf, false);
                continue;
            }
            let mut units = [0, 0];
            units[r] = 1;
            left[r] -= 1;
            tasks[leaf] += 1;
            order.took(leaf, &units);
        }
        assert_eq!(tasks, [50, 0, 50, 100]);
    }

    /// The same from the leaves' units alone; `None`: nobody below waits.
    fn plain(order: &Order, tree: &Tree, tenant: usize) -> Option<Vec<f64>> {
        let children = &tree.children[tenant];
        let t = &order.tenants[tenant];
        if children.is_empty() {
            return t.waits.then(|| t.held.clone());
        }
        let each: Vec<Vec<f64>> = children
            .iter()
            .filter_map(|c| plain(order, tree, *c))
            .collect();
        let dominants: Vec<f64> = each.iter().map(|h| dominant(order, h)).collect();
        let least = dominants.iter().copied().fold(f64::INFINITY, f64::min);
        let mut sum = vec![0.0; order.capacity.len()];
        for (held, own) in each.iter().zip(&dominants) {
            for (s, h) in sum.iter_mut().zip(held) {
                *s += if *own > 0.0 { h * least / own } else { 0.0 };
            }
        }
        (!each.is_empty()).then_some(sum)
    }

    fn dominant(order: &Order, held: &[f64]) -> f64 {
        held.iter()
            .zip(&order.capacity)
            .map(|(h, c)| h / c)
            .fold(0.0, f64::max)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        /// Step by step it is what computing everything anew says, and the turn is that of the least share.
        #[test]
        fn the_kept_order_is_the_order(
            parents in prop::collection::vec((any::<prop::sample::Index>(), any::<bool>(), 1u64..4), 1..14),
            steps in prop::collection::vec((any::<prop::sample::Index>(), 0u64..4, 0u64..4, 0u8..4), 1..60),
        ) {
            let mut nodes: Vec<Node> = Vec::new();
            for (parent, root, weight) in parents {
                let parent = (!root && !nodes.is_empty()).then(|| parent.index(nodes.len()));
                nodes.push(node(parent, weight));
            }
            let Ok(tree) = Tree::new(nodes) else { return Ok(()) };
            let mut order = Order::new(&tree, &[40, 25]);
            for (who, a, b, what) in steps {
                let leaf = who.index(tree.nodes.len());
                match what {
                    0 => order.gave_back(leaf, &[a, b]),
                    1 => order.took(leaf, &[a, b]),
                    2 => order.set_waiting(leaf, a > 0),
                    _ => order.next().is_some_and(|leaf| order.took(leaf, &[a, b])),
                };
                let share = |t: usize| {
                    let held = plain(&order, &tree, t)?;
                    Some(dominant(&order, &held) / order.tenants[t].weight)
                };
                for t in 0..tree.nodes.len() {
                    let now = share(t);
                    prop_assert_eq!(now.is_some(), order.tenants[t].waits);
                    if let (Some(now), Some(kept)) = (now, order.share(t)) {
                        prop_assert!((now - kept).abs() < 1e-9, "{} {} {}", t, now, kept);
                    }
                }
                // Every tenant on the way down has no larger share than its siblings that wait.
                let mut on_the_way = order.next();
                while let Some(t) = on_the_way {
                    let parent = tree.nodes[t].parent;
                    let siblings = parent.map_or(&tree.roots, |p| &tree.children[p]);
                    let own = share(t).expect("waits");
                    for other in siblings.iter().filter_map(|s| share(*s)) {
                        prop_assert!(own <= other + 1e-9);
                    }
                    on_the_way = parent;
                }
            }
        }
    }
}
