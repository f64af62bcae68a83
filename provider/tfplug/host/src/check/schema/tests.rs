//! One unsound schema per rule of S1.

use super::*;
use wire::schema::{Attribute, Block, NestedBlock, Object, nested_block, object};

fn attribute(name: &str) -> Attribute {
    Attribute {
        name: name.to_owned(),
        r#type: b"\"string\"".to_vec(),
        description: "What it is.".to_owned(),
        optional: true,
        ..Attribute::default()
    }
}

fn nested(name: &str, mode: nested_block::NestingMode, attributes: Vec<Attribute>) -> NestedBlock {
    NestedBlock {
        type_name: name.to_owned(),
        nesting: mode as i32,
        block: Some(block(attributes, vec![])),
        ..NestedBlock::default()
    }
}

fn block(attributes: Vec<Attribute>, block_types: Vec<NestedBlock>) -> Block {
    Block {
        attributes,
        block_types,
        description: "A thing.".to_owned(),
        ..Block::default()
    }
}

fn of(block: Block) -> Vec<Violation> {
    let mut found = Vec::new();
    check(
        &wire::Schema {
            version: 0,
            block: Some(block),
        },
        "",
        &RESERVED_IN_RESOURCE,
        &mut found,
    );
    found
}

#[track_caller]
fn caught(block: Block, path: &str, words: &str) {
    let found = of(block);
    assert!(
        found
            .iter()
            .any(|one| one.path == path && one.message.contains(words)),
        "nothing about {words:?} at {path:?} in {found:?}"
    );
}

#[test]
fn a_sound_schema_has_no_violation() {
    use nested_block::NestingMode::{List, Map, Set, Single};
    let blocks = [("a", Single), ("b", List), ("c", Set), ("d", Map)]
        .map(|(name, mode)| nested(name, mode, vec![attribute("x")]));
    assert_eq!(
        of(block(
            vec![attribute("name"), attribute("_x1")],
            blocks.to_vec()
        )),
        vec![]
    );
}

#[test]
fn s1_catches_every_unsound_attribute() {
    type Spoil = fn(&mut Attribute);
    let bad: [(Spoil, &str); 14] = [
        (|a| a.optional = false, "none of"),
        (|a| a.required = true, "both required and optional"),
        (
            |a| (a.required, a.optional, a.computed) = (true, false, true),
            "both required and computed",
        ),
        (
            |a| (a.write_only, a.computed) = (true, true),
            "write-only and computed",
        ),
        (
            |a| (a.write_only, a.optional, a.computed) = (true, false, true),
            "neither required nor optional",
        ),
        (|a| a.r#type = Vec::new(), "neither a type"),
        (|a| a.nested_type = Some(Object::default()), "both a type"),
        (|a| a.r#type = b"[".to_vec(), "not JSON"),
        (|a| a.r#type = b"\"int\"".to_vec(), "not a cty type"),
        (|a| a.r#type = b"[\"list\"]".to_vec(), "not a cty type"),
        (
            |a| a.r#type = b"[\"set\",\"dynamic\"]".to_vec(),
            "dynamic type inside a set",
        ),
        (|a| a.description = " ".to_owned(), "no description"),
        (
            |a| (a.r#type, a.nested_type) = (Vec::new(), Some(Object::default())),
            "nesting mode",
        ),
        (
            |a| {
                let mut inner = attribute("inner");
                inner.write_only = true;
                a.r#type = Vec::new();
                a.nested_type = Some(Object {
                    attributes: vec![inner],
                    nesting: object::NestingMode::Set as i32,
                    ..Object::default()
                });
            },
            "write-only attribute inside a set",
        ),
    ];
    for (spoil, words) in bad {
        let mut one = attribute("x");
        spoil(&mut one);
        let found = of(block(vec![one], vec![]));
        assert!(
            found
                .iter()
                .any(|v| v.message.contains(words) && v.path.starts_with('x')),
            "{words}: {found:?}"
        );
    }
}

#[test]
fn s1_catches_bad_and_reserved_names() {
    for name in ["Name", "1st", "a-b", "", "é"] {
        caught(block(vec![attribute(name)], vec![]), name, "lower case");
    }
    for name in RESERVED_IN_RESOURCE {
        caught(block(vec![attribute(name)], vec![]), name, "reserved");
        caught(
            block(
                vec![],
                vec![nested(name, nested_block::NestingMode::List, vec![])],
            ),
            name,
            "reserved",
        );
    }
    caught(
        block(vec![attribute("x"), attribute("x")], vec![]),
        "x",
        "two attributes",
    );
    caught(
        block(
            vec![attribute("x")],
            vec![nested("x", nested_block::NestingMode::List, vec![])],
        ),
        "x",
        "both an attribute and a block",
    );
}

#[test]
fn s1_catches_bad_block_counts() {
    use nested_block::NestingMode::{Group, List, Map, Set, Single};
    for (mode, min, max, words) in [
        (Single, 0, 1, "both be 0 or both be 1"),
        (Single, 2, 2, "both be 0 or both be 1"),
        (Group, 1, 1, "both be 0"),
        (Map, 0, 1, "both be 0"),
        (List, 3, 2, "greater than"),
        (Set, -1, 0, "negative"),
    ] {
        let mut one = nested("b", mode, vec![]);
        (one.min_items, one.max_items) = (min, max);
        caught(block(vec![], vec![one]), "b", words);
    }
    caught(
        block(
            vec![],
            vec![nested("b", nested_block::NestingMode::Invalid, vec![])],
        ),
        "b",
        "nesting mode",
    );
    let mut secret = attribute("secret");
    secret.write_only = true;
    caught(
        block(vec![], vec![nested("b", Set, vec![secret])]),
        "b.secret",
        "inside a set",
    );
    let mut any = attribute("any");
    any.r#type = b"\"dynamic\"".to_vec();
    caught(
        block(vec![], vec![nested("b", Set, vec![any])]),
        "b.any",
        "dynamic",
    );
}

#[test]
fn s1_catches_bad_versions_provider_words_and_functions() {
    let mut response = Response {
        provider: Some(wire::Schema {
            version: 0,
            block: Some(block(vec![attribute("alias")], vec![])),
        }),
        ..Response::default()
    };
    response.resource_schemas.insert(
        "Bad".to_owned(),
        wire::Schema {
            version: -1,
            block: Some(block(vec![], vec![])),
        },
    );
    response
        .functions
        .insert("f".to_owned(), wire::Function::default());
    let found = check_all(&response);
    for (path, words) in [
        ("provider.alias", "reserved"),
        ("resource.Bad", "type name"),
        ("resource.Bad", "negative"),
        ("function.f", "no summary"),
        ("function.f", "no return type"),
    ] {
        assert!(
            found
                .iter()
                .any(|v| v.path == path && v.message.contains(words)),
            "{path} {words}: {found:?}"
        );
    }
}
