//! S1: what Terraform's `InternalValidate` and the language's reserved words ask of a schema; DOC: that it is described.

use std::collections::BTreeSet;

use serde_json::Value as Json;
use tfplug::proto::tfplugin6::{self as wire, get_provider_schema::Response};

use crate::check::{Rule, Violation, child};

/// Names that the Terraform language takes for itself inside a resource or data block.
pub const RESERVED_IN_RESOURCE: [&str; 7] = [
    "connection",
    "count",
    "depends_on",
    "for_each",
    "lifecycle",
    "provider",
    "provisioner",
];
/// Names that the Terraform language takes for itself inside a provider block.
pub const RESERVED_IN_PROVIDER: [&str; 2] = ["alias", "version"];

/// Checks everything a provider declares. An empty answer means Terraform accepts it and its documentation is complete.
#[must_use]
pub fn check_all(schema: &Response) -> Vec<Violation> {
    let mut found = Vec::new();
    if let Some(provider) = &schema.provider {
        check(provider, "provider", &RESERVED_IN_PROVIDER, &mut found);
    }
    for (kind, map) in [
        ("resource", &schema.resource_schemas),
        ("data", &schema.data_source_schemas),
        ("ephemeral", &schema.ephemeral_resource_schemas),
    ] {
        for (name, one) in map {
            let path = format!("{kind}.{name}");
            if !is_name(name) {
                found.push(s1(&path, "a type name is lower case letters, digits and underscores, not starting with a digit"));
            }
            check(one, &path, &RESERVED_IN_RESOURCE, &mut found);
        }
    }
    for (name, function) in &schema.functions {
        check_function(name, function, &mut found);
    }
    found
}

/// Checks one schema; `path` is put before every attribute's path, `reserved` are the names of its outermost level.
pub fn check(schema: &wire::Schema, path: &str, reserved: &[&str], found: &mut Vec<Violation>) {
    if schema.version < 0 {
        found.push(s1(
            path,
            format!("schema version {} is negative", schema.version),
        ));
    }
    let Some(block) = &schema.block else {
        found.push(s1(path, "the schema has no block"));
        return;
    };
    check_block(block, path, found);
    let names = block
        .attributes
        .iter()
        // What the provider alone sets is never written, so the language cannot take it for its own.
        .filter(|one| one.required || one.optional)
        .map(|one| &one.name)
        .chain(block.block_types.iter().map(|one| &one.type_name));
    for name in names.filter(|name| reserved.contains(&name.as_str())) {
        found.push(s1(
            &child(path, name),
            "the name is reserved by the Terraform language",
        ));
    }
}

fn s1(path: &str, message: impl Into<String>) -> Violation {
    Violation::new(Rule::S1, path, message)
}

fn doc(path: &str) -> Violation {
    Violation::new(Rule::DOC, path, "no description")
}

fn is_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes
        .next()
        .is_some_and(|first| first == b'_' || first.is_ascii_lowercase())
        && bytes.all(|byte| byte == b'_' || byte.is_ascii_lowercase() || byte.is_ascii_digit())
}

fn check_block(block: &wire::schema::Block, path: &str, found: &mut Vec<Violation>) {
    if block.description.trim().is_empty() {
        found.push(doc(path));
    }
    let mut seen = BTreeSet::new();
    for attribute in &block.attributes {
        let path = child(path, &attribute.name);
        if !seen.insert(attribute.name.as_str()) {
            found.push(s1(&path, "two attributes have this name"));
        }
        check_attribute(attribute, &path, found);
    }
    for nested in &block.block_types {
        let path = child(path, &nested.type_name);
        if !seen.insert(nested.type_name.as_str()) {
            found.push(s1(
                &path,
                "the name is both an attribute and a block, or two blocks",
            ));
        }
        if !is_name(&nested.type_name) {
            found.push(s1(&path, "a block name is lower case letters, digits and underscores, not starting with a digit"));
        }
        check_nested(nested, &path, found);
    }
}

fn check_nested(nested: &wire::schema::NestedBlock, path: &str, found: &mut Vec<Violation>) {
    use wire::schema::nested_block::NestingMode;
    let (min, max) = (nested.min_items, nested.max_items);
    if min < 0 || max < 0 {
        found.push(s1(path, "min_items and max_items must not be negative"));
    }
    match NestingMode::try_from(nested.nesting) {
        Ok(NestingMode::Single) => {
            if min != max || !(0..=1).contains(&min) {
                found.push(s1(path, format!("min_items {min} and max_items {max} must both be 0 or both be 1 in a single block")));
            }
        }
        Ok(NestingMode::Group | NestingMode::Map) => {
            if min != 0 || max != 0 {
                found.push(s1(
                    path,
                    "min_items and max_items must both be 0 in group and map blocks",
                ));
            }
        }
        Ok(NestingMode::List | NestingMode::Set) => {
            if max != 0 && min > max {
                found.push(s1(
                    path,
                    format!("min_items {min} is greater than max_items {max}"),
                ));
            }
        }
        _ => found.push(s1(
            path,
            format!("nesting mode {} does not exist", nested.nesting),
        )),
    }
    let Some(block) = &nested.block else {
        found.push(s1(path, "the nested block has no content"));
        return;
    };
    if nested.nesting == NestingMode::Set as i32 {
        check_inside_set(block_attributes(block), path, found);
    }
    check_block(block, path, found);
}

/// Every attribute of a block and of the blocks in it.
fn block_attributes(block: &wire::schema::Block) -> Vec<&wire::schema::Attribute> {
    let mut all: Vec<_> = block.attributes.iter().collect();
    for nested in block
        .block_types
        .iter()
        .filter_map(|nested| nested.block.as_ref())
    {
        all.extend(block_attributes(nested));
    }
    all
}

/// Elements of sets are hashed, so their type must be exact and their values kept.
fn check_inside_set(
    attributes: Vec<&wire::schema::Attribute>,
    path: &str,
    found: &mut Vec<Violation>,
) {
    for attribute in attributes {
        if attribute.write_only {
            found.push(s1(
                &child(path, &attribute.name),
                "a write-only attribute inside a set",
            ));
        }
        if json_type(&attribute.r#type).is_some_and(|ty| has_dynamic(&ty)) {
            found.push(s1(
                &child(path, &attribute.name),
                "a dynamic type inside a set",
            ));
        }
        if let Some(object) = &attribute.nested_type {
            check_inside_set(
                object.attributes.iter().collect(),
                &child(path, &attribute.name),
                found,
            );
        }
    }
}

fn check_attribute(attribute: &wire::schema::Attribute, path: &str, found: &mut Vec<Violation>) {
    if !is_name(&attribute.name) {
        found.push(s1(path, "an attribute name is lower case letters, digits and underscores, not starting with a digit"));
    }
    if attribute.description.trim().is_empty() {
        found.push(doc(path));
    }
    check_flags(attribute, path, found);
    match (&attribute.nested_type, attribute.r#type.is_empty()) {
        (None, true) => found.push(s1(path, "neither a type nor nested attributes")),
        (Some(_), false) => found.push(s1(path, "both a type and nested attributes")),
        (None, false) => check_type(&attribute.r#type, path, found),
        (Some(object), true) => check_object(object, path, found),
    }
}

fn check_flags(attribute: &wire::schema::Attribute, path: &str, found: &mut Vec<Violation>) {
    let wire::schema::Attribute {
        required,
        optional,
        computed,
        write_only,
        ..
    } = *attribute;
    if !(required || optional || computed) {
        found.push(s1(path, "none of required, optional and computed"));
    }
    if required && optional {
        found.push(s1(path, "both required and optional"));
    }
    if required && computed {
        found.push(s1(path, "both required and computed"));
    }
    if write_only && computed {
        found.push(s1(path, "both write-only and computed"));
    }
    if write_only && !(required || optional) {
        found.push(s1(path, "write-only but neither required nor optional"));
    }
}

fn check_object(object: &wire::schema::Object, path: &str, found: &mut Vec<Violation>) {
    use wire::schema::object::NestingMode;
    match NestingMode::try_from(object.nesting) {
        Ok(NestingMode::Invalid) | Err(_) => {
            found.push(s1(
                path,
                format!("nesting mode {} does not exist", object.nesting),
            ));
        }
        Ok(NestingMode::Set) => check_inside_set(object.attributes.iter().collect(), path, found),
        Ok(_) => {}
    }
    let mut seen = BTreeSet::new();
    for attribute in &object.attributes {
        let path = child(path, &attribute.name);
        if !seen.insert(attribute.name.as_str()) {
            found.push(s1(&path, "two attributes have this name"));
        }
        check_attribute(attribute, &path, found);
    }
}

fn check_type(bytes: &[u8], path: &str, found: &mut Vec<Violation>) {
    match json_type(bytes) {
        None => found.push(s1(path, "the type is not JSON")),
        Some(ty) => {
            if let Err(reason) = sound_type(&ty) {
                found.push(s1(path, reason));
            }
        }
    }
}

fn json_type(bytes: &[u8]) -> Option<Json> {
    serde_json::from_slice(bytes).ok()
}

fn has_dynamic(ty: &Json) -> bool {
    match ty {
        Json::String(name) => name == "dynamic",
        Json::Array(parts) => parts.iter().skip(1).any(has_dynamic),
        Json::Object(members) => members.values().any(has_dynamic),
        _ => false,
    }
}

/// Whether this is the JSON of a cty type, without a set that cannot be hashed.
fn sound_type(ty: &Json) -> Result<(), String> {
    match ty {
        Json::String(name) if ["string", "number", "bool", "dynamic"].contains(&name.as_str()) => {
            Ok(())
        }
        Json::Array(parts) => match (parts.first().and_then(Json::as_str), parts.get(1)) {
            (Some("set"), Some(element)) if has_dynamic(element) => {
                Err("a dynamic type inside a set".to_owned())
            }
            (Some("list" | "set" | "map"), Some(element)) => sound_type(element),
            (Some("object"), Some(Json::Object(members))) => {
                members.values().try_for_each(sound_type)
            }
            (Some("tuple"), Some(Json::Array(elements))) => {
                elements.iter().try_for_each(sound_type)
            }
            _ => Err(format!("{ty} is not a cty type")),
        },
        _ => Err(format!("{ty} is not a cty type")),
    }
}

fn check_function(name: &str, function: &wire::Function, found: &mut Vec<Violation>) {
    let path = format!("function.{name}");
    if !is_name(name) {
        found.push(s1(&path, "a function name is lower case letters, digits and underscores, not starting with a digit"));
    }
    if function.summary.trim().is_empty() {
        found.push(Violation::new(Rule::DOC, &path, "no summary"));
    }
    if function.description.trim().is_empty() {
        found.push(doc(&path));
    }
    match &function.r#return {
        Some(result) => check_type(&result.r#type, &path, found),
        None => found.push(s1(&path, "no return type")),
    }
    let mut seen = BTreeSet::new();
    for parameter in function
        .parameters
        .iter()
        .chain(&function.variadic_parameter)
    {
        let path = child(&path, &parameter.name);
        if !is_name(&parameter.name) || !seen.insert(parameter.name.as_str()) {
            found.push(s1(&path, "the parameter's name is malformed or used twice"));
        }
        if parameter.description.trim().is_empty() {
            found.push(doc(&path));
        }
        check_type(&parameter.r#type, &path, found);
    }
}

#[cfg(test)]
mod tests;
