//! R1, U1, M1, I1, D1, E1, F1, ID1: what Terraform asks of every other answer.

use tfplug::proto::tfplugin6 as wire;
use tfplug::{Path, Type, Value};

use crate::check::value::{has_unknown, is_null, is_unknown, member, no_unknown, write_only_null};
use crate::check::{Rule, Violation, apply, child};
use crate::schema::BlockSchema;

/// R1: a refreshed object is known and keeps nothing write-only. Null means that it is gone.
#[must_use]
pub fn check_read(schema: &BlockSchema, read: &Value) -> Vec<Violation> {
    known_state(Rule::R1, schema, read)
}

/// U1: an upgraded state is known and keeps nothing write-only. It is never null: the old state was not.
#[must_use]
pub fn check_upgrade(schema: &BlockSchema, upgraded: &Value) -> Vec<Violation> {
    present(
        Rule::U1,
        schema,
        upgraded,
        "an upgraded state must not be null",
    )
}

/// M1: a moved state is known and keeps nothing write-only, and is there.
#[must_use]
pub fn check_move(schema: &BlockSchema, moved: &Value) -> Vec<Violation> {
    present(Rule::M1, schema, moved, "a moved state must not be null")
}

/// I1: an imported object is known and keeps nothing write-only, and is there.
#[must_use]
pub fn check_import(schema: &BlockSchema, imported: &Value) -> Vec<Violation> {
    present(
        Rule::I1,
        schema,
        imported,
        "an imported object must not be null",
    )
}

/// I1: what was imported can be read.
#[must_use]
pub fn check_import_read(read: &Value) -> Vec<Violation> {
    if is_null(read) {
        vec![Violation::new(
            Rule::I1,
            "",
            "Cannot import non-existent remote object",
        )]
    } else {
        Vec::new()
    }
}

/// D1: a data source's result is there, known, and repeats what was configured.
#[must_use]
pub fn check_data(schema: &BlockSchema, config: &Value, result: &Value) -> Vec<Violation> {
    echoed(Rule::D1, schema, config, result)
}

/// E1: an ephemeral result is there, known, and repeats what was configured.
#[must_use]
pub fn check_ephemeral(schema: &BlockSchema, config: &Value, result: &Value) -> Vec<Violation> {
    echoed(Rule::E1, schema, config, result)
}

/// F1: equal arguments gave equal results, and the result is neither unknown nor null by accident: unknown needs an
/// unknown argument, null a null one.
#[must_use]
pub fn check_function(arguments: &[Value], first: &Value, second: &Value) -> Vec<Violation> {
    let mut found = Vec::new();
    if first != second {
        let message = format!("not pure: {first:?} and then {second:?} for the same arguments");
        found.push(Violation::new(Rule::F1, "", message));
    }
    if has_unknown(first) && !arguments.iter().any(has_unknown) {
        found.push(Violation::new(
            Rule::F1,
            "",
            "an unknown result though every argument is known",
        ));
    }
    if is_null(first) && !arguments.iter().any(|one| is_null(one) || is_unknown(one)) {
        found.push(Violation::new(
            Rule::F1,
            "",
            "a null result though no argument is null",
        ));
    }
    found
}

/// ID1: an identity schema is flat, of primitive types and lists of them, and every attribute matters for import.
#[must_use]
pub fn check_identity_schema(
    type_name: &str,
    schema: &wire::ResourceIdentitySchema,
) -> Vec<Violation> {
    let mut found = Vec::new();
    if schema.version < 0 {
        found.push(Violation::new(
            Rule::ID1,
            type_name,
            "the identity schema's version is negative",
        ));
    }
    if schema.identity_attributes.is_empty() {
        found.push(Violation::new(
            Rule::ID1,
            type_name,
            "the identity schema has no attributes",
        ));
    }
    for one in &schema.identity_attributes {
        let path = child(type_name, &one.name);
        let primitive = |ty: &Type| matches!(ty, Type::Bool | Type::Number | Type::String);
        let flat = match Type::from_json_bytes(&one.r#type) {
            Ok(Type::List(element)) => primitive(&element),
            Ok(ty) => primitive(&ty),
            Err(_) => false,
        };
        if !flat {
            found.push(Violation::new(
                Rule::ID1,
                &path,
                "the type is neither primitive nor a list of primitives",
            ));
        }
        if one.required_for_import == one.optional_for_import {
            found.push(Violation::new(
                Rule::ID1,
                &path,
                "exactly one of required and optional for import",
            ));
        }
    }
    found
}

/// ID1: an identity is there, known, and the same as before unless `before` had none.
#[must_use]
pub fn check_identity(before: Option<&Value>, now: Option<&Value>) -> Vec<Violation> {
    let mut found = Vec::new();
    match (before, now) {
        (Some(_), None) => found.push(Violation::new(Rule::ID1, "", "the identity is lost")),
        (Some(before), Some(now)) if before != now && !has_unknown(before) => {
            let message = format!("the identity changed from {before:?} to {now:?}");
            found.push(Violation::new(Rule::ID1, "", message));
        }
        _ => {}
    }
    if let Some(now) = now {
        if is_null(now) {
            found.push(Violation::new(Rule::ID1, "", "the identity is null"));
        }
        found.extend(no_unknown(Rule::ID1, now));
    }
    found
}

fn known_state(rule: Rule, schema: &BlockSchema, value: &Value) -> Vec<Violation> {
    let mut found = no_unknown(rule, value);
    found.extend(write_only_null(rule, schema, value));
    found
}

fn present(rule: Rule, schema: &BlockSchema, value: &Value, absent: &str) -> Vec<Violation> {
    if is_null(value) {
        vec![Violation::new(rule, "", absent)]
    } else {
        known_state(rule, schema, value)
    }
}

fn echoed(rule: Rule, schema: &BlockSchema, config: &Value, result: &Value) -> Vec<Violation> {
    if is_null(result) {
        return vec![Violation::new(rule, "", "the result must not be null")];
    }
    let mut found = no_unknown(rule, result);
    for (name, attribute) in schema
        .attributes
        .iter()
        .filter(|(_, one)| one.configurable())
    {
        let (configured, result) = (member(config, name), member(result, name));
        if is_null(configured) && attribute.computed || attribute.write_only {
            continue;
        }
        let mut wrong = Vec::new();
        if matches!(attribute.kind, crate::schema::AttributeKind::Plain(_)) {
            apply::value(configured, result, &Path::root(name), &mut wrong);
        } else if is_null(configured) != is_null(result) {
            wrong.push(Violation::new(
                rule,
                name,
                "present though not configured, or absent though configured",
            ));
        }
        found.extend(wrong.into_iter().map(|one| Violation { rule, ..one }));
    }
    found
}

#[cfg(test)]
mod tests;
