//! For each of P1-P9: a plan that breaks it is caught, and the honest plan beside it is not.

use serde_json::{Value as Json, json};

use super::*;
use crate::check::fixture::schema;
use crate::config::from_json;
use crate::proposed_new_state;

fn value(json: &Json) -> Value {
    from_json(&schema(), json).expect("a value of the test schema")
}

fn config() -> Json {
    json!({
        "name": "a", "secret": "s", "tags": {"k": "v"}, "limits": [{"kind": "x"}],
        "rule": [{"port": 1}], "member": [{"who": "me"}], "zone": {"z": {"size": 2}}, "local": {"dir": "/tmp"}
    })
}

/// The honest plan: what is configured, secrets left out, computed values unknown.
fn honest() -> Value {
    let mut plan = proposed_new_state(&schema(), &Value::Null, &value(&config()));
    plan.set("secret", Value::Null)
        .set("id", Value::unknown())
        .set("size", Value::unknown());
    plan
}

#[track_caller]
fn broken(rule: Rule, path: &str, spoil: impl FnOnce(&mut Value)) {
    let mut plan = honest();
    spoil(&mut plan);
    let found = check(&schema(), &Value::Null, &value(&config()), &plan);
    assert!(
        found.iter().any(|one| one.rule == rule && one.path == path),
        "{rule} at {path:?} not in {found:?}"
    );
}

fn put(plan: &mut Value, path: Path, new: impl Into<Value>) {
    *plan.at_mut(&path).expect("the path exists") = new.into();
}

#[test]
fn an_honest_plan_breaks_no_rule() {
    assert_eq!(
        check(&schema(), &Value::Null, &value(&config()), &honest()),
        vec![]
    );
}

#[test]
fn a_suppressed_difference_breaks_no_rule() {
    let mut prior = honest();
    prior.set("id", "1").set("size", 3).set("name", "A");
    let plan = prior.clone();
    assert_eq!(
        check(&schema(), &prior, &value(&config()), &plan),
        vec![],
        "planned equal to prior is allowed"
    );
}

#[test]
fn p1_a_configured_value_planned_otherwise() {
    broken(Rule::P1, "name", |plan| put(plan, Path::root("name"), "b"));
    broken(Rule::P1, "tags", |plan| {
        put(plan, Path::root("tags"), Value::map([("k", "w")]))
    });
    broken(Rule::P1, "rule[0].port", |plan| {
        put(plan, Path::root("rule").index(0).attr("port"), 2)
    });
    broken(Rule::P1, "limits[0].kind", |plan| {
        put(plan, Path::root("limits").index(0).attr("kind"), "y")
    });
}

#[test]
fn p2_a_value_for_what_is_neither_computed_nor_configured() {
    broken(Rule::P2, "note", |plan| {
        put(plan, Path::root("note"), "hello")
    });
    broken(Rule::P2, "note", |plan| {
        put(plan, Path::root("note"), Value::unknown())
    });
}

#[test]
fn p3_a_configured_value_planned_unknown() {
    broken(Rule::P3, "name", |plan| {
        put(plan, Path::root("name"), Value::unknown())
    });
    broken(Rule::P3, "tags", |plan| {
        put(plan, Path::root("tags").key("k"), Value::unknown())
    });
    broken(Rule::P3, "limits", |plan| {
        put(plan, Path::root("limits"), Value::unknown())
    });
}

#[test]
fn p4_presence_planned_otherwise() {
    broken(Rule::P4, "", |plan| *plan = Value::Null);
    broken(Rule::P4, "local", |plan| {
        put(plan, Path::root("local"), Value::Null)
    });
    let found = check(&schema(), &honest(), &Value::Null, &honest());
    assert!(
        found
            .iter()
            .any(|one| one.rule == Rule::P4 && one.message.contains("existence")),
        "{found:?}"
    );
}

#[test]
fn p5_blocks_planned_null_unknown_or_in_other_numbers() {
    broken(Rule::P5, "rule", |plan| {
        put(plan, Path::root("rule"), Value::Null)
    });
    broken(Rule::P5, "rule", |plan| {
        put(plan, Path::root("rule"), Value::List(vec![]))
    });
    broken(Rule::P5, "rule", |plan| {
        put(plan, Path::root("rule"), Value::unknown())
    });
    broken(Rule::P5, "rule[0]", |plan| {
        put(plan, Path::root("rule").index(0), Value::unknown())
    });
    broken(Rule::P5, "member", |plan| {
        put(plan, Path::root("member"), Value::Null)
    });
    broken(Rule::P5, "member", |plan| {
        put(
            plan,
            Path::root("member"),
            Value::Set(vec![Value::unknown()]),
        )
    });
    broken(Rule::P5, "zone", |plan| {
        put(plan, Path::root("zone"), Value::map([("q", Value::Null)]))
    });
    broken(Rule::P5, "zone", |plan| {
        put(plan, Path::root("zone"), Value::map::<String, Value>([]))
    });
    broken(Rule::P5, "limits", |plan| {
        put(plan, Path::root("limits"), Value::List(vec![]))
    });
    let mut unknown_blocks = config();
    unknown_blocks["rule"] = json!(crate::UNKNOWN);
    let found = check(&schema(), &Value::Null, &value(&unknown_blocks), &honest());
    assert!(
        found
            .iter()
            .any(|one| one.rule == Rule::P5 && one.message.contains("dynamic block")),
        "{found:?}"
    );
}

#[test]
fn p6_replacement_required_by_nothing() {
    let plan = honest();
    let good = [
        Path::root("name"),
        Path::root("rule").index(0).attr("port"),
        Path::root("tags").key("k"),
    ];
    assert_eq!(check_requires_replace(&Value::Null, &plan, &good), vec![]);
    for bad in [
        Path::root("nome"),
        Path::root("rule").index(7),
        Path::root("name").attr("x"),
        Path::empty(),
    ] {
        let found = check_requires_replace(&Value::Null, &plan, std::slice::from_ref(&bad));
        assert!(
            matches!(&found[..], [one] if one.rule == Rule::P6),
            "{bad}: {found:?}"
        );
    }
}

#[test]
fn p7_a_destroy_planned_as_something() {
    assert_eq!(check_destroy(&Value::Null), vec![]);
    assert_eq!(check_destroy(&honest())[0].rule, Rule::P7);
}

#[test]
fn p8_a_secret_in_the_plan() {
    broken(Rule::P8, "secret", |plan| {
        put(plan, Path::root("secret"), "s")
    });
    broken(Rule::P8, "secret", |plan| {
        put(plan, Path::root("secret"), Value::unknown())
    });
    broken(Rule::P8, "local.token", |plan| {
        put(plan, Path::root("local").attr("token"), "t")
    });
}

#[test]
fn p9_a_second_plan_that_differs() {
    let (first, mut second) = (honest(), honest());
    second.set("id", "42");
    assert_eq!(
        check_again(&schema(), (&first, "create"), (&second, "create")),
        vec![],
        "unknown may become known"
    );
    let found = check_again(&schema(), (&second, "create"), (&first, "create"));
    assert!(
        matches!(&found[..], [one] if one.rule == Rule::P9 && one.path == "id"),
        "{found:?}"
    );
    let found = check_again(&schema(), (&first, "update"), (&first, "replace"));
    assert!(
        matches!(&found[..], [one] if one.rule == Rule::P9 && one.message.contains("action")),
        "{found:?}"
    );
}
