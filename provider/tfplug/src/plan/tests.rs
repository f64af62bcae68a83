use super::*;
use crate::path::Path;
use crate::schema::{Attribute, Block, exactly_one_of, validators};
use crate::value::Type;

fn schema() -> Schema {
    Schema::new(0)
        .attribute(Attribute::string("name").required().requires_replace())
        .attribute(Attribute::int64("size").optional().computed())
        .attribute(Attribute::string("id").computed().use_state_for_unknown())
        .attribute(Attribute::string("status").computed())
        .attribute(Attribute::string("mode").optional().default("drain"))
        .attribute(Attribute::string("secret").optional().write_only())
        .block(Block::list(
            "rule",
            [
                Attribute::int64("port").required(),
                Attribute::string("rule_id").computed(),
                Attribute::string("proto").optional().default("tcp"),
            ],
        ))
}

fn object(entries: &[(&str, Value)]) -> Value {
    let mut object = schema().empty_value();
    for (name, value) in entries {
        object.set(name, value.clone());
    }
    object
}

fn stored() -> Value {
    object(&[
        ("name", "a".into()),
        ("size", 3.into()),
        ("id", "i-1".into()),
        ("status", "ready".into()),
        ("mode", "drain".into()),
    ])
}

#[test]
fn a_new_object_has_its_defaults_and_its_computed_values_are_unknown() {
    let config = object(&[("name", "a".into()), ("secret", "s3".into())]);
    let plan = propose(&schema(), &config, &Value::Null, config.clone());
    let expected = object(&[
        ("name", "a".into()),
        ("size", Value::unknown()),
        ("id", Value::unknown()),
        ("status", Value::unknown()),
        ("mode", "drain".into()),
    ]);
    assert_eq!(plan, expected);
    assert_eq!(
        propose(&schema(), &config, &Value::Null, config.clone()),
        plan
    );
}

#[test]
fn without_a_change_nothing_is_unknown_even_after_the_size_drifted() {
    let config = object(&[("name", "a".into())]);
    let drifted = stored().with("size", 999);
    assert_eq!(
        propose(&schema(), &config, &drifted, drifted.clone()),
        drifted
    );
}

#[test]
fn a_change_makes_computed_values_unknown_except_those_that_stay() {
    let config = object(&[("name", "a".into()), ("mode", "kill".into())]);
    let plan = propose(&schema(), &config, &stored(), stored().with("mode", "kill"));
    assert_eq!(plan.get("id"), &Value::from("i-1"));
    assert!(plan.get("status").is_unknown());
    assert!(plan.get("size").is_unknown());
    assert!(replacements(&schema(), &config, &stored(), &plan).is_empty());
}

#[test]
fn a_removed_value_goes_back_to_its_default() {
    let config = object(&[("name", "a".into())]);
    let prior = stored().with("mode", "kill");
    assert_eq!(
        propose(&schema(), &config, &prior, prior.clone()).get("mode"),
        &Value::from("drain")
    );
}

#[test]
fn a_change_of_a_replacing_attribute_replaces() {
    let config = object(&[("name", "b".into())]);
    let plan = propose(&schema(), &config, &stored(), stored().with("name", "b"));
    assert_eq!(
        replacements(&schema(), &config, &stored(), &plan),
        vec![Path::root("name")]
    );
    assert!(replacements(&schema(), &config, &Value::Null, &plan).is_empty());
}

#[test]
fn the_same_text_in_another_normal_form_is_no_change() {
    let prior = stored().with("name", "cafe\u{301}");
    let config = object(&[("name", "caf\u{e9}".into())]);
    let plan = propose(
        &schema(),
        &config,
        &prior,
        prior.clone().with("name", "caf\u{e9}"),
    );
    assert!(!plan.get("status").is_unknown());
    assert!(replacements(&schema(), &config, &prior, &plan).is_empty());
}

#[test]
fn blocks_get_defaults_and_unknowns_inside() {
    let rule = |port: i32, id: Value, proto: Value| {
        Value::object([("port", port.into()), ("rule_id", id), ("proto", proto)])
    };
    let config = object(&[
        ("name", "a".into()),
        ("rule", Value::list([rule(80, Value::Null, Value::Null)])),
    ]);
    let plan = propose(&schema(), &config, &Value::Null, config.clone());
    assert_eq!(
        plan.get("rule").elements(),
        [rule(80, Value::unknown(), "tcp".into())]
    );
}

#[test]
fn elements_of_sets_find_their_configuration() {
    let schema = Schema::new(0).attribute(
        Attribute::nested_set(
            "d",
            [
                Attribute::string("n").required(),
                Attribute::string("id").computed().use_state_for_unknown(),
            ],
        )
        .optional(),
    );
    let element = |n: &str, id: Value| Value::object([("n", n.into()), ("id", id)]);
    let set = |elements: Vec<Value>| Value::object([("d", Value::Set(elements))]);
    let prior = set(vec![element("a", "1".into()), element("b", "2".into())]);
    let config = set(vec![element("c", Value::Null), element("b", Value::Null)]);
    let proposed = set(vec![element("b", "2".into()), element("c", Value::Null)]);
    let plan = propose(&schema, &config, &prior, proposed);
    assert_eq!(
        plan,
        set(vec![
            element("b", "2".into()),
            element("c", Value::unknown())
        ])
    );
}

#[test]
fn replacement_rules_see_both_values_and_paths_stop_at_sets() {
    let shrinks = Attribute::int64("disk")
        .optional()
        .requires_replace_if(|c| c.planned.as_i64() < c.prior.as_i64());
    let set = Attribute::nested_set("s", [Attribute::string("z").optional().requires_replace()])
        .optional();
    let list = Attribute::nested_list("l", [Attribute::string("z").optional().requires_replace()])
        .optional();
    let schema = Schema::new(0).attributes([shrinks, set, list]);
    let object = |disk: i32, z: &str| {
        let z = || Value::object([("z", z)]);
        Value::object([
            ("disk", disk.into()),
            ("s", Value::Set(vec![z()])),
            ("l", Value::List(vec![z()])),
        ])
    };
    let paths = |prior: Value, planned: Value| replacements(&schema, &planned, &prior, &planned);
    assert_eq!(paths(object(10, "a"), object(20, "a")), vec![]);
    assert_eq!(
        paths(object(10, "a"), object(5, "a")),
        vec![Path::root("disk")]
    );
    assert_eq!(
        paths(object(1, "a"), object(1, "b")),
        vec![Path::root("s"), Path::root("l").index(0).attr("z")]
    );
}

#[test]
fn defaults_may_follow_from_the_rest_of_the_configuration() {
    let schema = Schema::new(0)
        .attribute(Attribute::string("name").required())
        .attribute(
            Attribute::string("label")
                .optional()
                .default_with(|config| match config.get("name") {
                    Value::String(name) => format!("{name}-label").into(),
                    other => other.clone(),
                }),
        );
    let config = |name: Value| Value::object([("name", name), ("label", Value::Null)]);
    let plan = |c: Value| {
        propose(&schema, &c, &Value::Null, c.clone())
            .get("label")
            .clone()
    };
    assert_eq!(plan(config("x".into())), Value::from("x-label"));
    assert!(plan(config(Value::unknown())).is_unknown());
}

#[test]
fn write_only_values_are_nulled_at_every_depth() {
    let secret = || Attribute::string("s").optional().write_only();
    let schema = Schema::new(0)
        .attribute(Attribute::nested_map("m", [secret()]).optional())
        .block(Block::single("b", [secret()]).block(Block::list("c", [secret()])));
    let inner = |s: Value| Value::object([("s", s)]);
    let object = |s: Value| {
        let b = inner(s.clone()).with("c", Value::List(vec![inner(s.clone())]));
        Value::object([("m", Value::map([("k", inner(s))])), ("b", b)])
    };
    let mut value = object("secret".into());
    null_write_only(schema.attribute_list(), schema.block_list(), &mut value);
    assert_eq!(value, object(Value::Null));
    assert_eq!(
        validate_write_only(&schema, &object("secret".into())).len(),
        3
    );
}

#[test]
fn each_bad_value_gives_one_problem_at_its_path() {
    let port = || {
        Attribute::int64("port")
            .optional()
            .validate(validators::between(1, 65_535))
    };
    let tags = Attribute::list("tags", Type::String)
        .optional()
        .validate(validators::each(validators::length(1..=3)));
    let schema = Schema::new(0)
        .attributes([
            port(),
            tags,
            Attribute::nested_set("s", [port()]).optional(),
        ])
        .block(Block::list("rule", [port()]))
        .validate(exactly_one_of(["port", "tags"]));
    let ports = |v: Value| Value::object([("port", v)]);
    let config = Value::object([
        ("port", Value::Number("1.5".parse().expect("a number"))),
        (
            "tags",
            Value::list([Value::from("ok"), Value::unknown(), Value::from("long")]),
        ),
        ("s", Value::Set(vec![ports(0.into())])),
        (
            "rule",
            Value::List(vec![
                ports(80.into()),
                ports(70_000.into()),
                ports(Value::unknown()),
            ]),
        ),
    ]);
    let found = validate(&schema, &config);
    let paths: Vec<String> = found
        .iter()
        .map(|d| d.path.clone().unwrap_or_default().to_string())
        .collect();
    assert_eq!(paths, ["port", "tags[2]", "s", "rule[1].port", "tags"]);
}
