//! Random walks: whatever happens in whatever order, the promises hold.

use super::*;
use gpuloom_fleet::StopCause;
use proptest::prelude::*;

#[derive(Debug, Clone)]
enum Step {
    Submit {
        of: bool,
        gpus: u64,
        urgent: bool,
        retries: u32,
        array: Option<u32>,
        after: Option<u8>,
    },
    Cancel(u8),
    Run(u8),
    Stop(u8),
    Exit(u8, i32),
    Forget(u8),
    NodeGone(bool),
    NodeBack(bool),
    Quota(bool, u64),
    Tick(u64),
}

fn steps() -> impl Strategy<Value = Step> {
    let gpus = prop_oneof![Just(250u64), Just(500), Just(1000), Just(2000)];
    prop_oneof![
        4 => (any::<bool>(), gpus, any::<bool>(), 0u32..3, prop::option::of(1u32..4), prop::option::of(any::<u8>()))
            .prop_map(|(of, gpus, urgent, retries, array, after)| Step::Submit { of, gpus, urgent, retries, array, after }),
        1 => any::<u8>().prop_map(Step::Cancel),
        2 => any::<u8>().prop_map(Step::Run),
        2 => any::<u8>().prop_map(Step::Stop),
        3 => (any::<u8>(), 0i32..2).prop_map(|(n, code)| Step::Exit(n, code)),
        1 => any::<u8>().prop_map(Step::Forget),
        1 => any::<bool>().prop_map(Step::NodeGone),
        2 => any::<bool>().prop_map(Step::NodeBack),
        1 => (any::<bool>(), 0u64..4).prop_map(|(of, n)| Step::Quota(of, n * 1000)),
        1 => (0u64..15).prop_map(Step::Tick),
    ]
}

fn pick(w: &World, n: u8) -> Option<JobId> {
    let active: Vec<JobId> = w.state.active.iter().copied().collect();
    (!active.is_empty()).then(|| active[usize::from(n) % active.len()])
}

fn name(first: bool) -> &'static str {
    if first { "a" } else { "b" }
}

fn walk(w: &mut World, step: &Step) {
    match step {
        Step::Submit {
            of,
            gpus,
            urgent,
            retries,
            array,
            after,
        } => {
            let mut s = spec(name(*of));
            s.request.gpus = Some(MilliGpu(*gpus));
            (s.retries, s.array) = (*retries, *array);
            if *urgent {
                s.priority_class = PriorityClassName::new("urgent").ok();
            }
            if let Some(n) = after {
                let ids: Vec<JobId> = w.state.jobs.keys().copied().collect();
                if let Some(job) = ids.get(usize::from(*n) % ids.len().max(1)).copied() {
                    s.depends_on = vec![gpuloom_fleet::Dependency {
                        job,
                        condition: gpuloom_fleet::DependencyCondition::Ended,
                    }];
                }
            }
            // May be refused: by a quota, or a job that is another tenant's.
            drop(w.submit(s));
        }
        Step::Cancel(n) => {
            let ids: Vec<JobId> = w.state.jobs.keys().copied().collect();
            if let Some(id) = ids.get(usize::from(*n) % ids.len().max(1)) {
                w.cancel(*id);
            }
        }
        Step::Run(n) | Step::Forget(n) | Step::Stop(n) | Step::Exit(n, _) => {
            let Some(id) = pick(w, *n) else { return };
            attempt(w, step, id);
        }
        Step::NodeGone(first) => {
            let id = node_id(if *first { "n1" } else { "n2" });
            let change = w.state.node_gone(&id, "gone", w.now);
            w.absorb(change);
        }
        Step::NodeBack(first) => {
            let node = if *first { "n1" } else { "n2" };
            if !w.state.nodes.contains_key(&node_id(node)) {
                w.add_node(node, "t4");
            }
        }
        Step::Quota(of, gpus) => {
            let mut q = quota(name(*of), name(*of), *gpus);
            q.on_excess = OnExcess::Preempt;
            let old = w
                .state
                .object(Kind::Quota, name(*of))
                .map_or(0, |o| o.generation);
            w.declare(Object::Quota(q), old).expect("a quota");
        }
        Step::Tick(s) => w.tick(*s),
    }
}

fn attempt(w: &mut World, step: &Step, id: JobId) {
    let Some((attempt, node)) = w.live(id) else {
        return;
    };
    match step {
        Step::Run(_) => {
            let all = w.attempts_on(&node, None);
            w.report(node.as_str(), &all);
        }
        Step::Forget(_) => {
            let rest = w.attempts_on(&node, Some(id));
            w.report(node.as_str(), &rest);
        }
        Step::Stop(_) => {
            let mut all = w.attempts_on(&node, Some(id));
            let cause = Some(StopCause::Walltime);
            all.push((attempt, SaidPhase::Stopping { since: None, cause }));
            w.report(node.as_str(), &all);
        }
        Step::Exit(_, code) => w.end(id, Some(Exit::Code(*code)), EndCause::Exited),
        _ => {}
    }
}

/// Whether each grant in the audit kept its tenant within the limit in force.
fn quotas_held(w: &World, before: u64) {
    let usage = w.state.usage(None);
    for event in w.state.events.iter().filter(|e| e.seq >= before) {
        let EventKind::Granted { tenant, .. } = &event.what else {
            continue;
        };
        let limit = w
            .state
            .quotas()
            .find(|q| q.tenant == *tenant)
            .and_then(|q| q.limit.gpus);
        if let Some(limit) = limit {
            assert!(
                usage[tenant].gpus <= limit,
                "{tenant} holds {} of {limit}",
                usage[tenant].gpus
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]
    #[test]
    fn whatever_happens_no_job_is_lost_or_run_twice(walked in prop::collection::vec(steps(), 1..60)) {
        let mut w = World::small();
        let mut accepted = std::collections::BTreeSet::new();
        for step in &walked {
            walk(&mut w, step);
            let before = w.state.next_event;
            w.decide();
            quotas_held(&w, before);
            accepted.extend(w.state.jobs.keys().copied());
            prop_assert_eq!(accepted.len(), w.state.jobs.len(), "a job was lost");
            for record in w.state.jobs.values() {
                let job = &record.job;
                prop_assert!(job.failures <= job.spec.retries + 1);
                prop_assert!(job.attempts_made <= job.failures + job.preemptions + 1);
            }
        }
        prop_assert_eq!(w.replayed().jobs, w.state.jobs);
    }
}
