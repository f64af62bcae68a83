//! For each of A1-A6: a result that breaks it is caught.

use serde_json::{Value as Json, json};
use tfplug::{Refinements, Type};

use super::*;
use crate::check::fixture::schema;
use crate::config::from_json;

fn value(json: &Json) -> Value {
    from_json(&schema(), json).expect("a value of the test schema")
}

fn planned() -> Value {
    value(&json!({
        "name": "a", "key": "k", "id": crate::UNKNOWN, "size": crate::UNKNOWN, "tags": {"k": "v"}, "names": ["x", "y"],
        "any": [1], "limits": [{"kind": "x", "used": crate::UNKNOWN}], "rule": [{"port": 1}],
        "member": [{"who": "me", "seen": crate::UNKNOWN}], "zone": {"z": {"size": 2}}, "local": {"dir": "/tmp"}
    }))
}

fn applied() -> Value {
    let mut value = planned();
    value.set("id", "1").set("size", 2);
    put(&mut value, Path::root("limits").index(0).attr("used"), 0);
    put(&mut value, Path::root("member").index(0).attr("seen"), true);
    value
}

fn put(value: &mut Value, path: Path, new: impl Into<Value>) {
    let place = match (&path.steps()[0], value) {
        // The library refuses paths into sets; the test does not.
        (tfplug::Step::Attribute(name), Value::Object(all))
            if name == "member" && path.steps().len() > 1 =>
        {
            let Some(Value::Set(elements)) = all.get_mut("member") else {
                unreachable!("a set")
            };
            elements[0].at_mut(&Path::root("seen"))
        }
        (_, value) => value.at_mut(&path),
    };
    *place.expect("the path exists") = new.into();
}

#[track_caller]
fn broken(rule: Rule, path: &str, spoil: impl FnOnce(&mut Value)) {
    let mut actual = applied();
    spoil(&mut actual);
    let found = check(&schema(), &planned(), &actual);
    assert!(
        found.iter().any(|one| one.rule == rule && one.path == path),
        "{rule} at {path:?} not in {found:?}"
    );
}

#[test]
fn an_honest_result_breaks_no_rule() {
    assert_eq!(check(&schema(), &planned(), &applied()), vec![]);
}

#[test]
fn a1_a_known_value_that_changed() {
    broken(Rule::A1, "name", |v| put(v, Path::root("name"), "b"));
    broken(Rule::A1, "name", |v| {
        put(v, Path::root("name"), Value::Null)
    });
    broken(Rule::A1, "note", |v| put(v, Path::root("note"), "new"));
    broken(Rule::A1, "tags[\"k\"]", |v| {
        put(v, Path::root("tags").key("k"), "w")
    });
    broken(Rule::A1, "tags", |v| {
        put(v, Path::root("tags"), Value::map::<String, Value>([]))
    });
    broken(Rule::A1, "tags", |v| {
        put(v, Path::root("tags"), Value::Null)
    });
    broken(Rule::A1, "any", |v| {
        put(v, Path::root("any"), Value::dynamic(Type::String, "1"))
    });
    broken(Rule::A1, "any[0]", |v| {
        put(
            v,
            Path::root("any"),
            Value::dynamic(
                Type::Tuple(vec![Type::Number]),
                Value::Tuple(vec![2.into()]),
            ),
        );
    });
    broken(Rule::A1, "rule", |v| {
        put(v, Path::root("rule"), Value::List(vec![]))
    });
    broken(Rule::A1, "rule[0].port", |v| {
        put(v, Path::root("rule").index(0).attr("port"), 9)
    });
    broken(Rule::A1, "limits[0].kind", |v| {
        put(v, Path::root("limits").index(0).attr("kind"), "y")
    });
    broken(Rule::A1, "zone[\"z\"].size", |v| {
        put(v, Path::root("zone").key("z").attr("size"), 3)
    });
    broken(Rule::A1, "local", |v| {
        put(v, Path::root("local"), Value::Null)
    });
}

#[test]
fn a1_a_sensitive_change_is_told_without_its_value() {
    let mut actual = applied();
    put(&mut actual, Path::root("key"), "hunter2");
    let found = check(&schema(), &planned(), &actual);
    let told = format!("{found:?}");
    assert!(
        told.contains("sensitive") && !told.contains("hunter2"),
        "{told}"
    );
}

#[test]
fn a1_a_promise_about_an_unknown_value_that_is_not_kept() {
    let mut plan = planned();
    plan.set(
        "id",
        Value::Unknown(Some(Box::new(Refinements::not_null()))),
    );
    let mut actual = applied();
    assert_eq!(check(&schema(), &plan, &actual), vec![]);
    actual.set("id", Value::Null);
    let found = check(&schema(), &plan, &actual);
    assert!(
        found
            .iter()
            .any(|one| one.rule == Rule::A1 && one.message.contains("placeholder")),
        "{found:?}"
    );
}

#[test]
fn a2_something_unknown_after_apply() {
    broken(Rule::A2, "id", |v| {
        put(v, Path::root("id"), Value::unknown())
    });
    broken(Rule::A2, "limits[0].used", |v| {
        put(
            v,
            Path::root("limits").index(0).attr("used"),
            Value::unknown(),
        )
    });
    broken(Rule::A2, "member.seen", |v| {
        put(
            v,
            Path::root("member").index(0).attr("seen"),
            Value::unknown(),
        )
    });
}

#[test]
fn a3_null_after_anything_but_a_destroy() {
    let found = check(&schema(), &planned(), &Value::Null);
    assert!(
        matches!(&found[..], [one] if one.rule == Rule::A3),
        "{found:?}"
    );
}

#[test]
fn a4_something_left_after_a_destroy() {
    assert_eq!(check(&schema(), &Value::Null, &Value::Null), vec![]);
    let found = check(&schema(), &Value::Null, &applied());
    assert!(
        matches!(&found[..], [one] if one.rule == Rule::A4),
        "{found:?}"
    );
}

#[test]
fn a5_a_secret_after_apply() {
    broken(Rule::A5, "secret", |v| put(v, Path::root("secret"), "s"));
    broken(Rule::A5, "local.token", |v| {
        put(v, Path::root("local").attr("token"), "t")
    });
}

#[test]
fn a6_set_elements_that_do_not_correlate() {
    broken(Rule::A6, "names", |v| {
        put(v, Path::root("names"), Value::set_of(["x", "z"]))
    });
    broken(Rule::A6, "names", |v| {
        put(v, Path::root("names"), Value::set_of(["x", "y", "z"]))
    });
    broken(Rule::A6, "member", |v| {
        put(v, Path::root("member"), Value::Set(vec![]))
    });
    let mut plan = planned();
    plan.set(
        "names",
        Value::Set(vec![Value::unknown(), Value::unknown()]),
    );
    let mut actual = applied();
    actual.set("names", Value::set_of(["same"]));
    assert_eq!(
        check(&schema(), &plan, &actual),
        vec![],
        "unknown elements may turn out equal"
    );
    actual.set("names", Value::set_of(["p", "q", "r"]));
    let found = check(&schema(), &plan, &actual);
    assert!(
        found
            .iter()
            .any(|one| one.rule == Rule::A6 && one.message.contains("length")),
        "{found:?}"
    );
}
