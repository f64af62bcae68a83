//! What the provider computes is unknown until it has.

use super::defaults::default_of;
use super::each::each_object;
use crate::schema::{Attribute, AttributeKind, Block, Schema};
use crate::value::Value;

/// Makes every computed attribute without configured value or default unknown, except those that
/// keep their stored value.
pub(super) fn mark(schema: &Schema, config: &Value, prior: &Value, planned: &mut Value) {
    level(
        schema.attribute_list(),
        schema.block_list(),
        config,
        config,
        prior,
        planned,
    );
}

fn level(
    attributes: &[Attribute],
    blocks: &[Block],
    root: &Value,
    config: &Value,
    prior: &Value,
    planned: &mut Value,
) {
    let Value::Object(members) = planned else {
        return;
    };
    for attribute in attributes {
        let configured = config.get(attribute.name());
        let stored = prior.get(attribute.name());
        let Some(value) = members.get_mut(attribute.name()) else {
            continue;
        };
        if configured.is_null() {
            if attribute.is_computed() && default_of(attribute, root).is_none() {
                let kept = attribute.keeps_state() && !stored.is_null() && stored.is_wholly_known();
                *value = if kept {
                    stored.clone()
                } else {
                    Value::unknown()
                };
            }
        } else if let AttributeKind::Nested(_, nested) = attribute.kind() {
            each_object(configured, stored, value, &mut |c, s, p| {
                level(nested, &[], root, c, s, p)
            });
        }
    }
    for block in blocks {
        let name = block.name();
        let Some(value) = members.get_mut(name) else {
            continue;
        };
        let (attributes, blocks) = (block.attribute_list(), block.block_list());
        each_object(config.get(name), prior.get(name), value, &mut |c, s, p| {
            level(attributes, blocks, root, c, s, p);
        });
    }
}
