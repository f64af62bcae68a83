//! A1-A6: what Terraform asks of the result of an apply.

use tfplug::{Path, Value};

use crate::check::value::{
    elements, is_null, is_unknown, member, members, no_unknown, outside_refinement, same,
    write_only_null,
};
use crate::check::{Rule, Violation};
use crate::schema::{BlockSchema, NestedBlockSchema, Nesting};

/// A1-A6: whether `actual` is a valid completion of `planned`. `planned` is null for a destroy.
#[must_use]
pub fn check(schema: &BlockSchema, planned: &Value, actual: &Value) -> Vec<Violation> {
    if is_null(planned) {
        return if is_null(actual) {
            Vec::new()
        } else {
            vec![Violation::new(
                Rule::A4,
                "",
                "the object is still there after it was destroyed",
            )]
        };
    }
    if is_null(actual) {
        return vec![Violation::new(
            Rule::A3,
            "",
            "root object was present, but now absent",
        )];
    }
    let mut found = no_unknown(Rule::A2, actual);
    found.extend(compatible(schema, planned, actual));
    found.extend(write_only_null(Rule::A5, schema, actual));
    found
}

/// A1 and A6 alone: every known part of `planned` is the same in `actual`.
#[must_use]
pub fn compatible(schema: &BlockSchema, planned: &Value, actual: &Value) -> Vec<Violation> {
    let mut found = Vec::new();
    block(schema, planned, actual, &Path::empty(), &mut found);
    found
}

fn a1(path: &Path, message: impl Into<String>) -> Violation {
    Violation::new(Rule::A1, path.to_string(), message)
}

fn block(
    schema: &BlockSchema,
    planned: &Value,
    actual: &Value,
    path: &Path,
    found: &mut Vec<Violation>,
) {
    match (is_null(planned), is_null(actual)) {
        (true, true) => return,
        (true, false) => return found.push(a1(path, "was absent, but now present")),
        (false, true) => return found.push(a1(path, "was present, but now absent")),
        (false, false) => {}
    }
    for (name, attribute) in &schema.attributes {
        let mut wrong = Vec::new();
        value(
            member(planned, name),
            member(actual, name),
            &path.attr(name),
            &mut wrong,
        );
        if attribute.sensitive && !wrong.is_empty() {
            wrong = vec![a1(
                &path.attr(name),
                "inconsistent values for sensitive attribute",
            )];
        }
        found.extend(wrong);
    }
    for (name, nested) in &schema.blocks {
        nested_block(
            nested,
            member(planned, name),
            member(actual, name),
            &path.attr(name),
            found,
        );
    }
}

fn nested_block(
    schema: &NestedBlockSchema,
    planned: &Value,
    actual: &Value,
    path: &Path,
    found: &mut Vec<Violation>,
) {
    if is_unknown(planned) || is_unknown(actual) {
        // A dynamic block of unknown count may come out in any number, even none.
        return;
    }
    let inner = |planned: &Value, actual: &Value, path: &Path, found: &mut Vec<Violation>| {
        block(&schema.block, planned, actual, path, found);
    };
    match schema.nesting {
        Nesting::Single | Nesting::Group => inner(planned, actual, path, found),
        _ if is_null(planned) || is_null(actual) => {
            if is_null(planned) != is_null(actual) {
                found.push(a1(
                    path,
                    "nested blocks must be empty to indicate no blocks, not null",
                ));
            }
        }
        Nesting::List => {
            let (before, after) = (elements(planned), elements(actual));
            if before.len() != after.len() {
                found.push(a1(
                    path,
                    format!(
                        "block count changed from {} to {}",
                        before.len(),
                        after.len()
                    ),
                ));
                return;
            }
            for (index, (planned, actual)) in before.iter().zip(after).enumerate() {
                inner(planned, actual, &path.index(index), found);
            }
        }
        Nesting::Map => keyed(planned, actual, path, found, inner),
        Nesting::Set => set(planned, actual, path, found, |planned, actual| {
            let mut wrong = Vec::new();
            block(&schema.block, planned, actual, path, &mut wrong);
            wrong.is_empty()
        }),
    }
}

/// Compares one value with its plan, whatever its type.
pub(crate) fn value(planned: &Value, actual: &Value, path: &Path, found: &mut Vec<Violation>) {
    match (planned, actual) {
        (Value::Unknown(..), _) => {
            if let Some(reason) = outside_refinement(planned, actual) {
                found.push(a1(
                    path,
                    format!(
                        "final value {actual:?} does not conform to planning placeholder: {reason}"
                    ),
                ));
            }
        }
        (Value::Null, Value::Null) => {}
        (Value::Null, _) => found.push(a1(path, format!("was null, but now {actual:?}"))),
        (_, Value::Null) => found.push(a1(path, format!("was {planned:?}, but now null"))),
        (_, Value::Unknown(..)) => found.push(a1(path, "was known, but now unknown")),
        (Value::Dynamic(before, planned), Value::Dynamic(after, actual)) => {
            if before == after {
                value(planned, actual, path, found);
            } else {
                found.push(a1(
                    path,
                    format!("wrong final value type: was {before}, but now {after}"),
                ));
            }
        }
        (Value::Set(_), Value::Set(_)) => set(planned, actual, path, found, |planned, actual| {
            let mut wrong = Vec::new();
            value(planned, actual, path, &mut wrong);
            wrong.is_empty()
        }),
        (Value::List(before), Value::List(after)) | (Value::Tuple(before), Value::Tuple(after)) => {
            for (index, planned) in before.iter().enumerate() {
                match after.get(index) {
                    Some(actual) => value(planned, actual, &path.index(index), found),
                    None => found.push(a1(path, format!("element {index} has vanished"))),
                }
            }
            for index in before.len()..after.len() {
                found.push(a1(path, format!("new element {index} has appeared")));
            }
        }
        (Value::Map(_), Value::Map(_)) => keyed(planned, actual, path, found, value),
        (Value::Object(before), Value::Object(after)) => {
            if before.keys().ne(after.keys()) {
                return found.push(a1(path, "wrong final value type: other attributes"));
            }
            for (name, planned) in before {
                value(planned, member(actual, name), &path.attr(name), found);
            }
        }
        _ if same(planned, actual) => {}
        _ => found.push(a1(path, format!("was {planned:?}, but now {actual:?}"))),
    }
}

fn keyed(
    planned: &Value,
    actual: &Value,
    path: &Path,
    found: &mut Vec<Violation>,
    compare: impl Fn(&Value, &Value, &Path, &mut Vec<Violation>),
) {
    let (Some(before), Some(after)) = (members(planned), members(actual)) else {
        return;
    };
    for (key, planned) in before {
        match after.get(key) {
            Some(actual) => compare(planned, actual, &path.key(key), found),
            None => found.push(a1(path, format!("element {key:?} has vanished"))),
        }
    }
    for key in after.keys().filter(|key| !before.contains_key(*key)) {
        found.push(a1(path, format!("new element {key:?} has appeared")));
    }
}

/// A6: each element of one set must fit at least one of the other; unknown ones may merge, none may appear.
fn set(
    planned: &Value,
    actual: &Value,
    path: &Path,
    found: &mut Vec<Violation>,
    fits: impl Fn(&Value, &Value) -> bool,
) {
    let (before, after) = (elements(planned), elements(actual));
    let a6 = |message: String| Violation::new(Rule::A6, path.to_string(), message);
    let lost = before
        .iter()
        .filter(|planned| !after.iter().any(|actual| fits(planned, actual)));
    let lost: Vec<_> = lost
        .map(|one| {
            a6(format!(
                "planned set element {one:?} does not correlate with any element in actual"
            ))
        })
        .collect();
    if !lost.is_empty() {
        found.extend(lost);
        return;
    }
    let new = after
        .iter()
        .filter(|actual| !before.iter().any(|planned| fits(planned, actual)));
    found.extend(new.map(|one| {
        a6(format!(
            "actual set element {one:?} does not correlate with any element in plan"
        ))
    }));
    if before.len() < after.len() {
        found.push(a6(format!(
            "length changed from {} to {}",
            before.len(),
            after.len()
        )));
    }
}

#[cfg(test)]
mod tests;
