//! For each of R1, U1, M1, I1, D1, E1, F1 and ID1: an answer that breaks it is caught.

use serde_json::{Value as Json, json};
use wire::resource_identity_schema::IdentityAttribute;

use super::*;
use crate::check::fixture::schema;
use crate::config::from_json;

fn value(json: &Json) -> Value {
    from_json(&schema(), json).expect("a value of the test schema")
}

/// A function that judges one state.
type Judge = fn(&BlockSchema, &Value) -> Vec<Violation>;

#[test]
fn r1_u1_m1_i1_states_must_be_known_and_without_secrets() {
    let all: [(Rule, Judge); 4] = [
        (Rule::R1, check_read),
        (Rule::U1, check_upgrade),
        (Rule::M1, check_move),
        (Rule::I1, check_import),
    ];
    for (rule, judge) in all {
        let good = value(&json!({"name": "a", "id": "1"}));
        assert_eq!(judge(&schema(), &good), vec![], "{rule}");
        for (bad, path) in [
            (json!({"name": "a", "id": crate::UNKNOWN}), "id"),
            (json!({"name": "a", "secret": "s"}), "secret"),
            (
                json!({"name": "a", "rule": [{"port": crate::UNKNOWN}]}),
                "rule[0].port",
            ),
        ] {
            let found = judge(&schema(), &value(&bad));
            assert!(
                matches!(&found[..], [one] if one.rule == rule && one.path == path),
                "{rule}: {found:?}"
            );
        }
        let gone = judge(&schema(), &Value::Null);
        assert_eq!(
            gone.is_empty(),
            rule == Rule::R1,
            "only a read may answer null: {gone:?}"
        );
    }
}

#[test]
fn i1_importing_what_does_not_exist() {
    assert_eq!(check_import_read(&value(&json!({"name": "a"}))), vec![]);
    let found = check_import_read(&Value::Null);
    assert!(found[0].message.contains("non-existent"), "{found:?}");
}

#[test]
fn d1_e1_results_must_be_known_present_and_repeat_the_configuration() {
    let config = value(&json!({"name": "a", "tags": {"k": "v"}, "limits": [{"kind": "x"}]}));
    let good = json!({"name": "a", "tags": {"k": "v"}, "limits": [{"kind": "x", "used": 1}], "id": "1", "size": 4});
    type Echo = fn(&BlockSchema, &Value, &Value) -> Vec<Violation>;
    let all: [(Rule, Echo); 2] = [(Rule::D1, check_data), (Rule::E1, check_ephemeral)];
    for (rule, judge) in all {
        assert_eq!(judge(&schema(), &config, &value(&good)), vec![], "{rule}");
        assert_eq!(judge(&schema(), &config, &Value::Null)[0].rule, rule);
        for (name, bad) in [
            ("name", json!("b")),
            ("note", json!("made up")),
            ("id", json!(crate::UNKNOWN)),
            ("tags", json!(null)),
            ("limits", json!(null)),
        ] {
            let mut spoiled = good.clone();
            spoiled[name] = bad;
            let found: Vec<Violation> = judge(&schema(), &config, &value(&spoiled));
            assert!(
                found.iter().any(|one| one.rule == rule && one.path == name),
                "{rule} {name}: {found:?}"
            );
        }
    }
}

#[test]
fn f1_functions_must_be_pure_and_answer_something() {
    let arguments = [Value::from(1)];
    assert_eq!(check_function(&arguments, &2.into(), &2.into()), vec![]);
    for (first, second, words) in [
        (Value::from(1), Value::from(2), "not pure"),
        (Value::unknown(), Value::unknown(), "unknown result"),
        (Value::Null, Value::Null, "null result"),
    ] {
        let found = check_function(&arguments, &first, &second);
        assert!(
            matches!(&found[..], [one] if one.rule == Rule::F1 && one.message.contains(words)),
            "{found:?}"
        );
    }
    assert_eq!(
        check_function(&[Value::unknown()], &Value::unknown(), &Value::unknown()),
        vec![]
    );
    assert_eq!(
        check_function(&[Value::Null], &Value::Null, &Value::Null),
        vec![]
    );
}

#[test]
fn id1_identities_are_flat_known_and_for_ever() {
    let attribute = |ty: &str, required: bool, optional: bool| IdentityAttribute {
        name: "id".to_owned(),
        r#type: ty.as_bytes().to_vec(),
        required_for_import: required,
        optional_for_import: optional,
        ..IdentityAttribute::default()
    };
    let judge = |one: IdentityAttribute| {
        check_identity_schema(
            "t",
            &wire::ResourceIdentitySchema {
                version: 0,
                identity_attributes: vec![one],
            },
        )
    };
    assert_eq!(judge(attribute("\"string\"", true, false)), vec![]);
    assert_eq!(
        judge(attribute("[\"list\",\"number\"]", false, true)),
        vec![]
    );
    for bad in [
        attribute("[\"object\",{}]", true, false),
        attribute("[\"list\",[\"list\",\"string\"]]", true, false),
        attribute("\"dynamic\"", true, false),
        attribute("\"string\"", true, true),
        attribute("\"string\"", false, false),
    ] {
        let found = judge(bad.clone());
        assert!(
            matches!(&found[..], [one] if one.rule == Rule::ID1 && one.path == "t.id"),
            "{bad:?}: {found:?}"
        );
    }
    let empty = wire::ResourceIdentitySchema {
        version: -1,
        ..wire::ResourceIdentitySchema::default()
    };
    assert_eq!(check_identity_schema("t", &empty).len(), 2);

    let one = Value::object([("id", "1")]);
    let other = Value::object([("id", "2")]);
    let vague = Value::object([("id", Value::unknown())]);
    assert_eq!(check_identity(None, Some(&one)), vec![]);
    assert_eq!(check_identity(Some(&one), Some(&one)), vec![]);
    assert_eq!(
        check_identity(Some(&vague), Some(&one)),
        vec![],
        "an unknown identity may become known"
    );
    for (before, now, words) in [
        (Some(&one), Some(&other), "changed"),
        (Some(&one), None, "lost"),
        (None, Some(&vague), "unknown"),
        (None, Some(&Value::Null), "null"),
    ] {
        let found = check_identity(before, now);
        assert!(
            matches!(&found[..], [one] if one.rule == Rule::ID1 && one.message.contains(words)),
            "{found:?}"
        );
    }
}
