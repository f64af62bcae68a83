//! Declaring and withdrawing.

use super::*;
use gpuloom_api::RefusalCode;
use gpuloom_fleet::OnTenantDestroy;

fn code<T: std::fmt::Debug>(result: Result<T, Refusal>) -> RefusalCode {
    result.expect_err("a refusal").code
}

fn tenant_of(name: &str, parent: Option<&str>, weight: u32) -> Object {
    Object::Tenant(TenantSpec {
        name: tenant(name),
        parent: parent.map(tenant),
        weight,
        on_destroy: OnTenantDestroy::Cancel,
    })
}

#[test]
fn a_write_needs_the_present_generation_unless_it_changes_nothing() {
    let mut w = World::new();
    let first = w.declare(tenant_of("a", None, 1), 0).expect("created");
    assert_eq!((first.generation, first.adopted), (1, false));
    assert_eq!(
        w.declare(tenant_of("a", None, 1), 1)
            .expect("same")
            .generation,
        1
    );
    assert_eq!(
        w.declare(tenant_of("a", None, 2), 1)
            .expect("changed")
            .generation,
        2
    );
    let stale = w.declare(tenant_of("a", None, 3), 1).expect_err("stale");
    assert_eq!((stale.have_generation, stale.got_generation), (2, 1));
    // The answer was lost and the same change is asked for again.
    assert_eq!(
        w.declare(tenant_of("a", None, 2), 1)
            .expect("repeated")
            .generation,
        2
    );
    assert_eq!(
        code(w.declare(tenant_of("b", None, 1), 4)),
        RefusalCode::NotFound
    );
}

#[test]
fn creating_what_exists_is_adopted_refused_or_declared_twice() {
    let mut w = World::new();
    w.declare_in(tenant_of("a", None, 1), 0, "run1")
        .expect("created");
    let twice = w.declare_in(tenant_of("a", None, 1), 0, "run1");
    assert_eq!(code(twice), RefusalCode::DeclaredTwice);
    let adopted = w
        .declare_in(tenant_of("a", None, 5), 0, "run2")
        .expect("adopted");
    assert_eq!((adopted.generation, adopted.adopted), (2, true));
    let twice = w.declare_in(tenant_of("a", None, 5), 0, "run2");
    assert_eq!(code(twice), RefusalCode::DeclaredTwice);
    let change = w.state.confirm(Kind::Tenant, "a");
    w.absorb(change);
    let exists = w
        .declare_in(tenant_of("a", None, 5), 0, "run3")
        .expect_err("exists");
    assert_eq!(exists.code, RefusalCode::AlreadyExists);
    assert!(
        exists.fix.contains("terraform import gpuloom_tenant."),
        "{}",
        exists.fix
    );
}

#[test]
fn references_must_exist_and_circles_are_refused() {
    let mut w = World::new();
    let refused = w
        .declare(tenant_of("a", Some("x"), 1), 0)
        .expect_err("no parent");
    assert_eq!(refused.problems.0[0].field, "parent");
    w.tenant("a", None);
    w.tenant("b", Some("a"));
    w.tenant("c", Some("b"));
    let circle = w
        .declare(tenant_of("a", Some("c"), 1), 1)
        .expect_err("a circle");
    assert!(
        circle.problems.0[0].message.contains("part of a itself"),
        "{circle}"
    );
    let lost = w
        .declare(Object::Quota(quota("q", "nobody", 1)), 0)
        .expect_err("no tenant");
    assert_eq!(lost.problems.0[0].field, "tenant");
    w.declare(Object::Quota(quota("q", "a", 1)), 0)
        .expect("a quota");
    let second = w
        .declare(Object::Quota(quota("r", "a", 2)), 0)
        .expect_err("two quotas");
    assert!(second.problems.0[0].message.contains("quota q"), "{second}");
}

#[test]
fn a_chain_of_tenants_is_as_deep_as_the_limit_and_no_deeper() {
    let mut w = World::new();
    w.tenant("t0", None);
    for i in 1..=gpuloom_fleet::MAX_TENANT_DEPTH {
        w.tenant(&format!("t{i}"), Some(&format!("t{}", i - 1)));
    }
    let last = format!("t{}", gpuloom_fleet::MAX_TENANT_DEPTH);
    let deep = w
        .declare(tenant_of("deep", Some(&last), 1), 0)
        .expect_err("too deep");
    assert!(deep.problems.0[0].fix.contains("levels"), "{deep}");
    w.tenant("top", None);
    // Moving the whole chain below another one counts its height.
    let moved = w.declare(tenant_of("t0", Some("top"), 1), 1);
    assert_eq!(code(moved), RefusalCode::Invalid);
}

#[test]
fn what_is_used_is_not_withdrawn_and_what_is_gone_is_no_error() {
    let mut w = World::small();
    w.tenant("child", Some("a"));
    let refused = w.withdraw(Kind::Tenant, "a").expect_err("has a child");
    assert!(refused.message.contains("tenant child"), "{refused}");
    let gone = w.withdraw(Kind::Tenant, "never").expect("no error");
    assert_eq!(
        gone,
        Withdrawn {
            existed: false,
            gone: true
        }
    );
    w.submit(spec("b")).expect("a job");
    let refused = w.withdraw(Kind::Tenant, "b").expect_err("has a job");
    assert_eq!(
        (refused.code, refused.message.contains('1')),
        (RefusalCode::InUse, true)
    );
    w.cancel(job("1"));
    assert!(w.withdraw(Kind::Tenant, "b").expect("withdrawn").existed);
}

#[test]
fn a_tenant_that_says_so_takes_its_jobs_with_it() {
    let mut w = World::small();
    w.declare(tenant_of("c", None, 1), 0).expect("a tenant");
    for _ in 0..5 {
        w.submit(spec("c")).expect("a job");
    }
    w.decide();
    let waiting = Withdrawn {
        existed: true,
        gone: false,
    };
    assert_eq!(w.withdraw(Kind::Tenant, "c").expect("going"), waiting);
    let words: Vec<_> = ["1", "5"].map(|id| w.word(id)).into();
    assert_eq!(words, ["active", "cancelled"]);
    let refused = w.submit(spec("c")).expect_err("no more jobs");
    assert!(
        refused.to_string().contains("is being destroyed"),
        "{refused}"
    );
    assert_eq!(
        code(w.declare(tenant_of("c", None, 2), 1)),
        RefusalCode::InUse
    );
    assert_eq!(w.withdraw(Kind::Tenant, "c").expect("still"), waiting);
    let active: Vec<_> = ["1", "2", "3", "4"]
        .into_iter()
        .filter(|id| w.word(id) == "active")
        .collect();
    for id in active {
        w.end(
            job(id),
            Some(Exit::Signal(15)),
            EndCause::Stopped {
                why: gpuloom_fleet::StopCause::Cancelled {
                    by: "admin".to_owned(),
                },
            },
        );
        assert_eq!(w.word(id), "cancelled");
    }
    assert!(w.withdraw(Kind::Tenant, "c").expect("withdrawn").gone);
}

#[test]
fn a_pool_may_go_and_come_back_under_quotas_and_policies_that_name_it() {
    let mut w = World::small();
    let mut of_pool = quota("q", "a", 1);
    of_pool.pool = Some(pool_name("t4"));
    w.declare(Object::Quota(of_pool), 0).expect("a quota");
    assert!(w.withdraw(Kind::Pool, "t4").expect("withdrawn").existed);
}

#[test]
fn a_built_in_class_is_overridden_and_restored() {
    let mut w = World::small();
    let urgent = PriorityClassName::new("urgent").expect("a name");
    let value = |w: &World| {
        w.state
            .priority_class(Some(&urgent))
            .expect("a class")
            .value
    };
    assert_eq!(value(&w), 1000);
    let class = PriorityClassSpec {
        name: urgent.clone(),
        value: 7,
        preempts: false,
        cost_multiplier_milli: 1000,
        grace: Seconds(1),
    };
    w.declare(Object::PriorityClass(class), 0)
        .expect("overrides");
    assert_eq!(value(&w), 7);
    let mut urgent_job = spec("a");
    urgent_job.priority_class = Some(urgent.clone());
    w.submit(urgent_job).expect("a job");
    w.withdraw(Kind::PriorityClass, "urgent").expect("restored");
    assert_eq!(value(&w), 1000);
}

#[test]
fn a_class_goes_while_its_jobs_wait_and_they_go_on_as_normal_ones() {
    let mut w = World::small();
    let name = PriorityClassName::new("deadline").expect("a name");
    let class = PriorityClassSpec {
        name: name.clone(),
        value: 500,
        preempts: true,
        cost_multiplier_milli: 1000,
        grace: Seconds(1),
    };
    w.declare(Object::PriorityClass(class), 0).expect("a class");
    let mut of_class = spec("a");
    of_class.priority_class = Some(name.clone());
    w.submit(of_class.clone()).expect("a job");
    let gone = w.withdraw(Kind::PriorityClass, "deadline");
    assert!(gone.expect("withdrawn").gone);
    w.decide();
    assert_eq!(w.word("1"), "active");
    let unknown = w.submit(of_class).expect_err("no such class any more");
    assert!(unknown.to_string().contains("deadline"), "{unknown}");
}

#[test]
fn a_pool_follows_its_on_destroy() {
    for (on_destroy, refused, stops) in [
        (OnDestroy::Refuse, true, false),
        (OnDestroy::Drain, false, false),
        (OnDestroy::Kill, false, true),
    ] {
        let mut w = World::small();
        let mut spec_of = pool("t4");
        spec_of.on_destroy = on_destroy;
        w.declare(Object::Pool(spec_of), 1).expect("changed");
        w.submit(spec("a")).expect("a job");
        w.decide();
        let withdrawn = w.withdraw(Kind::Pool, "t4");
        assert_eq!(withdrawn.is_err(), refused, "{on_destroy:?}");
        let stopping = live_attempt(&w.state.jobs[&job("1")])
            .expect("live")
            .is_stopping();
        assert_eq!(stopping, stops, "{on_destroy:?}");
        if refused {
            continue;
        }
        assert!(!withdrawn.expect("withdrawn").gone);
        w.submit(spec("a")).expect("waits for another pool");
        w.decide();
        assert_eq!(
            w.word("2"),
            "pending",
            "nothing new starts on a draining pool"
        );
        w.end(job("1"), Some(Exit::Code(0)), EndCause::Exited);
        let change = w.state.finish_pool(&pool_name("t4"));
        w.absorb(change);
        assert!(w.state.pools.is_empty() && w.state.nodes.is_empty());
    }
}

#[test]
fn pool_sizes_stay_within_moved_bounds() {
    let mut w = World::new();
    let mut p = pool("t4");
    (p.min, p.max, p.initial_size) = (1, 8, Some(6));
    w.declare(Object::Pool(p.clone()), 0).expect("created");
    let wanted = |w: &World| w.state.pools[&pool_name("t4")].wanted;
    assert_eq!(wanted(&w), 6);
    p.max = 4;
    p.initial_size = None;
    w.declare(Object::Pool(p.clone()), 1).expect("changed");
    assert_eq!(wanted(&w), 4);
    let change = w.state.resize_pool(&pool_name("t4"), 99, "load", w.now);
    w.absorb(change);
    assert_eq!(wanted(&w), 4);
    p.gpu.per_node = 1;
    let refused = w.declare(Object::Pool(p), 2).expect_err("not in place");
    assert_eq!(refused.problems.0[0].field, "gpu.per_node");
}

#[test]
fn a_join_token_lets_one_node_in_and_the_same_one_again() {
    let mut w = World::small();
    let new = NewToken {
        hash: "h".repeat(64),
        purpose: crate::lead::record::TokenPurpose::Join {
            pool: pool_name("t4"),
            used_by: None,
        },
        ttl_s: 600,
        label: String::new(),
    };
    let (change, _) = w.state.create_token(&new, w.now).expect("a token");
    w.absorb(change);
    let ask = |node: &str, request: &str| Join {
        token_hash: "h".repeat(64),
        node: node_id(node),
        request: request.to_owned(),
        agent_version: "1".to_owned(),
    };
    let (change, _) = w.state.join(&ask("n3", "key"), w.now).expect("joins");
    w.absorb(change);
    assert!(
        w.state.join(&ask("n3", "key"), w.now).is_ok(),
        "the answer was lost"
    );
    for (node, request) in [("n3", "other key"), ("n4", "key")] {
        assert_eq!(
            code(w.state.join(&ask(node, request), w.now)),
            RefusalCode::Denied
        );
    }
    let later = w.now.plus(Seconds(600));
    assert_eq!(
        code(w.state.join(&ask("n3", "key"), later)),
        RefusalCode::Denied
    );
    w.tick(600);
    assert!(w.state.tokens.is_empty());
    for ttl_s in [59, 24 * 3600 + 1] {
        let bad = NewToken {
            ttl_s,
            ..new.clone()
        };
        assert_eq!(
            code(w.state.create_token(&bad, w.now)),
            RefusalCode::Invalid
        );
    }
}

#[test]
fn what_belongs_to_an_object_may_be_more_than_one_transaction_takes() {
    let mut w = World::small();
    for n in 0..200 {
        let new = NewToken {
            hash: format!("{n:064}"),
            purpose: crate::lead::record::TokenPurpose::Submit {
                tenant: tenant("a"),
            },
            ttl_s: 3_600,
            label: String::new(),
        };
        let (change, _) = w.state.create_token(&new, w.now).expect("a token");
        w.absorb(change);
    }
    assert!(w.withdraw(Kind::Tenant, "a").expect("unused").gone);
    assert!(w.state.tokens.is_empty());

    let existing = PoolSpec {
        place: PoolPlace::Existing,
        ..pool("here")
    };
    w.declare(Object::Pool(existing), 0).expect("a pool");
    for n in 0..200 {
        w.add_node(&format!("m{n}"), "here");
    }
    assert!(w.withdraw(Kind::Pool, "here").expect("idle").gone);
    assert_eq!(w.state.nodes.len(), 2);

    let record = |n: u64| LaunchRecord {
        id: LaunchId(n),
        pool: pool_name("t4"),
        attempt: 1,
        offerings: vec![gpuloom_cloud::Offering("local/T4x2".to_owned())],
        token: gpuloom_cloud::Token::of("x", LaunchId(n), 1),
        revision: String::new(),
        state: gpuloom_cloud::LaunchState::Sent,
        at: w.now,
    };
    let found: Vec<_> = (1..=200).map(record).collect();
    let change = w.state.store_launches(&found);
    w.absorb(change);
    assert_eq!((w.state.launches.len(), w.state.next_launch), (200, 201));
}

#[test]
fn a_node_whose_driver_is_being_opened_joins_and_one_whose_driver_fails_is_told() {
    use gpuloom_fleet::NodeState;
    let mut w = World::small();
    let id = node_id("n1");
    for (problem, state, told) in [
        (gpuloom_gpu::OPENING, NodeState::Joining, None),
        (
            "no driver",
            NodeState::DriverUnresponsive,
            Some("driver_unresponsive"),
        ),
        (gpuloom_gpu::OPENING, NodeState::Joining, None),
        ("", NodeState::Ready, Some("ready")),
    ] {
        let said = NodeSaid {
            driver_problem: problem.to_owned(),
            ..NodeSaid::default()
        };
        let before = w.state.next_event;
        let change = w.state.report(&id, &said, w.now);
        w.absorb(change);
        w.state.note_live(&id, said, w.now);
        assert_eq!(w.state.node_state(&id), (state, problem.to_owned()));
        let new = w.state.events.iter().find(|e| e.seq >= before);
        let found = new.map(|e| match &e.what {
            gpuloom_fleet::EventKind::NodeChanged { state, .. } => state.as_str(),
            other => panic!("{other:?}"),
        });
        assert_eq!(found, told, "{problem:?}");
    }
}

#[test]
fn a_pool_of_a_cloud_stays_in_its_account_and_region() {
    use gpuloom_fleet::AwsPlace;
    let mut w = World::small();
    let in_region = |region: &str, image: &str| PoolSpec {
        place: PoolPlace::Aws(Box::new(AwsPlace {
            region: region.to_owned(),
            subnets: vec!["subnet-a".to_owned()],
            image: image.to_owned(),
            root_disk_gib: 50,
            ..AwsPlace::default()
        })),
        ..pool("cloud")
    };
    let first = in_region("us-east-1", "ami-1");
    w.declare(Object::Pool(first), 0).expect("a pool");
    let image = in_region("us-east-1", "ami-2");
    w.declare(Object::Pool(image), 1).expect("another image");
    for moved in [in_region("us-east-2", "ami-2"), pool("cloud")] {
        let refused = w
            .declare(Object::Pool(moved), 2)
            .expect_err("its nodes stay");
        assert!(refused.to_string().contains("aws/us-east-1"), "{refused}");
    }
}
