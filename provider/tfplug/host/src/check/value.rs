//! Looking into values without caring how they are held.

use std::collections::BTreeMap;

use tfplug::{Path, Value};

use crate::check::{Rule, Violation};
use crate::schema::{AttributeKind, AttributeSchema, BlockSchema, Nesting};

static NULL: Value = Value::Null;

/// Whether the value is null.
pub(crate) fn is_null(value: &Value) -> bool {
    matches!(value, Value::Null)
}

/// Whether the value itself is unknown; its parts may be even if it is not.
pub(crate) fn is_unknown(value: &Value) -> bool {
    matches!(value, Value::Unknown(..))
}

/// The elements of a list, set or tuple; none for everything else.
pub(crate) fn elements(value: &Value) -> &[Value] {
    match value {
        Value::List(all) | Value::Set(all) | Value::Tuple(all) => all,
        _ => &[],
    }
}

/// The members of an object or map.
pub(crate) fn members(value: &Value) -> Option<&BTreeMap<String, Value>> {
    match value {
        Value::Object(all) | Value::Map(all) => Some(all),
        _ => None,
    }
}

/// The member of this name; null where the value has none, as null objects have none.
pub(crate) fn member<'v>(value: &'v Value, name: &str) -> &'v Value {
    members(value)
        .and_then(|all| all.get(name))
        .unwrap_or(&NULL)
}

/// Whether two values are the same to Terraform: sets without order or duplicates, every unknown alike.
#[must_use]
pub fn same(a: &Value, b: &Value) -> bool {
    a == b
}

/// Why `actual` cannot be what the unknown `planned` promised; `None` when it can.
pub(crate) fn outside_refinement(planned: &Value, actual: &Value) -> Option<String> {
    let Value::Unknown(Some(promise)) = planned else {
        return None;
    };
    if is_unknown(actual) {
        return None;
    }
    if promise.not_null && is_null(actual) {
        return Some("it was promised not to be null".to_owned());
    }
    if let (Some(prefix), Some(text)) = (&promise.prefix, actual.as_str())
        && !text.starts_with(prefix.as_str())
    {
        return Some(format!("it was promised to start with {prefix:?}"));
    }
    if let Some(number) = actual.as_number() {
        let low = promise
            .min
            .as_ref()
            .is_some_and(|(min, equal)| number < min || (number == min && !equal));
        let high = promise
            .max
            .as_ref()
            .is_some_and(|(max, equal)| number > max || (number == max && !equal));
        if low || high {
            return Some(format!(
                "it was promised to be between {:?} and {:?}",
                promise.min, promise.max
            ));
        }
    }
    let count = match actual {
        Value::List(all) | Value::Set(all) => all.len() as u64,
        Value::Map(all) => all.len() as u64,
        _ => return None,
    };
    let few = promise.min_len.is_some_and(|min| count < min);
    let many = promise.max_len.is_some_and(|max| count > max);
    (few || many).then(|| {
        format!(
            "it was promised to have {:?} to {:?} elements",
            promise.min_len, promise.max_len
        )
    })
}

/// Whether something unknown stands anywhere in the value.
#[must_use]
pub fn has_unknown(value: &Value) -> bool {
    is_unknown(value)
        || elements(value).iter().any(has_unknown)
        || members(value).is_some_and(|all| all.values().any(has_unknown))
        || matches!(value, Value::Dynamic(_, inner) if has_unknown(inner))
}

/// Every unknown part of `value` as a violation of `rule`.
#[must_use]
pub fn no_unknown(rule: Rule, value: &Value) -> Vec<Violation> {
    let mut found = Vec::new();
    walk_unknown(rule, value, &Path::empty(), &mut found);
    found
}

fn walk_unknown(rule: Rule, value: &Value, path: &Path, found: &mut Vec<Violation>) {
    if is_unknown(value) {
        found.push(Violation::new(
            rule,
            path.to_string(),
            "unknown, where everything must be known",
        ));
    }
    if let Value::Dynamic(_, inner) = value {
        walk_unknown(rule, inner, path, found);
    }
    for (place, element) in elements(value).iter().enumerate() {
        // The protocol cannot point into a set.
        let path = if matches!(value, Value::Set(_)) {
            path.clone()
        } else {
            path.index(place)
        };
        walk_unknown(rule, element, &path, found);
    }
    for (name, member) in members(value).into_iter().flatten() {
        let path = if matches!(value, Value::Map(_)) {
            path.key(name)
        } else {
            path.attr(name)
        };
        walk_unknown(rule, member, &path, found);
    }
}

/// Every write-only attribute of `value` that is not null, as a violation of `rule` (P8, A5, R1).
#[must_use]
pub fn write_only_null(rule: Rule, schema: &BlockSchema, value: &Value) -> Vec<Violation> {
    let mut found = Vec::new();
    each_attribute(
        schema,
        value,
        &Path::empty(),
        &mut |attribute, value, path| {
            if attribute.write_only && !is_null(value) {
                found.push(Violation::new(
                    rule,
                    path.to_string(),
                    "a value for a write-only attribute, which must be null",
                ));
            }
        },
    );
    found
}

/// Calls `visit` for every attribute of every object in `value`, nested ones included.
pub(crate) fn each_attribute(
    schema: &BlockSchema,
    value: &Value,
    path: &Path,
    visit: &mut dyn FnMut(&AttributeSchema, &Value, &Path),
) {
    if members(value).is_none() {
        return;
    }
    visit_attributes(&schema.attributes, value, path, visit);
    for (name, nested) in &schema.blocks {
        for (path, value) in nested_objects(nested.nesting, member(value, name), &path.attr(name)) {
            each_attribute(&nested.block, value, &path, visit);
        }
    }
}

fn visit_attributes(
    attributes: &BTreeMap<String, AttributeSchema>,
    value: &Value,
    path: &Path,
    visit: &mut dyn FnMut(&AttributeSchema, &Value, &Path),
) {
    for (name, attribute) in attributes {
        let (value, path) = (member(value, name), path.attr(name));
        visit(attribute, value, &path);
        if let AttributeKind::Nested {
            nesting,
            attributes,
        } = &attribute.kind
        {
            for (path, value) in nested_objects(*nesting, value, &path) {
                visit_attributes(attributes, value, &path, visit);
            }
        }
    }
}

/// The known, non-null objects held in a nested block or attribute, each with its path.
pub(crate) fn nested_objects<'v>(
    nesting: Nesting,
    value: &'v Value,
    path: &Path,
) -> Vec<(Path, &'v Value)> {
    let all: Vec<_> = match nesting {
        Nesting::Single | Nesting::Group => vec![(path.clone(), value)],
        Nesting::List => elements(value)
            .iter()
            .enumerate()
            .map(|(i, one)| (path.index(i), one))
            .collect(),
        Nesting::Set => elements(value)
            .iter()
            .map(|one| (path.clone(), one))
            .collect(),
        Nesting::Map => members(value)
            .into_iter()
            .flatten()
            .map(|(k, one)| (path.key(k), one))
            .collect(),
    };
    all.into_iter()
        .filter(|(_, one)| members(one).is_some())
        .collect()
}
