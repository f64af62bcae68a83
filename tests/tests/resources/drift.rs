//! What somebody else changed or removed shows in the plan, and is put right by the next apply.

use crate::stand::{ONE_OF_EACH, configuration};
use gpuloom_fleet::{Kind, Object, Seconds};
use gpuloom_tests::{Fleet, LONG, PROVIDER, Rig};

const KINDS: [Kind; 6] = [
    Kind::Tenant,
    Kind::Quota,
    Kind::PriorityClass,
    Kind::LimitRange,
    Kind::Pool,
    Kind::AutoscalingPolicy,
];

/// Somebody else's change: one attribute of each kind.
fn change(object: &mut Object) {
    match object {
        Object::Tenant(s) => s.weight += 1,
        Object::Quota(s) => {
            s.limit.gpus = s.limit.gpus.map(|g| gpuloom_fleet::MilliGpu(g.0 + 1000))
        }
        Object::PriorityClass(s) => s.value += 1,
        Object::LimitRange(s) => s.max_walltime = Some(Seconds(13 * 3600)),
        Object::Pool(s) => s.max += 1,
        Object::AutoscalingPolicy(s) => s.queue_per_node += 1,
    }
}

fn name_of(kind: Kind) -> &'static str {
    let found = ONE_OF_EACH.iter().find(|(k, _, _)| *k == kind.as_str());
    found
        .map(|(_, name, _)| *name)
        .expect("every kind is declared")
}

fn change_all(fleet: &Fleet) {
    fleet.api(|client| async move {
        for kind in KINDS {
            let found = client.get_object(kind, name_of(kind), false).await;
            let found = found.expect("an answer").expect("it is there");
            let mut object = found.object.clone();
            change(&mut object);
            let done = client
                .declare(&object, "somebody-else", "by-hand", found.generation)
                .await;
            done.unwrap_or_else(|e| panic!("{kind}: {e}"));
        }
    });
}

fn every(action: &'static str) -> Vec<(String, &'static str)> {
    let all = KINDS
        .iter()
        .map(|kind| (format!("gpuloom_{kind}.x"), action));
    all.collect()
}

#[test]
fn what_was_changed_or_removed_behind_terraforms_back_is_seen_and_put_right() {
    let rig = Rig::new();
    let terraform = rig.terraform();
    terraform.write(&configuration(&ONE_OF_EACH));
    terraform.apply(&[]);
    let fleet = rig.fleet("r");
    let expect = |expected: Vec<(String, &'static str)>| {
        let borrowed: Vec<_> = expected.iter().map(|(a, b)| (a.as_str(), *b)).collect();
        terraform.plan_is(&borrowed);
    };

    // A plan made before the change is refused as stale, and loses nothing.
    terraform.write(&configuration(&ONE_OF_EACH).replace("weight = 2", "weight = 7"));
    terraform.ok(&["plan", "-input=false", "-no-color", "-out=stale.tfplan"]);
    change_all(&fleet);
    let late = terraform.run(&[
        "apply",
        "-input=false",
        "-no-color",
        "-json",
        "stale.tfplan",
    ]);
    assert!(
        !late.status.success(),
        "a stale plan was applied: {}",
        late.all()
    );
    let errors = late.diagnostics("error");
    let [error] = errors.as_slice() else {
        panic!("not one error: {errors:?}")
    };
    assert!(
        error.contains("Cannot change tenant t") && error.contains('2') && error.contains('1'),
        "{error}"
    );

    // Changed.
    terraform.write(&configuration(&ONE_OF_EACH));
    expect(every("update"));
    terraform.apply(&[]);
    terraform.plan_is_empty();

    // Removed.
    fleet.api(|client| async move {
        for kind in KINDS.iter().rev() {
            let done = client.withdraw(*kind, name_of(*kind), 0, true).await;
            done.unwrap_or_else(|e| panic!("{kind}: {e}"));
        }
    });
    gpuloom_tests::until("the pool is gone", LONG, || {
        let answer = fleet.run(&["get", "pool", "n"]);
        (answer.code == 3).then_some(()).ok_or(answer.stdout)
    });
    expect(every("create"));
    terraform.apply(&[]);
    terraform.plan_is_empty();

    // Declaring a built-in class overrides it, destroying it restores it.
    let urgent = "resource \"gpuloom_priority_class\" \"u\" {\n  fleet = gpuloom_fleet.r.connection\n  name = \"urgent\"\n  value = 7\n}\n";
    terraform.write(&format!("{}{urgent}", configuration(&ONE_OF_EACH)));
    terraform.apply(&[]);
    assert_eq!(
        fleet.json(&["get", "priority_class", "urgent"])["spec"]["value"],
        7
    );
    terraform.write(&configuration(&ONE_OF_EACH));
    terraform.apply(&[]);
    let restored = fleet.json(&["get", "priority_class", "urgent"]);
    assert_eq!(restored["spec"]["value"], 1000, "{restored}");
    assert_eq!(restored["builtin"], true, "{restored}");

    // Deleted in the configuration, while somebody has removed some of it already: no error.
    fleet.api(|client| async move {
        let done = client.withdraw(Kind::Quota, "q", 0, false).await;
        done.expect("it is withdrawn");
    });
    terraform.write(&format!("{PROVIDER}{}", crate::stand::GROUND));
    terraform.apply(&[]);
    terraform.plan_is_empty();
    let left = fleet.json(&["objects"])["objects"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    let left: Vec<_> = left
        .iter()
        .filter(|o| o["builtin"] == false)
        .map(|o| o["name"].clone())
        .collect();
    assert_eq!(left.len(), 5, "{left:?}");
    terraform.destroy();
    rig.nothing_is_left();
}
