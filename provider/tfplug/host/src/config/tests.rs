//! Building configurations as HCL does.

use serde_json::json;

use super::*;
use crate::check::fixture::schema;

#[test]
fn what_is_left_out_is_null_and_blocks_are_empty() {
    let value = from_json(&schema(), &json!({"name": "a"})).expect("a configuration");
    assert_eq!(value.get("note"), &Value::Null);
    assert_eq!(
        from_json(&schema(), &Json::Null).expect("an empty block"),
        empty_block(&schema())
    );
    assert_eq!(value.get("rule"), &Value::List(vec![]));
    assert_eq!(value.get("member"), &Value::Set(vec![]));
    assert_eq!(value.get("zone"), &Value::Map(BTreeMap::new()));
    assert_eq!(value.get("local"), &Value::Null);
    let bytes = value
        .to_msgpack(&schema().implied_type())
        .expect("it has every attribute");
    assert_eq!(
        Value::from_msgpack(&bytes, &schema().implied_type()).expect("back"),
        value
    );
}

#[test]
fn values_are_converted_as_hcl_converts() {
    let value = from_json(
        &schema(),
        &json!({"name": 7, "size": "3", "any": {"a": [1]}}),
    )
    .expect("converted");
    assert_eq!(value.get("name"), &Value::from("7"));
    assert_eq!(value.get("size"), &Value::from(3));
    let inner = Type::object([("a", Type::Tuple(vec![Type::Number]))]);
    assert!(matches!(value.get("any"), Value::Dynamic(ty, _) if *ty == inner));
}

#[test]
fn mistakes_are_named() {
    for (json, words) in [
        (json!({"nome": "a"}), "nome"),
        (json!({"name": []}), "string"),
        (json!({"size": "many"}), "size"),
        (json!({"rule": {"port": 1}}), "rule"),
        (json!({"rule": [{"prt": 1}]}), "rule[0].prt"),
        (json!({"limits": [{"x": 1}]}), "limits[0].x"),
    ] {
        let said = from_json(&schema(), &json)
            .expect_err("a mistake")
            .to_string();
        assert!(said.contains(words), "{said}");
    }
}

#[test]
fn a_path_leads_to_something_or_it_does_not() {
    for (path, leads) in [
        (Path::root("name"), true),
        (Path::root("rule").index(3).attr("port"), true),
        (Path::root("zone").key("x").attr("size"), true),
        (Path::root("any").attr("anything"), true),
        (Path::root("rule").attr("port"), false),
        (Path::root("nome"), false),
    ] {
        assert_eq!(schema().has_path(&path), leads, "{path}");
    }
}

#[test]
fn what_terraform_misses_by_itself_is_told() {
    let mut schema = schema();
    if let Some(rule) = schema.blocks.get_mut("rule") {
        (rule.min_items, rule.max_items) = (1, 2);
    }
    let told = |json: serde_json::Value| {
        let value = from_json(&schema, &json).expect("a configuration");
        missing(&schema, &value)
            .into_iter()
            .map(|one| one.path)
            .collect::<Vec<_>>()
    };
    assert_eq!(
        told(json!({"name": "a", "rule": [{"port": 1}]})),
        Vec::<String>::new()
    );
    assert_eq!(told(json!({"rule": [{}]})), ["name", "rule[0].port"]);
    assert_eq!(told(json!({"name": "a"})), ["rule"]);
    let three = json!({"name": "a", "rule": [{"port": 1}, {"port": 2}, {"port": 3}]});
    assert_eq!(told(three), ["rule"]);
    assert_eq!(
        told(json!({"name": crate::UNKNOWN, "rule": crate::UNKNOWN})),
        Vec::<String>::new()
    );
}
