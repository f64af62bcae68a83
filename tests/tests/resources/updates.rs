//! Every way a resource changes: in place where it can, by a replacement where it must, not at all where nothing does.

use crate::stand::{Body, configuration};
use gpuloom_tests::{PROVIDER, Rig};
use std::collections::BTreeMap;

/// What a step does to a kind: the planned action, and the resource from then on.
type Step<'a> = (&'a str, &'a str, &'a str);

const TENANT: &[Step<'static>] = &[
    ("create", "t", "weight = 2"),
    ("update", "t", "weight = 5"),
    (
        "update",
        "t",
        "parent = \"root\"\n weight = 5\n on_destroy = \"refuse\"",
    ),
    ("update", "t", "parent = \"base\"\n weight = 5"),
    ("update", "t", ""),
    ("noop", "t", "weight = 1"),
    ("replace", "t2", "weight = 1"),
];
const QUOTA: &[Step<'static>] = &[
    ("create", "q", "tenant = \"base\"\n limit = { gpus = 4 }"),
    (
        "update",
        "q",
        "tenant = \"base\"\n limit = { gpus = 4 }\n guaranteed = { gpus = 1.5 }\n soft_limit = { gpus = 2 }",
    ),
    (
        "update",
        "q",
        "tenant = \"base\"\n limit = { gpu_memory_gib = 48.5 }\n on_excess = \"preempt\"",
    ),
    (
        "update",
        "q",
        "tenant = \"base\"\n limit = { gpu_memory_gib = 48.5 }",
    ),
    (
        "replace",
        "q",
        "tenant = \"other\"\n limit = { gpu_memory_gib = 48.5 }",
    ),
    (
        "replace",
        "q",
        "tenant = \"other\"\n pool = \"steady\"\n limit = { gpu_memory_gib = 48.5 }",
    ),
    (
        "replace",
        "q2",
        "tenant = \"other\"\n pool = \"steady\"\n limit = { gpu_memory_gib = 48.5 }",
    ),
];
const PRIORITY_CLASS: &[Step<'static>] = &[
    ("create", "p", "value = 500"),
    ("update", "p", "value = -500"),
    (
        "update",
        "p",
        "value = -500\n preempts = true\n cost_multiplier = 0.125",
    ),
    (
        "update",
        "p",
        "value = -500\n preempts = true\n cost_multiplier = 0.125\n grace = \"1m\"",
    ),
    (
        "noop",
        "p",
        "value = -500\n preempts = true\n cost_multiplier = 0.125\n grace = \"60s\"",
    ),
    ("update", "p", "value = 0"),
    ("replace", "normal", "value = 0"),
];
const LIMIT_RANGE: &[Step<'static>] = &[
    ("create", "l", "default = { gpus = 0.5, walltime = \"1h\" }"),
    (
        "update",
        "l",
        "default = { gpus = 0.5, walltime = \"1h\" }\n min = { gpus = 0.25 }",
    ),
    (
        "update",
        "l",
        "max = { gpus = 2, gpu_memory_gib = 32, walltime = \"12h\" }",
    ),
    ("update", "l", "max = { gpus = 2 }"),
    ("replace", "l", "tenant = \"base\"\n max = { gpus = 2 }"),
    (
        "replace",
        "l",
        "tenant = \"base\"\n pool = \"steady\"\n max = { gpus = 2 }",
    ),
    (
        "replace",
        "l2",
        "tenant = \"base\"\n pool = \"steady\"\n max = { gpus = 2 }",
    ),
];
const POOL: &[Step<'static>] = &[
    (
        "create",
        "n",
        "gpu = { model = \"T4\" }\n local {}\n autoscaling {\n min = 1\n max = 2\n }\n on_destroy = \"kill\"",
    ),
    (
        "update",
        "n",
        "gpu = { model = \"T4\" }\n local {}\n autoscaling {\n min = 1\n max = 3\n }\n labels = { a = \"b\" }\n capacity {\n on_shortfall = \"degrade\"\n max_wait = \"90s\"\n }",
    ),
    (
        "update",
        "n",
        "gpu = { model = \"T4\" }\n local {}\n autoscaling {\n min = 2\n max = 3\n }\n initial_size = 3",
    ),
    (
        "replace",
        "n",
        "gpu = { model = \"T4\", per_node = 2 }\n local {}\n autoscaling {\n min = 1\n max = 3\n }",
    ),
    (
        "replace",
        "n",
        "gpu = { model = \"A100-80G\" }\n local {}\n autoscaling {\n min = 0\n max = 2\n }\n initial_size = 1",
    ),
    (
        "replace",
        "n",
        "gpu = { model = \"A100-80G\" }\n existing {}\n autoscaling {\n min = 0\n max = 2\n }",
    ),
    (
        "replace",
        "n2",
        "gpu = { model = \"A100-80G\" }\n existing {}\n autoscaling {\n min = 0\n max = 2\n }",
    ),
];
const AUTOSCALING_POLICY: &[Step<'static>] = &[
    ("create", "a", "pool = \"steady\""),
    (
        "update",
        "a",
        "pool = \"steady\"\n target_utilization = 0.5",
    ),
    (
        "update",
        "a",
        "pool = \"steady\"\n queue_per_node = 3\n window = \"2m\"\n grow_cooldown = \"1s\"\n shrink_cooldown = \"1h\"",
    ),
    (
        "noop",
        "a",
        "pool = \"steady\"\n queue_per_node = 3\n window = \"120s\"\n grow_cooldown = \"1s\"\n shrink_cooldown = \"60m\"",
    ),
    ("update", "a", "pool = \"steady\""),
    ("replace", "a", "pool = \"second\""),
    ("replace", "a2", "pool = \"second\""),
];
const KINDS: [(&str, &[Step<'static>]); 6] = [
    ("tenant", TENANT),
    ("quota", QUOTA),
    ("priority_class", PRIORITY_CLASS),
    ("limit_range", LIMIT_RANGE),
    ("pool", POOL),
    ("autoscaling_policy", AUTOSCALING_POLICY),
];

#[test]
fn every_change_is_made_in_place_or_by_a_replacement_and_then_the_plan_is_empty() {
    let rig = Rig::new();
    let terraform = rig.terraform();
    let mut generations: BTreeMap<&str, u64> = BTreeMap::new();
    for step in 0..TENANT.len() {
        let bodies: Vec<Body<'_>> = KINDS
            .iter()
            .map(|(kind, steps)| (*kind, steps[step].1, steps[step].2))
            .collect();
        terraform.write(&configuration(&bodies));
        if step > 0 {
            let expected: Vec<(String, &str)> = KINDS
                .iter()
                .map(|(kind, steps)| (format!("gpuloom_{kind}.x"), steps[step].0))
                .filter(|(_, action)| *action != "noop")
                .collect();
            let expected: Vec<_> = expected
                .iter()
                .map(|(at, action)| (at.as_str(), *action))
                .collect();
            terraform.plan_is(&expected);
        }
        terraform.apply(&[]);
        terraform.plan_is_empty();
        for (kind, steps) in KINDS {
            let values = terraform.values(&format!("gpuloom_{kind}.x"));
            let present = values["generation"].as_u64().expect("a generation");
            let before = generations.insert(kind, present).unwrap_or(0);
            let expected = match steps[step].0 {
                "create" | "replace" => 1,
                "update" => before + 1,
                _ => before,
            };
            assert_eq!(present, expected, "{kind} after step {step}: {values}");
        }
        let pool = terraform.values("gpuloom_pool.x");
        let size = pool["size"].as_u64();
        assert_eq!(
            size,
            Some([1, 1, 2, 1, 1, 0, 0][step]),
            "step {step}: {pool}"
        );
        assert_eq!(pool["ready_size"].as_u64(), size, "step {step}: {pool}");
    }
    terraform.destroy();
    rig.nothing_is_left();
}

#[test]
fn a_fleet_is_replaced_by_every_change_of_what_its_lead_was_launched_with() {
    let rig = Rig::new();
    let terraform = rig.terraform();
    let fleet = |name: &str, labels: &str, local: &str| {
        format!(
            "{PROVIDER}resource \"gpuloom_fleet\" \"x\" {{\n  name = \"{name}\"\n  {labels}\n  local {{\n    {local}\n  }}\n}}\n"
        )
    };
    let mut id = None;
    for (text, action) in [
        (fleet("f", "", "simulate = \"1xT4\""), "create"),
        (
            fleet(
                "f",
                "timeouts {\n create = \"1m\"\n }",
                "simulate = \"1xT4\"",
            ),
            "update",
        ),
        (
            fleet("f", "labels = { a = \"b\" }", "simulate = \"1xT4\""),
            "replace",
        ),
        (
            fleet("f", "labels = { a = \"b\" }", "simulate = \"2xT4\""),
            "replace",
        ),
        (
            fleet(
                "f",
                "labels = { a = \"b\" }",
                "simulate = \"2xT4\"\n listen = \"127.0.0.2:0\"",
            ),
            "replace",
        ),
        (
            fleet(
                "g",
                "labels = { a = \"b\" }",
                "simulate = \"2xT4\"\n listen = \"127.0.0.2:0\"",
            ),
            "replace",
        ),
    ] {
        terraform.write(&text);
        terraform.plan_is(&[("gpuloom_fleet.x", action)]);
        terraform.apply(&[]);
        terraform.plan_is_empty();
        let present = terraform.values("gpuloom_fleet.x")["connection"]["id"].clone();
        let another = id.replace(present.clone()) != Some(present);
        assert_eq!(another, action != "update", "{action}: {text}");
        assert_eq!(rig.instances().len(), 1);
    }
    // What belongs to the fleet goes and comes with it, in one apply.
    let belongings = "resource \"gpuloom_pool\" \"x\" {\n  fleet = gpuloom_fleet.x.connection\n  name = \"n\"\n  gpu = { \
                      model = \"T4\" }\n  local {}\n  autoscaling {\n    min = 1\n    max = 1\n  }\n}\nresource \
                      \"gpuloom_tenant\" \"x\" {\n  fleet = gpuloom_fleet.x.connection\n  name = \"t\"\n}\n";
    let listen = "simulate = \"2xT4\"\n listen = \"127.0.0.2:0\"";
    terraform.write(&format!(
        "{}{belongings}",
        fleet("g", "labels = { a = \"b\" }", listen)
    ));
    terraform.apply(&[]);
    let before = terraform.values("gpuloom_tenant.x")["fleet"]["id"].clone();
    terraform.write(&format!(
        "{}{belongings}",
        fleet("g", "labels = { a = \"c\" }", listen)
    ));
    terraform.plan_is(&[
        ("gpuloom_fleet.x", "replace"),
        ("gpuloom_pool.x", "replace"),
        ("gpuloom_tenant.x", "replace"),
    ]);
    terraform.apply(&[]);
    terraform.plan_is_empty();
    assert_ne!(terraform.values("gpuloom_tenant.x")["fleet"]["id"], before);
    assert_eq!(terraform.values("gpuloom_pool.x")["ready_size"], 1);
    assert_eq!(rig.instances().len(), 2);
    terraform.destroy();
    rig.nothing_is_left();
}
