use super::*;
use gpuloom_fleet::{Millis, Seconds};
use proptest::prelude::*;

fn claim(key: u32, demand: u64, weight: u64) -> Claim<u32> {
    Claim {
        key,
        demand,
        weight,
    }
}

fn user(task: &[u64], tasks: u64) -> User {
    User {
        task: task.to_vec(),
        tasks,
        weight: 1,
    }
}

#[test]
fn the_small_get_what_they_ask_for_and_the_others_share_the_rest() {
    let claims = [claim(0, 2, 1), claim(1, 8, 1), claim(2, 10, 1)];
    assert_eq!(water_fill(12, &claims), [2, 5, 5]);
    let weighted = [claim(0, 100, 1), claim(1, 100, 3)];
    assert_eq!(water_fill(8, &weighted), [2, 6]);
    // One unit cannot be split: the smaller key of equals gets it.
    assert_eq!(water_fill(3, &[claim(7, 9, 1), claim(3, 9, 1)]), [1, 2]);
    assert_eq!(water_fill(5, &[] as &[Claim<u32>]), [] as [u64; 0]);
}

#[test]
fn nsdi_11_two_users_get_equal_dominant_shares() {
    // 9 processors and 18 GB; tasks of <1, 4> and <3, 1>: three and two tasks.
    let users = [user(&[1, 4], 100), user(&[3, 1], 100)];
    let filled = progressive_filling(&[9, 18], &users);
    assert_eq!(filled.tasks, [3, 2]);
    assert_eq!(filled.left, [0, 4]);
}

#[test]
fn tasks_that_need_nothing_or_what_nobody_has_are_no_obstacle() {
    let users = [user(&[0, 0], 7), user(&[1, 0, 1], 7), user(&[2], 3)];
    assert_eq!(progressive_filling(&[4, 4], &users).tasks, [7, 0, 2]);
}

fn leaf(parent: Option<usize>, task: &[u64]) -> Node {
    Node {
        parent,
        weight: 1,
        task: task.to_vec(),
        tasks: 1_000_000,
    }
}

#[test]
fn complementary_demand_below_one_parent_starves_nobody() {
    // SoCC'13, figure 3: n1 needs the first resource; below n2, one needs the first and one the second.
    // Adding up n2's holdings without scaling gives n2.1 next to nothing.
    let tree = Tree::new(vec![
        leaf(None, &[1, 0]),
        leaf(None, &[0, 0]),
        leaf(Some(1), &[1, 0]),
        leaf(Some(1), &[0, 1]),
    ]);
    let tasks = tree.expect("a tree").fill(&[100, 100]);
    assert_eq!(tasks[3], 100, "the second resource goes to who needs it");
    assert!((45..=55).contains(&tasks[0]), "{tasks:?}");
    assert!((45..=55).contains(&tasks[2]), "{tasks:?}");
    assert_eq!(tasks[0] + tasks[2], 100);
}

#[test]
fn a_tree_that_is_none_is_refused() {
    let own = Tree::new(vec![leaf(Some(0), &[1])]);
    assert_eq!(own.err(), Some(NodeError::Depth { node: 0 }));
    let lost = Tree::new(vec![leaf(Some(9), &[1])]);
    assert_eq!(lost.err(), Some(NodeError::Parent { node: 0, parent: 9 }));
    let deep = (0..=MAX_DEPTH + 1).map(|i| leaf(i.checked_sub(1), &[1]));
    assert!(Tree::new(deep.collect()).is_err());
}

#[test]
fn use_is_halved_every_half_life_and_time_never_runs_back() {
    let (day, hour) = (Seconds(86_400), 3_600_000);
    let mut u = DecayedUse::new(Millis(0));
    u.hold(2000, day, Millis(hour));
    let held = u.at_moment(day, Millis(hour));
    assert!((held - 2.0 * 3_600_000.0).abs() < 1.0);
    let later = u.at_moment(day, Millis(hour + 86_400_000));
    assert!((later * 2.0 - held).abs() < 1.0);
    u.hold(2000, day, Millis(0));
    assert!((u.at_moment(day, Millis(hour)) - held).abs() < 1.0);
    assert_eq!(u.at_moment(Seconds(0), Millis(hour + 1)).to_bits(), 0);
}

#[test]
fn fairness_shows_the_starved_one_that_the_index_hides() {
    let mut parties = vec![(1.0, 1.0); 19];
    parties.push((0.0, 1.0));
    let f = Fairness::of(&parties);
    assert!(f.jain > 0.94 && f.jain < 0.96);
    assert!(f.least.abs() < 1e-12 && (f.envy - 1.0).abs() < 1e-12);
    assert_eq!(Fairness::of(&[]).parties, 0);
    assert!((jain(&[]) - 1.0).abs() < 1e-12 && (jain(&[0.0]) - 1.0).abs() < 1e-12);
    assert!((jain(&[1.0, 0.0, 0.0, 0.0]) - 0.25).abs() < 1e-12);
}

fn claims() -> impl Strategy<Value = Vec<Claim<u32>>> {
    prop::collection::vec((0u64..1000, 0u64..20), 1..12).prop_map(|all| {
        (0u32..)
            .zip(all)
            .map(|(k, (d, w))| claim(k, d, w))
            .collect()
    })
}

proptest! {
    /// Nothing is lost, nobody gets more than asked, the order does not matter, and moving one unit
    /// from anybody to a party with less per weight would not lift the least.
    #[test]
    fn water_filling_is_weighted_max_min(capacity in 0u64..5000, claims in claims(), turn in 0usize..12) {
        let shares = water_fill(capacity, &claims);
        let demand: u64 = claims.iter().map(|c| c.demand).sum();
        prop_assert_eq!(shares.iter().sum::<u64>(), capacity.min(demand));
        let mut turned = claims.clone();
        turned.rotate_left(turn % claims.len());
        let other = water_fill(capacity, &turned);
        for (c, s) in claims.iter().zip(&shares) {
            prop_assert!(*s <= c.demand);
            let at = turned.iter().position(|t| t.key == c.key).expect("is there");
            prop_assert_eq!(other[at], *s);
        }
        for (a, sa) in claims.iter().zip(&shares) {
            for (b, sb) in claims.iter().zip(&shares) {
                // a wants more: nobody may hold more per weight than a would with one unit more.
                if *sa < a.demand && *sb > 0 {
                    prop_assert!((sb - 1) * a.weight.max(1) <= (sa + 1) * b.weight.max(1));
                }
            }
        }
    }

    /// Nobody's share falls when somebody asks for less.
    #[test]
    fn water_filling_is_monotone_in_the_demand_of_others(
        capacity in 0u64..2000, claims in claims(), who in any::<prop::sample::Index>(), less in 0u64..1000,
    ) {
        let i = who.index(claims.len());
        let before = water_fill(capacity, &claims);
        let mut fewer = claims.clone();
        fewer[i].demand = fewer[i].demand.saturating_sub(less);
        let after = water_fill(capacity, &fewer);
        for j in (0..claims.len()).filter(|j| *j != i) {
            // Whole units: a remainder may move by one.
            prop_assert!(after[j] + 1 >= before[j]);
        }
    }

    /// DRF's four properties, each up to one task of anybody: sharing incentive, envy-freeness, Pareto efficiency,
    /// and no gain by asking for more than one needs.
    #[test]
    fn drf_has_its_four_properties(
        capacity in prop::collection::vec(20u64..200, 2..4),
        tasks in prop::collection::vec(prop::collection::vec(0u64..6, 3), 2..6),
        liar in any::<prop::sample::Index>(), lie in 1u64..4, what in 0usize..3,
    ) {
        let r = capacity.len();
        let users: Vec<User> = tasks
            .iter()
            .map(|t| user(&t[..r], 1_000_000))
            .filter(|u| u.task.iter().any(|t| *t > 0))
            .collect();
        prop_assume!(users.len() >= 2);
        let filled = progressive_filling(&capacity, &users);
        let n = users.len() as u64;
        for (i, u) in users.iter().enumerate() {
            // Pareto: one more task fits nobody.
            prop_assert!(!super::drf::fits(&u.task, &filled.left));
            // Sharing incentive: as many as on a private n-th of everything, less one.
            let alone = u.task.iter().zip(&capacity).filter(|(t, _)| **t > 0);
            let alone = alone.map(|(t, c)| c / n / t).min().unwrap_or(0);
            // Tasks are whole: another's last one may hold several of this user's.
            let last = users.iter().map(|v| slack(u, v)).max().unwrap_or(0);
            prop_assert!(filled.tasks[i] + 1 + last >= alone, "{} of {}", filled.tasks[i], alone);
            // Envy-freeness: with another's bundle it would not run two tasks more.
            for (j, v) in users.iter().enumerate() {
                let with = u.task.iter().zip(&v.task).filter(|(t, _)| **t > 0);
                let with = with.map(|(t, b)| b * filled.tasks[j] / t).min().unwrap_or(0);
                prop_assert!(with <= filled.tasks[i] + 1 + slack(u, v), "{with} {i} {j}");
            }
        }
        // Strategy-proofness: asking for more of something per task never gives more useful tasks.
        let i = liar.index(users.len());
        let mut lying = users.clone();
        lying[i].task[what % r] += lie;
        let lied = progressive_filling(&capacity, &lying);
        let last = users.iter().map(|v| slack(&users[i], v)).max().unwrap_or(0);
        prop_assert!(lied.tasks[i] <= filled.tasks[i] + 1 + last);
    }
}

/// A task of `v` may hold several of `u`: envy is bounded by one task of each.
fn slack(u: &User, v: &User) -> u64 {
    let pairs = u.task.iter().zip(&v.task).filter(|(t, _)| **t > 0);
    pairs.map(|(t, b)| b.div_ceil(*t)).max().unwrap_or(0)
}
