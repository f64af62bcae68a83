//! Write-only values never reach plan or state.

use crate::schema::{Attribute, AttributeKind, Block};
use crate::value::Value;

/// Sets every write-only attribute to null, at every depth.
pub(crate) fn null_write_only(attributes: &[Attribute], blocks: &[Block], object: &mut Value) {
    let Value::Object(members) = object else {
        return;
    };
    for attribute in attributes {
        let Some(value) = members.get_mut(attribute.name()) else {
            continue;
        };
        if attribute.is_write_only() {
            *value = Value::Null;
        } else if let AttributeKind::Nested(_, nested) = attribute.kind() {
            objects(value, &mut |object| null_write_only(nested, &[], object));
        }
    }
    for block in blocks {
        let Some(value) = members.get_mut(block.name()) else {
            continue;
        };
        objects(value, &mut |object| {
            null_write_only(block.attribute_list(), block.block_list(), object)
        });
    }
}

/// The objects of a nested attribute or block.
fn objects(value: &mut Value, f: &mut dyn FnMut(&mut Value)) {
    match value {
        Value::Object(_) => f(value),
        Value::List(elements) | Value::Set(elements) => elements.iter_mut().for_each(f),
        Value::Map(members) => members.values_mut().for_each(f),
        _ => {}
    }
}
