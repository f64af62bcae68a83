//! Bad values: each gives one error at its own attribute, at validate where it can be known, and nothing is lost.

use crate::stand::GROUND;
use gpuloom_tests::{Mistake, PROVIDER, Rig};

const POOL: &str = "gpu = { model = \"T4\" }\n existing {}\n autoscaling {\n min = 0\n max = 2\n }";

/// Kind, name, body, the line the error is at, words it has to say. Inside of an object terraform shows the resource's
/// first line whatever the path is, so there the words begin with the path.
const KNOWN: &[(&str, &str, &str, &str, &str)] = &[
    ("tenant", "Team", "", "name", "lower-case"),
    ("tenant", "t", "weight = 0", "weight = 0", "1 to 10000"),
    (
        "tenant",
        "t",
        "weight = 1.5",
        "weight = 1.5",
        "whole number",
    ),
    (
        "tenant",
        "t",
        "parent = \"T\"",
        "parent = \"T\"",
        "lower-case",
    ),
    ("tenant", "t", "parent = \"t\"", "parent = \"t\"", "itself"),
    (
        "tenant",
        "t",
        "on_destroy = \"keep\"",
        "on_destroy = \"keep\"",
        "refuse",
    ),
    (
        "quota",
        "Q",
        "tenant = \"base\"\n limit = { gpus = 1 }",
        "name",
        "lower-case",
    ),
    (
        "quota",
        "q",
        "tenant = \"B\"\n limit = { gpus = 1 }",
        "tenant = \"B\"",
        "lower-case",
    ),
    (
        "quota",
        "q",
        "tenant = \"base\"\n pool = \"P\"\n limit = { gpus = 1 }",
        "pool = \"P\"",
        "lower-case",
    ),
    (
        "quota",
        "q",
        "tenant = \"base\"",
        "",
        "limit nothing is stated: State guaranteed",
    ),
    (
        "quota",
        "q",
        "tenant = \"base\"\n limit = { gpus = -1 }",
        "",
        "limit.gpus is \"-1\"",
    ),
    (
        "quota",
        "q",
        "tenant = \"base\"\n limit = { gpus = 0.0001 }",
        "",
        "limit.gpus is \"0.0001\". Use a number such as 2 or 0.25, with at most three decimals",
    ),
    (
        "quota",
        "q",
        "tenant = \"base\"\n limit = { gpu_memory_gib = -4 }",
        "",
        "limit.gpu_memory_gib is \"-4\"",
    ),
    (
        "quota",
        "q",
        "tenant = \"base\"\n guaranteed = { gpus = 3 }\n limit = { gpus = 2 }",
        "",
        "guaranteed.gpus is above limit.gpus (2)",
    ),
    (
        "quota",
        "q",
        "tenant = \"base\"\n soft_limit = { gpus = 3 }\n limit = { gpus = 2 }",
        "",
        "soft_limit.gpus is above limit.gpus (2)",
    ),
    (
        "quota",
        "q",
        "tenant = \"base\"\n limit = { gpus = 2 }\n on_excess = \"panic\"",
        "on_excess = \"panic\"",
        "preempt",
    ),
    ("priority_class", "P", "value = 1", "name", "lower-case"),
    (
        "priority_class",
        "p",
        "value = 1000001",
        "value = 1000001",
        "1000000",
    ),
    (
        "priority_class",
        "p",
        "value = 1.5",
        "value = 1.5",
        "whole number",
    ),
    (
        "priority_class",
        "p",
        "value = 1\n cost_multiplier = -1",
        "cost_multiplier = -1",
        "at least 0",
    ),
    (
        "priority_class",
        "p",
        "value = 1\n grace = \"soon\"",
        "grace = \"soon\"",
        "duration",
    ),
    (
        "limit_range",
        "L",
        "max = { gpus = 1 }",
        "name",
        "lower-case",
    ),
    ("limit_range", "l", "", "", "nothing is stated"),
    (
        "limit_range",
        "l",
        "tenant = \"T\"\n max = { gpus = 1 }",
        "tenant = \"T\"",
        "lower-case",
    ),
    (
        "limit_range",
        "l",
        "pool = \"P\"\n max = { gpus = 1 }",
        "pool = \"P\"",
        "lower-case",
    ),
    (
        "limit_range",
        "l",
        "default = { walltime = \"1 hour\" }",
        "",
        "default.walltime is not a duration",
    ),
    (
        "limit_range",
        "l",
        "max = { walltime = \"x\" }",
        "",
        "max.walltime is not a duration",
    ),
    (
        "limit_range",
        "l",
        "min = { gpus = 2 }\n max = { gpus = 1 }",
        "",
        "min.gpus is above max.gpus (1)",
    ),
    ("pool", "N", POOL, "name", "lower-case"),
    (
        "pool",
        "n",
        "gpu = { model = \"\" }\n local {}\n autoscaling {\n min = 0\n max = 2\n }",
        "",
        "gpu.model is not a GPU model",
    ),
    (
        "pool",
        "n",
        "gpu = { model = \"T4\", per_node = 0 }\n local {}\n autoscaling {\n min = 0\n max = 2\n }",
        "",
        "gpu.per_node is \"0\". Use a value from 1 to 64",
    ),
    (
        "pool",
        "n",
        "gpu = { model = \"T4\" }\n local {}\n autoscaling {\n min = 3\n max = 2\n }",
        "min = 3",
        "max",
    ),
    (
        "pool",
        "n",
        "gpu = { model = \"T4\" }\n local {}\n autoscaling {\n min = 0\n max = 1001\n }",
        "max = 1001",
        "1000",
    ),
    (
        "pool",
        "n",
        "gpu = { model = \"T4\" }\n local {}\n autoscaling {\n min = 0\n max = 2\n }\n initial_size = 9",
        "initial_size = 9",
        "bounds",
    ),
    (
        "pool",
        "n",
        "gpu = { model = \"T4\" }\n local {}\n autoscaling {\n min = 0\n max = 2\n }\n on_destroy = \"wait\"",
        "on_destroy = \"wait\"",
        "refuse",
    ),
    (
        "pool",
        "n",
        "gpu = { model = \"T4\" }\n local {}\n autoscaling {\n min = 0\n max = 2\n }\n labels = { \"a b\" = \"c\" }",
        "labels = { \"a b\" = \"c\" }",
        "letters",
    ),
    (
        "pool",
        "n",
        "gpu = { model = \"T4\" }\n local {}\n autoscaling {\n min = 0\n max = 2\n }\n capacity {\n on_shortfall = \"panic\"\n }",
        "on_shortfall = \"panic\"",
        "degrade",
    ),
    (
        "pool",
        "n",
        "gpu = { model = \"T4\" }\n local {}\n autoscaling {\n min = 0\n max = 2\n }\n capacity {\n max_wait = \"long\"\n }",
        "max_wait = \"long\"",
        "duration",
    ),
    (
        "pool",
        "n",
        "gpu = { model = \"T4\" }\n autoscaling {\n min = 0\n max = 2\n }",
        "",
        "local",
    ),
    (
        "pool",
        "n",
        "gpu = { model = \"T4\" }\n local {}\n existing {}\n autoscaling {\n min = 0\n max = 2\n }",
        "",
        "existing",
    ),
    (
        "autoscaling_policy",
        "A",
        "pool = \"steady\"",
        "name",
        "lower-case",
    ),
    (
        "autoscaling_policy",
        "a",
        "pool = \"S\"",
        "pool = \"S\"",
        "lower-case",
    ),
    (
        "autoscaling_policy",
        "a",
        "pool = \"steady\"\n target_utilization = 0.01",
        "target_utilization = 0.01",
        "0.05 to 1",
    ),
    (
        "autoscaling_policy",
        "a",
        "pool = \"steady\"\n queue_per_node = 0",
        "queue_per_node = 0",
        "1 to 10000",
    ),
    (
        "autoscaling_policy",
        "a",
        "pool = \"steady\"\n window = \"1s\"",
        "window = \"1s\"",
        "10",
    ),
    (
        "autoscaling_policy",
        "a",
        "pool = \"steady\"\n grow_cooldown = \"x\"",
        "grow_cooldown = \"x\"",
        "duration",
    ),
    (
        "autoscaling_policy",
        "a",
        "pool = \"steady\"\n shrink_cooldown = \"x\"",
        "shrink_cooldown = \"x\"",
        "duration",
    ),
];

/// Whole resources that lean on no fleet of ours.
const ALONE: &[(&str, &str, &str)] = &[
    (
        "resource \"gpuloom_fleet\" \"x\" {\n  name = \"Bad\"\n  local {}\n}",
        "name = \"Bad\"",
        "lower-case",
    ),
    (
        "resource \"gpuloom_fleet\" \"x\" {\n  name = \"f\"\n}",
        "",
        "local",
    ),
    (
        "resource \"gpuloom_fleet\" \"x\" {\n  name = \"f\"\n  local {\n    simulate = \"eight\"\n  }\n}",
        "simulate = \"eight\"",
        "8xA100-80G",
    ),
    (
        "resource \"gpuloom_fleet\" \"x\" {\n  name = \"f\"\n  local {\n    listen = \"nowhere\"\n  }\n}",
        "listen = \"nowhere\"",
        "port",
    ),
    (
        "resource \"gpuloom_fleet\" \"x\" {\n  name = \"f\"\n  local {}\n  timeouts {\n    create = \"long\"\n  }\n}",
        "create = \"long\"",
        "duration",
    ),
    (
        "resource \"gpuloom_tenant\" \"x\" {\n  name = \"t\"\n  fleet = {\n    id = \"i\"\n    endpoints = []\n    ca_pin = \"sha256:PIN\"\n  }\n}",
        "",
        "fleet.endpoints: Expected 1 to 16",
    ),
    (
        "resource \"gpuloom_tenant\" \"x\" {\n  name = \"t\"\n  fleet = {\n    id = \"i\"\n    endpoints = [\"nowhere\"]\n    ca_pin = \"sha256:PIN\"\n  }\n}",
        "",
        "fleet.endpoints[0]: \"nowhere\"",
    ),
    (
        "resource \"gpuloom_tenant\" \"x\" {\n  name = \"t\"\n  fleet = {\n    id = \"i\"\n    endpoints = [\"h:1\"]\n    ca_pin = \"md5:1\"\n  }\n}",
        "",
        "fleet.ca_pin: the CA pin does not read",
    ),
    ("data \"gpuloom_fleet\" \"x\" {\n}", "", "name"),
    (
        "data \"gpuloom_fleet\" \"x\" {\n  endpoints = [\"h:1\"]\n}",
        "",
        "ca_pin",
    ),
    (
        "provider \"gpuloom\" {\n  local {\n    root = \"here\"\n  }\n}\ndata \"gpuloom_fleet\" \"x\" {\n  name = \"f\"\n}",
        "root = \"here\"",
        "absolute",
    ),
    (
        "provider \"gpuloom\" {\n  owner = \"\"\n}\ndata \"gpuloom_fleet\" \"x\" {\n  name = \"f\"\n}",
        "owner = \"\"",
        "128 bytes",
    ),
];

#[test]
fn every_bad_value_is_one_error_at_its_attribute_before_anything_is_touched() {
    let rig = Rig::new();
    let terraform = rig.terraform();
    let mut wrong = Vec::new();
    // All at once: each has a label of its own by which its errors are known.
    let mut text = format!("{PROVIDER}{GROUND}");
    for (at, (kind, name, body, _, _)) in KNOWN.iter().enumerate() {
        text.push_str(&format!(
            "resource \"gpuloom_{kind}\" \"x{at}\" {{\n  fleet = gpuloom_fleet.r.connection\n  name = \"{name}\"\n  {body}\n}}\n"
        ));
    }
    terraform.write(&text);
    let errors = terraform.validate();
    for (at, (kind, name, body, code, words)) in KNOWN.iter().enumerate() {
        let address = format!("gpuloom_{kind}.x{at}");
        let own: Vec<_> = errors.iter().filter(|e| e.address == address).collect();
        judge(
            &own,
            code,
            words,
            &format!("{kind} {name} {body}"),
            &mut wrong,
        );
    }
    let pin = "0".repeat(64);
    for (text, code, words) in ALONE {
        terraform.write(&format!("{PROVIDER}{}\n", text.replace("PIN", &pin)));
        let errors = terraform.validate();
        judge(
            &errors.iter().collect::<Vec<_>>(),
            code,
            words,
            text,
            &mut wrong,
        );
    }
    let all = KNOWN.len() + ALONE.len();
    assert!(
        wrong.is_empty(),
        "{} of {all}:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    assert_eq!(errors.len(), KNOWN.len(), "nothing else is said");
    rig.nothing_is_left();
}

fn judge(errors: &[&Mistake], code: &str, words: &str, what: &str, wrong: &mut Vec<String>) {
    let good = |e: &&&Mistake| e.code.contains(code) && e.said.contains(words);
    if errors.len() != 1 || errors.iter().filter(good).count() != 1 {
        wrong.push(format!(
            "- {what}\n    wanted one error at {code:?} saying {words:?}, got {errors:#?}"
        ));
    }
}

const APPLIED: &str = r#"
resource "gpuloom_tenant" "good" {
  fleet = gpuloom_fleet.r.connection
  name  = "good"
}
"#;

/// What only the fleet can know: resources, and what each error has to say.
const REFUSED: &[(&str, &[&str])] = &[
    (
        "resource \"gpuloom_quota\" \"x\" {\n fleet = gpuloom_fleet.r.connection\n name = \"q\"\n tenant = \"ghost\"\n limit = { gpus = 1 }\n}",
        &["tenant", "ghost"],
    ),
    (
        "resource \"gpuloom_quota\" \"x\" {\n fleet = gpuloom_fleet.r.connection\n name = \"q\"\n tenant = \"base\"\n pool = \"ghost\"\n limit = { gpus = 1 }\n}",
        &["pool", "ghost"],
    ),
    (
        "resource \"gpuloom_tenant\" \"x\" {\n fleet = gpuloom_fleet.r.connection\n name = \"t\"\n parent = \"ghost\"\n}",
        &["parent", "ghost"],
    ),
    (
        "resource \"gpuloom_limit_range\" \"x\" {\n fleet = gpuloom_fleet.r.connection\n name = \"l\"\n pool = \"ghost\"\n max = { gpus = 1 }\n}",
        &["pool", "ghost"],
    ),
    (
        "resource \"gpuloom_autoscaling_policy\" \"x\" {\n fleet = gpuloom_fleet.r.connection\n name = \"a\"\n pool = \"ghost\"\n}",
        &["pool", "ghost"],
    ),
    (
        "resource \"gpuloom_tenant\" \"x\" {\n fleet = gpuloom_fleet.r.connection\n name = \"good\"\n}",
        &["good", "terraform import gpuloom_tenant"],
    ),
    (
        "resource \"gpuloom_tenant\" \"x\" {\n count = 2\n fleet = gpuloom_fleet.r.connection\n name = \"twin\"\n}",
        &["twin", "twice"],
    ),
    (
        "resource \"gpuloom_fleet\" \"x\" {\n name = \"r\"\n local { simulate = \"1xT4\" }\n}",
        &["r", "terraform import gpuloom_fleet"],
    ),
    (
        "resource \"gpuloom_tenant\" \"x\" {\n fleet = merge(gpuloom_fleet.r.connection, { ca_pin = \"sha256:PIN\" })\n name = \"t\"\n}",
        &["pin"],
    ),
    (
        "resource \"gpuloom_tenant\" \"x\" {\n fleet = merge(gpuloom_fleet.r.connection, { id = \"another\" })\n name = \"t\"\n}",
        &["Another fleet answers", "another"],
    ),
    (
        "resource \"gpuloom_tenant\" \"x\" {\n fleet = merge(gpuloom_fleet.r.connection, { endpoints = [\"127.0.0.1:1\"] })\n name = \"t\"\n}",
        &["127.0.0.1:1", "does not answer"],
    ),
];

#[test]
fn what_only_the_fleet_can_refuse_is_one_clear_error_and_nothing_is_lost() {
    let rig = Rig::new();
    let terraform = rig.terraform();
    let good = format!("{PROVIDER}{GROUND}{APPLIED}");
    terraform.write(&good);
    terraform.apply(&[]);
    // A pool that has just been declared may still say `provisioning`.
    terraform.apply(&["-refresh-only"]);
    let before = terraform.state();
    let pin = "0".repeat(64);
    for (text, words) in REFUSED {
        terraform.write(&format!("{good}{}\n", text.replace("PIN", &pin)));
        let errors = terraform.apply_fails(&[]);
        assert_eq!(errors.len(), 1, "{text}: {errors:#?}");
        for word in *words {
            assert!(
                errors[0].contains(word),
                "{text}: {:?} does not say {word:?}",
                errors[0]
            );
        }
    }
    terraform.write(&good);
    // One of the twins was declared; it goes with its configuration.
    terraform.apply(&[]);
    same(&terraform.state(), &before);

    // Somebody else's admin key, a key that is none, and none.
    let foreign = rig.keygen("foreign.pem");
    for (key, words) in [
        (foreign.display().to_string(), "does not know this key"),
        (
            rig.dir().join("absent.pem").display().to_string(),
            "cannot be read",
        ),
        (String::new(), "gpuloom keygen"),
    ] {
        let provider = format!(
            "provider \"gpuloom\" {{\n admin_key = {}\n}}\n",
            if key.is_empty() {
                "null".to_owned()
            } else {
                format!("{key:?}")
            }
        );
        let other = rig.terraform_with(&[("GPULOOM_ADMIN_KEY", "")]);
        std::fs::copy(
            terraform.folder().join("terraform.tfstate"),
            other.folder().join("terraform.tfstate"),
        )
        .expect("copied");
        other.write(&format!("{good}{provider}"));
        let refused = other.try_plan(&[]);
        assert!(!refused.status.success(), "{words}: {}", refused.all());
        let errors = refused.diagnostics("error");
        assert!(
            !errors.is_empty() && errors.iter().all(|e| e.contains(words)),
            "{words}: {errors:#?}"
        );
        same(&other.state(), &before);
    }
    terraform.plan_is_empty();
    terraform.destroy();
    rig.nothing_is_left();
}

#[track_caller]
fn same(now: &[(String, serde_json::Value)], before: &[(String, serde_json::Value)]) {
    for (now, before) in now.iter().zip(before) {
        assert_eq!(now, before);
    }
    assert_eq!(now.len(), before.len());
}
