//! Values for what the configuration leaves out.

use super::each::each_object;
use crate::schema::{Attribute, AttributeDefault, AttributeKind, Block, Schema};
use crate::value::Value;

/// Sets every attribute that has a default and no configured value, at every depth.
pub(crate) fn apply_defaults(schema: &Schema, config: &Value, planned: &mut Value) {
    level(
        schema.attribute_list(),
        schema.block_list(),
        config,
        config,
        planned,
    );
}

/// The default of an attribute for this configuration; `None` without one.
pub(super) fn default_of(attribute: &Attribute, root: &Value) -> Option<Value> {
    let value = match attribute.default_value()? {
        AttributeDefault::Static(value) => value.clone(),
        AttributeDefault::With(f) => f(root),
    };
    (!value.is_null()).then_some(value)
}

fn level(
    attributes: &[Attribute],
    blocks: &[Block],
    root: &Value,
    config: &Value,
    planned: &mut Value,
) {
    let Value::Object(members) = planned else {
        return;
    };
    for attribute in attributes {
        let configured = config.get(attribute.name());
        let Some(value) = members.get_mut(attribute.name()) else {
            continue;
        };
        if configured.is_null() {
            if let Some(default) = default_of(attribute, root) {
                *value = default;
            }
        } else if let AttributeKind::Nested(_, nested) = attribute.kind() {
            each_object(configured, &Value::Null, value, &mut |c, _, p| {
                level(nested, &[], root, c, p)
            });
        }
    }
    for block in blocks {
        let Some(value) = members.get_mut(block.name()) else {
            continue;
        };
        let (attributes, blocks) = (block.attribute_list(), block.block_list());
        each_object(
            config.get(block.name()),
            &Value::Null,
            value,
            &mut |c, _, p| {
                level(attributes, blocks, root, c, p);
            },
        );
    }
}
