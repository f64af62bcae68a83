use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;

fn shape(cpu: u32, gpus: u8, share: u16) -> Shape {
    Shape {
        cpu_milli: cpu * 1000,
        memory_mib: 1024,
        gpus,
        share_milli: share,
        models: Models::ANY,
    }
}

fn room(cpu: u32, gpus: &[u16]) -> Room {
    Room {
        cpu_milli: cpu * 1000,
        memory_mib: 100 * 1024,
        model: 0,
        gpus: gpus.to_vec(),
    }
}

fn placer(scoring: Scoring, work: &[(Shape, u64)], rooms: &[Room]) -> Placer {
    let work: BTreeMap<Shape, u64> = work.iter().copied().collect();
    let mut placer = Placer::new(scoring, Mix::of(&work, rooms.iter()));
    for r in rooms {
        placer.add(r.clone()).expect("few nodes");
    }
    placer
}

#[test]
fn a_share_goes_where_the_rest_stays_useful() {
    // Halves are typical: 0.5 beside 0.5 wastes nothing, 0.5 of a whole GPU breaks one open.
    let half = shape(1, 1, 500);
    let work = [(half, 10), (shape(1, 1, WHOLE), 10)];
    let mut p = placer(
        Scoring::FragmentationAware,
        &work,
        &[room(32, &[1000, 1000]), room(32, &[500, 1000])],
    );
    let at = p.place(&half).expect("a place");
    assert_eq!((at.node, at.gpus), (1, vec![0]));
}

#[test]
fn equal_nodes_are_taken_in_the_order_they_were_added() {
    let whole = shape(1, 1, WHOLE);
    let rooms = vec![room(8, &[1000]); 5];
    let mut p = placer(Scoring::FragmentationAware, &[(whole, 1)], &rooms);
    let order: Vec<_> = (0..5)
        .map(|_| p.place(&whole).expect("room").node)
        .collect();
    assert_eq!(order, [0, 1, 2, 3, 4]);
    assert_eq!(p.place(&whole), None);
}

#[test]
fn a_gpu_is_not_stranded_without_processors_when_there_is_another_way() {
    let (light, heavy) = (shape(2, 1, WHOLE), shape(12, 1, WHOLE));
    let rooms = [room(26, &[1000, 1000]), room(8, &[1000])];
    let mut p = placer(
        Scoring::FragmentationAware,
        &[(heavy, 5), (light, 1)],
        &rooms,
    );
    assert_eq!(p.place(&light).expect("room").node, 1);
}

#[test]
fn work_that_may_run_anywhere_leaves_the_model_others_need() {
    let anywhere = shape(2, 1, WHOLE);
    let picky = Shape {
        models: Models(1),
        ..anywhere
    };
    let other = Room {
        model: 1,
        ..room(16, &[1000, 1000])
    };
    let rooms = [room(16, &[1000, 1000]), other];
    let work = [(anywhere, 10), (picky, 10)];
    let mut p = placer(Scoring::FragmentationAware, &work, &rooms);
    assert_eq!(p.place(&anywhere).expect("room").node, 1);
}

#[test]
fn a_gang_gets_all_or_nothing() {
    let whole = shape(1, 1, WHOLE);
    let rooms = vec![room(8, &[1000, 1000]); 2];
    let mut p = placer(Scoring::FragmentationAware, &[(whole, 1)], &rooms);
    let before: Vec<_> = (0..2).map(|n| p.room(n).cloned()).collect();
    assert_eq!(p.place_all(&[whole; 5]), None);
    let after: Vec<_> = (0..2).map(|n| p.room(n).cloned()).collect();
    assert_eq!(before, after);
    assert_eq!(p.place_all(&[whole; 4]).map(|all| all.len()), Some(4));
}

#[test]
fn a_gang_that_wants_one_rack_gets_the_tightest_or_none() {
    let whole = shape(1, 1, WHOLE);
    let rooms = vec![room(8, &[1000, 1000]); 6];
    let mut p = placer(Scoring::FragmentationAware, &[(whole, 1)], &rooms);
    let racks = Racks::new(&[7, 7, 7, 9, 9, 8]);
    let nodes = |all: Option<Vec<Placement>>| -> Option<Vec<usize>> {
        all.map(|all| all.iter().map(|p| p.node).collect())
    };
    assert_eq!(
        nodes(p.place_in_one_rack(&whole, 3, &racks)),
        Some(vec![3, 3, 4])
    );
    assert_eq!(p.place_in_one_rack(&whole, 7, &racks), None);
    assert_eq!(p.times(&whole, 0..6), 9);
    p.set_open(5, false);
    assert_eq!(
        nodes(p.place_in_one_rack(&whole, 2, &racks)),
        Some(vec![0, 0])
    );
}

#[test]
fn what_fits_nowhere_is_told_what_is_missing() {
    let big = shape(64, 2, WHOLE);
    let rooms = [room(8, &[1000, 1000]), room(128, &[1000])];
    let mut p = placer(Scoring::FragmentationAware, &[(big, 1)], &rooms);
    assert_eq!(p.find(&big), None);
    let verdict = p.explain(&big);
    assert_eq!(
        (verdict.gpus, verdict.processors, verdict.stranded),
        (1, 1, 1)
    );
    let text = verdict.to_string();
    assert!(text.starts_with("0 of 2 nodes can take it now:"), "{text}");
    p.set_open(0, false);
    p.set_open(1, false);
    assert_eq!(p.explain(&big).to_string(), "no node takes work");
}

#[test]
fn a_closed_node_takes_nothing_and_keeps_what_it_holds() {
    let whole = shape(1, 1, WHOLE);
    let mut p = placer(Scoring::Spread, &[(whole, 1)], &[room(8, &[1000, 1000])]);
    let at = p.place(&whole).expect("room");
    p.set_open(0, false);
    assert_eq!(p.place(&whole), None);
    p.give(&whole, &at);
    p.set_open(0, true);
    assert_eq!(p.room(0).map(Room::free_milli), Some(2000));
    assert!(p.place(&whole).is_some());
}

fn shapes() -> impl Strategy<Value = Shape> {
    prop_oneof![
        (1u32..16, 1u16..=1000).prop_map(|(c, s)| shape(c, 1, s)),
        (1u32..16, 1u8..5).prop_map(|(c, g)| shape(c, g, WHOLE)),
        (1u32..16).prop_map(|c| shape(c, 0, 0)),
    ]
}

fn scorings() -> impl Strategy<Value = Scoring> {
    prop_oneof![
        Just(Scoring::FragmentationAware),
        Just(Scoring::Fragmentation),
        Just(Scoring::BestFit),
        Just(Scoring::Spread),
    ]
}

proptest! {
    /// The trees, brought up to date step by step, say what scoring every node anew says; nothing is granted
    /// beyond what is free; what is given back is all there again.
    #[test]
    fn the_incremental_answer_is_the_whole_answer(
        scoring in scorings(),
        work in prop::collection::vec(shapes(), 1..80),
        nodes in prop::collection::vec((4u32..64, 0usize..5), 1..12),
        backs in prop::collection::vec(any::<prop::sample::Index>(), 0..40),
    ) {
        let rooms: Vec<Room> = nodes.iter().map(|(c, g)| room(*c, &vec![1000; *g])).collect();
        let counts: Vec<(Shape, u64)> = work.iter().map(|s| (*s, 1)).collect();
        let mut p = placer(scoring, &counts, &rooms);
        let mut held: Vec<(Shape, Placement)> = Vec::new();
        let mut backs = backs.into_iter();
        for shape in &work {
            for r in rooms_of(&p) {
                let mut filled = r.clone();
                let mut times = 0;
                while filled.fits(shape) && times < 1000 {
                    let first = score::chosen(&filled.gpus, shape, None);
                    filled.take(shape, &first[..usize::from(shape.gpus)]);
                    times += 1;
                }
                prop_assert_eq!(r.times(shape), times);
            }
            let anew = {
                let mut fresh = p.clone();
                fresh.shapes_forgotten();
                fresh.find(shape)
            };
            p.settle(3);
            let got = p.place(shape);
            prop_assert_eq!(&got, &anew);
            let fits = rooms_of(&p).iter().any(|r| r.fits(shape));
            match got {
                Some(at) => {
                    prop_assert_eq!(at.gpus.len(), usize::from(shape.gpus));
                    held.push((*shape, at));
                }
                None => prop_assert!(!fits),
            }
            if held.len() > 3 && let Some(i) = backs.next() {
                let (shape, at) = held.remove(i.index(held.len()));
                p.give(&shape, &at);
            }
        }
        for (shape, at) in held {
            p.give(&shape, &at);
        }
        prop_assert_eq!(rooms_of(&p), rooms);
    }
}

fn rooms_of(p: &Placer) -> Vec<Room> {
    (0..p.len()).filter_map(|n| p.room(n).cloned()).collect()
}
